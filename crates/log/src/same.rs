//! Whether a log is still the one that was opened. A log can be swapped or restored under running processes, and a reader that
//! waits for the next record may not hear of this for a long time. So every process looks by itself.
//!
//! The ends are asked every second: an end never goes back. The last record seen of each partition is read again and compared
//! every 15 seconds, and right after the log was out of reach.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prost::Message;
pub use saldo_api::hex;
use saldo_api::v1::GenesisPayload;
use tokio::sync::{Notify, watch};

use crate::{
    Log, LogError, Record,
    acceptor::Position,
    frame::{self, Frame, GENESIS_KEY},
    genesis::Identity,
};

/// Between two looks at the ends.
pub const EVERY: Duration = Duration::from_secs(1);
/// Looks at the ends between two comparisons of records. With Kafka a comparison takes connections of its own.
const COMPARE: u32 = 15;
/// The longest that records are waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// An end that went back is looked at so often before it is believed: a new leader may not know its end for a moment.
const SURE: u32 = 3;
/// Records taken from a tail at once. Only the first one of each partition is of use.
const BATCH: usize = 64;

/// How a log differs from what was read of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Changed {
    /// Records that were there are gone.
    #[error(
        "partition {partition} of {topic} ends at offset {end}, but it had come to offset {reached}: an older copy of the log was restored, or records were lost"
    )]
    WentBack {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// Where it ends now.
        end: u64,
        /// Where it ended before.
        reached: u64,
    },
    /// Another record stands where one was read.
    #[error(
        "the record at offset {offset} of partition {partition} of {topic} is another one than was read before: an older copy of the log was restored and written on"
    )]
    Rewritten {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset.
        offset: u64,
    },
    /// It is another log.
    #[error(
        "{topic} is log {found} now, and was log {expected}: this is another broker or another database, or the topic was made anew"
    )]
    OtherLog {
        /// The topic.
        topic: String,
        /// Its id now.
        found: String,
        /// Its id before.
        expected: String,
    },
}

/// The result of a look: how the log has changed, if it has.
type Look = Result<Option<Changed>, LogError>;

/// Reads the record at each of these places. A place that the log no longer has is left out.
pub async fn records_at(log: &dyn Log, places: &[(u32, u64)]) -> Result<HashMap<u32, Record>, LogError> {
    let mut found = HashMap::new();
    let mut wanted = Vec::new();
    for (partition, offset) in places {
        if log.end(*partition).await? > *offset {
            wanted.push((*partition, *offset));
        }
    }
    if wanted.is_empty() {
        return Ok(found);
    }
    let mut tail = log.tail(&wanted).await?;
    let read = async {
        while found.len() < wanted.len() {
            for record in tail.next(BATCH).await? {
                if wanted.contains(&(record.partition, record.offset)) {
                    found.insert(record.partition, record);
                }
            }
        }
        Ok(())
    };
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(read) => read.map(|()| found),
        Err(_) => Err(LogError::Unavailable("records that were there do not come".to_owned())),
    }
}

/// The positions behind the last record of each partition.
pub async fn positions(log: &dyn Log, identity: &Identity) -> Result<Vec<Position>, LogError> {
    let ends = crate::ends(log, identity).await?;
    let places: Vec<(u32, u64)> = (0..).zip(ends.iter().map(|end| end.saturating_sub(1))).collect();
    let records = records_at(log, &places).await?;
    let position = |(partition, end): (u32, &u64)| match records.get(&partition) {
        Some(record) => Ok(Position { next: *end, last_hash: frame::hash(&record.value) }),
        None => Err(LogError::Unavailable(format!("partition {partition} has no record before its end"))),
    };
    (0..).zip(&ends).map(position).collect()
}

/// Whether the log ends before positions that were reached before, by partition. Asks nothing but the ends.
pub async fn went_back(log: &dyn Log, identity: &Identity, reached: &[Position]) -> Look {
    for (partition, position) in (0..).zip(reached) {
        let end = log.end(partition).await?;
        if end < position.next {
            let changed = Changed::WentBack { topic: log.topic().to_owned(), partition, end, reached: position.next };
            return Ok(Some(other_log(log, identity).await?.unwrap_or(changed)));
        }
    }
    Ok(None)
}

/// Compares the log with positions that were reached before, by partition: the ends, and the records before the positions.
pub async fn compare(log: &dyn Log, identity: &Identity, reached: &[Position]) -> Look {
    if let Some(changed) = went_back(log, identity, reached).await? {
        return Ok(Some(changed));
    }
    let place = |(partition, position): (u32, &Position)| Some((partition, position.next.checked_sub(1)?));
    let places: Vec<(u32, u64)> = (0..).zip(reached).filter_map(place).collect();
    let records = records_at(log, &places).await?;
    let other = places.into_iter().find(|(partition, _)| {
        records.get(partition).map(|record| frame::hash(&record.value))
            != reached.get(*partition as usize).map(|position| position.last_hash)
    });
    let Some((partition, offset)) = other else { return Ok(None) };
    let changed = Changed::Rewritten { topic: log.topic().to_owned(), partition, offset };
    Ok(Some(other_log(log, identity).await?.unwrap_or(changed)))
}

/// Whether the log has another id than it had.
async fn other_log(log: &dyn Log, identity: &Identity) -> Look {
    let genesis = records_at(log, &[(0, 0)]).await?;
    let id = genesis.get(&0).filter(|record| record.key == GENESIS_KEY).and_then(|record| {
        let frame = Frame::parse(&record.value).ok()?;
        Some(GenesisPayload::decode(frame.payload).ok()?.log_id)
    });
    Ok(id.filter(|id| *id != identity.log_id).map(|id| Changed::OtherLog {
        topic: log.topic().to_owned(),
        found: hex(&id),
        expected: hex(&identity.log_id),
    }))
}

/// Looks until the log has changed. `seen` gets the positions that the log has come to, whenever records were compared and found
/// the same. A log that is doubted is compared at once.
pub async fn until_changed(
    log: &dyn Log,
    identity: &Identity,
    trust: &Trust,
    seen: &watch::Sender<Vec<Position>>,
) -> Changed {
    let mut reached: Vec<Position> = Vec::new();
    let mut ends: Vec<u64> = Vec::new();
    let (mut looks, mut backwards) = (COMPARE, 0);
    loop {
        let compared = looks >= COMPARE;
        let look = async {
            // Asked before the ends: what was read until now stood before them.
            trust.add_to(&mut ends);
            let now = crate::ends(log, identity).await?;
            let went_back = (0..).zip(now.iter().zip(&ends)).find(|(_, (now, before))| now < before);
            if let Some((partition, (end, reached))) = went_back {
                let topic = log.topic().to_owned();
                let changed = Changed::WentBack { topic, partition, end: *end, reached: *reached };
                return Ok((Some(other_log(log, identity).await?.unwrap_or(changed)), now));
            }
            let mut changed = None;
            if compared {
                changed = compare(log, identity, &reached).await?;
                if changed.is_none() {
                    reached = positions(log, identity).await?;
                    seen.send_replace(reached.clone());
                }
            }
            Ok::<_, LogError>((changed, now))
        };
        match look.await {
            Ok((None, now)) => {
                ends = now;
                looks = if compared { 0 } else { looks + 1 };
                backwards = 0;
            }
            Ok((Some(changed @ Changed::WentBack { .. }), _)) if backwards + 1 < SURE => {
                tracing::warn!(%changed, "the log looks as if it had changed; it is looked at again");
                backwards += 1;
                looks = COMPARE;
            }
            Ok((Some(changed), _)) => return changed,
            // It may be another log that answers next.
            Err(_) => looks = COMPARE,
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = trust.0.doubted.notified() => looks = COMPARE,
        }
    }
}

/// Whether a process still trusts its log. Shared by everything in the process that reads the log or appends to it.
#[derive(Debug, Clone)]
pub struct Trust(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    lost: watch::Sender<Option<Arc<str>>>,
    doubted: Notify,
    /// How far readers of this process have come, by partition.
    read: Mutex<BTreeMap<u32, u64>>,
}

impl Default for Trust {
    fn default() -> Self {
        Self(Arc::new(Shared { lost: watch::channel(None).0, doubted: Notify::new(), read: Mutex::default() }))
    }
}

impl Trust {
    /// Why the log is not the one that was opened; `None` while it is.
    pub fn lost(&self) -> Option<Arc<str>> {
        self.0.lost.borrow().clone()
    }

    /// The log is another one. The first reason stays.
    pub fn lose(&self, why: &impl Display) {
        self.0.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            if first {
                *lost = Some(why.to_string().into());
            }
            first
        });
    }

    /// Waits until the log is another one.
    pub async fn until_lost(&self) -> Arc<str> {
        let mut lost = self.0.lost.subscribe();
        // The sender lives as long as this.
        match lost.wait_for(Option::is_some).await.map(|lost| lost.clone()) {
            Ok(Some(why)) => why,
            _ => std::future::pending().await,
        }
    }

    /// A reader has met something odd: have the log compared now.
    pub fn doubt(&self) {
        self.0.doubted.notify_one();
    }

    /// A reader has read up to this offset. The log must not end before it.
    pub fn has_read(&self, partition: u32, next: u64) {
        let mut read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = read.entry(partition).or_default();
        *reached = next.max(*reached);
    }

    /// Moves ends, by partition, to where readers have come.
    fn add_to(&self, ends: &mut [u64]) {
        let read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, end) in (0..).zip(ends) {
            *end = read.get(&partition).copied().unwrap_or(0).max(*end);
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use bytes::Bytes;
    use futures::future::BoxFuture;

    use super::*;
    use crate::{AppendError, NewRecord, Tail, genesis, keys::LogKeys};

    /// A log in memory that can be restored, swapped and taken away.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Inner>>);

    #[derive(Clone, Default)]
    struct Inner {
        partitions: Vec<Vec<Record>>,
        away: bool,
    }

    impl Memory {
        fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
            self.0.lock().expect("no panic")
        }

        async fn write(&self, partition: u32, text: &'static str) {
            let record = NewRecord {
                partition,
                key: Bytes::from_static(b"acme/D-1"),
                value: Bytes::from_static(text.as_bytes()),
                trace: None,
            };
            self.append(vec![record]).await.expect("appended");
        }
    }

    #[async_trait]
    impl Log for Memory {
        fn append(&self, records: Vec<NewRecord>) -> BoxFuture<'static, Result<(), AppendError>> {
            for NewRecord { partition, key, value, trace } in records {
                let partitions = &mut self.inner().partitions[partition as usize];
                let (offset, appended_at) = (partitions.len() as u64, jiff::Timestamp::UNIX_EPOCH);
                partitions.push(Record { partition, offset, key, value, appended_at, trace });
            }
            Box::pin(async { Ok(()) })
        }

        async fn tail(&self, from: &[(u32, u64)]) -> Result<Box<dyn Tail>, LogError> {
            let inner = self.inner();
            let all = from.iter().flat_map(|(partition, offset)| {
                inner.partitions[*partition as usize].iter().skip(*offset as usize).cloned()
            });
            Ok(Box::new(MemoryTail(all.collect())))
        }

        async fn end(&self, partition: u32) -> Result<u64, LogError> {
            let inner = self.inner();
            match inner.away {
                true => Err(LogError::Unavailable("away".to_owned())),
                false => Ok(inner.partitions[partition as usize].len() as u64),
            }
        }

        fn topic(&self) -> &str {
            "saldo.accounts"
        }

        async fn partition_count(&self) -> Result<Option<u32>, LogError> {
            Ok(Some(self.inner().partitions.len() as u32).filter(|count| *count > 0))
        }

        async fn create(&self, partitions: u32) -> Result<(), LogError> {
            self.inner().partitions = vec![Vec::new(); partitions as usize];
            Ok(())
        }
    }

    struct MemoryTail(Vec<Record>);

    #[async_trait]
    impl Tail for MemoryTail {
        async fn next(&mut self, _: usize) -> Result<Vec<Record>, LogError> {
            if self.0.is_empty() {
                return std::future::pending().await;
            }
            Ok(std::mem::take(&mut self.0))
        }
    }

    async fn log() -> (Memory, Identity) {
        let log = Memory::default();
        let identity = genesis::create(&log, 2, &LogKeys::fixed([1; 32])).await.expect("created");
        for text in ["one", "two", "three"] {
            log.write(1, text).await;
        }
        (log, identity)
    }

    /// The change that a watcher finds after this harm to its log.
    async fn watched(harm: impl AsyncFnOnce(&Memory)) -> (Changed, Identity) {
        let (log, identity) = log().await;
        let trust = Trust::default();
        let (seen, mut positions) = watch::channel(Vec::new());
        let watcher = until_changed(&log, &identity, &trust, &seen);
        let harm = async {
            positions.wait_for(|seen| !seen.is_empty()).await.expect("compared");
            harm(&log).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            changed = watcher => (changed, identity),
            () = harm => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn o4_an_older_log_is_noticed_with_the_true_partition_and_offset() {
        let (changed, _) = watched(async |log| log.inner().partitions[1].truncate(2)).await;
        let topic = "saldo.accounts".to_owned();
        assert_eq!(changed, Changed::WentBack { topic, partition: 1, end: 2, reached: 4 });
    }

    #[tokio::test(start_paused = true)]
    async fn o4_records_that_are_lost_right_after_they_were_seen_are_noticed() {
        let (changed, _) = watched(async |log| {
            log.write(1, "four").await;
            tokio::time::sleep(EVERY * 2).await;
            log.inner().partitions[1].truncate(4);
        })
        .await;
        let topic = "saldo.accounts".to_owned();
        assert_eq!(changed, Changed::WentBack { topic, partition: 1, end: 4, reached: 5 });
    }

    #[tokio::test(start_paused = true)]
    async fn o4_records_that_a_reader_has_read_are_missed_at_once() {
        let (log, identity) = log().await;
        let (trust, (seen, mut positions)) = (Trust::default(), watch::channel(Vec::new()));
        let watcher = until_changed(&log, &identity, &trust, &seen);
        let story = async {
            positions.wait_for(|seen| !seen.is_empty()).await.expect("compared");
            // The record comes and goes between two looks.
            trust.has_read(1, 5);
            std::future::pending::<()>().await;
        };
        let changed = tokio::select! {
            changed = watcher => changed,
            () = story => unreachable!(),
        };
        let topic = "saldo.accounts".to_owned();
        assert_eq!(changed, Changed::WentBack { topic, partition: 1, end: 4, reached: 5 });
    }

    #[tokio::test(start_paused = true)]
    async fn o4_an_older_log_that_was_written_on_is_noticed() {
        let (changed, _) = watched(async |log| {
            log.inner().partitions[1].truncate(2);
            for text in ["other", "other", "other"] {
                log.write(1, text).await;
            }
        })
        .await;
        assert_eq!(changed, Changed::Rewritten { topic: "saldo.accounts".to_owned(), partition: 1, offset: 3 });
    }

    #[tokio::test(start_paused = true)]
    async fn o4_another_brokers_log_is_noticed() {
        let (other, theirs) = log().await;
        let (changed, ours) = watched(async |log| *log.inner() = other.inner().clone()).await;
        let (found, expected) = (hex(&theirs.log_id), hex(&ours.log_id));
        assert_eq!(changed, Changed::OtherLog { topic: "saldo.accounts".to_owned(), found, expected });
    }

    #[tokio::test(start_paused = true)]
    async fn o4_a_log_that_was_away_is_compared_at_once_and_one_that_grows_is_the_same() {
        let (log, identity) = log().await;
        let trust = Trust::default();
        let (seen, mut positions) = watch::channel(Vec::new());
        let watcher = until_changed(&log, &identity, &trust, &seen);
        let story = async {
            positions.wait_for(|seen| !seen.is_empty()).await.expect("compared");
            log.inner().away = true;
            tokio::time::sleep(EVERY * 4).await;
            log.write(0, "more").await;
            log.inner().away = false;
            let back = tokio::time::Instant::now();
            positions.wait_for(|seen| seen[0].next == 2).await.expect("compared");
            assert!(back.elapsed() <= EVERY * 2);
        };
        tokio::select! {
            changed = watcher => panic!("{changed}"),
            () = story => {}
        }
    }

    #[tokio::test]
    async fn trust_is_lost_once() {
        let trust = Trust::default();
        assert_eq!(trust.lost(), None);
        trust.lose(&"first");
        trust.lose(&"second");
        assert_eq!(trust.until_lost().await.as_ref(), "first");
    }
}
