//! `saldo dev`: everything in one process, for exploration.

mod samples;

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use anstream::println;
use jiff::{SignedDuration, tz::TimeZone};
use saldo_auth::{Issuer, Role};
use saldo_clock::Clock;
use saldo_mail_sink::MailSink;

use self::samples::Samples;
use super::Run;
use crate::{
    Failure, Outcome,
    cli::{serve, token::creditor},
    config::{Config, ConfigError, DEV_FILE, MailServer, Overrides, Secret},
    run::{service::Service, start::EXPLORING, system::System, telemetry},
};

const ALL_ROLES: [Role; 5] = [Role::Writer, Role::Reader, Role::Operator, Role::Auditor, Role::Service];
/// A port that the system chooses.
const FREE_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Run everything in one process, to explore.
///
/// Prints the endpoints, a token and three things to try, and runs until it is interrupted. Makes its own keys, log, Postgres and
/// mail server, unless flags or settings name yours.
#[derive(clap::Parser)]
#[command(
    name = "dev",
    after_help = "Examples:\n  saldo dev\n  saldo dev --clock-ahead 240h\n  saldo dev --kafka localhost:9092 --allow-unsafe-log --database-url postgres://me@localhost/saldo"
)]
pub struct Dev {
    #[command(flatten)]
    settings: Overrides,
    /// The tenant of the printed token.
    #[arg(long, default_value = "acme")]
    tenant: String,
    /// Mails go there instead of to the built-in server.
    #[command(flatten)]
    mail_server: MailServer,
    /// Address of the page that shows the built-in mail server's mails.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8025")]
    mail_page: SocketAddr,
    /// Let the clock run ahead by this much, to see what time will bring: 240h is ten days.
    #[arg(long, value_name = "DURATION")]
    clock_ahead: Option<SignedDuration>,
    /// Print the endpoint, the token, the configuration file, the Postgres URL and the mail page as one line of JSON.
    #[arg(long)]
    json: bool,
}

impl Run for Dev {
    async fn run(self) -> Outcome {
        let mut config = load(&self.settings)?;
        config.log.allow_unsafe = true;
        config.sending.smtp = self.mail_server.url()?.or(config.sending.smtp);
        if self.settings.kafka.is_some() && config.log.replication_factor == 3 {
            config.log.replication_factor = 1;
        }
        telemetry::start(&config.tracing)?;
        let exporting = telemetry::export(&config.telemetry, Service::ALL)?;
        std::fs::create_dir_all(&config.data_dir).map_err(|error| {
            format!("data_dir {}: {error}; name another with --data-dir", config.data_dir.display())
        })?;
        let key = config.data_dir.join("dev-key.pem");
        let issuer = Issuer::read_or_create(&key)?;
        let token = issuer.issue("dev", creditor(&self.tenant)?.as_str(), &ALL_ROLES, EXPLORING)?;
        let sink =
            match &config.sending.smtp {
                Some(_) => None,
                None => Some(MailSink::start(FREE_PORT, Some(self.mail_page)).await.map_err(|error| {
                    format!("--mail-page {}: {error}; is another instance running?", self.mail_page)
                })?),
            };
        let smtp = sink.as_ref().map(|sink| format!("smtp://{}?tls=none", sink.smtp_address()));
        if let Some(smtp) = &smtp {
            config.sending.smtp = Some(Secret::new(smtp.clone()));
        }
        let clock = clock(self.clock_ahead);
        let samples = Samples::write(&config.data_dir, clock.now().to_zoned(TimeZone::UTC).date())?;
        let system = System::start_shown(&config, &issuer, clock).await?;
        let mail_page = sink.as_ref().and_then(MailSink::web_address).map(|address| format!("http://{address}"));
        let file = config.data_dir.join(DEV_FILE);
        write_config(&file, &config, &system)?;
        // The embedded server's password is shown; a configured server's is not.
        let database = match &config.database.url {
            None => system.stores.database()?.url.expose().to_owned(),
            Some(url) => url.without_password(),
        };
        if self.json {
            let line = serde_json::json!({
                "endpoint": system.endpoint(), "token": token, "config": file, "database_url": database,
                "mail_page": mail_page, "smtp": smtp,
            });
            println!("{line}");
        } else {
            let mails =
                mail_page.as_ref().zip(smtp.as_ref()).map(|(page, smtp)| format!("{page}   ({smtp} takes them)"));
            print_guide(&system, &token, &file, &database, mails.as_deref(), &samples);
        }
        std::io::stdout().flush()?;
        let ended = serve::until_stopped(system, serve::asked_to_stop()).await;
        drop(sink);
        if let Some(exporting) = exporting {
            exporting.stop();
        }
        ended
    }
}

/// The machine's clock, ahead by this much.
fn clock(ahead: Option<SignedDuration>) -> Clock {
    let Some(ahead) = ahead else { return Clock::system() };
    let system = Clock::system();
    Clock::from_fn(move || system.now().saturating_add(ahead).unwrap_or(jiff::Timestamp::MAX))
}

/// Reads the settings. SALDO_CONFIG may name the file that an earlier run wrote, whose servers have ended with that run: only the
/// folder is taken from such a file.
fn load(settings: &Overrides) -> Result<Config, ConfigError> {
    let config = Config::load(settings)?;
    if settings.config.as_ref().is_none_or(|file| *file != config.data_dir.join(DEV_FILE)) {
        return Ok(config);
    }
    Config::load(&Overrides { config: None, data_dir: Some(config.data_dir), ..settings.clone() })
}

/// Writes what other commands need to reach the same stores. Only the owner can read the file, since it holds passwords.
fn write_config(path: &Path, config: &Config, system: &System) -> Result<(), Failure> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let path_text = |path: &Path| quoted(&path.display().to_string());
    let mut text = format!(
        "# Written by `saldo dev` at each start: how to reach what it runs.\ndata_dir = {}\nlisten = {}\n",
        path_text(&config.data_dir),
        quoted(&system.address.to_string())
    );
    text += &format!("\n[database]\nurl = {}\n", quoted(system.stores.database()?.url.expose()));
    text += &format!("\n[keyring]\ndir = {}\n", path_text(&config.keyring_dir()));
    text += &format!("\n[log]\ntopic = {}\nallow_unsafe = true\n", quoted(&config.log.topic));
    if let Some(kafka) = &config.log.kafka {
        text += &format!("kafka = {}\n", quoted(kafka));
    }
    if let Some(url) = &system.stores.log_url {
        text += &format!("embedded_url = {}\n", quoted(url.expose()));
    }
    Ok(saldo_private_files::create(path)?.write_all(text.as_bytes())?)
}

fn print_guide(system: &System, token: &str, config: &Path, database: &str, mails: Option<&str>, samples: &Samples) {
    let (address, endpoint, config) = (system.address, system.endpoint(), config.display());
    // A binary that was just built is not on the path yet.
    let saldo = std::env::current_exe().map_or_else(|_| "saldo".to_owned(), |path| path.display().to_string());
    let mails = mails.unwrap_or("go to the server that --smtp names");
    let [invoices, map, policy] = [&samples.invoices, &samples.map, &samples.policy].map(|path| path.display());
    println!(
        "Saldo is running. Ctrl-C stops it.

  gRPC      {address}   (health open, reflection and calls with the token)
  Postgres  {database}
  Mails     {mails}

In another terminal:

  export SALDO_TOKEN={token}
  export SALDO_ENDPOINT={endpoint} SALDO_CONFIG={config}

Three things to try, as often as you like:

  {saldo} import invoices '{invoices}' --map '{map}' && {saldo} aging
  {saldo} policy publish '{policy}' && {saldo} sending on && {saldo} preview D-1
  {saldo} outbox --all && {saldo} account show D-1 --history && {saldo} verify

Mails go out in the hours that the policy permits. With psql, SELECT * FROM bi.aging shows the figures to analysts.
"
    );
}
