//! Folds one accepted commit into the account and its documents.

use saldo_domain::{document::Document, evolve};
use saldo_facts::{Commit, DecodeError};

use super::store::{Store, StoreError, StoredAccount, StoredAnswer};
use crate::answer::Answer;

/// Reads a commit's payload. A release that is older reads less.
pub type Decoder = fn(&[u8]) -> Result<Commit, DecodeError>;

/// Folds the commit of this version, whose record stands at this offset. Returns the answer to remember.
pub fn fold(
    stored: &mut StoredAccount,
    store: &mut Store,
    key: &str,
    commit: &Commit,
    version: u64,
    offset: u64,
) -> Result<StoredAnswer, StoreError> {
    for event in &commit.events {
        evolve(&mut stored.account, event);
        for document_key in Document::touched(event) {
            let before = store.document(key, &document_key)?;
            if let Some(after) = Document::evolve(&document_key, before, event) {
                store.put_document(key, &document_key, after)?;
            }
        }
    }
    stored.recorded_at = Some(commit.recorded_at);
    stored.catalog = stored.catalog.max(commit.catalog);
    Ok(StoredAnswer { fingerprint: commit.fingerprint, answer: Answer::of(commit, version, offset) })
}
