//! The acceptance rule, shared by every reader: a commit counts if its parent is its account's head and its version the
//! head's plus one; otherwise it is void. The first in log order wins.

use std::collections::HashMap;

use prost::Message;
use saldo_api::v1::GenesisPayload;

use crate::{
    Record,
    frame::{self, Frame, Kind, Malformed, PROBE_KEY, first_parent, partition_of},
    genesis::Identity,
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
    /// Not a frame.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// A Genesis that is not record 0.
    #[error("a Genesis that lost the race")]
    LateGenesis,
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
        let hash = frame::hash(&record.value);
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
            self.check_genesis(record)?;
        }
        self.position = Some(Position { next: record.offset + 1, last_hash: hash });
        if record.offset == 0 {
            return Ok(Verdict::Genesis);
        }
        let frame = match self.admissible(record) {
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

    fn check_genesis(&self, record: &Record) -> Result<(), Diverged> {
        let frame =
            Frame::parse(&record.value).map_err(|why| self.diverged(format!("record 0 is no Genesis: {why}")))?;
        let payload = GenesisPayload::decode(frame.payload)
            .map_err(|why| self.diverged(format!("record 0 is no Genesis: {why}")))?;
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
