//! TLS from an operator's PEM files: read, checked, and read again when they change, so that a certificate is replaced
//! without a restart. One stack: rustls with `ring`.

mod newest;
mod pem;

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::CertificateDer,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::SingleCertAndKey,
};

pub use newest::{EVERY, Newest};
use newest::{Fresh, Source};
use pem::Reader;

/// The name of HTTP/2 in a handshake.
const HTTP2: &[u8] = b"h2";

/// A file that cannot be used, and why. Nothing of what stands in it is repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}", path = path.display())]
pub struct TlsError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// A certificate with the chain up to its authority, and the private key that belongs to it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The chain, our own certificate first.
    pub certificate: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// The files of a server.
#[derive(Debug, Clone)]
pub struct ServerFiles {
    /// The server's certificate and key.
    pub identity: Identity,
    /// The authority that certifies its clients; absent: clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// The files of a client.
#[derive(Debug, Clone, Default)]
pub struct ClientFiles {
    /// The only authority that may certify servers; absent: the authorities that browsers trust.
    pub ca: Option<PathBuf>,
    /// The client's certificate and key, where servers ask for them.
    pub identity: Option<Identity>,
}

impl ServerFiles {
    /// Reads them, now and whenever they change. Needs a tokio runtime.
    pub fn open(self) -> Result<Newest<ServerConfig>, TlsError> {
        Newest::open(self)
    }
}

impl ClientFiles {
    /// Reads them, now and whenever they change. Needs a tokio runtime.
    pub fn open(self) -> Result<Newest<ClientConfig>, TlsError> {
        Newest::open(self)
    }
}

impl Source for ServerFiles {
    type Made = ServerConfig;

    fn read(&self) -> Result<Fresh<ServerConfig>, TlsError> {
        let mut reader = Reader::default();
        let (key, leaf) = reader.identity(&self.identity)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&self.identity.certificate, error))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(reader.authorities(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| wrong(path, error))?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![HTTP2.to_vec()];
        // A client that was let in once is checked again: connections live long, and handshakes are few.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(reader.done(config, Some(leaf)))
    }
}

impl Source for ClientFiles {
    type Made = ClientConfig;

    fn read(&self) -> Result<Fresh<ClientConfig>, TlsError> {
        let mut reader = Reader::default();
        let roots = match &self.ca {
            Some(path) => reader.authorities(path)?,
            None => RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        };
        let ca = self.ca.as_deref().unwrap_or(Path::new("built-in authorities"));
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(ca, error))?
            .with_root_certificates(roots);
        let (mut config, leaf) = match &self.identity {
            None => (builder.with_no_client_auth(), None),
            Some(identity) => {
                let (key, leaf) = reader.identity(identity)?;
                (builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))), Some(leaf))
            }
        };
        config.alpn_protocols = vec![HTTP2.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(reader.done(config, leaf))
    }
}

/// The certificates in a file, at least one, for whoever makes something else of them.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    Reader::default().certificates(path)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn wrong(path: &Path, why: impl Display) -> TlsError {
    TlsError { path: path.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests;
