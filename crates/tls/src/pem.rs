//! PEM files, read together.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sha2::{Digest, Sha256};
use tokio_rustls::rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_cert::der::Decode;

use crate::{Identity, TlsError, newest::Fresh, wrong};

/// A certificate of ours, for people.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) path: PathBuf,
    pub(crate) serial: String,
    /// The first instant at which nobody takes it any more.
    pub(crate) expiry: SystemTime,
}

/// Reads files, and knows whether they are those that were read before.
#[derive(Default)]
pub(crate) struct Reader(Sha256);

impl Reader {
    /// Certificate and key, which belong together.
    pub(crate) fn identity(&mut self, identity: &Identity) -> Result<(CertifiedKey, Leaf), TlsError> {
        let path = &identity.certificate;
        let chain = self.certificates(path)?;
        let leaf = leaf(path, &chain)?;
        // The parser's own words may repeat a line of the file, and so of the key.
        let key = PrivateKeyDer::from_pem_slice(&self.file(&identity.key)?)
            .map_err(|_| wrong(&identity.key, "holds no private key in PEM"))?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| wrong(&identity.key, format!("with {}: {error}", path.display())))?;
        Ok((key, leaf))
    }

    /// The authorities of a file.
    pub(crate) fn authorities(&mut self, path: &Path) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(path)? {
            roots.add(certificate).map_err(|error| wrong(path, error))?;
        }
        Ok(roots)
    }

    /// The value that was made from the files.
    pub(crate) fn done<T>(self, made: T, leaf: Option<Leaf>) -> Fresh<T> {
        Fresh { made, print: self.0.finalize().into(), leaf }
    }

    /// At least one.
    pub(crate) fn certificates(&mut self, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.file(path)?).collect();
        let found = found.unwrap_or_default();
        if found.is_empty() {
            Err(wrong(path, "holds no certificate in PEM, or one that is cut short"))
        } else {
            Ok(found)
        }
    }

    fn file(&mut self, path: &Path) -> Result<Vec<u8>, TlsError> {
        let bytes = fs::read(path).map_err(|error| wrong(path, error))?;
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(&bytes);
        Ok(bytes)
    }
}

fn leaf(path: &Path, chain: &[CertificateDer<'_>]) -> Result<Leaf, TlsError> {
    let first = chain.first().map(|der| x509_cert::Certificate::from_der(der));
    let Some(Ok(certificate)) = first else { return Err(wrong(path, "its first certificate cannot be read")) };
    let told = certificate.tbs_certificate;
    // The last second counts.
    let expiry = UNIX_EPOCH + told.validity.not_after.to_unix_duration() + Duration::from_secs(1);
    Ok(Leaf { path: path.to_owned(), serial: told.serial_number.to_string(), expiry })
}
