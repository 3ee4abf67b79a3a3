//! `[auth]` and `[services]`: whose tokens are taken, and how services reach each other.

use std::path::PathBuf;

use saldo_tls::ClientFiles;
use serde::Deserialize;

use super::{error::ConfigError, tls::identity};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// PEM files with the public keys that sign tokens. Without any, no service that checks tokens starts.
    pub public_keys: Vec<PathBuf>,
    /// PEM file with the private key (Ed25519) by which scheduler and dispatcher sign their tokens. Its public key stands among
    /// the command service's public keys. Absent: in one process with the command service, a key that is made at each start.
    pub service_key: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServicesConfig {
    /// The command service's instances, `http://host:port` or `https://host:port`, for a scheduler or dispatcher in another
    /// process.
    pub command: Vec<String>,
    /// PEM file of the authorities that certify the instances, over https; absent: the authorities that browsers trust.
    pub tls_ca: Option<PathBuf>,
    /// PEM file with our certificate, where the instances ask for one.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with our certificate's private key.
    pub tls_key: Option<PathBuf>,
}

impl ServicesConfig {
    pub fn files(&self) -> Result<ClientFiles, ConfigError> {
        let certificate = ("services.tls_certificate", &self.tls_certificate);
        Ok(ClientFiles {
            ca: self.tls_ca.clone(),
            identity: identity(certificate, ("services.tls_key", &self.tls_key))?,
        })
    }
}
