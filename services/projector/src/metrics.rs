//! The projector's metrics. They name no tenant and no account.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use opentelemetry::{
    global,
    metrics::{Counter, Gauge, Histogram},
};
use saldo_clock::Clock;
use saldo_log::{Log, ends, genesis::Identity};

/// Between two looks at the log's end.
const EVERY: Duration = Duration::from_secs(3);

/// The projector's figures.
pub struct Metrics {
    lag_records: Gauge<u64>,
    lag_seconds: Gauge<u64>,
    parked: Gauge<u64>,
    records: Counter<u64>,
    batch: Histogram<f64>,
    /// As the log's: it stamps its records with the machine's time.
    clock: Clock,
    lag: Mutex<Lag>,
}

/// Where the live build stands.
#[derive(Default)]
struct Lag {
    /// Records behind its checkpoints; `None` before they were looked at.
    done: Option<u64>,
    /// When the oldest record was appended that is being written, and that waits for it.
    writing: Option<Timestamp>,
    waiting: Option<Timestamp>,
    /// An end of the log that it has not reached, and when that was first seen.
    unreached: Option<(u64, Instant)>,
}

impl Lag {
    /// The age of the oldest record that is not projected. A record that was read counts from when it was appended. Where
    /// nothing comes from the log, the time counts since the log is known to have more.
    fn age(&mut self, end: u64, now: Timestamp) -> Duration {
        let done = self.done.unwrap_or(0);
        if done >= end {
            self.unreached = None;
            return Duration::ZERO;
        }
        let (_, since) = *match &mut self.unreached {
            Some(unreached) if done < unreached.0 => unreached,
            other => other.insert((end, Instant::now())),
        };
        let oldest = self.writing.into_iter().chain(self.waiting).min();
        let read = oldest.map_or(Duration::ZERO, |at| now.duration_since(at).try_into().unwrap_or_default());
        read.max(since.elapsed())
    }
}

impl Metrics {
    /// Instruments of the global meter provider as it is now.
    pub fn new() -> Self {
        let meter = global::meter("saldo.projector");
        Self {
            lag_records: meter
                .u64_gauge("saldo.projector.lag_records")
                .with_description("Records of the log that the read models do not hold yet")
                .with_unit("{record}")
                .build(),
            lag_seconds: meter
                .u64_gauge("saldo.projector.lag_seconds")
                .with_description(
                    "Age of the oldest of them, or how long the log's end could not be asked; 0 when caught up",
                )
                .with_unit("s")
                .build(),
            parked: meter
                .u64_gauge("saldo.projector.parked")
                .with_description("Accounts whose read models stand still")
                .with_unit("{account}")
                .build(),
            records: meter
                .u64_counter("saldo.projector.records")
                .with_description("Records projected")
                .with_unit("{record}")
                .build(),
            batch: meter
                .f64_histogram("saldo.projector.batch.duration")
                .with_description("Time to write one batch")
                .with_unit("s")
                .build(),
            clock: Clock::system(),
            lag: Mutex::default(),
        }
    }

    /// Says every few seconds how far behind the log the read models are. Ends never.
    pub async fn watch(&self, log: &dyn Log, identity: &Identity) {
        let mut looks = tokio::time::interval(EVERY);
        let mut asked = Instant::now();
        loop {
            looks.tick().await;
            // The reader of the log says what is wrong with it.
            let Ok(ends) = ends(log, identity).await else {
                self.lag_seconds.record(asked.elapsed().as_secs(), &[]);
                continue;
            };
            asked = Instant::now();
            let end: u64 = ends.iter().sum();
            let now = self.clock.now();
            self.with(|lag| {
                let Some(done) = lag.done else { return };
                self.lag_records.record(end.saturating_sub(done), &[]);
                self.lag_seconds.record(lag.age(end, now).as_secs(), &[]);
            });
        }
    }

    /// The checkpoints stand behind so many records, and so many accounts are parked.
    pub fn stands_at(&self, done: u64, parked: usize) {
        self.parked.record(parked as u64, &[]);
        self.with(|lag| lag.done = Some(done));
    }

    /// Somebody else's checkpoints stand behind so many records, and what is parked is theirs to say.
    pub fn looks_on(&self, done: u64) {
        self.parked.record(0, &[]);
        self.with(|lag| (lag.done, lag.writing, lag.waiting) = (Some(done), None, None));
    }

    /// The oldest record that was read and waits to be written.
    pub fn waits(&self, oldest: Option<Timestamp>) {
        self.with(|lag| lag.waiting = oldest);
    }

    /// The batch that waited is being written.
    pub fn writes(&self) {
        self.with(|lag| lag.writing = lag.waiting.take());
    }

    /// It was written.
    pub fn wrote(&self, records: usize, took: Duration) {
        self.records.add(records as u64, &[]);
        self.batch.record(took.as_secs_f64(), &[]);
        self.with(|lag| lag.writing = None);
    }

    fn with(&self, change: impl FnOnce(&mut Lag)) {
        if let Ok(mut lag) = self.lag.lock() {
            change(&mut lag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("an instant")
    }

    #[test]
    fn what_is_caught_up_has_no_age() {
        let mut lag = Lag { done: Some(10), ..Lag::default() };
        assert_eq!(lag.age(10, at(1_000)), Duration::ZERO);
    }

    #[test]
    fn the_oldest_record_read_gives_the_age_until_it_is_written() {
        let mut lag = Lag { done: Some(10), writing: Some(at(40)), waiting: Some(at(70)), ..Lag::default() };
        assert_eq!(lag.age(30, at(100)).as_secs(), 60);
        lag.writing = None;
        assert_eq!(lag.age(30, at(100)).as_secs(), 30);
    }

    #[test]
    fn a_log_that_gives_nothing_makes_its_end_grow_old() {
        let seen = Instant::now().checked_sub(Duration::from_secs(7)).expect("long enough up");
        let mut lag = Lag { done: Some(10), unreached: Some((20, seen)), ..Lag::default() };
        assert_eq!(lag.age(25, at(0)).as_secs(), 7);
        // Past that end, there is a new one to reach.
        lag.done = Some(21);
        assert_eq!(lag.age(25, at(0)).as_secs(), 0);
    }
}
