//! The key store: truth beside the log, with its own backup.
//!
//! One directory serves the processes of one host. Each tenant has a key, each data subject (an account) another one,
//! wrapped by its tenant's; the tenant's is wrapped by the master key. A key is durable before it is handed out.
//! Destroying a subject's key erases what was sealed under it: a missing key reads as "erased" and never as an error.

mod file;
mod seal;
mod writer;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, RwLock},
};

pub use seal::{Envelope, HmacKey, SealContext, SubjectKey, Tampered, TenantKeys};
use zeroize::Zeroizing;

/// Why a key could not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyringError {
    /// The directory or its files.
    #[error("key store {path}: {why}")]
    File {
        /// The path.
        path: String,
        /// What went wrong.
        why: String,
    },
    /// An entry does not open under its wrapping key: another master key, or a damaged file.
    #[error("key store {path}: an entry does not open under master.key; restore both from the same backup")]
    Locked {
        /// The path.
        path: String,
    },
    /// Bytes in the middle of the file are no entry, and keys stand behind them.
    #[error("key store {path} is damaged at byte {at}; nothing was changed; restore it from its backup")]
    Damaged {
        /// The path.
        path: String,
        /// Where the first unreadable entry begins.
        at: u64,
    },
    /// The thread that makes keys durable has ended.
    #[error("the key store's writer has ended; restart the process")]
    Ended,
    /// No randomness.
    #[error("no random bytes from the system")]
    Random,
}

/// Why a seal was not opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UnsealError {
    /// What was sealed is not what is there now, or it stands in another place.
    #[error(transparent)]
    Tampered(#[from] Tampered),
    /// The key could not be looked up: nothing is known of the value.
    #[error(transparent)]
    Store(#[from] KeyringError),
}

/// The open key store; clones share it.
#[derive(Clone)]
pub struct Keyring {
    known: Arc<RwLock<Known>>,
    requests: tokio::sync::mpsc::Sender<writer::Request>,
}

/// What is known of the file. There is an entry for each account, so each key stands here once.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) tenants: HashMap<String, Arc<TenantKeys>>,
    /// The key id of `tenant/account`.
    pub(crate) subjects: HashMap<Box<str>, [u8; 16]>,
    /// The subjects' keys, by id.
    pub(crate) keys: HashMap<[u8; 16], Zeroizing<[u8; 32]>>,
}

impl Known {
    fn subject(&self, name: &str) -> Option<SubjectKey> {
        self.key(*self.subjects.get(name)?)
    }

    fn key(&self, id: [u8; 16]) -> Option<SubjectKey> {
        self.keys.get(&id).map(|key| SubjectKey { id, key: key.clone() })
    }
}

impl Keyring {
    /// Opens the directory, making it and its master key on first use.
    pub fn open(dir: &Path) -> Result<Self, KeyringError> {
        let known = Arc::new(RwLock::new(Known::default()));
        let (requests, queue) = tokio::sync::mpsc::channel(4_096);
        writer::start(dir, known.clone(), queue)?;
        Ok(Self { known, requests })
    }

    /// The tenant's keys, made durable on first use.
    pub async fn tenant(&self, tenant: &str) -> Result<Arc<TenantKeys>, KeyringError> {
        if let Some(keys) = self.read(|known| known.tenants.get(tenant).cloned()) {
            return Ok(keys);
        }
        self.make(tenant, None).await?;
        self.read(|known| known.tenants.get(tenant).cloned()).ok_or(KeyringError::Ended)
    }

    /// The data subject's key, if it is known here. Another process may have made it since.
    pub fn known_subject(&self, tenant: &str, account: &str) -> Option<SubjectKey> {
        self.read(|known| known.subject(&format!("{tenant}/{account}")))
    }

    /// The data subject's key, made durable on first use.
    pub async fn subject(&self, tenant: &str, account: &str) -> Result<SubjectKey, KeyringError> {
        if let Some(found) = self.known_subject(tenant, account) {
            return Ok(found);
        }
        self.make(tenant, Some(account)).await?;
        self.known_subject(tenant, account).ok_or(KeyringError::Ended)
    }

    /// Opens a seal. `None`: its key is gone, the value was erased; said only after reading all that the store has.
    pub async fn unseal(&self, place: &SealContext<'_>, envelope: &Envelope) -> Result<Option<String>, UnsealError> {
        let find = || self.read(|known| known.key(envelope.key_id));
        let key = match find() {
            Some(key) => Some(key),
            // Another process may have made it since.
            None => {
                self.ask(writer::KeyRequest::Refresh).await?;
                find()
            }
        };
        Ok(key.map(|key| key.unseal(place, envelope)).transpose()?)
    }

    /// Whether no key was ever made here.
    pub fn is_empty(&self) -> bool {
        self.read(|known| Some(known.tenants.is_empty())).unwrap_or(false)
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> Option<T>) -> Option<T> {
        self.known.read().ok().and_then(|known| look(&known))
    }

    async fn make(&self, tenant: &str, account: Option<&str>) -> Result<(), KeyringError> {
        self.ask(writer::KeyRequest::Key { tenant: tenant.to_owned(), account: account.map(str::to_owned) }).await
    }

    async fn ask(&self, request: writer::KeyRequest) -> Result<(), KeyringError> {
        let (done, answer) = tokio::sync::oneshot::channel();
        self.requests.send(writer::Request { kind: request, done }).await.map_err(|_| KeyringError::Ended)?;
        answer.await.map_err(|_| KeyringError::Ended)?
    }
}

#[cfg(test)]
mod tests;
