//! One consumer for a whole tail, polled on a thread of its own: librdkafka's queue is drained in batches.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::Consumer,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, Headers, OwnedHeaders},
};
use tokio::sync::mpsc;
use tracing::error;

use super::{
    Asker, KafkaConfig, KafkaTls,
    gaps::{Gapless, Places},
    reach::{KAFKA, complained, noted},
};
use crate::{LogError, READ_BYTES, Record, Tail};

/// How long a poll waits, and so how soon a dropped tail's thread ends.
const POLL: Duration = Duration::from_millis(100);
/// Between two questions whether a Kafka that was out of reach is in reach again, and the longest that one waits.
const ASK_EVERY: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(500);
/// Records handed over at once.
const BATCH: usize = 2_048;
/// Batches read ahead.
const AHEAD: usize = 4;

pub(super) struct KafkaTail {
    batches: mpsc::Receiver<Result<Vec<Record>, LogError>>,
    /// Records that a caller with a small `max` has left over.
    rest: std::collections::VecDeque<Record>,
}

impl KafkaTail {
    pub(super) fn start(config: KafkaConfig, from: &[(u32, u64)]) -> Result<Self, LogError> {
        let places = from.iter().copied().collect();
        let consumer = open(&config, &places).map_err(super::unavailable)?;
        let (sender, batches) = mpsc::channel(AHEAD);
        std::thread::Builder::new()
            .name("kafka-tail".to_owned())
            .spawn(move || poll(config, consumer, places, &sender))
            .map_err(|error| LogError::Unavailable(error.to_string()))?;
        Ok(Self { batches, rest: Default::default() })
    }
}

#[async_trait]
impl Tail for KafkaTail {
    async fn next(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        if self.rest.is_empty() {
            let batch = self.batches.recv().await;
            self.rest = batch.unwrap_or_else(|| Err(LogError::Unavailable("the reader has ended".to_owned())))?.into();
        }
        let count = max.max(1).min(self.rest.len());
        Ok(self.rest.drain(..count).collect())
    }
}

pub(super) fn open(config: &KafkaConfig, places: &Places) -> Result<Asker, KafkaError> {
    let mut assignment = TopicPartitionList::new();
    for (partition, offset) in places {
        assignment.add_partition_offset(&config.topic, *partition as i32, Offset::Offset(*offset as i64))?;
    }
    let consumer = config.new_reader()?;
    consumer.assign(&assignment).map(|()| consumer)
}

fn poll(
    mut config: KafkaConfig,
    mut consumer: Asker,
    places: Places,
    sender: &mpsc::Sender<Result<Vec<Record>, LogError>>,
) {
    let (mut asked, mut gapless) = (Instant::now(), Gapless::new(places));
    while !sender.is_closed() {
        if config.tls.as_mut().is_some_and(KafkaTls::is_due) {
            match open(&config, &gapless.places) {
                Ok(new) => consumer = new,
                Err(error) => {
                    error!(%error, "no Kafka reader could be made of new TLS files; the one before goes on meanwhile");
                    config.tls.as_mut().into_iter().for_each(KafkaTls::try_again);
                }
            }
        }
        let mut batch: Vec<Record> = Vec::new();
        let (mut wait, mut bytes) = (POLL, 0);
        while batch.len() < BATCH && bytes < READ_BYTES {
            if let Some(next) = gapless.next() {
                bytes += next.value.len();
                batch.push(next);
                wait = Duration::ZERO;
                continue;
            }
            match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    KAFKA.over();
                    gapless.take(record(&message));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => gapless.at_end(partition.max(0) as u32),
                Some(Err(error)) => {
                    if let Some(fatal) = fatal(&error) {
                        let fatal = match fatal {
                            Fatal::OutOfRange(why) => cut(&config.topic, &consumer, &gapless.places, why),
                            Fatal::Gone(why) => LogError::Unavailable(why),
                        };
                        let _ = sender.blocking_send(Err(fatal));
                        return;
                    }
                    // The client tries again by itself.
                    match error.rdkafka_error_code() {
                        Some(RDKafkaErrorCode::AllBrokersDown) => KAFKA.failed(&error),
                        _ => complained(&error.to_string()),
                    }
                }
            }
            wait = Duration::ZERO;
        }
        if batch.is_empty() {
            gapless.look(&config, &consumer);
        }
        // A quiet log does not show by itself that it is in reach again.
        if batch.is_empty() && KAFKA.lasts() && asked.elapsed() >= ASK_EVERY {
            asked = Instant::now();
            for (partition, _) in gapless.places.iter().take(1) {
                let _ = noted(consumer.fetch_watermarks(&config.topic, *partition as i32, LOOK));
            }
        }
        if !batch.is_empty() && sender.blocking_send(Ok(batch)).is_err() {
            return;
        }
    }
}

/// Holds the trace that a record was written under.
const TRACE: &str = "traceparent";
/// The longest that is read of it; W3C's has 55 bytes.
const MAX_TRACE: usize = 64;

/// The headers of a record that was written under a trace.
pub(super) fn trace_header(trace: &str) -> OwnedHeaders {
    OwnedHeaders::new_with_capacity(1).insert(Header { key: TRACE, value: Some(trace) })
}

fn trace(message: &impl Message) -> Option<Box<str>> {
    let header = message.headers()?.iter().find(|header| header.key == TRACE)?;
    traceparent(header.value?)
}

/// Readers keep it, in Postgres too: nothing comes in that is no word.
fn traceparent(header: &[u8]) -> Option<Box<str>> {
    let is_one = header.len() <= MAX_TRACE && header.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(header).ok().filter(|_| is_one).map(Into::into)
}

fn record(message: &impl Message) -> Record {
    let at = message.timestamp().to_millis().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    Record {
        partition: message.partition().max(0) as u32,
        offset: message.offset().max(0) as u64,
        key: message.key().map(Bytes::copy_from_slice).unwrap_or_default(),
        value: message.payload().map(Bytes::copy_from_slice).unwrap_or_default(),
        appended_at: at.unwrap_or(Timestamp::UNIX_EPOCH),
        trace: trace(message),
    }
}

/// An error that the client does not get over by itself.
enum Fatal {
    /// The next offset of some partition is not there; the client does not say of which.
    OutOfRange(String),
    /// The topic is gone, or the client is.
    Gone(String),
}

fn fatal(error: &KafkaError) -> Option<Fatal> {
    match error.rdkafka_error_code()? {
        RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset => {
            Some(Fatal::OutOfRange(error.to_string()))
        }
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::Fatal => {
            Some(Fatal::Gone(error.to_string()))
        }
        _ => None,
    }
}

/// Finds the partition whose next offset is not there. Where none is found, the log has changed again or does not answer:
/// the reader opens a new tail, and finds out then.
fn cut(topic: &str, consumer: &Asker, places: &Places, why: String) -> LogError {
    for (partition, offset) in places {
        let Ok((low, high)) = consumer.fetch_watermarks(topic, *partition as i32, super::PATIENCE) else { continue };
        let (low, high) = (low.max(0) as u64, high.max(0) as u64);
        if !(low..=high).contains(offset) {
            let why = format!("it begins at {low} and ends at {high} ({why})");
            return LogError::Cut { partition: *partition, offset: *offset, why };
        }
    }
    LogError::Unavailable(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_one_short_word() {
        let whole = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(whole.as_bytes()).as_deref(), Some(whole));
        for other in ["00-4bf9\0", "two words", "né", &"0".repeat(MAX_TRACE + 1)] {
            assert_eq!(traceparent(other.as_bytes()), None, "{other:?}");
        }
    }
}
