//! Settings given as flags.

use std::{net::SocketAddr, path::PathBuf};

use figment::{Figment, providers::Serialized};
use serde::Serialize;

use super::{error::ConfigError, secret::Secret};

/// Absent flags leave the file's and the environment's settings.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// Kafka bootstrap servers instead of the embedded log.
    #[arg(long, value_name = "HOST:PORT,…")]
    pub kafka: Option<String>,
    /// Postgres instead of the embedded one. A URL with a password goes into SALDO__DATABASE__URL or the file instead.
    #[arg(long, value_name = "URL")]
    pub database_url: Option<Secret>,
    /// Folder for local files.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Folder of the key store, shared by the processes of one host.
    #[arg(long, value_name = "DIR")]
    pub keyring_dir: Option<PathBuf>,
    /// Address of the gRPC server.
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

impl Overrides {
    /// A password does not come from a flag.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match &self.database_url {
            Some(url) => no_password("--database-url", "SALDO__DATABASE__URL", url),
            None => Ok(()),
        }
    }

    pub(super) fn over(&self, settings: Figment) -> Figment {
        fn set<T: Serialize>(settings: Figment, key: &str, value: &Option<T>) -> Figment {
            match value {
                Some(value) => settings.merge(Serialized::default(key, value)),
                None => settings,
            }
        }
        let settings = set(settings, "log.kafka", &self.kafka);
        let settings = set(settings, "log.topic", &self.topic);
        let settings = set(settings, "log.allow_unsafe", &self.allow_unsafe_log.then_some(true));
        let settings = set(settings, "database.url", &self.database_url.as_ref().map(Secret::expose));
        let settings = set(settings, "data_dir", &self.data_dir);
        let settings = set(settings, "keyring.dir", &self.keyring_dir);
        set(settings, "listen", &self.listen)
    }
}

fn no_password(flag: &'static str, variable: &'static str, url: &Secret) -> Result<(), ConfigError> {
    if url.holds_password() { Err(ConfigError::PasswordInFlag { flag, variable }) } else { Ok(()) }
}

/// The variable that a mail server with a password stands in.
const SMTP: &str = "SALDO_SMTP";

/// A mail server, from `--smtp` or SALDO_SMTP.
#[derive(Debug, Clone, clap::Args)]
pub struct MailServer {
    /// The mail server: smtps://host, smtp://host:587 (STARTTLS), or smtp://host:25?tls=none. A URL with a password,
    /// smtps://user:password@host, goes into SALDO_SMTP instead.
    #[arg(long, value_name = "URL")]
    smtp: Option<Secret>,
}

impl MailServer {
    pub fn url(&self) -> Result<Option<Secret>, ConfigError> {
        if let Some(url) = &self.smtp {
            return no_password("--smtp", SMTP, url).map(|()| Some(url.clone()));
        }
        Ok(std::env::var(SMTP).ok().filter(|url| !url.is_empty()).map(Secret::new))
    }
}
