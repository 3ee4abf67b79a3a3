//! The log: the only truth. A tiny port, two adapters (Kafka, and Postgres for one machine), and the pure rule by which
//! every reader agrees on which records count.
//!
//! One [`Log`] is one topic. Every reader is a [`Tail`] and one [`acceptor::Acceptor`] per partition.

pub mod acceptor;
pub mod embedded;
pub mod frame;
pub mod genesis;
pub mod kafka;
pub mod keys;
pub mod same;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;

/// A record as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its partition.
    pub partition: u32,
    /// Its place in the partition, from 0, without gaps. Where the log has no record ([`frame::MARKER_KEY`]), the value is empty.
    pub offset: u64,
    /// `tenant/account`.
    pub key: Bytes,
    /// The frame.
    pub value: Bytes,
    /// When the log took it, by the log's own clock.
    pub appended_at: Timestamp,
    /// The trace that it was written under (W3C's `traceparent`), where the writer was sampled and the log keeps it: Kafka
    /// does, in a header. Nothing of meaning: every reader works without it.
    pub trace: Option<Box<str>>,
}

/// A record to append.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// The partition, always set explicitly.
    pub partition: u32,
    /// `tenant/account`.
    pub key: Bytes,
    /// The frame.
    pub value: Bytes,
    /// See [`Record::trace`].
    pub trace: Option<Box<str>>,
}

/// A topic that can be appended to and read in order.
#[async_trait]
pub trait Log: Send + Sync {
    /// Enqueues the records in order, at the call itself. Resolves when all are durable.
    fn append(&self, records: Vec<NewRecord>) -> BoxFuture<'static, Result<(), AppendError>>;

    /// Reads from the given `(partition, first offset)` pairs on, records of a partition in order.
    async fn tail(&self, from: &[(u32, u64)]) -> Result<Box<dyn Tail>, LogError>;

    /// The offset the next record of the partition will get, asked anew.
    async fn end(&self, partition: u32) -> Result<u64, LogError>;

    /// The topic's name.
    fn topic(&self) -> &str;

    /// How many partitions the topic has; `None` where it does not exist.
    async fn partition_count(&self) -> Result<Option<u32>, LogError>;

    /// Creates the empty topic. Does nothing where it exists.
    async fn create(&self, partitions: u32) -> Result<(), LogError>;
}

/// The offsets behind the last record of each partition, as they are now.
pub async fn ends(log: &dyn Log, identity: &genesis::Identity) -> Result<Vec<u64>, LogError> {
    let mut ends = Vec::new();
    for partition in 0..identity.partitions {
        ends.push(log.end(partition).await?);
    }
    Ok(ends)
}

/// Bytes of values that a reader takes from the log at once, but for the record that goes beyond: what it holds in memory is
/// bounded by this, however large records are.
pub const READ_BYTES: usize = 8 << 20;

/// A reader of a topic.
#[async_trait]
pub trait Tail: Send {
    /// Waits for at least one record and returns at most `max`, and no more than some [`READ_BYTES`] of them. Cancelling it
    /// loses nothing.
    async fn next(&mut self, max: usize) -> Result<Vec<Record>, LogError>;
}

/// Why records were not appended, or may not have been.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Certainly not appended: too large for the log.
    #[error("a record of {bytes} bytes is too large; at most {limit} are taken")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Certainly not appended: the producer's queue is full.
    #[error("the producer's queue is full")]
    Busy,
    /// Certainly not appended.
    #[error("the log refused the record: {0}")]
    Refused(String),
    /// May or may not appear.
    #[error("the log did not say whether it took the record: {0}")]
    Unknown(String),
}

/// Why the log could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Out of reach for now.
    #[error("the log is out of reach: {0}")]
    Unavailable(String),
    /// The log ends before the offset to read next, or begins after it: the log was cut, restored or swapped.
    #[error("partition {partition} of the log does not have offset {offset}: it was cut, restored or swapped; {why}")]
    Cut {
        /// The partition.
        partition: u32,
        /// The offset to read next.
        offset: u64,
        /// The adapter's words.
        why: String,
    },
    /// There is no log.
    #[error("there is no log in {0}: create it with `saldo log create`")]
    Absent(String),
    /// The keys of its records.
    #[error(transparent)]
    Keys(#[from] keys::KeysError),
    /// Record 0 of a partition is no Genesis of this log.
    #[error("partition {partition} does not begin with the Genesis of this log: {why}")]
    NotALog {
        /// The partition.
        partition: u32,
        /// The fault.
        why: String,
    },
    /// The topic cannot have as many replicas as it should.
    #[error(
        "topic {topic} cannot be created: log.replication_factor is {replicas}, and Kafka has {brokers} brokers. Start more brokers, or \
         set log.replication_factor to {brokers} at most; with fewer than three replicas a log is for trials only and needs \
         log.allow_unsafe = true"
    )]
    TooFewBrokers {
        /// The topic.
        topic: String,
        /// The replicas that it should have.
        replicas: i32,
        /// The brokers that there are.
        brokers: usize,
    },
    /// The topic's settings do not make acknowledged records durable.
    #[error("topic {topic} is not safe for a log: {}; change it, or accept it with --allow-unsafe-log", faults.join("; "))]
    Unsafe {
        /// The topic.
        topic: String,
        /// Every setting at fault.
        faults: Vec<String>,
    },
}
