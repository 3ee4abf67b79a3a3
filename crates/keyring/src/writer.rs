//! The thread that makes keys: what waits is written together and flushed once, under the directory's lock, after
//! reading what other processes have appended. So one subject has one key, whoever asked first.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use saldo_api::hex;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use crate::{
    KeyringError, Known, WhereMissing,
    file::{Binding, Entry, Item},
    reached::{Mark, Reached},
    seal::{SubjectKey, TenantKeys, decrypt, encrypt},
};

/// Requests written together.
pub(crate) const GROUP: usize = 1_024;

pub(crate) enum KeyRequest {
    /// A key for a tenant or one of its accounts.
    Key { tenant: String, account: Option<String> },
    /// What other processes have appended.
    Refresh,
    /// Whose keys they are, where that is not noted yet.
    Bind,
    /// The log has come so far; `true`: even where it had come further before.
    Reached(Vec<Mark>, bool),
}

pub(crate) struct Request {
    pub kind: KeyRequest,
    pub done: oneshot::Sender<Result<(), KeyringError>>,
}

struct Store {
    dir: PathBuf,
    path: PathBuf,
    file: File,
    master: Zeroizing<[u8; 32]>,
    known: Arc<RwLock<Known>>,
    log_id: [u8; 16],
    files: Arc<Files>,
    read_to: u64,
}

/// The files as they were opened. They are looked for again and again: a file that is deleted stays usable for the process that
/// has it open, and all that this process writes there is lost.
pub(crate) struct Files {
    path: PathBuf,
    master: PathBuf,
    /// Device and number of the key file.
    opened: (u64, u64),
    /// How far it was read. It never becomes shorter.
    read_to: AtomicU64,
    /// Locked for as long as the store is open, by each process for all.
    in_use: File,
}

/// The file that is locked while the store is open. It stays empty.
const IN_USE: &str = "in-use";

impl Files {
    pub(crate) fn read_to(&self) -> u64 {
        self.read_to.load(Ordering::Acquire)
    }

    /// Whether no other process has the store open. From then on the lock is this process's alone.
    pub(crate) fn is_alone(&self) -> Result<bool, KeyringError> {
        match self.in_use.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(failed(&self.path.with_file_name(IN_USE), error)),
        }
    }

    /// Fails where the files are not those that were opened.
    pub(crate) fn check(&self) -> Result<(), KeyringError> {
        let vanished = |path: &Path, why: &str| {
            Err(KeyringError::Vanished { path: path.display().to_string(), why: why.to_owned() })
        };
        // Before the file is looked at: the writer appends meanwhile.
        let read_to = self.read_to();
        for path in [&self.path, &self.master] {
            match std::fs::metadata(path) {
                Ok(found) if *path == self.path => {
                    if (found.dev(), found.ino()) != self.opened {
                        return vanished(path, "is another file than was opened");
                    }
                    if found.len() < read_to {
                        return vanished(path, "is shorter than it was");
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return vanished(path, "is gone"),
                Err(error) => return Err(failed(path, error)),
            }
        }
        Ok(())
    }
}

/// Opens the files and starts the thread, which ends when every keyring is dropped.
pub(crate) fn start(
    dir: &Path,
    log_id: [u8; 16],
    missing: WhereMissing,
    known: Arc<RwLock<Known>>,
    mut queue: mpsc::Receiver<Request>,
) -> Result<Arc<Files>, KeyringError> {
    let path = dir.join("keyring");
    if missing == WhereMissing::Refuse && std::fs::metadata(&path).map_or(0, |found| found.len()) == 0 {
        return Err(KeyringError::Missing { path: dir.display().to_string() });
    }
    saldo_private_files::folder(dir).map_err(|error| failed(dir, error))?;
    let in_use = dir.join(IN_USE);
    let in_use = saldo_private_files::open(&in_use)
        .and_then(|file| file.lock_shared().map(|()| file))
        .map_err(|error| failed(&in_use, error))?;
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
    let mut file = file.map_err(|error| failed(&path, error))?;
    saldo_private_files::close_file(&file).map_err(|error| failed(&path, error))?;
    let master = {
        let lock_file = file.try_clone().map_err(|error| failed(&path, error))?;
        let _lock = Lock::take(&path, &lock_file)?;
        let is_new = file.metadata().map_err(|error| failed(&path, error))?.len() == 0;
        let master = master_key(dir, is_new)?;
        if is_new {
            let binding = Binding { store_id: random()?, log_id };
            file.write_all(&binding.encode())
                .and_then(|()| file.sync_all())
                .and_then(|()| File::open(dir)?.sync_all())
                .map_err(|error| failed(&path, error))?;
        }
        master
    };
    let opened = file.metadata().map_err(|error| failed(&path, error))?;
    let files = Arc::new(Files {
        path: path.clone(),
        master: dir.join(MASTER),
        opened: (opened.dev(), opened.ino()),
        read_to: AtomicU64::new(0),
        in_use,
    });
    let dir = dir.to_owned();
    let mut store = Store { dir: dir.clone(), path, file, master, known, log_id, files: files.clone(), read_to: 0 };
    store.work(&[])?;
    let thread = std::thread::Builder::new().name("keyring".to_owned()).spawn(move || {
        let mut group = Vec::new();
        while queue.blocking_recv_many(&mut group, GROUP) > 0 {
            let wanted: Vec<(String, Option<String>)> = group
                .iter()
                .filter_map(|request: &Request| match &request.kind {
                    KeyRequest::Key { tenant, account } => Some((tenant.clone(), account.clone())),
                    _ => None,
                })
                .collect();
            let outcome = store.work(&wanted);
            for Request { kind, done } in group.drain(..) {
                let outcome = outcome.clone().and_then(|()| match kind {
                    KeyRequest::Key { .. } | KeyRequest::Refresh => Ok(()),
                    KeyRequest::Bind => store.bind(),
                    KeyRequest::Reached(marks, anew) => store.note_reached(marks, anew),
                });
                let _ = done.send(outcome);
            }
        }
    });
    thread.map(|_| files).map_err(|error| failed(&dir, error))
}

impl Store {
    /// Reads what is new, makes the keys that are missing, and flushes them before anybody hears of them.
    fn work(&mut self, wanted: &[(String, Option<String>)]) -> Result<(), KeyringError> {
        let lock_file = self.file.try_clone().map_err(|error| failed(&self.path, error))?;
        let _lock = Lock::take(&self.path, &lock_file)?;
        // A key that is written into a file which nobody finds again would be lost with this process.
        self.files.check()?;
        self.read_new()?;
        let mut bytes = Vec::new();
        let mut made = Vec::new();
        for (tenant, account) in wanted {
            let wrapping = match self.tenant(tenant, &made) {
                Some(keys) => keys,
                None => {
                    let (entry, key) = wrap(&self.master, tenant, None)?;
                    bytes.extend(entry.encode());
                    let keys = Arc::new(TenantKeys::new(key));
                    made.push(Made::Tenant(tenant.clone(), keys.clone()));
                    keys
                }
            };
            let Some(account) = account else { continue };
            let name = format!("{tenant}/{account}");
            if self.has_subject(&name, &made) {
                continue;
            }
            let (entry, key) = wrap(&wrapping.wrapping, tenant, Some(account))?;
            bytes.extend(entry.encode());
            made.push(Made::Subject(name.into(), SubjectKey { id: entry.key_id, key }));
        }
        self.append(&bytes)?;
        let mut known = self.known.write().map_err(|_| KeyringError::Ended)?;
        made.into_iter().for_each(|made| made.remember(&mut known));
        Ok(())
    }

    /// Appends and flushes. The caller holds the lock, and has read all that stands in the file.
    fn append(&mut self, bytes: &[u8]) -> Result<(), KeyringError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.write_all(bytes).and_then(|()| self.file.sync_data()) {
            // What may stand there half or unflushed was given to nobody; the next turn begins without it.
            self.file.set_len(self.read_to).map_err(|error| failed(&self.path, error))?;
            return Err(failed(&self.path, error));
        }
        self.has_read(bytes.len());
        Ok(())
    }

    fn has_read(&mut self, bytes: usize) {
        self.read_to += bytes as u64;
        self.files.read_to.store(self.read_to, Ordering::Release);
    }

    fn binding(&self) -> Option<Binding> {
        self.known.read().ok()?.binding
    }

    /// Notes whose keys they are.
    fn bind(&mut self) -> Result<(), KeyringError> {
        let lock_file = self.file.try_clone().map_err(|error| failed(&self.path, error))?;
        let _lock = Lock::take(&self.path, &lock_file)?;
        self.read_new()?;
        if self.binding().is_some() {
            return Ok(());
        }
        let binding = Binding { store_id: random()?, log_id: self.log_id };
        self.append(&binding.encode())?;
        self.known.write().map_err(|_| KeyringError::Ended)?.binding = Some(binding);
        Ok(())
    }

    /// Notes how far the log has come. Another process may have noted more.
    fn note_reached(&mut self, marks: Vec<Mark>, anew: bool) -> Result<(), KeyringError> {
        let lock_file = self.file.try_clone().map_err(|error| failed(&self.path, error))?;
        let _lock = Lock::take(&self.path, &lock_file)?;
        self.files.check()?;
        self.read_new()?;
        let Some(binding) = self.binding() else { return Ok(()) };
        let noted = Reached::read(&self.dir, &binding)?.filter(|_| !anew);
        let mut reached = Reached { keys: self.read_to, marks };
        if let Some(noted) = &noted {
            for (mark, before) in reached.marks.iter_mut().zip(&noted.marks) {
                if before.next > mark.next {
                    *mark = *before;
                }
            }
        }
        if noted.is_none_or(|noted| noted.marks != reached.marks) {
            reached.write(&self.dir, &binding)?;
        }
        Ok(())
    }

    fn tenant(&self, tenant: &str, made: &[Made]) -> Option<Arc<TenantKeys>> {
        let new = made.iter().find_map(|made| match made {
            Made::Tenant(name, keys) if name == tenant => Some(keys.clone()),
            _ => None,
        });
        new.or_else(|| self.known.read().ok()?.tenants.get(tenant).cloned())
    }

    fn has_subject(&self, name: &str, made: &[Made]) -> bool {
        made.iter().any(|made| matches!(made, Made::Subject(subject, _) if **subject == *name))
            || self.known.read().is_ok_and(|known| known.subjects.contains_key(name))
    }

    fn read_new(&mut self) -> Result<(), KeyringError> {
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(self.read_to))
            .and_then(|_| self.file.read_to_end(&mut bytes))
            .map_err(|error| failed(&self.path, error))?;
        if bytes.is_empty() {
            return Ok(());
        }
        // Whoever wrote them may have been killed between write and flush, and we are about to hand them out.
        self.file.sync_data().map_err(|error| failed(&self.path, error))?;
        let mut rest = bytes.as_slice();
        while let Some((item, length)) = Item::decode(rest) {
            match item {
                Item::Key(entry) => self.take(entry)?,
                Item::Binding(binding) => self.take_binding(binding)?,
            }
            self.has_read(length);
            rest = &rest[length..];
        }
        if rest.is_empty() {
            return Ok(());
        }
        if !Item::is_torn(rest) {
            return Err(KeyringError::Damaged { path: self.path.display().to_string(), at: self.read_to });
        }
        tracing::warn!(bytes = rest.len(), "the key store ends in an entry cut short by a crash; it is removed");
        self.file.set_len(self.read_to).map_err(|error| failed(&self.path, error))
    }

    fn take_binding(&self, binding: Binding) -> Result<(), KeyringError> {
        if binding.log_id != self.log_id {
            return Err(KeyringError::OtherLog {
                path: self.dir.display().to_string(),
                bound: hex(&binding.log_id),
                log: hex(&self.log_id),
            });
        }
        self.known.write().map_err(|_| KeyringError::Ended)?.binding = Some(binding);
        Ok(())
    }

    fn take(&self, entry: Entry) -> Result<(), KeyringError> {
        let locked = || KeyringError::Locked { path: self.path.display().to_string() };
        let wrapping = match &entry.account {
            None => self.master.clone(),
            Some(_) => self.tenant(&entry.tenant, &[]).ok_or_else(locked)?.wrapping.clone(),
        };
        let aad = Entry::associated_data(&entry.tenant, entry.account.as_deref(), &entry.key_id);
        let plain = decrypt(&wrapping, &entry.nonce, &aad, &entry.wrapped).map_err(|_| locked())?;
        let key = Zeroizing::new(<[u8; 32]>::try_from(plain.as_slice()).map_err(|_| locked())?);
        let mut known = self.known.write().map_err(|_| KeyringError::Ended)?;
        match entry.account {
            None => Made::Tenant(entry.tenant, Arc::new(TenantKeys::new(key))).remember(&mut known),
            Some(account) => {
                let name = format!("{}/{account}", entry.tenant);
                Made::Subject(name.into(), SubjectKey { id: entry.key_id, key }).remember(&mut known);
            }
        }
        Ok(())
    }
}

enum Made {
    Tenant(String, Arc<TenantKeys>),
    Subject(Box<str>, SubjectKey),
}

impl Made {
    fn remember(self, known: &mut Known) {
        match self {
            Made::Tenant(name, keys) => drop(known.tenants.insert(name, keys)),
            Made::Subject(name, key) => {
                known.subjects.insert(name, key.id);
                known.keys.insert(key.id, key.key);
            }
        }
    }
}

fn wrap(
    wrapping: &[u8; 32],
    tenant: &str,
    account: Option<&str>,
) -> Result<(Entry, Zeroizing<[u8; 32]>), KeyringError> {
    let mut key = Zeroizing::new([0; 32]);
    let (mut key_id, mut nonce) = ([0; 16], [0; 24]);
    for bytes in [&mut key[..], &mut key_id, &mut nonce] {
        getrandom::fill(bytes).map_err(|_| KeyringError::Random)?;
    }
    let aad = Entry::associated_data(tenant, account, &key_id);
    let wrapped = encrypt(wrapping, &nonce, &aad, &key[..])?.try_into().map_err(|_| KeyringError::Random)?;
    Ok((Entry { tenant: tenant.to_owned(), account: account.map(str::to_owned), key_id, nonce, wrapped }, key))
}

/// The name of the master key's file.
const MASTER: &str = "master.key";

/// Reads master.key. It is made for a new store alone: no key of a store opens under another one. The caller holds the lock.
fn master_key(dir: &Path, is_new: bool) -> Result<Zeroizing<[u8; 32]>, KeyringError> {
    let path = dir.join(MASTER);
    let mut key = Zeroizing::new([0; 32]);
    match File::open(&path) {
        Ok(mut file) => file.read_exact(&mut key[..]).map_err(|error| failed(&path, error))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_new => {
            getrandom::fill(&mut key[..]).map_err(|_| KeyringError::Random)?;
            saldo_private_files::replace(&path, &key[..]).map_err(|error| failed(&path, error))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(KeyringError::NoMasterKey { path: path.display().to_string() });
        }
        Err(error) => return Err(failed(&path, error)),
    }
    Ok(key)
}

fn random() -> Result<[u8; 16], KeyringError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| KeyringError::Random)?;
    Ok(id)
}

/// The directory's lock, held over a read and an append.
struct Lock<'f>(&'f File);

impl<'f> Lock<'f> {
    fn take(path: &Path, file: &'f File) -> Result<Self, KeyringError> {
        file.lock().map_err(|error| failed(path, error))?;
        Ok(Self(file))
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::error!(%error, "the key store's lock could not be released");
        }
    }
}

pub(crate) fn failed(path: &Path, error: std::io::Error) -> KeyringError {
    KeyringError::File { path: path.display().to_string(), why: error.to_string() }
}
