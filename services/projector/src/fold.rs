//! The fold itself, in memory: from records to batches of rows. Acceptors begin at the log's start, or where a build stands.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, btree_map::Entry};

use jiff::Timestamp;
use saldo_facts::{Commit, DecodeError};
use saldo_log::{
    Log, Record, Tail,
    acceptor::{Acceptor, Head, Verdict, VoidReason},
    frame::Frame,
    genesis::Identity,
};
use saldo_readmodel::{Accepted, CommitPosition, Move, Owner, Parked, Rows, Schema, Unread};
use sqlx::PgPool;

use crate::ProjectorError;

/// How a commit's payload is read.
pub type Decode = fn(&[u8]) -> Result<Commit, DecodeError>;

/// Where the fold stands.
pub struct Folding {
    partitions: BTreeMap<u32, Partition>,
    parked: HashSet<Owner>,
    decode: Decode,
    /// Present where only some accounts are folded, each from an offset on.
    only: Option<HashMap<Owner, u64>>,
}

struct Partition {
    acceptor: Acceptor,
    known_instant: Option<Timestamp>,
}

/// A record after acceptance.
pub enum Judged<'r> {
    /// Record 0.
    Genesis,
    /// The last record read, met again; or of a partition that is not ours.
    Again,
    /// It does not count.
    Void(VoidReason),
    /// A commit that counts.
    Accepted {
        /// Its frame.
        frame: Frame<'r>,
        /// The account's new head.
        hash: [u8; 32],
        /// The commit, if this release can read it.
        commit: Box<Result<Commit, DecodeError>>,
    },
}

/// Records folded together, to be written in one transaction.
#[derive(Debug, Default)]
pub struct Batch {
    /// Where the checkpoints move.
    pub moves: BTreeMap<u32, Move>,
    /// The rows that the batch adds.
    pub rows: Rows,
    /// Records in it.
    pub records: usize,
    /// Bytes of their values.
    pub bytes: usize,
    /// When the log took the oldest of them.
    pub oldest: Option<Timestamp>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }

    /// Whether it holds so many records, or so many bytes of them: no more is to be added.
    pub fn is_full(&self, records: usize, bytes: usize) -> bool {
        self.records >= records || self.bytes >= bytes
    }
}

impl Folding {
    /// From the log's start.
    pub fn new(identity: &Identity) -> Self {
        let partition = |number| Partition { acceptor: Acceptor::new(identity, number), known_instant: None };
        Self {
            partitions: (0..identity.partitions).map(|number| (number, partition(number))).collect(),
            parked: HashSet::new(),
            decode: Commit::decode,
            only: None,
        }
    }

    /// From the log's start of some partitions, with rows of these accounts alone, each from an offset on.
    pub fn only(identity: &Identity, partitions: &BTreeSet<u32>, accounts: HashMap<Owner, u64>) -> Self {
        let mut folding = Self::new(identity);
        folding.partitions.retain(|number, _| partitions.contains(number));
        folding.only = Some(accounts);
        folding
    }

    /// Reads commits in another way.
    pub fn reading(self, decode: Decode) -> Self {
        Self { decode, ..self }
    }

    /// From where a build's checkpoints stand.
    pub async fn resume(pool: &PgPool, schema: &Schema, identity: &Identity) -> Result<Self, ProjectorError> {
        let mut connection = saldo_postgres::begin(pool).await?;
        // One snapshot: heads and checkpoints belong together.
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *connection).await?;
        let checkpoints = schema.checkpoints(&mut connection, identity, false).await?;
        let mut heads: HashMap<u32, Vec<(Box<str>, Head)>> = HashMap::new();
        for (partition, key, head) in schema.heads(&mut connection).await? {
            heads.entry(partition).or_default().push((key, head));
        }
        let parked = schema.parked(&mut connection).await?;
        connection.rollback().await?;
        let partitions = checkpoints.into_iter().map(|checkpoint| {
            let partition = checkpoint.partition;
            let acceptor = match checkpoint.position {
                Some(position) => {
                    let heads = heads.remove(&partition).unwrap_or_default();
                    Acceptor::resume(identity, partition, position, heads)
                }
                None => Acceptor::new(identity, partition),
            };
            (partition, Partition { acceptor, known_instant: checkpoint.known_instant })
        });
        Ok(Self {
            partitions: partitions.collect(),
            parked: parked.into_iter().map(|(owner, _)| owner).collect(),
            decode: Commit::decode,
            only: None,
        })
    }

    /// A tail of the partitions that are not there yet, where each one stands; its last record comes once more.
    pub async fn tail(
        &mut self,
        log: &dyn Log,
        until: impl Fn(u32) -> u64,
    ) -> Result<Option<Box<dyn Tail>>, ProjectorError> {
        let behind = self.partitions.iter_mut().filter(|(number, one)| one.next() < until(**number));
        let from: Vec<(u32, u64)> = behind.map(|(number, one)| (*number, one.acceptor.reopen())).collect();
        Ok(if from.is_empty() { None } else { Some(log.tail(&from).await?) })
    }

    /// The offset behind the last record read of a partition.
    pub fn next(&self, partition: u32) -> u64 {
        self.partitions.get(&partition).map_or(0, Partition::next)
    }

    /// Whether every partition was read up to its offset.
    pub fn has_reached(&self, until: impl Fn(u32) -> u64) -> bool {
        self.partitions.iter().all(|(number, one)| one.next() >= until(*number))
    }

    /// Records read of all partitions.
    pub fn done(&self) -> u64 {
        self.partitions.values().map(Partition::next).sum()
    }

    /// Accounts that stand still.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Judges the next record of its partition.
    pub fn judge<'r>(&mut self, record: &'r Record) -> Result<Judged<'r>, ProjectorError> {
        let Some(partition) = self.partitions.get_mut(&record.partition) else { return Ok(Judged::Again) };
        Ok(match partition.acceptor.judge(record)? {
            Verdict::Genesis => Judged::Genesis,
            Verdict::Resumed => Judged::Again,
            Verdict::Void(reason) => Judged::Void(reason),
            Verdict::Accepted { frame, hash } => {
                Judged::Accepted { frame, hash, commit: Box::new((self.decode)(frame.payload)) }
            }
        })
    }

    /// Adds a record that was just judged to a batch.
    pub fn take(&mut self, batch: &mut Batch, record: &Record, judged: Judged<'_>) {
        let Some(partition) = self.partitions.get_mut(&record.partition) else { return };
        let (frame, hash, commit) = match judged {
            Judged::Again => return,
            Judged::Genesis | Judged::Void(_) => return partition.reach(batch, record),
            Judged::Accepted { frame, hash, commit } => (frame, hash, commit),
        };
        let recorded_at = match &*commit {
            Ok(commit) => Some(commit.recorded_at),
            Err(_) => Commit::recorded_at(frame.payload),
        };
        partition.known_instant = partition.known_instant.max(recorded_at);
        let known_at = partition.known_instant.unwrap_or(record.appended_at);
        partition.reach(batch, record);
        let owner = Owner { tenant: frame.tenant.to_owned(), account: frame.account.to_owned() };
        match &self.only {
            None => batch.rows.engine.extend(frame.key(), record.partition, Head { hash, version: frame.version }),
            // Heads stand already, and so do the rows of commits before the offset.
            Some(only) if only.get(&owner).is_none_or(|from| record.offset < *from) => return,
            Some(_) => {}
        }
        if self.parked.contains(&owner) {
            return;
        }
        let (partition, offset) = (record.partition, record.offset);
        match *commit {
            Ok(commit) => {
                let position = CommitPosition { partition, offset, version: frame.version, known_at };
                let trace = record.trace.as_deref();
                batch.rows.add(&Accepted { owner: &owner, position, trace, commit: &commit });
            }
            Err(why) => {
                tracing::error!(account = %owner.account, tenant = %owner.tenant, offset, %why, "account parked");
                let unknown = match &why {
                    DecodeError::UnknownVersion { kind, version } => Some((kind.clone(), *version)),
                    DecodeError::Malformed { .. } => None,
                };
                let commit = Unread { partition, offset, unknown };
                let parked = Parked { at: known_at, reason: why.to_string(), commit };
                self.parked.insert(owner.clone());
                batch.rows.engine.parked.insert(owner, parked);
            }
        }
    }

    /// Judges a record and adds it.
    pub fn fold(&mut self, batch: &mut Batch, record: &Record) -> Result<(), ProjectorError> {
        let judged = self.judge(record)?;
        self.take(batch, record, judged);
        Ok(())
    }
}

impl Partition {
    fn next(&self) -> u64 {
        self.acceptor.position().map_or(0, |position| position.next)
    }

    /// The batch's checkpoint moves behind a record.
    fn reach(&self, batch: &mut Batch, record: &Record) {
        let Some(to) = self.acceptor.position() else { return };
        let (partition, known_instant) = (record.partition, self.known_instant);
        match batch.moves.entry(partition) {
            Entry::Occupied(mut one) => {
                one.get_mut().to = to;
                one.get_mut().known_instant = known_instant;
            }
            Entry::Vacant(none) => {
                none.insert(Move { partition, from: record.offset, to, known_instant });
            }
        }
        batch.records += 1;
        batch.bytes += record.value.len();
        batch.oldest = Some(batch.oldest.map_or(record.appended_at, |oldest| oldest.min(record.appended_at)));
    }
}
