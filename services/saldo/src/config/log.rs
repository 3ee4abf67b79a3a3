//! `[log]`: the log in Kafka, or in Postgres on one machine.

use std::path::PathBuf;

use saldo_log::kafka;
use saldo_tls::ClientFiles;
use serde::Deserialize;

use super::{
    error::{ConfigError, within},
    secret::Secret,
    tls::identity,
};

const ACCOUNTS_TOPIC: &str = "saldo.accounts";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Kafka bootstrap servers, `host:port,…`; absent: the embedded log in Postgres.
    pub kafka: Option<String>,
    /// PEM file of the authorities that certify the brokers. With it Kafka is reached over TLS.
    pub tls_ca: Option<PathBuf>,
    /// PEM file with our certificate, for brokers that ask for one.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with our certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// Postgres database of the embedded log, where another process runs it.
    pub embedded_url: Option<Secret>,
    /// Name of the accounts topic.
    pub topic: String,
    /// Name of the catalog's topic. Absent: `saldo.catalog`, or, beside another accounts topic, that topic's name and `.catalog`.
    pub catalog_topic: Option<String>,
    /// Partitions of a log that is created; fixed for its life.
    pub partitions: u32,
    /// Replicas of a topic that is created.
    pub replication_factor: u32,
    /// The file of the keys that the records are written under; absent: `log.keys` in the key store's folder. Every process but the
    /// query service reads it.
    pub keys: Option<PathBuf>,
    /// Use a topic whose settings do not make acknowledged records durable.
    pub allow_unsafe: bool,
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
            keys: None,
            allow_unsafe: false,
        }
    }
}

impl LogConfig {
    /// Whether a server is named. Otherwise the log is an embedded one of this folder.
    pub fn is_named(&self) -> bool {
        self.kafka.is_some() || self.embedded_url.is_some()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("log.partitions", self.partitions.into(), 1_024)?;
        within("log.replication_factor", self.replication_factor.into(), 100)?;
        self.files().map(|_| ())
    }

    /// `None`: Kafka is reached in the clear.
    pub fn files(&self) -> Result<Option<ClientFiles>, ConfigError> {
        let identity = identity(("log.tls_certificate", &self.tls_certificate), ("log.tls_key", &self.tls_key))?;
        match &self.tls_ca {
            None if identity.is_some() => Err(ConfigError::Half { key: "log.tls_certificate", missing: "log.tls_ca" }),
            Some(_) if !kafka::HAS_TLS => Err(ConfigError::NoKafkaTls),
            ca => Ok(ca.as_ref().map(|ca| ClientFiles { ca: Some(ca.clone()), identity })),
        }
    }

    pub fn catalog_topic(&self) -> String {
        let beside = || match self.topic.as_str() {
            ACCOUNTS_TOPIC => "saldo.catalog".to_owned(),
            other => format!("{other}.catalog"),
        };
        self.catalog_topic.clone().unwrap_or_else(beside)
    }
}
