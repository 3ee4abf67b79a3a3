//! The configuration: one typed structure from a file, the environment and flags, in this order; later ones win.
//!
//! Environment variables are `SALDO__` and the key's path in upper case joined by two underscores, for example
//! `SALDO__DATABASE__URL`. An unknown key is an error that names it and where it stands.

mod in_the_clear;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{
    Figment,
    error::Kind,
    providers::{Env, Format, Serialized, Toml},
};
use saldo_log::kafka;
use saldo_tls::{ClientFiles, Identity, ServerFiles};
use serde::{Deserialize, Serialize};
use url::Url;

/// A value that is never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A URL with its password left out, for people.
    pub fn without_password(&self) -> String {
        let Ok(mut url) = Url::parse(&self.0) else { return "<secret>".to_owned() };
        // A password can stand behind the question mark too.
        url.set_query(None);
        match url.set_password(None) {
            Ok(()) => url.to_string(),
            // A URL without a host, which has no place for a password.
            Err(()) => "<secret>".to_owned(),
        }
    }
}

/// From a flag; whatever it is, it is taken, so that no message repeats it.
impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Everything a process can be told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where gRPC is served, health included; absent: on loopback, at a port of its own for each service.
    pub listen: Option<SocketAddr>,
    /// TLS of what is served.
    pub tls: TlsConfig,
    /// Local files: command stores, keyring, embedded database.
    pub data_dir: PathBuf,
    /// The log.
    pub log: LogConfig,
    /// The read models' database.
    pub database: DatabaseConfig,
    /// Who may ask.
    pub auth: AuthConfig,
    /// Where services find each other.
    pub services: ServicesConfig,
    /// Personal data's keys.
    pub keyring: KeyringConfig,
    /// What is written to standard error.
    pub tracing: TracingConfig,
    /// Traces and metrics.
    pub telemetry: TelemetryConfig,
    /// Speaking to debtors.
    pub sending: SendingConfig,
    /// Places for requests of one partition, before RESOURCE_EXHAUSTED; one tenant gets half of them at most.
    pub queue: usize,
}

/// TLS of what is served.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file with the certificate and the chain up to its authority; absent: gRPC is served in the clear.
    pub certificate: Option<PathBuf>,
    /// PEM file with its private key.
    pub key: Option<PathBuf>,
    /// PEM file of the authorities that certify clients; with it nobody is let in without such a certificate.
    pub client_ca: Option<PathBuf>,
}

/// The log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Kafka bootstrap servers, `host:port,…`; absent: the embedded log in Postgres.
    pub kafka: Option<String>,
    /// PEM file of the authorities that certify the brokers; with it Kafka is spoken to over TLS.
    pub tls_ca: Option<PathBuf>,
    /// PEM file with our certificate, for brokers that ask for one.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with its private key.
    pub tls_key: Option<PathBuf>,
    /// Postgres database of the embedded log, where another process runs it.
    pub embedded_url: Option<Secret>,
    /// Name of the accounts topic.
    pub topic: String,
    /// Name of the catalog's topic; absent: `saldo.catalog`, or beside another accounts topic its name and `.catalog`.
    pub catalog_topic: Option<String>,
    /// Partitions of a log that is created; fixed for its life.
    pub partitions: u32,
    /// Replicas of a topic that is created.
    pub replication_factor: u32,
    /// Use a topic whose settings do not make acknowledged records durable.
    pub allow_unsafe: bool,
}

const ACCOUNTS_TOPIC: &str = "saldo.accounts";

/// The read models' database.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// `postgres://user:password@host:port/database`; absent: an embedded Postgres under `data_dir`.
    pub url: Option<Secret>,
}

/// Who may ask.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// PEM files with the public keys that sign tokens. Without any, nothing that is asked starts.
    pub public_keys: Vec<PathBuf>,
    /// PEM file with the private key (Ed25519) by which scheduler and dispatcher sign their tokens; its public key stands among
    /// the command service's. Absent: in one process with the command service, a key made at each start.
    pub service_key: Option<PathBuf>,
}

/// Where services find each other.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServicesConfig {
    /// The command service's instances, `http://host:port` or `https://host:port`, for scheduler and dispatcher that run
    /// apart from it.
    pub command: Vec<String>,
    /// PEM file of the authorities that certify them, over https; absent: those that browsers trust.
    pub tls_ca: Option<PathBuf>,
    /// PEM file with our certificate, where they ask for one.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with its private key.
    pub tls_key: Option<PathBuf>,
}

/// Speaking to debtors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SendingConfig {
    /// The mail server: `smtps://user:password@host`, `smtp://user:password@host:587`, `smtp://host:25?tls=none`. Absent:
    /// reminders fall due and wait in the outbox.
    pub smtp: Option<Secret>,
    /// PEM file of the authorities that certify the mail server; absent: those that browsers trust.
    pub smtp_ca: Option<PathBuf>,
    /// Connections to the mail server at most.
    pub smtp_connections: usize,
    /// Attempts under way at once, for each channel.
    pub attempts: usize,
    /// Accounts woken at once.
    pub wakes: usize,
    /// Accounts woken a second after a policy was published.
    pub rewakes_per_second: NonZeroU32,
    /// Between two looks for something to do, while there is nothing.
    #[serde(skip)]
    pub poll: Duration,
}

/// Personal data's keys.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyringConfig {
    /// The key store's folder, shared by all processes of one host; absent: `keyring` under `data_dir`. Back it up.
    pub dir: Option<PathBuf>,
}

/// Traces and metrics.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// An OpenTelemetry collector's OTLP over gRPC, `http://host:4317` or `https://…`; absent: nothing is exported.
    pub otlp: Option<String>,
    /// The share of the traces beginning here that is kept, 0.0 to 1.0. What a caller has sampled is kept always.
    pub sample: f64,
    /// Seconds between two exports of metrics.
    pub interval_seconds: u64,
}

/// What is written to standard error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracingConfig {
    /// `human` or `json`.
    pub format: TracingFormat,
    /// A tracing filter, for example `info,saldo_log=debug`.
    pub filter: String,
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TracingFormat {
    /// For a terminal.
    Human,
    /// One object a line.
    Json,
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

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            kafka: None,
            tls_ca: None,
            tls_certificate: None,
            tls_key: None,
            embedded_url: None,
            topic: ACCOUNTS_TOPIC.to_owned(),
            catalog_topic: None,
            partitions: 16,
            replication_factor: 3,
            allow_unsafe: false,
        }
    }
}

/// Gentle beside a command service that answers thousands a second.
const REWAKES: NonZeroU32 = NonZeroU32::new(500).unwrap();

impl Default for SendingConfig {
    fn default() -> Self {
        Self {
            smtp: None,
            smtp_ca: None,
            smtp_connections: 8,
            attempts: 128,
            wakes: 256,
            rewakes_per_second: REWAKES,
            poll: Duration::from_millis(200),
        }
    }
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        // One in twenty: enough to see where time goes, and cheap at thousands of commands a second.
        Self { otlp: None, sample: 0.05, interval_seconds: 10 }
    }
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self { format: TracingFormat::Human, filter: "info".to_owned() }
    }
}

/// Settings given as flags; absent ones leave the file's and the environment's.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// Kafka bootstrap servers instead of the embedded log.
    #[arg(long, value_name = "HOST:PORT,…")]
    pub kafka: Option<String>,
    /// Postgres instead of the embedded one.
    #[arg(long, value_name = "URL")]
    pub database_url: Option<Secret>,
    /// Folder for local files.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Folder of the key store, shared by the processes of one host.
    #[arg(long, value_name = "DIR")]
    pub keyring_dir: Option<PathBuf>,
    /// Address of the gRPC service.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Accept a Kafka topic whose settings do not make acknowledged records durable.
    #[arg(long)]
    pub allow_unsafe_log: bool,
    /// Name of the accounts topic.
    #[arg(long, value_name = "NAME")]
    pub topic: Option<String>,
    /// A configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "SALDO_CONFIG")]
    pub config: Option<PathBuf>,
}

/// A key that cannot be used, with where it stands.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// From the file or the environment.
    #[error("configuration: {}", told(.0))]
    Invalid(Box<figment::Error>),
    /// The file could not be read.
    #[error("configuration file {path}: {why}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A number that cannot be worked with.
    #[error("configuration: {key} is {value}, must be 1 to {most}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// What it is.
        value: u64,
        /// The largest it can be.
        most: u64,
    },
    /// A share that is none.
    #[error("configuration: {key} is {value}, must be 0.0 to 1.0")]
    NoShare {
        /// The key.
        key: &'static str,
        /// What it is.
        value: f64,
    },
    /// A key that makes no sense without another.
    #[error("configuration: {key} is set and {missing} is not")]
    Half {
        /// The key.
        key: &'static str,
        /// The other.
        missing: &'static str,
    },
    /// Kafka over TLS, which this binary cannot.
    #[error(
        "configuration: log.tls_ca: this saldo was built without TLS for Kafka; build it with `--features kafka-tls` (which takes perl and make)"
    )]
    NoKafkaTls,
}

/// Certificate and key, both or none.
fn identity(
    certificate: (&'static str, &Option<PathBuf>),
    key: (&'static str, &Option<PathBuf>),
) -> Result<Option<Identity>, ConfigError> {
    match (certificate.1, key.1) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(Identity { certificate: certificate.clone(), key: key.clone() })),
        (Some(_), None) => Err(ConfigError::Half { key: certificate.0, missing: key.0 }),
        (None, Some(_)) => Err(ConfigError::Half { key: key.0, missing: certificate.0 }),
    }
}

impl TlsConfig {
    /// What gRPC is served with, over TLS.
    pub fn files(&self) -> Result<Option<ServerFiles>, ConfigError> {
        let identity = identity(("tls.certificate", &self.certificate), ("tls.key", &self.key))?;
        if identity.is_none() && self.client_ca.is_some() {
            return Err(ConfigError::Half { key: "tls.client_ca", missing: "tls.certificate" });
        }
        Ok(identity.map(|identity| ServerFiles { identity, client_ca: self.client_ca.clone() }))
    }
}

impl ServicesConfig {
    /// With what they are asked over TLS.
    pub fn files(&self) -> Result<ClientFiles, ConfigError> {
        let certificate = ("services.tls_certificate", &self.tls_certificate);
        Ok(ClientFiles {
            ca: self.tls_ca.clone(),
            identity: identity(certificate, ("services.tls_key", &self.tls_key))?,
        })
    }
}

impl LogConfig {
    /// With what Kafka is spoken to over TLS.
    pub fn files(&self) -> Result<Option<ClientFiles>, ConfigError> {
        let identity = identity(("log.tls_certificate", &self.tls_certificate), ("log.tls_key", &self.tls_key))?;
        match &self.tls_ca {
            None if identity.is_some() => Err(ConfigError::Half { key: "log.tls_certificate", missing: "log.tls_ca" }),
            Some(_) if !kafka::HAS_TLS => Err(ConfigError::NoKafkaTls),
            ca => Ok(ca.as_ref().map(|ca| ClientFiles { ca: Some(ca.clone()), identity })),
        }
    }

    /// The catalog's topic.
    pub fn catalog_topic(&self) -> String {
        let beside = || match self.topic.as_str() {
            ACCOUNTS_TOPIC => "saldo.catalog".to_owned(),
            other => format!("{other}.catalog"),
        };
        self.catalog_topic.clone().unwrap_or_else(beside)
    }
}

impl Config {
    /// Reads file, environment and flags.
    pub fn load(flags: &Overrides) -> Result<Self, ConfigError> {
        let mut figment = Figment::new();
        if let Some(path) = &flags.config {
            readable(path)?;
            figment = figment.merge(Toml::file_exact(path));
        }
        figment = figment.merge(Env::prefixed("SALDO__").split("__"));
        fn set<T: Serialize>(figment: Figment, key: &str, value: &Option<T>) -> Figment {
            match value {
                Some(value) => figment.merge(Serialized::default(key, value)),
                None => figment,
            }
        }
        figment = set(figment, "log.kafka", &flags.kafka);
        figment = set(figment, "log.topic", &flags.topic);
        figment = set(figment, "log.allow_unsafe", &flags.allow_unsafe_log.then_some(true));
        figment = set(figment, "database.url", &flags.database_url.as_ref().map(Secret::expose));
        figment = set(figment, "data_dir", &flags.data_dir);
        figment = set(figment, "keyring.dir", &flags.keyring_dir);
        figment = set(figment, "listen", &flags.listen);
        let config: Self = figment.extract().map_err(|error| ConfigError::Invalid(Box::new(error)))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let ranges = [
            ("queue", self.queue as u64, 1_000_000),
            ("sending.smtp_connections", self.sending.smtp_connections as u64, 1_000),
            ("sending.attempts", self.sending.attempts as u64, 10_000),
            ("sending.wakes", self.sending.wakes as u64, 10_000),
            ("sending.rewakes_per_second", self.sending.rewakes_per_second.get().into(), 1_000_000),
            ("telemetry.interval_seconds", self.telemetry.interval_seconds, 3_600),
            ("log.partitions", self.log.partitions.into(), 1_024),
            ("log.replication_factor", self.log.replication_factor.into(), 100),
        ];
        for (key, value, most) in ranges {
            if value == 0 || value > most {
                return Err(ConfigError::OutOfRange { key, value, most });
            }
        }
        let sample = self.telemetry.sample;
        if !(0.0..=1.0).contains(&sample) {
            return Err(ConfigError::NoShare { key: "telemetry.sample", value: sample });
        }
        self.tls.files()?;
        self.services.files()?;
        self.log.files()?;
        Ok(())
    }

    /// Where gRPC is served: as told, or on this port of loopback.
    pub fn listen(&self, port: u16) -> SocketAddr {
        self.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    /// The key store's folder.
    pub fn keyring_dir(&self) -> PathBuf {
        self.keyring.dir.clone().unwrap_or_else(|| self.data_dir.join("keyring"))
    }
}

/// Reads the file for its form alone: the parser's own message repeats the line at fault, which may hold a password.
fn readable(path: &Path) -> Result<(), ConfigError> {
    let refused = |why: String| ConfigError::File { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    toml::from_str::<toml::Table>(&text).map(|_| ()).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        refused(format!("line {}: {}", before.matches('\n').count() + 1, error.message()))
    })
}

/// What is wrong, the key and where it stands; never the value, which may be a password in the wrong place.
fn told(error: &figment::Error) -> String {
    let faults = error.clone().into_iter().map(|mut fault| {
        if let Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) = &fault.kind {
            fault.kind = Kind::Message(match expected.strip_prefix("struct ") {
                Some(_) => "must be a section".to_owned(),
                None => format!("must be {expected}"),
            });
        }
        fault.to_string()
    });
    faults.collect::<Vec<_>>().join("; ")
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
        let flags = Overrides { database_url: Some("postgres://u:hunter2@h/d".into()), ..Overrides::default() };
        assert!(!format!("{flags:?}").contains("hunter2"));
        let config = Config::load(&flags).expect("valid");
        assert_eq!(config.database.url.expect("set").expose(), "postgres://u:hunter2@h/d");
    }

    #[test]
    fn a_database_url_is_never_printed() {
        let config = load("[database]\nurl = 'postgres://u:hunter2@h/d'").expect("valid");
        assert!(!format!("{config:?}").contains("hunter2"));
        for url in ["postgres://u:hunter2@h:5/d", "postgres://h/d?user=u&password=hunter2", "host=h password=hunter2"] {
            assert!(!Secret::new(url).without_password().contains("hunter2"), "{url}");
        }
        assert_eq!(Secret::new("postgres://u:hunter2@h:5/d?x=1").without_password(), "postgres://u@h:5/d");
    }
}
