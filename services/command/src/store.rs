//! A partition's local memory: states, heads, documents and given answers, moved together with the log position they
//! belong to. Disposable: without it the partition is read from the start.

use std::{borrow::Cow, collections::HashMap, path::Path};

use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};
use saldo_domain::{
    account::Account,
    document::{Document, DocumentKey, DocumentKind},
};
use saldo_facts::CatalogVersions;
use saldo_log::acceptor::{Head, Position};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::answer::Answer;

const ACCOUNTS: TableDefinition<&str, &[u8]> = TableDefinition::new("accounts");
const DOCUMENTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("documents");
const ANSWERS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("answers");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const CHECKPOINT: &str = "checkpoint";

/// What a store keeps of its file in memory at most, in bytes.
pub const STORE_CACHE: usize = 16 << 20;

/// Raise it when a stored shape changes: an older store is then emptied and read anew from the log.
const FORMAT: u32 = 3;

/// The store's own errors; none is a reason to give up anything but the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// From redb.
    #[error("{0}")]
    Database(String),
    /// Stored bytes of another shape.
    #[error("stored bytes are of another shape: {0}")]
    Shape(String),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(error.into().to_string())
    }
}

/// An account between commits.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StoredAccount {
    /// The fold of its events.
    pub account: Account,
    /// recorded_at of its newest commit.
    pub recorded_at: Option<jiff::Timestamp>,
    /// The versions of the catalog that its commits used.
    pub catalog: CatalogVersions,
    /// Why it cannot be decided on, where it cannot.
    pub parked: Option<String>,
}

/// An answer given before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// Of the request answered.
    pub fingerprint: [u8; 32],
    /// The answer.
    pub answer: Answer,
}

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    format: u32,
    log_id: [u8; 16],
    next: u64,
    last_hash: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct AccountRow<'a> {
    hash: [u8; 32],
    version: u64,
    stored: Cow<'a, StoredAccount>,
}

/// Where the log was left, and what stood there.
pub struct Resumed {
    /// Where it was left.
    pub position: Position,
    /// Every account's head.
    pub heads: Vec<(Box<str>, Head)>,
    /// How many accounts cannot be decided on.
    pub parked: u64,
}

/// One partition's store: what is on disk as of the last [`Store::save`], and over it what has changed since.
pub struct Store {
    database: Database,
    log_id: [u8; 16],
    saved: Saved,
    changed: Changed,
}

/// The tables as the last save left them, opened once since nothing else writes.
struct Saved {
    accounts: ReadOnlyTable<&'static str, &'static [u8]>,
    documents: ReadOnlyTable<&'static [u8], &'static [u8]>,
    answers: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

#[derive(Default)]
struct Changed {
    documents: HashMap<Vec<u8>, Document>,
    answers: HashMap<Vec<u8>, StoredAnswer>,
}

impl Store {
    /// Opens the file; one of another log or format is emptied.
    pub fn open(path: &Path, log_id: [u8; 16]) -> Result<Self, StoreError> {
        let database = Database::builder().set_cache_size(STORE_CACHE).create(path)?;
        let transaction = database.begin_write()?;
        let current = {
            let meta = transaction.open_table(META)?;
            let checkpoint = meta.get(CHECKPOINT)?.and_then(|row| read::<Checkpoint>(row.value()).ok());
            checkpoint.is_some_and(|checkpoint| checkpoint.format == FORMAT && checkpoint.log_id == log_id)
        };
        if !current {
            transaction.delete_table(ACCOUNTS)?;
            transaction.delete_table(DOCUMENTS)?;
            transaction.delete_table(ANSWERS)?;
            transaction.open_table(META)?.remove(CHECKPOINT)?;
        }
        transaction.open_table(ACCOUNTS)?;
        transaction.open_table(DOCUMENTS)?;
        transaction.open_table(ANSWERS)?;
        transaction.commit()?;
        let saved = Saved::open(&database)?;
        Ok(Self { database, log_id, saved, changed: Changed::default() })
    }

    /// Where the log was left, if there is a save.
    pub fn resume(&self) -> Result<Option<Resumed>, StoreError> {
        let transaction = self.database.begin_read()?;
        let Some(row) = transaction.open_table(META)?.get(CHECKPOINT)? else { return Ok(None) };
        let checkpoint: Checkpoint = read(row.value())?;
        let (mut heads, mut parked) = (Vec::new(), 0);
        for entry in self.saved.accounts.iter()? {
            let (key, row) = entry?;
            let row: AccountRow<'_> = read(row.value())?;
            heads.push((key.value().into(), Head { hash: row.hash, version: row.version }));
            parked += u64::from(row.stored.parked.is_some());
        }
        let position = Position { next: checkpoint.next, last_hash: checkpoint.last_hash };
        Ok(Some(Resumed { position, heads, parked }))
    }

    /// An account's state as last saved; the default where it has no history.
    pub fn account(&self, key: &str) -> Result<StoredAccount, StoreError> {
        let row = self.saved.accounts.get(key)?;
        row.map_or(Ok(StoredAccount::default()), |row| Ok(read::<AccountRow<'_>>(row.value())?.stored.into_owned()))
    }

    /// A document, by its natural key.
    pub fn document(&self, account: &str, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        let place = document_row(account, key);
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
    pub fn put_document(&mut self, account: &str, key: &DocumentKey, document: Document) {
        self.changed.documents.insert(document_row(account, key), document);
    }

    /// The answer given to a request id.
    pub fn put_answer(&mut self, account: &str, request_id: &str, answer: StoredAnswer) {
        self.changed.answers.insert(answer_row(account, request_id), answer);
    }

    /// How many answers have been given since the last save.
    pub fn unsaved(&self) -> usize {
        self.changed.answers.len()
    }

    /// Makes durable what has changed, these accounts and the position it all belongs to, in one transaction. A crash
    /// before it falls back to the save before, which costs reading the rest of the log again.
    pub fn save<'a>(
        &mut self,
        changed: impl Iterator<Item = (&'a str, Head, &'a StoredAccount)>,
        position: Position,
    ) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        {
            let mut accounts = transaction.open_table(ACCOUNTS)?;
            for (key, head, stored) in changed {
                let row = AccountRow { hash: head.hash, version: head.version, stored: Cow::Borrowed(stored) };
                accounts.insert(key, write(&row)?.as_slice())?;
            }
            let mut documents = transaction.open_table(DOCUMENTS)?;
            for (place, document) in self.changed.documents.drain() {
                documents.insert(place.as_slice(), write(&document)?.as_slice())?;
            }
            let mut answers = transaction.open_table(ANSWERS)?;
            for (place, answer) in self.changed.answers.drain() {
                answers.insert(place.as_slice(), write(&answer)?.as_slice())?;
            }
            let checkpoint =
                Checkpoint { format: FORMAT, log_id: self.log_id, next: position.next, last_hash: position.last_hash };
            transaction.open_table(META)?.insert(CHECKPOINT, write(&checkpoint)?.as_slice())?;
        }
        transaction.commit()?;
        self.saved = Saved::open(&self.database)?;
        Ok(())
    }
}

impl Saved {
    fn open(database: &Database) -> Result<Self, StoreError> {
        let transaction = database.begin_read()?;
        Ok(Self {
            accounts: transaction.open_table(ACCOUNTS)?,
            documents: transaction.open_table(DOCUMENTS)?,
            answers: transaction.open_table(ANSWERS)?,
        })
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|error| StoreError::Shape(error.to_string()))
}

fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_stdvec(value).map_err(|error| StoreError::Shape(error.to_string()))
}

/// Account, document type and 16 bytes of the number's digest. Ids hold no NUL, so the parts cannot run together.
fn document_row(account: &str, key: &DocumentKey) -> Vec<u8> {
    let kind = match key.kind {
        DocumentKind::Invoice => 1,
        DocumentKind::CreditNote => 2,
        DocumentKind::Payment => 3,
        DocumentKind::Hold => 4,
    };
    let digest = Sha256::digest(key.number.as_str());
    [account.as_bytes(), &[0, kind], &digest[..16]].concat()
}

fn answer_row(account: &str, request_id: &str) -> Vec<u8> {
    [account.as_bytes(), &[0], request_id.as_bytes()].concat()
}
