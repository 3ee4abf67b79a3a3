//! Settings by which data crosses a network unprotected.

use std::net::IpAddr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use super::Config;

impl Config {
    /// One warning for each setting by which others on the network can read data, or can pass for the server.
    pub fn in_the_clear(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.tls.certificate.is_none() && self.listen.is_some_and(|listen| !listen.ip().is_loopback()) {
            warnings.push(
                "listen: tokens and personal data are served in the clear; set tls.certificate and tls.key".to_owned(),
            );
        }
        for (key, url) in [("database.url", &self.database.url), ("log.embedded_url", &self.log.embedded_url)] {
            let options = url.as_ref().and_then(|url| url.expose().parse::<PgConnectOptions>().ok());
            let Some(options) = options else { continue };
            let is_checked = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull | PgSslMode::VerifyCa);
            if !is_checked && options.get_socket().is_none() && !is_local(options.get_host()) {
                warnings
                    .push(format!("{key}: the server is not checked; add sslmode=verify-full and sslrootcert=FILE"));
            }
        }
        let brokers = self.log.kafka.iter().flat_map(|brokers| brokers.split(','));
        if self.log.tls_ca.is_none() && !brokers.map(host_of).all(is_local) {
            warnings.push("log.kafka: the log is read and written in the clear; set log.tls_ca".to_owned());
        }
        let url_is_local = |url: &Url| url.host_str().is_none_or(is_local);
        let commands = self.services.command.iter().filter_map(|url| Url::parse(url).ok());
        if commands.into_iter().any(|url| url.scheme() == "http" && !url_is_local(&url)) {
            warnings.push("services.command: tokens are sent in the clear; name https:// instances".to_owned());
        }
        let smtp = self.sending.smtp.as_ref().and_then(|url| Url::parse(url.expose()).ok());
        if smtp.is_some_and(|url| url.query() == Some("tls=none") && !url_is_local(&url)) {
            warnings.push("sending.smtp: mails are sent in the clear; use smtps:// or STARTTLS".to_owned());
        }
        let collector = self.telemetry.otlp.as_ref().and_then(|url| Url::parse(url).ok());
        if collector.is_some_and(|url| url.scheme() == "http" && !url_is_local(&url)) {
            warnings.push(
                "telemetry.otlp: traces and metrics are sent in the clear; name an https:// collector".to_owned(),
            );
        }
        warnings
    }
}

/// Whether the name of a host can only mean this machine.
fn is_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.starts_with('/') || address.map_or(host == "localhost", |address| address.is_loopback())
}

fn host_of(broker: &str) -> &str {
    let broker = broker.trim();
    broker.rsplit_once(':').map_or(broker, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_network_could_read_is_warnings_by_its_key() {
        let keys = |toml: &str| -> Vec<String> {
            let warnings = toml::from_str::<Config>(toml).expect("settings").in_the_clear();
            warnings.iter().map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect()
        };
        assert!(
            keys("listen = '[::1]:1'\ndatabase.url = 'postgres://localhost/d'\nlog.kafka = 'localhost:9092'\ntelemetry.otlp = 'http://127.0.0.1:4317'")
                .is_empty()
        );
        let exposed = "listen = '0.0.0.0:1'\ndatabase.url = 'postgres://u@db/d?sslmode=require'\n\
                       log.kafka = 'localhost:1,kafka:9092'\nservices.command = ['http://command:1']\n\
                       sending.smtp = 'smtp://mail:25?tls=none'\ntelemetry.otlp = 'http://collector:4317'";
        assert_eq!(
            keys(exposed),
            ["listen", "database.url", "log.kafka", "services.command", "sending.smtp", "telemetry.otlp"]
        );
        let protected = "listen = '0.0.0.0:1'\ntls.certificate = 'c'\ntls.key = 'k'\nlog.kafka = 'kafka:9092'\n\
                         log.tls_ca = 'ca'\ndatabase.url = 'postgres://u@db/d?sslmode=verify-full'\n\
                         services.command = ['https://command:1']\nsending.smtp = 'smtps://mail'\ntelemetry.otlp = 'https://collector:4317'";
        assert!(keys(protected).is_empty());
    }
}
