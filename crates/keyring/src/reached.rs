//! How far the log had come when this store was known to hold every key. The note stands beside the keys and is replaced whole.
//!
//! ```text
//! note = "SKR1"   store id [16]   log id [16]   u64 length of the key file   u32 partitions
//!        per partition: u64 next offset   SHA-256 of the record before it [32]
//!        first 8 bytes of SHA-256 of all before
//! ```
//! A key is durable before its record is appended, so a key file of that length holds the keys of every record before the note's
//! offsets. A process that starts looks only for the keys of later records. The note also shows an older log: such a log ends
//! before the offset, or has another record there.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{KeyringError, file::Binding, writer::failed};

/// The name of the note's file.
pub const FILE: &str = "log.reached";
const MAGIC: &[u8; 4] = b"SKR1";

/// A place in one partition of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The offset behind a record.
    pub next: u64,
    /// SHA-256 of that record's value.
    pub last_hash: [u8; 32],
}

/// The note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Length of the key file that holds every key before the marks.
    pub keys: u64,
    /// By partition.
    pub marks: Vec<Mark>,
}

impl Reached {
    fn encode(&self, binding: &Binding) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &binding.store_id, &binding.log_id].concat();
        bytes.extend_from_slice(&self.keys.to_be_bytes());
        bytes.extend_from_slice(&(self.marks.len() as u32).to_be_bytes());
        for mark in &self.marks {
            bytes.extend_from_slice(&mark.next.to_be_bytes());
            bytes.extend_from_slice(&mark.last_hash);
        }
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum[..8]);
        bytes
    }

    /// `None` where the bytes are no note of this store about its log.
    fn decode(bytes: &[u8], binding: &Binding) -> Option<Self> {
        let keys = u64::from_be_bytes(bytes.get(36..44)?.try_into().ok()?);
        let marks = bytes.get(48..bytes.len().checked_sub(8)?)?.chunks_exact(40).map(|mark| {
            let (next, last_hash) = mark.split_at(8);
            Some(Mark { next: u64::from_be_bytes(next.try_into().ok()?), last_hash: last_hash.try_into().ok()? })
        });
        let reached = Self { keys, marks: marks.collect::<Option<_>>()? };
        (reached.encode(binding) == bytes).then_some(reached)
    }

    /// Reads the note. A note that is damaged, or of another store, says nothing.
    pub(crate) fn read(dir: &Path, binding: &Binding) -> Result<Option<Self>, KeyringError> {
        let path = dir.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, error)),
        };
        let reached = Self::decode(&bytes, binding);
        if reached.is_none() {
            tracing::warn!(path = %path.display(), "the key store's note about the log cannot be read: the whole log is searched for keys");
        }
        Ok(reached)
    }

    /// Replaces the note: whole under its name, or not at all.
    pub(crate) fn write(&self, dir: &Path, binding: &Binding) -> Result<(), KeyringError> {
        let path = dir.join(FILE);
        saldo_private_files::replace(&path, &self.encode(binding)).map_err(|error| failed(&path, error))
    }
}
