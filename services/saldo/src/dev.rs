//! `saldo dev`: everything in one process, for exploration.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use anstream::println;
use jiff::SignedDuration;
use saldo_auth::{Issuer, Role};
use saldo_clock::Clock;
use saldo_mail_sink::MailSink;

use crate::{
    Failure, Outcome,
    config::{Config, ConfigError, Overrides, Secret},
    serve,
    service::Service,
    system::System,
    telemetry,
    token::creditor,
};

/// Shown by `saldo dev --help`.
pub const EXAMPLES: &str = "Examples:\n  saldo dev\n  saldo dev --clock-ahead 240h\n  saldo dev --kafka localhost:9092 --allow-unsafe-log --database-url postgres://me@localhost/saldo";

const ALL_ROLES: [Role; 5] = [Role::Writer, Role::Reader, Role::Operator, Role::Auditor, Role::Service];
/// Any port of this machine that is free.
const FREE_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const TOKEN_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What `dev` writes into its folder for other commands.
const WRITTEN: &str = "dev.toml";

/// What `dev` takes.
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// Settings.
    #[command(flatten)]
    pub settings: Overrides,
    /// The tenant of the token that is printed.
    #[arg(long, default_value = "acme")]
    pub tenant: String,
    /// Send to this mail server instead of the built-in one: smtps://user:password@host, smtp://user:password@host:587, or
    /// smtp://host:25?tls=none.
    #[arg(long, value_name = "URL", env = "SALDO_SMTP", hide_env_values = true)]
    pub smtp: Option<String>,
    /// Where the built-in mail server's mails can be read in a browser.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8025")]
    pub mail_page: SocketAddr,
    /// Let the clock run so far ahead, to see what time will bring: 240h is ten days.
    #[arg(long, value_name = "DURATION")]
    pub clock_ahead: Option<SignedDuration>,
    /// Print the endpoint, the token and the configuration file as one line of JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs until SIGINT or SIGTERM. Makes its own keys; accepts an unsafe log.
pub async fn run(args: DevArgs) -> Outcome {
    let mut config = load(&args.settings)?;
    config.log.allow_unsafe = true;
    config.sending.smtp = args.smtp.clone().map(Secret::new).or(config.sending.smtp);
    if args.settings.kafka.is_some() && config.log.replication_factor == 3 {
        config.log.replication_factor = 1;
    }
    telemetry::start(&config.tracing)?;
    let exporting = telemetry::export(&config.telemetry, Service::ALL)?;
    std::fs::create_dir_all(&config.data_dir)
        .map_err(|error| format!("data_dir {}: {error}; name another with --data-dir", config.data_dir.display()))?;
    let key = config.data_dir.join("dev-key.pem");
    let issuer = Issuer::read_or_create(&key)?;
    let token = issuer.issue("dev", creditor(&args.tenant)?.as_str(), &ALL_ROLES, TOKEN_LIFE)?;
    let sink = match &config.sending.smtp {
        Some(_) => None,
        None => Some(
            MailSink::start(FREE_PORT, Some(args.mail_page))
                .await
                .map_err(|error| format!("--mail-page {}: {error}; is another instance running?", args.mail_page))?,
        ),
    };
    let smtp = sink.as_ref().map(|sink| format!("smtp://{}?tls=none", sink.smtp_address()));
    if let Some(smtp) = &smtp {
        config.sending.smtp = Some(Secret::new(smtp.clone()));
    }
    let system = System::start_shown(&config, &issuer, clock(args.clock_ahead)).await?;
    let mail_page = sink.as_ref().and_then(MailSink::web_address).map(|address| format!("http://{address}"));
    let file = config.data_dir.join(WRITTEN);
    write_config(&file, &config, &system)?;
    if args.json {
        let endpoint = system.endpoint();
        let said = serde_json::json!({
            "endpoint": endpoint, "token": token, "config": file, "mail_page": mail_page, "smtp": smtp,
        });
        println!("{said}");
    } else {
        // A password of ours is for trying; a named server's stays where it came from.
        let database = match &config.database.url {
            None => system.stores.database()?.url.expose().to_owned(),
            Some(url) => url.without_password(),
        };
        let mails = mail_page.as_ref().zip(smtp.as_ref()).map(|(page, smtp)| format!("{page}   ({smtp} takes them)"));
        print_guide(&system, &token, &file, &database, mails.as_deref());
    }
    std::io::stdout().flush()?;
    let ended = serve::until_stopped(system, serve::asked_to_stop()).await;
    drop(sink);
    if let Some(exporting) = exporting {
        exporting.stop();
    }
    ended
}

/// The machine's clock, so far ahead.
fn clock(ahead: Option<SignedDuration>) -> Clock {
    let Some(ahead) = ahead else { return Clock::system() };
    let system = Clock::system();
    Clock::from_fn(move || system.now().saturating_add(ahead).unwrap_or(jiff::Timestamp::MAX))
}

/// The settings. What an earlier run wrote for other commands names servers that ended with it, and stands in SALDO_CONFIG
/// where its variables were exported: of it nothing but the folder is taken.
fn load(settings: &Overrides) -> Result<Config, ConfigError> {
    let config = Config::load(settings)?;
    if settings.config.as_ref().is_none_or(|file| *file != config.data_dir.join(WRITTEN)) {
        return Ok(config);
    }
    Config::load(&Overrides { config: None, data_dir: Some(config.data_dir), ..settings.clone() })
}

/// What other commands need to reach the same stores; readable by its owner alone, since it holds passwords.
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
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file.write_all(text.as_bytes())?)
}

fn print_guide(system: &System, token: &str, config: &Path, database: &str, mails: Option<&str>) {
    let (address, endpoint, config) = (system.address, system.endpoint(), config.display());
    // What a new user has just built stands on no path yet.
    let saldo = std::env::current_exe().map_or_else(|_| "saldo".to_owned(), |path| path.display().to_string());
    let mails = mails.unwrap_or("go to the server that --smtp names");
    println!(
        "Saldo is running. Ctrl-C stops it.

  gRPC      {address}   (health open, reflection and calls with the token)
  Postgres  {database}
  Mails     {mails}

In another terminal:

  export SALDO_TOKEN={token}
  export SALDO_ENDPOINT={endpoint} SALDO_CONFIG={config}

Three things to try:

  grpcurl -plaintext -H \"authorization: Bearer $SALDO_TOKEN\" -d '{{\"request_id\":\"1\",\"account_id\":\"D-1\",\"profile\":{{\"display_name\":\"Ana Gil\",\"kind\":\"DEBTOR_KIND_BUSINESS\",\"language\":\"es\",\"time_zone\":\"Europe/Madrid\",\"country\":\"ES\"}}}}' {address} collections.v1.CommandService/OpenAccount
  psql '{database}' -c 'SELECT * FROM bi.aging'
  {saldo} policy publish docs/policy && {saldo} sending on && {saldo} outbox && {saldo} verify
"
    );
}
