//! The keys under which the records of a log are written. A record counts only if its authenticator was made under one of them:
//! whoever can write the topic and has no key writes nothing that counts.
//!
//! The keys stand in a file beside the key store. Every process that writes or judges records reads the file. It holds no key of
//! personal data, so a process that judges records alone need not be able to unseal them.
//!
//! ```text
//! saldo log keys 1
//! log 5f2c…                            id of the accounts log; its catalog is written under the same keys
//! 1 9ab4… 1970-01-01T00:00:00Z         number, key, instant from which on records may be written under it
//! 2 07d1… 2027-01-01T08:00:00Z
//! sum c01f…                            first 8 bytes of SHA-256 of all before
//! ```
//! A key ends ten minutes after the next one begins. The append time decides, which the log itself sets. The file is replaced whole.

use std::{
    fmt::{self, Write as _},
    fs::File,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use hmac::{Hmac, Mac};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::same::hex;

/// The name of the file in the key store's folder.
pub const FILE: &str = "log.keys";
const TITLE: &str = "saldo log keys 1";

/// Records may still be written under a key for so long after the next one begins: every writer has read the file by then.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);
/// Writers go over to a key so long after it begins: every reader's clock and file are behind that by then.
const LEAD: SignedDuration = SignedDuration::from_mins(1);

/// Why the keys of a log could not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeysError {
    /// There is no file.
    #[error(
        "{path} is missing: it holds the keys that tell the records of this log from forged ones. Restore it from the backup of the key store, or name it (log.keys, keyring.dir). If the creation of the log was interrupted, run `saldo log create` again"
    )]
    Missing {
        /// The file.
        path: String,
    },
    /// The file cannot be read or written.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What went wrong.
        why: String,
    },
    /// The file is not what was written.
    #[error("{path} is damaged ({why}); nothing was changed; restore it from the backup of the key store")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The keys are those of another log.
    #[error(
        "{path} belongs to log {bound}, and this log is {log}; name the folder of this log's key store (keyring.dir, log.keys), or correct the log's settings"
    )]
    OtherLog {
        /// The file.
        path: String,
        /// The log of the file.
        bound: String,
        /// The log that is read.
        log: String,
    },
    /// A log is to be created, and the file belongs to a log already.
    #[error(
        "there is no log yet, and {path} holds the keys of log {bound}: correct log.kafka, log.topic or log.embedded_url if that log is meant, or name a new folder for the key store of the new log (keyring.dir)"
    )]
    InUse {
        /// The file.
        path: String,
        /// The log of the file.
        bound: String,
    },
    /// No randomness.
    #[error("no random bytes from the system")]
    Random,
}

/// The keys of a log, as this process knows them. Clones share them.
#[derive(Clone)]
pub struct LogKeys(Option<Arc<Shared>>);

struct Shared {
    /// `None`: the keys are in memory alone.
    path: Option<PathBuf>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    log_id: Option<[u8; 16]>,
    keys: Vec<LogKey>,
    /// Device, number, length and time of the file that was read.
    read: Option<(u64, u64, u64, i64)>,
}

struct LogKey {
    number: u32,
    secret: Zeroizing<[u8; 32]>,
    from: Timestamp,
    /// Keyed once: each record then costs two blocks of SHA-256 less.
    mac: Hmac<Sha256>,
}

impl LogKey {
    fn new(number: u32, secret: Zeroizing<[u8; 32]>, from: Timestamp) -> Self {
        // A key shorter than the hash's block is padded with zeros (RFC 2104, section 2).
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&secret[..]);
        let mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new((&*block).into());
        Self { number, secret, from, mac }
    }

    fn tag(&self, digest: &[u8; 32]) -> [u8; 32] {
        self.mac.clone().chain_update(digest).finalize().into_bytes().into()
    }
}

impl fmt::Debug for LogKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogKeys")
    }
}

impl LogKeys {
    /// No keys: no record counts. For processes that need to know which log it is, and judge none of its records.
    pub const NONE: Self = Self(None);

    /// Whether these are no keys.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// One key in memory, for tests.
    pub fn fixed(secret: [u8; 32]) -> Self {
        let keys = vec![LogKey::new(1, Zeroizing::new(secret), Timestamp::UNIX_EPOCH)];
        let known = RwLock::new(Known { keys, ..Known::default() });
        Self(Some(Arc::new(Shared { path: None, known })))
    }

    /// The keys of this file, which is not read yet. The first log that is opened with them is the one that they must be of.
    pub fn at(path: PathBuf) -> Self {
        Self(Some(Arc::new(Shared { path: Some(path), known: RwLock::default() })))
    }

    /// Reads the file, which must be that of this log.
    pub fn open(path: PathBuf, log_id: [u8; 16]) -> Result<Self, KeysError> {
        let keys = Self::at(path);
        keys.belong_to(log_id)?;
        Ok(keys)
    }

    /// Begins the keys of a log that is to be created. Returns the log's id. A creation that was interrupted goes on with its id.
    pub fn begin(&self) -> Result<[u8; 16], KeysError> {
        let Some((shared, path)) = self.file() else { return random() };
        if let Some(known) = read(path)? {
            let bound = hex(&known.log_id.unwrap_or_default());
            return Err(KeysError::InUse { path: path.display().to_string(), bound });
        }
        let new = beginning(path);
        let known = match read(&new)? {
            Some(known) => known,
            None => {
                let keys = vec![LogKey::new(1, Zeroizing::new(random()?), Timestamp::UNIX_EPOCH)];
                let begun = Known { log_id: Some(random()?), keys, read: None };
                write(&new, &begun, true)?;
                // Another process may have come first.
                read(&new)?.unwrap_or(begun)
            }
        };
        let log_id = known.log_id.unwrap_or_default();
        *shared.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(log_id)
    }

    /// The log is created: its keys stand under their name from now on. Run again it changes nothing.
    pub fn finish(&self, log_id: [u8; 16]) -> Result<(), KeysError> {
        let Some((_, path)) = self.file() else { return Ok(()) };
        let new = beginning(path);
        if !path.exists() && read(&new)?.is_some_and(|known| known.log_id == Some(log_id)) {
            match std::fs::rename(&new, path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&new, error)),
                _ => saldo_private_files::sync_folder(path).map_err(|error| failed(path, error))?,
            }
        }
        self.belong_to(log_id)
    }

    /// Reads the file, which must be that of this log.
    pub fn belong_to(&self, log_id: [u8; 16]) -> Result<(), KeysError> {
        let Some((shared, path)) = self.file() else { return Ok(()) };
        let told = || path.display().to_string();
        let known = read(path)?.ok_or_else(|| KeysError::Missing { path: told() })?;
        if known.log_id != Some(log_id) {
            let bound = hex(&known.log_id.unwrap_or_default());
            return Err(KeysError::OtherLog { path: told(), bound, log: hex(&log_id) });
        }
        *shared.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// Reads the file where it was not read yet. It must be that of this log, which is thereby the accounts log.
    pub(crate) fn first_read(&self, log_id: [u8; 16]) -> Result<(), KeysError> {
        match self.with(|known| known.log_id) {
            Some(None) => self.belong_to(log_id),
            _ => Ok(()),
        }
    }

    /// Reads the file again where it has changed.
    pub fn refresh(&self) -> Result<(), KeysError> {
        let Some((shared, path)) = self.file() else { return Ok(()) };
        let seen = state(path)?;
        let (log_id, read_before) = {
            let known = shared.known.read().unwrap_or_else(PoisonError::into_inner);
            (known.log_id, known.read)
        };
        match (seen == read_before, log_id) {
            (true, _) | (_, None) => Ok(()),
            (false, Some(log_id)) => self.belong_to(log_id),
        }
    }

    /// Adds a key and returns its number. Writers go over to it after a minute, and the key before ends after ten.
    pub fn rotate(path: &Path, now: Timestamp) -> Result<u32, KeysError> {
        let missing = || KeysError::Missing { path: path.display().to_string() };
        let lock = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing(),
            _ => failed(path, error),
        })?;
        lock.lock().map_err(|error| failed(path, error))?;
        // By its name: another process may have replaced the file while this one waited.
        let mut known = read(path)?.ok_or_else(missing)?;
        let number = known.keys.last().map_or(1, |key| key.number.saturating_add(1));
        known.keys.push(LogKey::new(number, Zeroizing::new(random()?), now));
        write(path, &known, false)?;
        Ok(number)
    }

    /// The numbers of the keys.
    pub fn numbers(&self) -> Vec<u32> {
        self.with(|known| known.keys.iter().map(|key| key.number).collect()).unwrap_or_default()
    }

    /// The number of the key that writers use now.
    pub(crate) fn number_now(&self) -> u32 {
        let now = real_time();
        let is_used = |key: &&LogKey| key.from.checked_add(LEAD).is_ok_and(|from| from <= now);
        let number = |known: &Known| known.keys.iter().rev().find(is_used).map(|key| key.number);
        self.with(number).flatten().unwrap_or_default()
    }

    /// The authenticator of a record with this digest. Without the key it never counts.
    pub(crate) fn tag(&self, number: u32, digest: &[u8; 32]) -> [u8; 32] {
        self.with(|known| Some(known.key(number)?.0.tag(digest))).flatten().unwrap_or_default()
    }

    /// Whether a record that the log took at this instant has the authenticator of a writer of ours.
    pub(crate) fn wrote(
        &self,
        number: u32,
        digest: &[u8; 32],
        tag: &[u8; 32],
        appended_at: Timestamp,
    ) -> Result<bool, KeysError> {
        let judge = |known: &Known| {
            let (key, ends) = known.key(number)?;
            let is_valid = key.from <= appended_at && ends.is_none_or(|ends| appended_at < ends);
            // In constant time.
            Some(is_valid && key.mac.clone().chain_update(digest).verify_slice(tag).is_ok())
        };
        if let Some(judged) = self.with(judge).flatten() {
            return Ok(judged);
        }
        // The key may be new. A file that cannot be read says nothing of the record.
        self.refresh()?;
        Ok(self.with(judge).flatten().unwrap_or(false))
    }

    fn file(&self) -> Option<(&Shared, &Path)> {
        let shared = self.0.as_deref()?;
        Some((shared, shared.path.as_deref()?))
    }

    fn with<T>(&self, look: impl FnOnce(&Known) -> T) -> Option<T> {
        Some(look(&self.0.as_ref()?.known.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Known {
    /// A key, and when it ends.
    fn key(&self, number: u32) -> Option<(&LogKey, Option<Timestamp>)> {
        let at = self.keys.iter().position(|key| key.number == number)?;
        let ends = self.keys.get(at + 1).and_then(|next| next.from.checked_add(OVERLAP).ok());
        Some((self.keys.get(at)?, ends))
    }

    fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(format!("{TITLE}\nlog {}\n", hex(&self.log_id.unwrap_or_default())));
        for LogKey { number, secret, from, .. } in &self.keys {
            let secret = Zeroizing::new(hex(&secret[..]));
            // Writing to a string does not fail.
            let _ = writeln!(text, "{number} {} {from}", *secret);
        }
        let sum = sum(&text);
        text.push_str(&sum);
        text
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let body = text.rfind("sum ").map(|at| &text[..at]).ok_or("it does not end in its sum")?;
        if sum(body) != text[body.len()..] {
            return Err("its sum is wrong".to_owned());
        }
        let mut lines = body.lines();
        if lines.next() != Some(TITLE) {
            return Err(format!("it does not begin with {TITLE}"));
        }
        let log_id = lines.next().and_then(|line| bytes(line.strip_prefix("log ")?)).ok_or("it names no log")?;
        let mut keys: Vec<LogKey> = Vec::new();
        for line in lines {
            let mut words = line.split(' ');
            let key = (|| {
                let number = words.next()?.parse().ok()?;
                let secret = Zeroizing::new(bytes(words.next()?)?);
                Some(LogKey::new(number, secret, words.next()?.parse().ok()?))
            })();
            let key = key.ok_or("a line is no key")?;
            if keys.last().is_some_and(|before| before.number >= key.number || before.from > key.from) {
                return Err("its keys are not in order".to_owned());
            }
            keys.push(key);
        }
        match keys.is_empty() {
            true => Err("it holds no key".to_owned()),
            false => Ok(Self { log_id: Some(log_id), keys, read: None }),
        }
    }
}

/// The append time that a key is judged by is real, whatever clock decisions are made by.
#[allow(clippy::disallowed_methods, reason = "the log's append time is real time, and no decision rests on this")]
pub(crate) fn real_time() -> Timestamp {
    Timestamp::now()
}

fn sum(text: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    format!("sum {}\n", hex(&digest[..8]))
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Where the keys of a log stand that is being created.
fn beginning(path: &Path) -> PathBuf {
    path.with_extension("keys.new")
}

fn state(path: &Path) -> Result<Option<(u64, u64, u64, i64)>, KeysError> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino(), found.len(), found.mtime()))),
        Err(error) => Err(failed(path, error)),
    }
}

/// Reads a file of keys; `None` where there is none.
fn read(path: &Path) -> Result<Option<Known>, KeysError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, error)),
    };
    let seen = state(path)?;
    match Known::from_text(&text) {
        Ok(known) => Ok(Some(Known { read: seen, ..known })),
        Err(why) => Err(KeysError::Damaged { path: path.display().to_string(), why }),
    }
}

/// Writes the keys whole under this name. `only_new`: an existing file stays.
fn write(path: &Path, known: &Known, only_new: bool) -> Result<(), KeysError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        saldo_private_files::folder(folder).map_err(|error| failed(folder, error))?;
    }
    let text = known.to_text();
    let written = match only_new {
        true => saldo_private_files::place(path, text.as_bytes()),
        false => saldo_private_files::replace(path, text.as_bytes()),
    };
    match written {
        Err(error) if !(only_new && error.kind() == ErrorKind::AlreadyExists) => Err(failed(path, error)),
        _ => Ok(()),
    }
}

fn random<const N: usize>() -> Result<[u8; N], KeysError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| KeysError::Random)?;
    Ok(bytes)
}

fn failed(path: &Path, error: std::io::Error) -> KeysError {
    KeysError::File { path: path.display().to_string(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: SignedDuration = SignedDuration::from_hours(1);

    fn later(instant: Timestamp, by: SignedDuration) -> Timestamp {
        instant.checked_add(by).expect("an instant")
    }

    #[test]
    fn an_interrupted_creation_goes_on_and_a_finished_one_is_not_begun_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("keys").join(FILE);
        let log_id = LogKeys::at(path.clone()).begin().expect("begun");
        assert!(matches!(LogKeys::open(path.clone(), log_id), Err(KeysError::Missing { .. })));
        let again = LogKeys::at(path.clone());
        assert_eq!(again.begin().expect("begun before"), log_id);
        again.finish(log_id).expect("finished");
        again.finish(log_id).expect("finished before");
        assert!(matches!(LogKeys::at(path.clone()).begin(), Err(KeysError::InUse { .. })));
        assert!(matches!(LogKeys::open(path.clone(), [9; 16]), Err(KeysError::OtherLog { .. })));
        let mode = std::fs::metadata(&path).expect("a file").mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(LogKeys::open(path, log_id).expect("the log's").numbers(), [1]);
    }

    #[test]
    fn a_file_that_was_changed_is_said_to_be_damaged() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(FILE);
        let keys = LogKeys::at(path.clone());
        let log_id = keys.begin().expect("begun");
        keys.finish(log_id).expect("finished");
        let text = std::fs::read_to_string(&path).expect("text");
        for (before, after) in [("1 ", "2 "), ("keys 1", "keys 2"), ("1970", "1971"), ("sum ", "")] {
            std::fs::write(&path, text.replacen(before, after, 1)).expect("written");
            assert!(matches!(LogKeys::open(path.clone(), log_id), Err(KeysError::Damaged { .. })), "{after}");
        }
        std::fs::write(&path, "").expect("written");
        assert!(matches!(LogKeys::open(path, log_id), Err(KeysError::Damaged { .. })));
    }

    #[test]
    fn a_key_ends_ten_minutes_after_the_next_one_begins() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(FILE);
        let keys = LogKeys::at(path.clone());
        let log_id = keys.begin().expect("begun");
        keys.finish(log_id).expect("finished");
        let (now, digest) = (real_time(), [7; 32]);
        let tag = keys.tag(1, &digest);
        let wrote = |number, tag, at| keys.wrote(number, &digest, tag, at).expect("readable");
        assert!(wrote(1, &tag, later(now, LATER)));
        assert!(!wrote(2, &tag, now) && !wrote(1, &[0; 32], now));

        assert_eq!(LogKeys::rotate(&path, now).expect("rotated"), 2);
        // A process that has not read the file since does so when it meets the new key.
        let other = LogKeys::open(path, log_id).expect("the log's");
        let second = other.tag(2, &digest);
        assert!(wrote(2, &second, now) && wrote(2, &second, later(now, LATER)));
        assert!(!wrote(2, &second, later(now, -LATER)), "a key is not used before it begins");
        assert!(wrote(1, &tag, later(now, OVERLAP / 2)));
        assert!(!wrote(1, &tag, later(now, OVERLAP)), "a key that leaked writes no more");
        assert_eq!(other.number_now(), 1, "every reader has the new key before a writer uses it");
    }

    #[test]
    fn without_keys_nothing_counts() {
        let (digest, now) = ([7; 32], real_time());
        let tag = LogKeys::NONE.tag(0, &digest);
        assert!(!LogKeys::NONE.wrote(0, &digest, &tag, now).expect("no file"));
        assert!(
            !LogKeys::fixed([1; 32]).wrote(1, &digest, &LogKeys::fixed([2; 32]).tag(1, &digest), now).expect("no file")
        );
    }
}
