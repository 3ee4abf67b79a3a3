//! One build of the read models being brought forward: acceptors resumed from its checkpoints, batches written in one
//! transaction with them.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use saldo_commit::Commit;
use saldo_keyring::Keyring;
use saldo_log::{
    Log, Record, Tail,
    acceptor::{Acceptor, Head, Verdict},
    genesis::Identity,
};
use saldo_readmodel::{Applied, Move, Owner, Place, Rows, Schema, apply};
use sqlx::PgPool;

use crate::{ProjectorError, personal};

/// The fold itself: from records to rows, in memory.
pub struct Folding {
    partitions: BTreeMap<u32, Partition>,
    parked: HashSet<Owner>,
}

struct Partition {
    acceptor: Acceptor,
    known_instant: Option<Timestamp>,
}

/// A build and where it stands.
pub struct Fold {
    pool: PgPool,
    schema: Schema,
    keyring: Keyring,
    folding: Folding,
    /// Write only while the build is the one in force.
    only_live: bool,
}

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// In the database.
    Yes,
    /// Another projector was there first, or another build is in force: open again.
    Overtaken,
}

impl Fold {
    /// Opens a build where its checkpoints stand.
    pub async fn open(
        pool: &PgPool,
        schema: Schema,
        identity: &Identity,
        keyring: &Keyring,
        only_live: bool,
    ) -> Result<Self, ProjectorError> {
        let mut connection = pool.begin().await?;
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
        let folding = Folding {
            partitions: partitions.collect(),
            parked: parked.into_iter().map(|(tenant, account)| Owner { tenant, account }).collect(),
        };
        Ok(Self { pool: pool.clone(), schema, keyring: keyring.clone(), folding, only_live })
    }

    /// A tail that begins where the build stands.
    pub async fn tail(&self, log: &dyn Log) -> Result<Box<dyn Tail>, ProjectorError> {
        let from: Vec<(u32, u64)> =
            self.folding.partitions.iter().map(|(number, partition)| (*number, partition.acceptor.start())).collect();
        Ok(log.tail(&from).await?)
    }

    /// The offset behind the last record read of a partition.
    pub fn next(&self, partition: u32) -> u64 {
        self.folding.next(partition)
    }

    /// Folds a batch and writes it.
    pub async fn write(&mut self, records: &[Record]) -> Result<Written, ProjectorError> {
        let (moves, rows) = self.folding.take(records)?;
        if moves.is_empty() {
            return Ok(Written::Yes);
        }
        let opened = personal::open(&self.keyring, &rows.personal).await?;
        let mut transaction = self.pool.begin().await?;
        if self.only_live && saldo_readmodel::live(&mut transaction).await? != self.schema {
            return Ok(Written::Overtaken);
        }
        match apply(&mut transaction, &self.schema, &moves, &rows, &opened).await? {
            Applied::Overtaken => Ok(Written::Overtaken),
            Applied::Yes => {
                transaction.commit().await?;
                Ok(Written::Yes)
            }
        }
    }
}

impl Folding {
    /// From the log's start.
    pub fn new(identity: &Identity) -> Self {
        let partition = |number| Partition { acceptor: Acceptor::new(identity, number), known_instant: None };
        Self {
            partitions: (0..identity.partitions).map(|number| (number, partition(number))).collect(),
            parked: HashSet::new(),
        }
    }

    fn next(&self, partition: u32) -> u64 {
        self.partitions.get(&partition).and_then(|one| one.acceptor.position()).map_or(0, |position| position.next)
    }

    /// Folds a batch: where the checkpoints move, and the rows it adds.
    pub fn take(&mut self, records: &[Record]) -> Result<(Vec<Move>, Rows), ProjectorError> {
        let mut before: BTreeMap<u32, u64> = BTreeMap::new();
        let mut rows = Rows::default();
        for record in records {
            before.entry(record.partition).or_insert(self.next(record.partition));
            self.fold(record, &mut rows)?;
        }
        let moves = before.into_iter().filter_map(|(number, from)| {
            let partition = self.partitions.get(&number)?;
            let to = partition.acceptor.position()?;
            (to.next > from).then_some(Move { partition: number, from, to, known_instant: partition.known_instant })
        });
        Ok((moves.collect(), rows))
    }

    fn fold(&mut self, record: &Record, rows: &mut Rows) -> Result<(), ProjectorError> {
        let Some(partition) = self.partitions.get_mut(&record.partition) else { return Ok(()) };
        let Verdict::Accepted { frame, hash } = partition.acceptor.judge(record)? else { return Ok(()) };
        rows.heads.insert(frame.key(), (record.partition, Head { hash, version: frame.version }));
        let owner = Owner { tenant: frame.tenant.to_owned(), account: frame.account.to_owned() };
        if let Some(recorded_at) = Commit::recorded_at(frame.payload) {
            partition.known_instant = partition.known_instant.max(Some(recorded_at));
        }
        let known_at = partition.known_instant.unwrap_or(record.appended_at);
        if self.parked.contains(&owner) {
            return Ok(());
        }
        let place = Place { partition: record.partition, offset: record.offset, version: frame.version, known_at };
        match Commit::decode(frame.payload) {
            Ok(commit) => rows.add(&owner, place, &commit),
            Err(why) => {
                tracing::error!(account = %owner.account, tenant = %owner.tenant, offset = record.offset, %why, "account parked");
                self.parked.insert(owner.clone());
                rows.parked.insert(owner, (known_at, why.to_string()));
            }
        }
        Ok(())
    }
}
