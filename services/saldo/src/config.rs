//! The configuration: one typed structure from a file, the environment and flags, in this order; later ones win. Each section
//! is a file below.
//!
//! An environment variable is `SALDO__` and the key's path in upper case, joined by two underscores, for example
//! `SALDO__DATABASE__URL`. An unknown key is an error that names the key and where it stands.

mod access;
mod error;
mod flags;
mod in_the_clear;
mod log;
mod secret;
mod sending;
mod stores;
mod telemetry;
mod tls;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use figment::{
    Figment,
    providers::{Env, Format, Toml},
};
use serde::Deserialize;

pub use self::{
    access::KeyFile,
    error::ConfigError,
    flags::{MailServer, Overrides},
    secret::Secret,
    telemetry::{TelemetryConfig, TracingConfig, TracingFormat},
    tls::TlsConfig,
};
use self::{
    access::{AuthConfig, ServicesConfig},
    error::{readable, within},
    log::LogConfig,
    sending::SendingConfig,
    stores::{DatabaseConfig, KeyringConfig},
};

/// The configuration that `saldo dev` writes into its folder for other commands.
pub const DEV_FILE: &str = "dev.toml";

/// Everything a process can be told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where gRPC and health are served; absent: on loopback, at a port of its own for each service.
    pub listen: Option<SocketAddr>,
    pub tls: TlsConfig,
    /// Local files: command stores, keyring, embedded database.
    pub data_dir: PathBuf,
    pub log: LogConfig,
    pub database: DatabaseConfig,
    pub auth: AuthConfig,
    pub services: ServicesConfig,
    pub keyring: KeyringConfig,
    pub tracing: TracingConfig,
    pub telemetry: TelemetryConfig,
    pub sending: SendingConfig,
    /// The most requests that wait for one partition, before RESOURCE_EXHAUSTED. One tenant gets at most half of the places.
    pub queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: None,
            tls: TlsConfig::default(),
            data_dir: default_data_dir(),
            log: LogConfig::default(),
            database: DatabaseConfig::default(),
            auth: AuthConfig::default(),
            services: ServicesConfig::default(),
            keyring: KeyringConfig::default(),
            tracing: TracingConfig::default(),
            telemetry: TelemetryConfig::default(),
            sending: SendingConfig::default(),
            queue: 4_096,
        }
    }
}

impl Config {
    /// Reads file, environment and flags.
    pub fn load(flags: &Overrides) -> Result<Self, ConfigError> {
        flags.check()?;
        let mut settings = Figment::new();
        if let Some(path) = &flags.config {
            readable(path)?;
            settings = settings.merge(Toml::file_exact(path));
        }
        settings = flags.over(settings.merge(Env::prefixed("SALDO__").split("__")));
        let config: Self = settings.extract().map_err(|error| ConfigError::Invalid(Box::new(error)))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        within("queue", self.queue as u64, 1_000_000)?;
        self.auth.check()?;
        self.sending.check()?;
        self.telemetry.check()?;
        self.tls.files()?;
        self.services.files()?;
        self.log.check()
    }

    /// Where gRPC is served: as configured, or on this port of loopback.
    pub fn listen(&self, port: u16) -> SocketAddr {
        self.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    /// The folder of the embedded Postgres.
    pub fn embedded_dir(&self) -> PathBuf {
        self.data_dir.join("postgres")
    }

    /// Whether somebody has said where local files are, by these flags or otherwise.
    pub fn is_placed(&self, flags: &Overrides) -> bool {
        flags.config.is_some() || flags.data_dir.is_some() || self.data_dir != default_data_dir()
    }

    /// The configuration that `saldo dev` has written for its folder, where there is one.
    pub fn dev_file(&self) -> Option<String> {
        let file = self.data_dir.join(DEV_FILE);
        file.exists().then(|| file.display().to_string())
    }

    pub fn keyring_dir(&self) -> PathBuf {
        self.keyring.dir.clone().unwrap_or_else(|| self.data_dir.join("keyring"))
    }

    pub fn log_keys(&self) -> PathBuf {
        self.log.keys.clone().unwrap_or_else(|| self.keyring_dir().join(saldo_log::keys::FILE))
    }
}

/// `$XDG_DATA_HOME/saldo`, `~/.local/share/saldo`, or `/var/lib/saldo` for root.
fn default_data_dir() -> PathBuf {
    if let Some(base) = std::env::var_os("XDG_DATA_HOME") {
        return PathBuf::from(base).join("saldo");
    }
    match std::env::var_os("HOME") {
        Some(home) if home != "/root" => PathBuf::from(home).join(".local/share/saldo"),
        _ => PathBuf::from("/var/lib/saldo"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> Result<Config, Box<figment::Error>> {
        Figment::new().merge(Toml::string(toml)).extract().map_err(Box::new)
    }

    #[test]
    fn without_any_setting_it_listens_on_loopback() {
        assert!(load("").expect("defaults").listen(50051).ip().is_loopback());
    }

    #[test]
    fn half_of_an_identity_is_refused() {
        for (toml, missing) in [
            ("tls.certificate = 'c'", "tls.key"),
            ("tls.client_ca = 'ca'", "tls.certificate"),
            ("services.tls_key = 'k'", "services.tls_certificate"),
            ("log.tls_certificate = 'c'\nlog.tls_key = 'k'", "log.tls_ca"),
        ] {
            let error = load(toml).expect("form").check().expect_err(toml).to_string();
            assert!(error.ends_with(&format!("{missing} is not")), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = load("[database]\nurll = 'x'").expect_err("unknown").to_string();
        assert!(error.contains("urll"), "{error}");
    }

    #[test]
    fn a_wrong_value_names_its_key() {
        let error = load("[log]\npartitions = 'many'").expect_err("wrong").to_string();
        assert!(error.contains("log.partitions"), "{error}");
    }

    #[test]
    fn a_number_out_of_range_names_its_key() {
        let config = load("queue = 0").expect("read");
        let error = config.check().expect_err("refused").to_string();
        assert!(error.contains("queue is 0"), "{error}");
        let config = load("telemetry.sample = 5.0").expect("read");
        let error = config.check().expect_err("refused").to_string();
        assert!(error.contains("telemetry.sample is 5"), "{error}");
    }

    #[test]
    fn a_fault_names_its_key_and_keeps_the_value_to_itself() {
        for (text, key) in [
            ("database = 'postgres://u:hunter2@h/d'", "database"),
            ("database.url = ['postgres://u:hunter2@h/d']", "database.url"),
            ("log.embedded_url = { hunter2 = 1 }", "log.embedded_url"),
            ("queue = 'hunter2'", "queue"),
            ("listen = '127.0.0.1:1'\n[database]\nurl = \"postgres://u:hunter2@h/d", "line 3"),
        ] {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), text).expect("written");
            let flags = Overrides { config: Some(file.path().to_owned()), ..Overrides::default() };
            let error = Config::load(&flags).expect_err(text).to_string();
            assert!(error.contains(key) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn flags_do_not_print_a_database_url() {
        let flags = Overrides { database_url: Some("postgres://u@hunter2/d".into()), ..Overrides::default() };
        assert!(!format!("{flags:?}").contains("hunter2"));
        let config = Config::load(&flags).expect("valid");
        assert_eq!(config.database.url.expect("set").expose(), "postgres://u@hunter2/d");
    }

    #[test]
    fn a_password_in_a_flag_is_refused_and_not_repeated() {
        let flags = Overrides { database_url: Some("postgres://u:hunter2@h/d".into()), ..Overrides::default() };
        let error = Config::load(&flags).expect_err("refused").to_string();
        assert!(error.contains("SALDO__DATABASE__URL") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_database_url_is_never_printed() {
        let config = load("[database]\nurl = 'postgres://u:hunter2@h/d'").expect("valid");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
