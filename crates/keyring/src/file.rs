//! The append-only file of wrapped keys.
//!
//! ```text
//! entry   = u8 length + tenant   u8 length + account (0: the tenant's own key)   key id [16]   nonce [24]
//!           wrapped key [48]     first 8 bytes of SHA-256 of all before
//! binding = u8 0   u8 1   store id [16]   log id [16]   first 8 bytes of SHA-256 of all before
//! ```
//! A binding says whose keys these are. A new store begins with it. A tenant's id is never empty, so the two cannot be mistaken.
//!
//! An entry that is cut short at the end is what a crash left of an append that nobody was told of.

use sha2::{Digest, Sha256};

/// One wrapped key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose.
    pub tenant: String,
    /// Whose, where it is a data subject's.
    pub account: Option<String>,
    /// Its id.
    pub key_id: [u8; 16],
    /// Of the wrapping.
    pub nonce: [u8; 24],
    /// XChaCha20-Poly1305 of the key.
    pub wrapped: [u8; 48],
}

impl Entry {
    /// What the wrapping is bound to.
    pub fn associated_data(tenant: &str, account: Option<&str>, key_id: &[u8; 16]) -> Vec<u8> {
        [tenant.as_bytes(), b"\0", account.unwrap_or_default().as_bytes(), b"\0", key_id].concat()
    }

    /// The entry's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let account = self.account.as_deref().unwrap_or_default();
        let mut bytes = Vec::new();
        for id in [self.tenant.as_str(), account] {
            bytes.push(id.len() as u8);
            bytes.extend_from_slice(id.as_bytes());
        }
        bytes.extend_from_slice(&self.key_id);
        bytes.extend_from_slice(&self.nonce);
        bytes.extend_from_slice(&self.wrapped);
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum[..8]);
        bytes
    }

    /// Reads one entry off the front; `None` where it is cut short or damaged.
    pub fn decode(bytes: &[u8]) -> Option<(Entry, usize)> {
        let mut at = 0;
        let mut take = |length: usize| {
            let part = bytes.get(at..at + length)?;
            at += length;
            Some(part)
        };
        let length = usize::from(*take(1)?.first()?);
        let tenant = std::str::from_utf8(take(length)?).ok()?.to_owned();
        let length = usize::from(*take(1)?.first()?);
        let account = std::str::from_utf8(take(length)?).ok()?.to_owned();
        let key_id = take(16)?.try_into().ok()?;
        let nonce = take(24)?.try_into().ok()?;
        let wrapped = take(48)?.try_into().ok()?;
        let sum = take(8)?;
        let whole = at;
        if Sha256::digest(bytes.get(..whole - 8)?)[..8] != *sum {
            return None;
        }
        Some((Entry { tenant, account: (!account.is_empty()).then_some(account), key_id, nonce, wrapped }, whole))
    }
}

/// Which store this is, and the log whose values are sealed under its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Drawn when the store is bound. A copy of the store has the same id.
    pub store_id: [u8; 16],
    /// The id of the accounts log.
    pub log_id: [u8; 16],
}

/// A binding begins with the length of no tenant, and its kind.
const BINDING: [u8; 2] = [0, 1];

impl Binding {
    /// The binding's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = [&BINDING[..], &self.store_id, &self.log_id].concat();
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum[..8]);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<(Binding, usize)> {
        const WHOLE: usize = 2 + 16 + 16 + 8;
        let (store_id, log_id) = (bytes.get(2..18)?.try_into().ok()?, bytes.get(18..34)?.try_into().ok()?);
        let binding = Binding { store_id, log_id };
        (bytes.get(..WHOLE)? == binding.encode()).then_some((binding, WHOLE))
    }
}

/// An item of the file.
pub enum Item {
    /// A wrapped key.
    Key(Entry),
    /// Whose keys they are.
    Binding(Binding),
}

impl Item {
    /// Reads one item off the front; `None` where it is cut short or damaged.
    pub fn decode(bytes: &[u8]) -> Option<(Item, usize)> {
        match bytes.starts_with(&BINDING) {
            true => Binding::decode(bytes).map(|(binding, length)| (Item::Binding(binding), length)),
            false => Entry::decode(bytes).map(|(entry, length)| (Item::Key(entry), length)),
        }
    }
}

/// The longest an entry can be: two ids of 64 bytes.
const MAX_ENTRY: usize = 2 * 65 + 16 + 24 + 48 + 8;
/// The most that one append writes: a tenant's and a subject's entry for each request of a group.
const MAX_APPEND: usize = 2 * crate::writer::GROUP * MAX_ENTRY;

impl Item {
    /// Whether bytes that begin with no item can be what a crash left of an append. Such an append was cut short
    /// somewhere, so nothing whole stands behind the cut. Where an entry does, the file was damaged in its middle, and
    /// what follows are keys that seals depend on.
    pub fn is_torn(bytes: &[u8]) -> bool {
        bytes.len() <= MAX_APPEND && (1..bytes.len()).all(|at| Item::decode(&bytes[at..]).is_none())
    }
}
