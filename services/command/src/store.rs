//! A partition's local memory: states, heads, documents and given answers, moved together with the log position they
//! belong to. Disposable: without it the partition is read from the start.

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use saldo_domain::{
    account::Account,
    document::{Document, DocumentKey, DocumentKind},
};
use saldo_log::acceptor::{Head, Position};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::answer::Answer;

const ACCOUNTS: TableDefinition<&str, &[u8]> = TableDefinition::new("accounts");
const DOCUMENTS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("documents");
const ANSWERS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("answers");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const CHECKPOINT: &str = "checkpoint";

/// Raise it when a stored shape changes: an older store is then emptied and read anew from the log.
const FORMAT: u32 = 1;

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
struct AccountRow {
    hash: [u8; 32],
    version: u64,
    stored: StoredAccount,
}

/// Where the log was left, and every account's head there.
pub type Resumed = (Position, Vec<(Box<str>, Head)>);

/// All that one batch of records changed.
#[derive(Default)]
pub struct Batch {
    /// Accounts with their new head.
    pub accounts: Vec<(Box<str>, Head, StoredAccount)>,
    /// Documents touched.
    pub documents: Vec<(Box<str>, DocumentKey, Document)>,
    /// Requests answered.
    pub answers: Vec<(Box<str>, String, StoredAnswer)>,
}

/// One partition's store.
pub struct Store {
    database: Database,
    log_id: [u8; 16],
}

impl Store {
    /// Opens the file; one of another log or format is emptied.
    pub fn open(path: &Path, log_id: [u8; 16]) -> Result<Self, StoreError> {
        let database = Database::builder().set_cache_size(16 << 20).create(path)?;
        let store = Self { database, log_id };
        let transaction = store.database.begin_write()?;
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
        Ok(store)
    }

    /// Where the log was left, and every account's head there.
    pub fn resume(&self) -> Result<Option<Resumed>, StoreError> {
        let transaction = self.database.begin_read()?;
        let Some(row) = transaction.open_table(META)?.get(CHECKPOINT)? else { return Ok(None) };
        let checkpoint: Checkpoint = read(row.value())?;
        let mut heads = Vec::new();
        for entry in transaction.open_table(ACCOUNTS)?.iter()? {
            let (key, row) = entry?;
            let row: AccountRow = read(row.value())?;
            heads.push((key.value().into(), Head { hash: row.hash, version: row.version }));
        }
        Ok(Some((Position { next: checkpoint.next, last_hash: checkpoint.last_hash }, heads)))
    }

    /// An account's state; the default where it has no history.
    pub fn account(&self, key: &str) -> Result<StoredAccount, StoreError> {
        let transaction = self.database.begin_read()?;
        let row = transaction.open_table(ACCOUNTS)?.get(key)?;
        row.map_or(Ok(StoredAccount::default()), |row| Ok(read::<AccountRow>(row.value())?.stored))
    }

    /// A document, by its natural key.
    pub fn document(&self, account: &str, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        let transaction = self.database.begin_read()?;
        let row = transaction.open_table(DOCUMENTS)?.get(document_row(account, key).as_slice())?;
        row.map(|row| read(row.value())).transpose()
    }

    /// The answer given to a request id.
    pub fn answer(&self, account: &str, request_id: &str) -> Result<Option<StoredAnswer>, StoreError> {
        let transaction = self.database.begin_read()?;
        let row = transaction.open_table(ANSWERS)?.get(answer_row(account, request_id).as_slice())?;
        row.map(|row| read(row.value())).transpose()
    }

    /// Writes a batch with the position behind it, in one transaction. Without `durable` a crash falls back to an
    /// earlier whole batch, which costs reading the rest of the log again.
    pub fn write(&self, batch: &Batch, position: Position, durable: bool) -> Result<(), StoreError> {
        let mut transaction: WriteTransaction = self.database.begin_write()?;
        transaction.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
        {
            let mut accounts = transaction.open_table(ACCOUNTS)?;
            for (key, head, stored) in &batch.accounts {
                let row = AccountRow { hash: head.hash, version: head.version, stored: stored.clone() };
                accounts.insert(&**key, write(&row)?.as_slice())?;
            }
            let mut documents = transaction.open_table(DOCUMENTS)?;
            for (account, key, document) in &batch.documents {
                let row = document_row(account, key);
                documents.insert(row.as_slice(), write(document)?.as_slice())?;
            }
            let mut answers = transaction.open_table(ANSWERS)?;
            for (account, request_id, answer) in &batch.answers {
                let row = answer_row(account, request_id);
                answers.insert(row.as_slice(), write(answer)?.as_slice())?;
            }
            let checkpoint =
                Checkpoint { format: FORMAT, log_id: self.log_id, next: position.next, last_hash: position.last_hash };
            transaction.open_table(META)?.insert(CHECKPOINT, write(&checkpoint)?.as_slice())?;
        }
        transaction.commit()?;
        Ok(())
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
    };
    let digest = Sha256::digest(key.number.as_str());
    [account.as_bytes(), &[0, kind], &digest[..16]].concat()
}

fn answer_row(account: &str, request_id: &str) -> Vec<u8> {
    [account.as_bytes(), &[0], request_id.as_bytes()].concat()
}
