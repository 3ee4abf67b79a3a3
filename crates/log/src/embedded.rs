//! The embedded log: Postgres, for one machine, in a database of its own that no rebuild can reach.
//!
//! A sequence is not a log, since rows become visible in another order than their numbers. Offsets are therefore given
//! out under the partition row's lock, in the transaction that inserts the records.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use futures::future::BoxFuture;
use sqlx::{
    PgPool, Row,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::sync::{mpsc, oneshot};

use crate::{AppendError, Log, LogError, NewRecord, READ_BYTES, Record, Tail, frame::MAX_COMMIT_BYTES};

const CHANNEL: &str = "saldo_log";
/// Records of one transaction, and bytes of their values.
const GROUP: usize = 2_000;
const GROUP_BYTES: usize = 8 << 20;
/// Appends that may wait; each is bounded by the caller's own queue.
const QUEUE: usize = 4_096;
/// A tail looks by itself this often, should a notification be lost with its connection.
const POLL: Duration = Duration::from_millis(250);

const SCHEMA: &[&str] = &[
    "CREATE SCHEMA IF NOT EXISTS saldo_log",
    "CREATE TABLE IF NOT EXISTS saldo_log.partitions (
        topic text NOT NULL,
        partition int NOT NULL,
        next_offset bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (topic, partition))",
    "CREATE TABLE IF NOT EXISTS saldo_log.records (
        topic text NOT NULL,
        partition int NOT NULL,
        record_offset bigint NOT NULL,
        key bytea NOT NULL,
        value bytea NOT NULL,
        appended_at timestamptz NOT NULL,
        PRIMARY KEY (topic, partition, record_offset))",
];

struct Waiting {
    records: Vec<NewRecord>,
    done: oneshot::Sender<Result<(), AppendError>>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.records.iter().map(|record| record.value.len()).sum()
    }
}

/// One topic of the embedded log.
#[derive(Clone)]
pub struct EmbeddedLog {
    pool: PgPool,
    topic: String,
    appender: mpsc::Sender<Waiting>,
}

impl EmbeddedLog {
    /// Closes the connections, those of tails included. The server can then be stopped without cutting any.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Connects and makes the tables where they are missing.
    pub async fn connect(database_url: &str, topic: &str) -> Result<Self, LogError> {
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(10))
            .connect(database_url)
            .await
            .map_err(unavailable)?;
        let mut transaction = saldo_postgres::begin(&pool).await.map_err(unavailable)?;
        // Two processes may start at once; CREATE IF NOT EXISTS alone can still collide.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtext('saldo_log'))")
            .execute(&mut *transaction)
            .await
            .map_err(unavailable)?;
        for statement in SCHEMA {
            sqlx::query(*statement).execute(&mut *transaction).await.map_err(unavailable)?;
        }
        transaction.commit().await.map_err(unavailable)?;
        let (appender, queue) = mpsc::channel(QUEUE);
        tokio::spawn(append_groups(pool.clone(), topic.to_owned(), queue));
        Ok(Self { pool, topic: topic.to_owned(), appender })
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    fn append(&self, records: Vec<NewRecord>) -> BoxFuture<'static, Result<(), AppendError>> {
        if let Some(bytes) = records.iter().map(|record| record.value.len()).find(|len| *len > MAX_COMMIT_BYTES) {
            return Box::pin(async move { Err(AppendError::TooLarge { bytes, limit: MAX_COMMIT_BYTES }) });
        }
        let (done, outcome) = oneshot::channel();
        if self.appender.try_send(Waiting { records, done }).is_err() {
            return Box::pin(async { Err(AppendError::Busy) });
        }
        Box::pin(async move {
            outcome.await.unwrap_or_else(|_| Err(AppendError::Unknown("the log's writer has ended".to_owned())))
        })
    }

    async fn tail(&self, from: &[(u32, u64)]) -> Result<Box<dyn Tail>, LogError> {
        // Listening before the first look, so that nothing falls between the two.
        let mut listener = PgListener::connect_with(&self.pool).await.map_err(unavailable)?;
        listener.listen(CHANNEL).await.map_err(unavailable)?;
        for (partition, offset) in from {
            let end = self.end(*partition).await?;
            if *offset > end {
                let why = format!("it ends at {end}");
                return Err(LogError::Cut { partition: *partition, offset: *offset, why });
            }
        }
        Ok(Box::new(EmbeddedTail { pool: self.pool.clone(), topic: self.topic.clone(), listener, next: from.to_vec() }))
    }

    async fn end(&self, partition: u32) -> Result<u64, LogError> {
        let row = sqlx::query("SELECT next_offset FROM saldo_log.partitions WHERE topic = $1 AND partition = $2")
            .bind(&self.topic)
            .bind(partition as i32)
            .fetch_optional(&self.pool)
            .await
            .map_err(unavailable)?;
        let row = row.ok_or_else(|| LogError::Absent(self.topic.clone()))?;
        Ok(row.try_get::<i64, _>(0).map_err(unavailable)? as u64)
    }

    fn topic(&self) -> &str {
        &self.topic
    }

    async fn partition_count(&self) -> Result<Option<u32>, LogError> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM saldo_log.partitions WHERE topic = $1")
            .bind(&self.topic)
            .fetch_one(&self.pool)
            .await
            .map_err(unavailable)?;
        Ok((count > 0).then_some(count as u32))
    }

    async fn create(&self, partitions: u32) -> Result<(), LogError> {
        sqlx::query(
            "INSERT INTO saldo_log.partitions (topic, partition) SELECT $1, generate_series(0, $2 - 1)
             WHERE NOT EXISTS (SELECT FROM saldo_log.partitions WHERE topic = $1) ON CONFLICT DO NOTHING",
        )
        .bind(&self.topic)
        .bind(partitions as i32)
        .execute(&self.pool)
        .await
        .map_err(unavailable)?;
        Ok(())
    }
}

/// Writes what waits in one transaction, again and again: one flush to disk for many appends.
async fn append_groups(pool: PgPool, topic: String, mut queue: mpsc::Receiver<Waiting>) {
    while let Some(first) = queue.recv().await {
        let mut group = vec![first];
        let (mut size, mut bytes) = (group[0].records.len(), group[0].bytes());
        while size < GROUP && bytes < GROUP_BYTES {
            let Ok(next) = queue.try_recv() else { break };
            size += next.records.len();
            bytes += next.bytes();
            group.push(next);
        }
        let outcome = append_group(&pool, &topic, group.iter().flat_map(|waiting| &waiting.records)).await;
        for waiting in group {
            // A caller that no longer waits finds out by reading.
            let _ = waiting.done.send(outcome.clone());
        }
    }
}

async fn append_group(
    pool: &PgPool,
    topic: &str,
    records: impl Iterator<Item = &NewRecord>,
) -> Result<(), AppendError> {
    let refused = |error: sqlx::Error| AppendError::Refused(error.to_string());
    let mut by_partition: BTreeMap<i32, Vec<&NewRecord>> = BTreeMap::new();
    for record in records {
        by_partition.entry(record.partition as i32).or_default().push(record);
    }
    let touched: Vec<i32> = by_partition.keys().copied().collect();
    let mut transaction = saldo_postgres::begin(pool).await.map_err(refused)?;
    // In the order of their numbers, so that two writers cannot wait for each other.
    let rows = sqlx::query(
        "SELECT partition, next_offset FROM saldo_log.partitions
         WHERE topic = $1 AND partition = ANY($2) ORDER BY partition FOR UPDATE",
    )
    .bind(topic)
    .bind(&touched)
    .fetch_all(&mut *transaction)
    .await
    .map_err(refused)?;
    if rows.len() != touched.len() {
        return Err(AppendError::Refused(format!("topic {topic} has no such partition")));
    }
    let (mut partitions, mut offsets, mut keys, mut values, mut ends) =
        (Vec::new(), Vec::new(), Vec::<&[u8]>::new(), Vec::<&[u8]>::new(), Vec::new());
    for row in rows {
        let partition: i32 = row.try_get(0).map_err(refused)?;
        let mut offset: i64 = row.try_get(1).map_err(refused)?;
        for record in by_partition.remove(&partition).unwrap_or_default() {
            partitions.push(partition);
            offsets.push(offset);
            keys.push(&record.key);
            values.push(&record.value);
            offset += 1;
        }
        ends.push(offset);
    }
    sqlx::query(
        "WITH moved AS (
             UPDATE saldo_log.partitions p SET next_offset = e.next_offset
             FROM unnest($6::int[], $7::bigint[]) AS e(partition, next_offset)
             WHERE p.topic = $1 AND p.partition = e.partition
         ), told AS (SELECT pg_notify($8, ''))
         INSERT INTO saldo_log.records (topic, partition, record_offset, key, value, appended_at)
         SELECT $1, r.partition, r.record_offset, r.key, r.value, clock_timestamp()
         FROM unnest($2::int[], $3::bigint[], $4::bytea[], $5::bytea[]) AS r(partition, record_offset, key, value), told",
    )
    .bind(topic)
    .bind(&partitions)
    .bind(&offsets)
    .bind(&keys)
    .bind(&values)
    .bind(&touched)
    .bind(&ends)
    .bind(CHANNEL)
    .execute(&mut *transaction)
    .await
    .map_err(refused)?;
    // Only here is the outcome open: the connection may be lost after the commit and before its answer.
    transaction.commit().await.map_err(|error| AppendError::Unknown(error.to_string()))
}

struct EmbeddedTail {
    pool: PgPool,
    topic: String,
    listener: PgListener,
    next: Vec<(u32, u64)>,
}

#[async_trait]
impl Tail for EmbeddedTail {
    async fn next(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        loop {
            let records = self.look(max).await?;
            if !records.is_empty() {
                for record in &records {
                    if let Some((_, next)) = self.next.iter_mut().find(|(partition, _)| *partition == record.partition)
                    {
                        *next = record.offset + 1;
                    }
                }
                return Ok(records);
            }
            match tokio::time::timeout(POLL, self.listener.try_recv()).await {
                Err(_) | Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(unavailable(error)),
            }
        }
    }
}

impl EmbeddedTail {
    async fn look(&self, max: usize) -> Result<Vec<Record>, LogError> {
        let (partitions, offsets): (Vec<i32>, Vec<i64>) =
            self.next.iter().map(|(partition, offset)| (*partition as i32, *offset as i64)).unzip();
        let count = self.next.len().max(1);
        let (share, bytes) = ((max / count).max(1) as i64, (READ_BYTES / count) as i64);
        let rows = sqlx::query(
            "SELECT r.partition, r.record_offset, r.key, r.value, r.appended_at
             FROM unnest($2::int[], $3::bigint[]) AS w(partition, first)
             CROSS JOIN LATERAL (
                 SELECT *, sum(octet_length(value)) OVER (ORDER BY record_offset ROWS UNBOUNDED PRECEDING)
                        - octet_length(value) AS before
                 FROM (SELECT * FROM saldo_log.records
                       WHERE topic = $1 AND partition = w.partition AND record_offset >= w.first
                       ORDER BY record_offset LIMIT $4) AS next) r
             WHERE r.before < $5",
        )
        .bind(&self.topic)
        .bind(&partitions)
        .bind(&offsets)
        .bind(share)
        .bind(bytes)
        .fetch_all(&self.pool)
        .await
        .map_err(unavailable)?;
        rows.into_iter()
            .map(|row| {
                Ok(Record {
                    partition: row.try_get::<i32, _>(0).map_err(unavailable)? as u32,
                    offset: row.try_get::<i64, _>(1).map_err(unavailable)? as u64,
                    key: row.try_get::<Vec<u8>, _>(2).map_err(unavailable)?.into(),
                    value: row.try_get::<Vec<u8>, _>(3).map_err(unavailable)?.into(),
                    appended_at: row.try_get::<jiff_sqlx::Timestamp, _>(4).map_err(unavailable)?.to_jiff(),
                    trace: None,
                })
            })
            .collect()
    }
}

fn unavailable(error: sqlx::Error) -> LogError {
    LogError::Unavailable(error.to_string())
}
