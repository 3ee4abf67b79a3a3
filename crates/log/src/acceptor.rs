//! The acceptance rule, shared by every reader: a commit counts if a writer of ours made it, its parent is its account's head and
//! its version the head's plus one; otherwise it is void. The first in log order wins.

use std::collections::HashMap;

use prost::Message;
use saldo_api::v1::GenesisPayload;

use crate::{
    Record,
    frame::{self, Frame, Kind, MARKER_KEY, Malformed, PROBE_KEY, first_parent, partition_of},
    genesis::Identity,
    keys::LogKeys,
};

/// The newest accepted commit of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// SHA-256 of its value; the first parent where there is none.
    pub hash: [u8; 32],
    /// Its version; 0 where there is none.
    pub version: u64,
}

/// Where a reader stands in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The offset behind the last record read.
    pub next: u64,
    /// SHA-256 of the value of the last record read, compared on resuming.
    pub last_hash: [u8; 32],
}

/// The verdict of the rule on a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'r> {
    /// Record 0.
    Genesis,
    /// The last record of an earlier run, read again and found the same.
    Resumed,
    /// It extends its account's chain.
    Accepted {
        /// The frame.
        frame: Frame<'r>,
        /// SHA-256 of its value: the account's new head.
        hash: [u8; 32],
    },
    /// It does not count.
    Void(VoidReason),
}

/// Why a record does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VoidReason {
    /// An instance asked for the log's clock.
    #[error("a probe of the clock")]
    Probe,
    /// The log has no record there.
    #[error("a marker of a foreign transaction")]
    Marker,
    /// Not a frame.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// A Genesis that is not record 0.
    #[error("a Genesis that lost the race")]
    LateGenesis,
    /// Its authenticator is not that of a writer of this log, or its key had ended.
    #[error("forged: it was not written with a key of this log")]
    Forged,
    /// Its key is not that of its frame.
    #[error("it stands under another key")]
    OtherKey,
    /// Its account belongs elsewhere.
    #[error("it stands on another partition")]
    OtherPartition,
    /// Another commit came first, or it builds on one that never counted.
    #[error("its parent is not the account's head")]
    NotTheHead,
}

impl VoidReason {
    /// Whether no writer of ours makes such a record: somebody else can write the topic.
    pub fn is_foreign(self) -> bool {
        match self {
            VoidReason::Marker
            | VoidReason::Malformed(_)
            | VoidReason::Forged
            | VoidReason::OtherKey
            | VoidReason::OtherPartition => true,
            VoidReason::Probe | VoidReason::LateGenesis | VoidReason::NotTheHead => false,
        }
    }
}

/// The log is not the one read before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "partition {partition} is not the log read before: {why}. Find out which log is the true one. If an older log was restored on \
     purpose, stop every process, run `saldo log accept --older-log`, and start them again"
)]
pub struct Diverged {
    /// The partition.
    pub partition: u32,
    /// The hash that was found.
    pub why: String,
}

/// Owns account -> head for one partition of one reader.
#[derive(Debug)]
pub struct Acceptor {
    log_id: [u8; 16],
    partitions: u32,
    partition: u32,
    keys: LogKeys,
    heads: HashMap<Box<str>, Head>,
    position: Option<Position>,
    resuming: bool,
}

impl Acceptor {
    /// Reads the partition from its start.
    pub fn new(identity: &Identity, partition: u32) -> Self {
        Self {
            log_id: identity.log_id,
            partitions: identity.partitions,
            partition,
            keys: identity.keys.clone(),
            heads: HashMap::new(),
            position: None,
            resuming: false,
        }
    }

    /// Goes on where an earlier run stood, with the heads it had there.
    pub fn resume(
        identity: &Identity,
        partition: u32,
        position: Position,
        heads: impl IntoIterator<Item = (Box<str>, Head)>,
    ) -> Self {
        Self {
            heads: heads.into_iter().collect(),
            position: Some(position),
            resuming: true,
            ..Self::new(identity, partition)
        }
    }

    /// Where to open the tail: the start, or the last record read, which is read again and compared.
    pub fn start(&self) -> u64 {
        self.position.map_or(0, |position| position.next.saturating_sub(1))
    }

    /// The tail is opened again, at the offset returned: the last record read comes once more and is compared.
    pub fn reopen(&mut self) -> u64 {
        self.resuming = self.position.is_some();
        self.start()
    }

    /// Where it stands; `None` before the first record.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// An account's head.
    pub fn head(&self, key: &str) -> Head {
        self.heads.get(key).copied().unwrap_or_else(|| Head { hash: first_parent(&self.log_id, key), version: 0 })
    }

    /// Every account's head.
    pub fn heads(&self) -> impl Iterator<Item = (&str, Head)> {
        self.heads.iter().map(|(key, head)| (&**key, *head))
    }

    /// Judges the next record of the partition.
    pub fn judge<'r>(&mut self, record: &'r Record) -> Result<Verdict<'r>, Diverged> {
        let (before, hash) = frame::digests(&record.value);
        let expected = if self.resuming { self.start() } else { self.position.map_or(0, |position| position.next) };
        if record.partition != self.partition || record.offset != expected {
            return Err(self.diverged(format!("offset {} comes where {expected} was expected", record.offset)));
        }
        if std::mem::take(&mut self.resuming) {
            return match self.position {
                Some(position) if position.last_hash == hash => Ok(Verdict::Resumed),
                _ => Err(self.diverged(format!("record {} is another one than was read before", record.offset))),
            };
        }
        if record.offset == 0 {
            self.check_genesis(record, &before)?;
        }
        let mut admitted = self.admissible(record);
        if let Ok(frame) = &admitted
            && !self.is_ours(frame, &before, record)?
        {
            admitted = Err(VoidReason::Forged);
        }
        self.position = Some(Position { next: record.offset + 1, last_hash: hash });
        if record.offset == 0 {
            return Ok(Verdict::Genesis);
        }
        let frame = match admitted {
            Ok(frame) => frame,
            Err(reason) => return Ok(Verdict::Void(reason)),
        };
        let key = frame.key();
        let head = self.head(&key);
        if frame.parent != head.hash || Some(frame.version) != head.version.checked_add(1) {
            return Ok(Verdict::Void(VoidReason::NotTheHead));
        }
        self.heads.insert(key.into(), Head { hash, version: frame.version });
        Ok(Verdict::Accepted { frame, hash })
    }

    fn admissible<'r>(&self, record: &'r Record) -> Result<Frame<'r>, VoidReason> {
        // No frame stands under this key by right: it is void whatever it is called.
        if record.key == PROBE_KEY {
            return Err(VoidReason::Probe);
        }
        if record.key == MARKER_KEY && record.value.is_empty() {
            return Err(VoidReason::Marker);
        }
        let frame = Frame::parse(&record.value)?;
        if frame.kind == Kind::Genesis {
            return Err(VoidReason::LateGenesis);
        }
        let key = frame.key();
        if key.as_bytes() != record.key.as_ref() {
            return Err(VoidReason::OtherKey);
        }
        if partition_of(&key, self.partitions) != self.partition {
            return Err(VoidReason::OtherPartition);
        }
        Ok(frame)
    }

    fn is_ours(&self, frame: &Frame<'_>, before: &[u8; 32], record: &Record) -> Result<bool, Diverged> {
        let judged = frame.is_ours(before, &self.keys, record.appended_at);
        judged.map_err(|error| self.diverged(format!("record {} cannot be judged: {error}", record.offset)))
    }

    fn check_genesis(&self, record: &Record, before: &[u8; 32]) -> Result<(), Diverged> {
        let frame =
            Frame::parse(&record.value).map_err(|why| self.diverged(format!("record 0 is no Genesis: {why}")))?;
        let payload = GenesisPayload::decode(frame.payload)
            .map_err(|why| self.diverged(format!("record 0 is no Genesis: {why}")))?;
        if !self.is_ours(&frame, before, record)? {
            return Err(self.diverged("record 0 was not written with the first key of log.keys".to_owned()));
        }
        if frame.kind == Kind::Genesis && payload.log_id == self.log_id && payload.partition == self.partition {
            Ok(())
        } else {
            Err(self.diverged("record 0 is the Genesis of another log".to_owned()))
        }
    }

    fn diverged(&self, why: String) -> Diverged {
        Diverged { partition: self.partition, why }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jiff::Timestamp;

    use super::*;
    use crate::frame::{GENESIS_KEY, encode, hash};

    const KEY: &str = "acme/D-1";

    fn identity(keys: LogKeys) -> Identity {
        Identity { log_id: [7; 16], partitions: 1, keys }
    }

    fn record(offset: u64, key: &'static str, value: Vec<u8>) -> Record {
        let (key, value) = (Bytes::from_static(key.as_bytes()), value.into());
        Record { partition: 0, offset, key, value, appended_at: Timestamp::UNIX_EPOCH, trace: None }
    }

    fn genesis(keys: &LogKeys) -> Record {
        let payload = GenesisPayload { log_id: vec![7; 16], partition: 0, partition_count: 1, format: 1 };
        record(0, GENESIS_KEY, encode(Kind::Genesis, "", "", 0, [0; 32], &payload.encode_to_vec(), keys))
    }

    #[test]
    fn what_was_not_written_with_a_key_of_the_log_is_void_and_the_chain_goes_on() {
        let (ours, theirs) = (LogKeys::fixed([1; 32]), LogKeys::fixed([2; 32]));
        let mut acceptor = Acceptor::new(&identity(ours.clone()), 0);
        let commit = |version, parent, keys| encode(Kind::Commit, "acme", "D-1", version, parent, b"", keys);
        let first = commit(1, first_parent(&[7; 16], KEY), &ours);
        let head = hash(&first);
        let second = commit(2, head, &ours);
        let mut changed = second.clone();
        // A byte of the parent.
        changed[25] ^= 1;
        let values = [first, commit(2, head, &theirs), commit(2, head, &LogKeys::NONE), changed, second];
        assert_eq!(acceptor.judge(&genesis(&ours)), Ok(Verdict::Genesis));
        let mut verdicts = Vec::new();
        for (offset, value) in (1..).zip(values) {
            let record = record(offset, KEY, value);
            verdicts.push(match acceptor.judge(&record) {
                Ok(Verdict::Accepted { frame, .. }) => Ok(frame.version),
                Ok(Verdict::Void(reason)) => Err(reason),
                other => panic!("{other:?}"),
            });
        }
        let forged = Err(VoidReason::Forged);
        assert_eq!(verdicts, [Ok(1), forged, forged, forged, Ok(2)]);
    }

    #[test]
    fn the_genesis_binds_the_first_key() {
        let mut other_keys = Acceptor::new(&identity(LogKeys::fixed([2; 32])), 0);
        assert!(other_keys.judge(&genesis(&LogKeys::fixed([1; 32]))).is_err());
    }
}
