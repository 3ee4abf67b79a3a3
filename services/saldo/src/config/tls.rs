//! `[tls]`: TLS of the gRPC server.

use std::path::PathBuf;

use saldo_tls::{Identity, ServerFiles};
use serde::Deserialize;

use super::error::ConfigError;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file with the certificate and the chain up to its authority; absent: gRPC is served in the clear.
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub key: Option<PathBuf>,
    /// PEM file of the authorities that certify clients. With it, a client without such a certificate is refused.
    pub client_ca: Option<PathBuf>,
}

impl TlsConfig {
    /// `None`: gRPC is served in the clear.
    pub fn files(&self) -> Result<Option<ServerFiles>, ConfigError> {
        let identity = identity(("tls.certificate", &self.certificate), ("tls.key", &self.key))?;
        if identity.is_none() && self.client_ca.is_some() {
            return Err(ConfigError::Half { key: "tls.client_ca", missing: "tls.certificate" });
        }
        Ok(identity.map(|identity| ServerFiles { identity, client_ca: self.client_ca.clone() }))
    }
}

/// Certificate and key, both or neither; each comes with its key in the configuration.
pub fn identity(
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
