//! A partition's local memory on disk: heads, states, documents, given answers, and the commits of parked accounts. They are
//! saved together with the log position that they belong to. The store is disposable: without it the partition is read from
//! the start.

pub mod damage;
mod parts;
mod versions;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, Table, TableDefinition, backends::FileBackend};
use saldo_domain::{
    account::Account,
    document::{Document, DocumentKey},
};
use saldo_facts::CatalogVersions;
use saldo_log::acceptor::{Head, Position};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use self::{parts::Digests, versions::VERSIONS};
use crate::answer::Answer;

const HEADS: TableDefinition<&str, &[u8]> = TableDefinition::new("heads");
const DOCUMENTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("documents");
const ANSWERS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("answers");
const UNREAD: TableDefinition<&[u8], &[u8]> = TableDefinition::new("unread");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const CHECKPOINT: &str = "checkpoint";

/// How much of its file a store keeps in memory at most, in bytes.
pub const STORE_CACHE: usize = 16 << 20;

/// Why the store failed. No error is a reason to give up more than the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// From redb: the file is sound, as far as one can tell, and cannot be used.
    #[error("{0}")]
    Database(String),
    /// The file is damaged, or no store.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// Stored bytes of another shape.
    #[error("stored bytes are of another shape: {0}")]
    Shape(String),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match error.into() {
            redb::Error::Io(error) if matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof) => {
                Self::Damaged(error.to_string())
            }
            redb::Error::Io(error) => Self::Database(error.to_string()),
            error
            @ (redb::Error::DatabaseAlreadyOpen | redb::Error::PreviousIo | redb::Error::LockProtocolMismatch) => {
                Self::Database(error.to_string())
            }
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// An account between commits.
#[derive(Debug, Clone, Default)]
pub struct StoredAccount {
    /// The fold of the commits that could be read.
    pub account: Account,
    /// recorded_at of the newest of them.
    pub recorded_at: Option<jiff::Timestamp>,
    /// The newest versions of the catalog that they used.
    pub catalog: CatalogVersions,
    /// Why nothing can be decided, where a commit could not be read.
    pub parked: Option<String>,
    /// The parts as they stand in the store.
    saved: Digests,
}

/// An answer given before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// The fingerprint of the request that was answered.
    pub fingerprint: [u8; 32],
    /// The answer.
    pub answer: Answer,
}

/// A commit of a parked account, kept until a release can read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadCommit {
    /// The account's version with the commit.
    pub version: u64,
    /// The record's offset.
    pub offset: u64,
    /// The record's payload.
    pub payload: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    log_id: [u8; 16],
    next: u64,
    last_hash: [u8; 32],
}

/// All that is known of an account without its state.
#[derive(Serialize, Deserialize)]
struct HeadRow {
    hash: [u8; 32],
    version: u64,
    recorded_at: Option<jiff::Timestamp>,
    catalog: CatalogVersions,
    parked: Option<String>,
}

/// Where the log was left, and what stood there.
pub struct Resumed {
    /// Where it was left.
    pub position: Position,
    /// Every account's head.
    pub heads: Vec<(Box<str>, Head)>,
    /// The accounts that are parked.
    pub parked: Vec<Box<str>>,
}

/// One partition's store: the file as of the last [`Store::save`], and over it what has changed since.
pub struct Store {
    database: Database,
    log_id: [u8; 16],
    saved: Saved,
    changed: Changed,
    /// Why it was emptied when it was opened, where it was.
    emptied: Option<String>,
}

type KeyTable = ReadOnlyTable<&'static str, &'static [u8]>;
type RowTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The tables as the last save left them, opened once since nothing else writes.
struct Saved {
    heads: KeyTable,
    parts: [KeyTable; parts::COUNT],
    documents: RowTable,
    answers: RowTable,
    unread: RowTable,
}

#[derive(Default)]
struct Changed {
    documents: HashMap<Vec<u8>, Document>,
    answers: HashMap<Vec<u8>, StoredAnswer>,
    /// Commits to keep, and those that are read now and need not be kept (`None`).
    unread: BTreeMap<Vec<u8>, Option<UnreadCommit>>,
    unread_bytes: usize,
}

impl Store {
    /// Opens the file. A store of another log, or one that an other release folded, is emptied.
    pub fn open(path: &Path, log_id: [u8; 16]) -> Result<Self, StoreError> {
        let file = FileBackend::new(saldo_private_files::open(path)?)?;
        let database = Database::builder().set_cache_size(STORE_CACHE).create_with_backend(file)?;
        let transaction = database.begin_write()?;
        let stale = stale(&transaction.open_table(META)?, log_id)?;
        if stale.is_some() {
            for table in transaction.list_tables()?.collect::<Vec<_>>() {
                transaction.delete_table(table)?;
            }
        }
        {
            let mut meta = transaction.open_table(META)?;
            for (part, version) in VERSIONS {
                meta.insert(*part, version.as_slice())?;
            }
        }
        transaction.open_table(HEADS)?;
        for table in parts::TABLES {
            transaction.open_table(table)?;
        }
        for table in [DOCUMENTS, ANSWERS, UNREAD] {
            transaction.open_table(table)?;
        }
        transaction.commit()?;
        let saved = Saved::open(&database)?;
        Ok(Self { database, log_id, saved, changed: Changed::default(), emptied: stale })
    }

    /// Why it was emptied when it was opened: what it had was of another release or log.
    pub fn emptied(&self) -> Option<&str> {
        self.emptied.as_deref()
    }

    /// Where the log was left, if there is a save. Reads the heads and no account's state.
    pub fn resume(&self) -> Result<Option<Resumed>, StoreError> {
        let transaction = self.database.begin_read()?;
        let Some(row) = transaction.open_table(META)?.get(CHECKPOINT)? else { return Ok(None) };
        let checkpoint: Checkpoint = read(row.value())?;
        let (mut heads, mut parked) = (Vec::new(), Vec::new());
        for entry in self.saved.heads.iter()? {
            let (key, row) = entry?;
            let row: HeadRow = read(row.value())?;
            heads.push((key.value().into(), Head { hash: row.hash, version: row.version }));
            if row.parked.is_some() {
                parked.push(key.value().into());
            }
        }
        let position = Position { next: checkpoint.next, last_hash: checkpoint.last_hash };
        Ok(Some(Resumed { position, heads, parked }))
    }

    /// An account's state as last saved; the default where it has no history.
    pub fn account(&self, key: &str) -> Result<StoredAccount, StoreError> {
        let Some(head) = self.saved.heads.get(key)? else { return Ok(StoredAccount::default()) };
        let HeadRow { recorded_at, catalog, parked, .. } = read(head.value())?;
        let mut rows = [const { None }; parts::COUNT];
        for (row, table) in rows.iter_mut().zip(&self.saved.parts) {
            *row = table.get(key)?;
        }
        let rows = rows.each_ref().map(|row| row.as_ref().map(|row| row.value()));
        let (account, saved) = (parts::decode(rows)?, Digests::of_rows(rows));
        Ok(StoredAccount { account, recorded_at, catalog, parked, saved })
    }

    /// A document, by its natural key.
    pub fn document(&self, account: &str, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        let place = document_row(account, key)?;
        if let Some(document) = self.changed.documents.get(&place) {
            return Ok(Some(document.clone()));
        }
        self.saved.documents.get(place.as_slice())?.map(|row| read(row.value())).transpose()
    }

    /// The answer given to a request id.
    pub fn answer(&self, account: &str, request_id: &str) -> Result<Option<StoredAnswer>, StoreError> {
        let place = answer_row(account, request_id);
        if let Some(answer) = self.changed.answers.get(&place) {
            return Ok(Some(answer.clone()));
        }
        self.saved.answers.get(place.as_slice())?.map(|row| read(row.value())).transpose()
    }

    /// A document's new state.
    pub fn put_document(&mut self, account: &str, key: &DocumentKey, document: Document) -> Result<(), StoreError> {
        self.changed.documents.insert(document_row(account, key)?, document);
        Ok(())
    }

    /// The answer given to a request id.
    pub fn put_answer(&mut self, account: &str, request_id: &str, answer: StoredAnswer) {
        self.changed.answers.insert(answer_row(account, request_id), answer);
    }

    /// Keeps a commit of a parked account.
    pub fn keep_unread(&mut self, account: &str, commit: UnreadCommit) {
        self.changed.unread_bytes += commit.payload.len();
        self.changed.unread.insert(unread_row(account, commit.version), Some(commit));
    }

    /// The commits of a parked account as last saved, oldest first.
    pub fn unread(&self, account: &str) -> Result<Vec<UnreadCommit>, StoreError> {
        let (from, to) = (unread_row(account, 0), unread_row(account, u64::MAX));
        let rows = self.saved.unread.range(from.as_slice()..=to.as_slice())?;
        rows.map(|row| read(row?.1.value())).collect()
    }

    /// The commit is read now.
    pub fn forget_unread(&mut self, account: &str, version: u64) {
        self.changed.unread.insert(unread_row(account, version), None);
    }

    /// How many answers were given since the last save.
    pub fn unsaved(&self) -> usize {
        self.changed.answers.len()
    }

    /// Bytes of parked accounts' commits since the last save.
    pub fn unsaved_bytes(&self) -> usize {
        self.changed.unread_bytes
    }

    /// Makes durable what has changed, the accounts that `write_accounts` writes, and the position that it all belongs to, in
    /// one transaction. A crash before it falls back to the save before, which costs reading the rest of the log again.
    pub fn save(
        &mut self,
        position: Position,
        write_accounts: impl FnOnce(&mut AccountWriter<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        {
            let [party, ledger, dunning, agreement] = parts::TABLES;
            let mut writer = AccountWriter {
                heads: transaction.open_table(HEADS)?,
                parts: [
                    transaction.open_table(party)?,
                    transaction.open_table(ledger)?,
                    transaction.open_table(dunning)?,
                    transaction.open_table(agreement)?,
                ],
            };
            write_accounts(&mut writer)?;
            let mut documents = transaction.open_table(DOCUMENTS)?;
            for (place, document) in self.changed.documents.drain() {
                documents.insert(place.as_slice(), write(&document)?.as_slice())?;
            }
            let mut answers = transaction.open_table(ANSWERS)?;
            for (place, answer) in self.changed.answers.drain() {
                answers.insert(place.as_slice(), write(&answer)?.as_slice())?;
            }
            let mut unread = transaction.open_table(UNREAD)?;
            for (place, commit) in std::mem::take(&mut self.changed.unread) {
                match commit {
                    Some(commit) => unread.insert(place.as_slice(), write(&commit)?.as_slice())?,
                    None => unread.remove(place.as_slice())?,
                };
            }
            self.changed.unread_bytes = 0;
            let checkpoint = Checkpoint { log_id: self.log_id, next: position.next, last_hash: position.last_hash };
            transaction.open_table(META)?.insert(CHECKPOINT, write(&checkpoint)?.as_slice())?;
        }
        transaction.commit()?;
        self.saved = Saved::open(&self.database)?;
        Ok(())
    }
}

/// Writes accounts within one save.
pub struct AccountWriter<'t> {
    heads: Table<'t, &'static str, &'static [u8]>,
    parts: [Table<'t, &'static str, &'static [u8]>; parts::COUNT],
}

impl AccountWriter<'_> {
    /// Writes an account's head, and those of its parts that have changed.
    pub fn write(&mut self, key: &str, head: Head, stored: &mut StoredAccount) -> Result<(), StoreError> {
        let row = HeadRow {
            hash: head.hash,
            version: head.version,
            recorded_at: stored.recorded_at,
            catalog: stored.catalog,
            parked: stored.parked.clone(),
        };
        self.heads.insert(key, write(&row)?.as_slice())?;
        let encoded = parts::encode(&stored.account)?;
        let digests = Digests::of(&encoded);
        for (part, bytes) in encoded.iter().enumerate() {
            if digests.differ(&stored.saved, part) {
                self.parts[part].insert(key, bytes.as_slice())?;
            }
        }
        stored.saved = digests;
        Ok(())
    }
}

impl Saved {
    fn open(database: &Database) -> Result<Self, StoreError> {
        let transaction = database.begin_read()?;
        let [party, ledger, dunning, agreement] = parts::TABLES;
        Ok(Self {
            heads: transaction.open_table(HEADS)?,
            parts: [
                transaction.open_table(party)?,
                transaction.open_table(ledger)?,
                transaction.open_table(dunning)?,
                transaction.open_table(agreement)?,
            ],
            documents: transaction.open_table(DOCUMENTS)?,
            answers: transaction.open_table(ANSWERS)?,
            unread: transaction.open_table(UNREAD)?,
        })
    }
}

/// Why the store cannot be used, in words; `None` for one that can, and for an empty one.
fn stale(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    log_id: [u8; 16],
) -> Result<Option<String>, StoreError> {
    let Some(row) = meta.get(CHECKPOINT)? else { return Ok(None) };
    let mut other = Vec::new();
    for (part, version) in VERSIONS {
        if meta.get(*part)?.is_none_or(|stored| stored.value() != version.as_slice()) {
            other.push(*part);
        }
    }
    if !other.is_empty() {
        return Ok(Some(format!("of another release ({})", other.join(", "))));
    }
    let same_log = read::<Checkpoint>(row.value()).is_ok_and(|checkpoint| checkpoint.log_id == log_id);
    Ok((!same_log).then(|| "of another log".to_owned()))
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|error| StoreError::Shape(error.to_string()))
}

fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_stdvec(value).map_err(|error| StoreError::Shape(error.to_string()))
}

/// The account, and 16 bytes of the natural key's digest. Ids hold no NUL, so the parts cannot run together.
fn document_row(account: &str, key: &DocumentKey) -> Result<Vec<u8>, StoreError> {
    let digest = Sha256::digest(write(key)?);
    Ok([account.as_bytes(), &[0], &digest[..16]].concat())
}

fn answer_row(account: &str, request_id: &str) -> Vec<u8> {
    [account.as_bytes(), &[0], request_id.as_bytes()].concat()
}

fn unread_row(account: &str, version: u64) -> Vec<u8> {
    [account.as_bytes(), &[0], &version.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests;
