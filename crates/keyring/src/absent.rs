//! Counting seals whose keys are not in the store.

use std::collections::HashMap;

use crate::{Keyring, KeyringError};

/// Seals that were met, and whose keys were not known then.
#[derive(Debug, Default)]
pub struct Absent(HashMap<Vec<u8>, u64>);

/// Seals without a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WithoutKey {
    /// Sealed values.
    pub values: u64,
    /// Keys that they need. Each account has one.
    pub keys: u64,
}

impl Absent {
    /// A seal under this key.
    pub fn note(&mut self, keyring: &Keyring, key_id: &[u8]) {
        if !keyring.has_key(key_id) {
            *self.0.entry(key_id.to_vec()).or_default() += 1;
        }
    }

    /// Counts the seals whose key is absent for certain. Other processes make keys meanwhile, so the file is read once more first: a
    /// key is durable before its record is.
    pub async fn count(mut self, keyring: &Keyring) -> Result<WithoutKey, KeyringError> {
        if !self.0.is_empty() {
            keyring.refresh().await?;
            self.0.retain(|key_id, _| !keyring.has_key(key_id));
        }
        Ok(WithoutKey { values: self.0.values().sum(), keys: self.0.len() as u64 })
    }
}
