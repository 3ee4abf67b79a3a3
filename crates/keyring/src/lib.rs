//! The key store: truth beside the log, with its own backup.
//!
//! One directory serves the processes of one host. Each tenant has a key, each data subject (an account) another one,
//! wrapped by its tenant's; the tenant's is wrapped by the master key. A key is durable before it is handed out.
//! Destroying a subject's key erases what was sealed under it: a missing key reads as "erased" and never as an error.
//!
//! A store belongs to one log and says so (its binding). It also notes how far that log has come ([`reached`]). By this note a process
//! that starts finds a store that is older than the log, and a log that is older than the store.

mod absent;
mod file;
pub mod reached;
mod seal;
mod writer;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, RwLock},
};

pub use absent::{Absent, WithoutKey};
pub use file::Binding;
pub use reached::{Mark, Reached};
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
    /// There is no store in the folder.
    #[error(
        "key store {path} holds no key, but the log holds personal data that is sealed; restore it from its backup, or name its folder (keyring.dir)"
    )]
    Missing {
        /// The folder.
        path: String,
    },
    /// The keys are there, and what they are wrapped by is not.
    #[error(
        "{path} is missing, and the keys beside it open under no other; restore master.key from the backup of the key store"
    )]
    NoMasterKey {
        /// The file.
        path: String,
    },
    /// The store's keys seal the values of another log.
    #[error(
        "key store {path} belongs to log {bound}, and this log is {log}; name the folder of this log's key store (keyring.dir), or correct the log's settings"
    )]
    OtherLog {
        /// The folder.
        path: String,
        /// The id of the log that it is bound to.
        bound: String,
        /// The id of the log that is read.
        log: String,
    },
    /// The files were deleted, emptied or replaced while the process had them open.
    #[error(
        "key store: {path} {why} since this process opened it: nothing is sealed or read; put the key store back, from its backup if need be, and restart the process"
    )]
    Vanished {
        /// The file.
        path: String,
        /// The change.
        why: String,
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

/// The answer to a folder without a key store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhereMissing {
    /// Make one: the log is new.
    Create,
    /// Refuse: the log holds values that are sealed under keys which are elsewhere.
    Refuse,
}

/// The open key store; clones share it.
#[derive(Clone)]
pub struct Keyring {
    dir: Arc<Path>,
    known: Arc<RwLock<Known>>,
    files: Arc<writer::Files>,
    requests: tokio::sync::mpsc::Sender<writer::Request>,
}

/// What is known of the file. There is an entry for each account, so each key stands here once.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) binding: Option<Binding>,
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
    /// Opens the key store of this log.
    pub fn open(dir: &Path, log_id: [u8; 16], missing: WhereMissing) -> Result<Self, KeyringError> {
        let known = Arc::new(RwLock::new(Known::default()));
        let (requests, queue) = tokio::sync::mpsc::channel(4_096);
        let files = writer::start(dir, log_id, missing, known.clone(), queue)?;
        Ok(Self { dir: dir.into(), known, files, requests })
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Which store it is, and of which log. `None` for a store of an earlier release, until [`Keyring::bind`].
    pub fn binding(&self) -> Option<Binding> {
        self.read(|known| known.binding)
    }

    /// Notes that it is this log's store, where nothing says so yet.
    pub async fn bind(&self) -> Result<(), KeyringError> {
        self.ask(writer::KeyRequest::Bind).await
    }

    /// Fails where the store's files are not those that were opened. Two questions to the file system.
    pub fn check(&self) -> Result<(), KeyringError> {
        self.files.check()
    }

    /// Whether no other process has this store open. Whoever opens it meanwhile waits until this keyring is dropped.
    pub fn is_alone(&self) -> Result<bool, KeyringError> {
        self.files.is_alone()
    }

    /// How far the log had come when every key of it was here. `None` where nothing is noted, or where the key file is older than
    /// the note.
    pub fn reached(&self) -> Result<Option<Reached>, KeyringError> {
        let Some(binding) = self.binding() else { return Ok(None) };
        Reached::read(&self.dir, &binding)
    }

    /// Whether every key of a record before the note's marks is here.
    pub fn proves(&self, reached: &Reached) -> bool {
        self.files.read_to() >= reached.keys
    }

    /// Notes that the log has come so far, and no further in any partition than another process has noted.
    pub async fn note_reached(&self, marks: Vec<Mark>) -> Result<(), KeyringError> {
        self.ask(writer::KeyRequest::Reached(marks, false)).await
    }

    /// Notes that a person goes on from here, even where the log had come further.
    pub async fn accept_reached(&self, marks: Vec<Mark>) -> Result<(), KeyringError> {
        self.ask(writer::KeyRequest::Reached(marks, true)).await
    }

    /// Whether this key is known here. Another process may have made it since: see [`Keyring::refresh`].
    pub fn has_key(&self, id: &[u8]) -> bool {
        self.read(|known| Some(<[u8; 16]>::try_from(id).is_ok_and(|id| known.keys.contains_key(&id)))).unwrap_or(false)
    }

    /// Reads what other processes have appended.
    pub async fn refresh(&self) -> Result<(), KeyringError> {
        self.ask(writer::KeyRequest::Refresh).await
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
                self.refresh().await?;
                find()
            }
        };
        Ok(key.map(|key| key.unseal(place, envelope)).transpose()?)
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
