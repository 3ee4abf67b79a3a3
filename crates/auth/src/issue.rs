//! Making keys and tokens: for `dev`, `demo`, tests and trying. In earnest tokens come from an identity provider.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ed25519_dalek::{
    SigningKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, spki::der::pem::LineEnding},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

use crate::{AUDIENCE, Claims, Role};

/// Why a key could not be made, read or used. Never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// No randomness.
    #[error("no random bytes from the system")]
    Random,
    /// Not a private key.
    #[error("{0} is not a PEM private key of type Ed25519")]
    NotAKey(String),
    /// A file.
    #[error("{path}: {error}")]
    File {
        /// Its path.
        path: String,
        /// The error of the file system.
        error: std::io::Error,
    },
    /// The token could not be signed.
    #[error("the token could not be signed")]
    Sign,
}

/// Signs tokens with an Ed25519 key.
pub struct Issuer {
    key: SigningKey,
}

impl Issuer {
    /// A new key.
    pub fn generate() -> Result<Self, IssuerError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| IssuerError::Random)?;
        Ok(Self { key: SigningKey::from_bytes(&seed) })
    }

    /// Reads a PKCS#8 PEM file.
    pub fn read(path: &Path) -> Result<Self, IssuerError> {
        let name = path.display().to_string();
        let pem = std::fs::read_to_string(path).map_err(|error| IssuerError::File { path: name.clone(), error })?;
        SigningKey::from_pkcs8_pem(&pem).map(|key| Self { key }).map_err(|_| IssuerError::NotAKey(name))
    }

    /// Reads the file, or makes a key and keeps it there for its owner alone.
    pub fn read_or_create(path: &Path) -> Result<Self, IssuerError> {
        if path.exists() {
            return Self::read(path);
        }
        let issuer = Self::generate()?;
        let failed = |error| IssuerError::File { path: path.display().to_string(), error };
        let pem = issuer.key.to_pkcs8_pem(LineEnding::LF).map_err(|_| IssuerError::Sign)?;
        match saldo_private_files::place(path, pem.as_bytes()) {
            Ok(()) => {}
            // Another process was faster.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Self::read(path),
            Err(error) => return Err(failed(error)),
        }
        Ok(issuer)
    }

    /// The public key, PEM.
    pub fn public_pem(&self) -> Result<String, IssuerError> {
        self.key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|_| IssuerError::Sign)
    }

    /// A token, valid from now for `lifetime`.
    pub fn issue(
        &self,
        subject: &str,
        tenant: &str,
        roles: &[Role],
        lifetime: Duration,
    ) -> Result<String, IssuerError> {
        let now = now()?;
        let life = i64::try_from(lifetime.as_secs()).map_err(|_| IssuerError::Sign)?;
        self.sign(subject, tenant, roles, now, now.saturating_add(life))
    }

    pub(crate) fn sign(
        &self,
        subject: &str,
        tenant: &str,
        roles: &[Role],
        iat: i64,
        exp: i64,
    ) -> Result<String, IssuerError> {
        let claims = Claims {
            sub: subject.to_owned(),
            aud: AUDIENCE.to_owned(),
            iss: None,
            iat: Some(iat),
            exp,
            nbf: None,
            tenant: tenant.to_owned(),
            roles: roles.iter().map(|role| role.name().to_owned()).collect(),
        };
        self.encode(&claims)
    }

    pub(crate) fn encode(&self, claims: &Claims) -> Result<String, IssuerError> {
        self.encode_with(Header::new(Algorithm::EdDSA), claims)
    }

    pub(crate) fn encode_with(&self, header: Header, claims: &Claims) -> Result<String, IssuerError> {
        let pem = self.key.to_pkcs8_pem(LineEnding::LF).map_err(|_| IssuerError::Sign)?;
        let key = EncodingKey::from_ed_pem(pem.as_bytes()).map_err(|_| IssuerError::Sign)?;
        encode(&header, claims, &key).map_err(|_| IssuerError::Sign)
    }
}

#[allow(clippy::disallowed_methods, reason = "a token's life is real time, whatever clock decisions have")]
fn now() -> Result<i64, IssuerError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| IssuerError::Sign)?;
    i64::try_from(now.as_secs()).map_err(|_| IssuerError::Sign)
}
