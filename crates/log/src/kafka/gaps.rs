//! Offsets without a record. Kafka keeps a marker at the end of each transaction, and hands it to no reader. Saldo uses no
//! transactions, but whoever can write the topic can leave markers there.
//!
//! Readers count offsets without gaps. So each place without a record becomes a record with an empty value, which is void. A gap is
//! certain once a later record came; at the end of the log, once a fresh reader has met the end and no record for a while.

use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::Timestamp;
use rdkafka::{consumer::Consumer, error::KafkaError};

use super::{Asker, KafkaConfig, tail};
use crate::{Record, frame::MARKER_KEY, keys::real_time};

/// So long a reader must have stood at the end before a gap is looked for: a record is on its way far more often.
const QUIET: Duration = Duration::from_millis(500);
/// The longest that a question about a partition's end may take. It is asked again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the next record of each partition stands.
pub(super) type Places = BTreeMap<u32, u64>;

/// What a tail hands over next, without gaps.
pub(super) struct Gapless {
    pub places: Places,
    /// A record behind a gap that is being filled.
    held: Option<Record>,
    /// A gap at the end that is being filled.
    gap: Option<(u32, Range<u64>)>,
    /// Partitions whose end was met, and when.
    at_end: BTreeMap<u32, Instant>,
}

impl Gapless {
    pub fn new(places: Places) -> Self {
        Self { places, held: None, gap: None, at_end: BTreeMap::new() }
    }

    /// Takes a record that was read. It comes out of [`Gapless::next`] behind its gap.
    pub fn take(&mut self, record: Record) {
        self.at_end.remove(&record.partition);
        self.held = Some(record);
    }

    /// The reader has met the end of a partition.
    pub fn at_end(&mut self, partition: u32) {
        self.at_end.insert(partition, Instant::now());
    }

    /// What comes next of what was taken. Only after `None` another record may be taken.
    pub fn next(&mut self) -> Option<Record> {
        if let Some((partition, gap)) = &mut self.gap {
            let partition = *partition;
            match gap.next() {
                Some(offset) => {
                    self.places.insert(partition, offset + 1);
                    return Some(marker(partition, offset, real_time()));
                }
                None => self.gap = None,
            }
        }
        let record = self.held.take()?;
        let place = self.places.entry(record.partition).or_insert(record.offset);
        if *place < record.offset {
            let marker = marker(record.partition, *place, record.appended_at);
            *place += 1;
            self.held = Some(record);
            return Some(marker);
        }
        *place = record.offset + 1;
        Some(record)
    }

    /// Looks for a gap at the end of a partition where nothing has come for a while.
    pub fn look(&mut self, config: &KafkaConfig, consumer: &Asker) {
        let quiet = self.at_end.iter().find(|(_, since)| since.elapsed() >= QUIET).map(|(partition, _)| *partition);
        let Some(partition) = quiet else { return };
        let next = self.places.get(&partition).copied().unwrap_or_default();
        match behind(config, consumer, partition, next) {
            Ok(Behind::NoGap) => {}
            Ok(Behind::Gap(gap)) => self.gap = Some((partition, gap)),
            // Asked again after a while.
            Ok(Behind::Unsure) | Err(_) => return self.at_end(partition),
        }
        self.at_end.remove(&partition);
    }
}

fn marker(partition: u32, offset: u64, appended_at: Timestamp) -> Record {
    let key = Bytes::from_static(MARKER_KEY.as_bytes());
    Record { partition, offset, key, value: Bytes::new(), appended_at, trace: None }
}

/// What stands at the end of a partition behind the last record that was read.
enum Behind {
    /// Nothing, or records, which the tail reads too.
    NoGap,
    /// No record at these offsets.
    Gap(Range<u64>),
    /// It could not be found out.
    Unsure,
}

/// Looks behind `next`. A fresh reader that meets the end has met every record before it. A leader that is new may not know the end of
/// its partition for a moment, so the end is asked before and after, and the reader waits a while more.
fn behind(config: &KafkaConfig, asker: &Asker, partition: u32, next: u64) -> Result<Behind, KafkaError> {
    let end = || asker.fetch_watermarks(&config.topic, partition as i32, PATIENCE).map(|(_, end)| end.max(0) as u64);
    let gap = next..end()?;
    if gap.is_empty() {
        return Ok(Behind::NoGap);
    }
    let reader = tail::open(config, &Places::from([(partition, next)]))?;
    let (mut until, mut met_end) = (Instant::now() + PATIENCE, false);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        match reader.poll(left) {
            Some(Err(KafkaError::PartitionEOF(_))) if met_end => {}
            Some(Err(KafkaError::PartitionEOF(_))) => {
                if end()? < gap.end {
                    return Ok(Behind::Unsure);
                }
                (until, met_end) = (Instant::now() + QUIET, true);
            }
            Some(Ok(_)) => return Ok(Behind::NoGap),
            Some(Err(error)) => return Err(error),
            None => {}
        }
    }
    Ok(if met_end { Behind::Gap(gap) } else { Behind::Unsure })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: u64) -> Record {
        let (key, value) = (Bytes::from_static(b"acme/D-1"), Bytes::from_static(b"value"));
        Record { partition: 0, offset, key, value, appended_at: Timestamp::UNIX_EPOCH, trace: None }
    }

    fn taken(gapless: &mut Gapless) -> Vec<(u64, bool)> {
        let taken = std::iter::from_fn(|| gapless.next());
        taken.map(|record| (record.offset, record.value.is_empty())).collect()
    }

    #[test]
    fn every_offset_comes_once_and_in_order() {
        let mut gapless = Gapless::new(Places::from([(0, 3)]));
        gapless.take(record(3));
        assert_eq!(taken(&mut gapless), [(3, false)]);
        gapless.take(record(6));
        assert_eq!(taken(&mut gapless), [(4, true), (5, true), (6, false)]);
        gapless.gap = Some((0, 7..9));
        assert_eq!(taken(&mut gapless), [(7, true), (8, true)]);
        gapless.take(record(9));
        assert_eq!(taken(&mut gapless), [(9, false)]);
    }
}
