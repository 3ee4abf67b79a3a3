//! `[auth]` and `[services]`: whose tokens are taken, and how services reach each other.

use std::{path::PathBuf, time::Duration};

use saldo_auth::{Role, Scope};
use saldo_domain::ids::TenantId;
use saldo_tls::ClientFiles;
use serde::Deserialize;

use super::{
    error::{ConfigError, within},
    tls::identity,
};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// PEM files with the public keys that sign tokens of people and of the creditors' systems, for any tenant. Without any key,
    /// no service that checks tokens starts.
    pub public_keys: Vec<PathBuf>,
    /// Keys that may sign less.
    pub keys: Vec<BoundKey>,
    /// PEM files with the public keys of scheduler and dispatcher. Their tokens do what these services do, and nothing else.
    pub service_public_keys: Vec<PathBuf>,
    /// PEM file with the private key (Ed25519) by which scheduler and dispatcher sign their tokens. Its public key stands among
    /// the command service's `service_public_keys`. Absent: in one process with the command service, a key that is made at each
    /// start.
    pub service_key: Option<PathBuf>,
    /// The longest that a token may be valid.
    pub longest_token_hours: u64,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            public_keys: Vec::new(),
            keys: Vec::new(),
            service_public_keys: Vec::new(),
            service_key: None,
            longest_token_hours: 24,
        }
    }
}

/// A key for some issuer, roles and tenants alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoundKey {
    /// PEM file of the public key.
    file: PathBuf,
    /// The claim `iss` of its tokens; absent: any.
    issuer: Option<String>,
    /// The roles that its tokens can give; absent: all but `service`.
    roles: Option<Vec<Role>>,
    /// The tenants that its tokens can be for; absent: any.
    tenants: Option<Vec<TenantId>>,
}

/// A file of public keys.
#[derive(Debug, Clone)]
pub struct KeyFile {
    /// Where the configuration names it.
    pub setting: &'static str,
    pub path: PathBuf,
    /// What tokens of its keys may say.
    pub scope: Scope,
}

impl AuthConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("auth.longest_token_hours", self.longest_token_hours, 8_760)
    }

    pub fn longest_life(&self) -> Duration {
        Duration::from_secs(self.longest_token_hours * 3_600)
    }

    /// Whether a person's tokens can be taken at all.
    pub fn has_keys(&self) -> bool {
        !self.public_keys.is_empty() || !self.keys.is_empty()
    }

    /// Every file of keys.
    pub fn files(&self) -> Vec<KeyFile> {
        let file = |setting, path: &PathBuf, scope| KeyFile { setting, path: path.clone(), scope };
        let people = self.public_keys.iter().map(|path| file("auth.public_keys", path, Scope::people()));
        let bound = self.keys.iter().map(|key| file("auth.keys", &key.file, key.scope()));
        let services =
            self.service_public_keys.iter().map(|path| file("auth.service_public_keys", path, Scope::services()));
        people.chain(bound).chain(services).collect()
    }
}

impl BoundKey {
    fn scope(&self) -> Scope {
        let people = Scope::people();
        let roles = self.roles.clone().unwrap_or(people.roles);
        Scope { issuer: self.issuer.clone(), roles, tenants: self.tenants.clone() }
    }
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
