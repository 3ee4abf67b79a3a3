//! Whether this instance's clock may decide. An instance whose clock is further than [`TOLERANCE`] from the log's decides
//! nothing until the clock is right again.
//!
//! At the start, and while the clock is wrong, a probe is appended: a record that is no frame, so that it is void to every
//! reader.
//!
//! The clock may be set after a record showed it to be right. So the last reading that was shown to be right is kept with the moment
//! at which it was taken. Where the clock has gone another way than time since, the clock was set, and nothing is decided
//! until a probe is read back.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use saldo_clock::{Clock, Moment};
use saldo_log::{Log, NewRecord, Record, frame::PROBE_KEY};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::{
    failure::Failure,
    metrics::CommandMetrics,
    skew::{Ahead, ClockState, PROBE_EVERY, TOLERANCE},
};

/// The longest a start waits for the first probe.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// The time that the clock showed, and the moment at which it was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// The instant by the clock of decisions.
    pub instant: Timestamp,
    moment: Moment,
}

impl Reading {
    pub(crate) fn of(clock: &Clock) -> Self {
        Self { instant: clock.now(), moment: Moment::now() }
    }

    /// How far the clock was set forward between an earlier reading and this one; negative where it was set back.
    fn set_since(self, earlier: Self) -> SignedDuration {
        let passed = SignedDuration::try_from(self.moment.since(earlier.moment)).unwrap_or(SignedDuration::MAX);
        self.instant.duration_since(earlier.instant).saturating_sub(passed)
    }
}

/// A record that asks the log for the time.
struct Probe {
    value: Bytes,
    after: Reading,
}

/// Collects what records show of the clock. A clock that is not the system's is never judged.
pub struct ClockCheck {
    clock: Clock,
    state: watch::Sender<ClockState>,
    probe: Mutex<Option<Probe>>,
    /// The last reading that the log's clock agreed with.
    right: Mutex<Option<Reading>>,
    metrics: CommandMetrics,
}

impl ClockCheck {
    pub(crate) fn new(clock: Clock, metrics: CommandMetrics) -> Self {
        let state = if clock.is_system() { ClockState::Unknown } else { ClockState::Right };
        Self { clock, state: watch::channel(state).0, probe: Mutex::default(), right: Mutex::default(), metrics }
    }

    /// The state of the clock, and how it changes.
    pub(crate) fn state(&self) -> watch::Receiver<ClockState> {
        self.state.subscribe()
    }

    /// Reads the clock. Fails while nothing may be decided by it.
    pub(crate) fn read_clock(&self) -> Result<Reading, Failure> {
        let now = Reading::of(&self.clock);
        // A record that was decided before the clock was set may just now have shown it to be right.
        let was_set = self.was_set(now);
        match *self.state.borrow() {
            ClockState::Right if !was_set => Ok(now),
            ClockState::Right | ClockState::Unknown | ClockState::Asked => Err(Failure::ClockUnknown),
            ClockState::Wrong(skew) => Err(Failure::ClockSkewed(skew)),
        }
    }

    /// Whether the clock was set since it was last right. Then nothing is decided until it is shown to be right again.
    fn was_set(&self, now: Reading) -> bool {
        let Some(right) = *self.right.lock().unwrap_or_else(PoisonError::into_inner) else { return false };
        let set = now.set_since(right);
        if set.abs() <= TOLERANCE {
            return false;
        }
        self.state.send_if_modified(|state| {
            let was_right = *state == ClockState::Right;
            if was_right {
                warn!(
                    by_seconds = set.as_secs(),
                    "this machine's clock was set: nothing is decided until it is known to be right"
                );
                *state = ClockState::Asked;
            }
            was_right
        });
        true
    }

    /// Starts probing, since the tail has come to the log's end and a probe is read back at once. Waits for the result, but
    /// not for ever: the log may take nothing just now.
    pub(crate) async fn find_out(&self) {
        self.state.send_if_modified(|state| {
            let unknown = *state == ClockState::Unknown;
            if unknown {
                *state = ClockState::Asked;
            }
            unknown
        });
        let mut state = self.state();
        let found_out = state.wait_for(|state| matches!(state, ClockState::Right | ClockState::Wrong(_)));
        if tokio::time::timeout(FIRST_ANSWER, found_out).await.is_err() {
            warn!("the log does not say what time it is: nothing is decided until it does");
        }
    }

    /// Judges by a record of our own, which was handed over after that reading.
    pub(crate) fn read_own(&self, after: Reading, record: &Record) {
        if !self.clock.is_system() {
            return;
        }
        self.take_in(record.partition, Ahead::of_own(after.instant, record.appended_at, self.clock.now()));
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        // The earlier reading is the one that was shown to be right: the clock may have been set since.
        if *self.state.borrow() == ClockState::Right && right.is_none_or(|right| right.moment < after.moment) {
            *right = Some(after);
        }
    }

    /// Judges by records of anybody.
    pub(crate) fn read(&self, records: &[Record]) {
        if !self.clock.is_system() {
            return;
        }
        let now = self.clock.now();
        if let Some(newest) = records.iter().max_by_key(|record| record.appended_at) {
            self.take_in(newest.partition, Ahead::of_any(newest.appended_at, now));
        }
        for record in records.iter().filter(|record| record.key == PROBE_KEY) {
            let mut probe = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(own) = probe.take_if(|probe| probe.value == record.value) {
                self.read_own(own.after, record);
            }
        }
    }

    fn take_in(&self, partition: u32, shown: Ahead) {
        if shown.is_bounded() {
            self.metrics.skew(shown.surely());
        }
        self.state.send_if_modified(|state| {
            let before = std::mem::replace(state, shown.judge(partition, *state));
            match (before, *state) {
                (ClockState::Wrong(_), ClockState::Wrong(_)) => {}
                (_, ClockState::Wrong(skew)) => error!(
                    partition,
                    ahead_seconds = skew.ahead.as_secs(),
                    "this machine's clock is {skew}: nothing is decided until it is right"
                ),
                (ClockState::Wrong(_), _) => info!("this machine's clock agrees with the log's again"),
                _ => {}
            }
            before != *state
        });
    }

    /// Appends probes whenever the clock is not known to be right. Runs for ever.
    pub(crate) async fn probe(self: Arc<Self>, log: Arc<dyn Log>) {
        let mut state = self.state();
        let right = |state: &ClockState| *state == ClockState::Right;
        loop {
            let asked = state.wait_for(|state| matches!(state, ClockState::Asked | ClockState::Wrong(_))).await;
            let partition = match asked.map(|state| *state) {
                Ok(ClockState::Wrong(skew)) => skew.partition,
                Ok(_) => 0,
                Err(_) => return,
            };
            if let Err(why) = self.append_probe(log.as_ref(), partition).await {
                warn!(why, "the log's clock could not be asked; it is asked again");
            }
            // A probe that is not read back in time shows little.
            let _ = tokio::time::timeout(PROBE_EVERY, state.wait_for(right)).await;
        }
    }

    async fn append_probe(&self, log: &dyn Log, partition: u32) -> Result<(), String> {
        let mut nonce = [0u8; 16];
        getrandom::fill(&mut nonce).map_err(|error| error.to_string())?;
        let value: Bytes = [&b"what time is it? "[..], &nonce].concat().into();
        let after = Reading::of(&self.clock);
        *self.probe.lock().unwrap_or_else(PoisonError::into_inner) = Some(Probe { value: value.clone(), after });
        let key = Bytes::from_static(PROBE_KEY.as_bytes());
        log.append(vec![NewRecord { partition, key, value, trace: None }]).await.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many seconds into the day.
    fn at(second: i64) -> Timestamp {
        Timestamp::constant(1_780_000_000 + second, 0)
    }

    fn seconds(count: i64) -> SignedDuration {
        SignedDuration::from_secs(count)
    }

    fn appended(appended_at: Timestamp) -> Record {
        Record {
            partition: 0,
            offset: 1,
            key: Bytes::from_static(b"acme/D-1"),
            value: Bytes::new(),
            appended_at,
            trace: None,
        }
    }

    #[test]
    fn a_clock_that_is_set_decides_nothing_until_it_is_shown_to_be_right() {
        let clock = Clock::system();
        let check = ClockCheck::new(clock.clone(), CommandMetrics::new());
        let show = |reading: Reading| check.read_own(reading, &appended(reading.instant));
        show(Reading::of(&clock));
        assert!(check.read_clock().is_ok());
        for forward in [seconds(3_600), seconds(-3_600)] {
            let now = Reading::of(&clock);
            let before = Reading { instant: now.instant - forward, ..now };
            *check.right.lock().expect("no panic") = Some(before);
            assert!(matches!(check.read_clock(), Err(Failure::ClockUnknown)));
            assert_eq!(*check.state().borrow(), ClockState::Asked);
            // A decision from before says nothing of the clock as it is now.
            show(before);
            assert!(check.read_clock().is_err());
            show(Reading::of(&clock));
            assert!(check.read_clock().is_ok());
        }
    }

    #[test]
    fn how_far_a_clock_was_set_is_what_time_does_not_explain() {
        let before = Reading { instant: at(0), moment: Moment::now() };
        let set =
            |second| Reading { instant: at(second), moment: before.moment + Duration::from_secs(60) }.set_since(before);
        assert_eq!([60, 3_660, 0].map(set), [seconds(0), seconds(3_600), seconds(-60)]);
    }

    #[test]
    fn another_clock_than_the_systems_is_never_wrong() {
        let hand = Arc::new(std::sync::atomic::AtomicI64::new(0));
        let moved = hand.clone();
        let clock = Clock::from_fn(move || at(moved.load(std::sync::atomic::Ordering::Relaxed)));
        let check = ClockCheck::new(clock.clone(), CommandMetrics::new());
        for second in [0, 3_600, 60] {
            hand.store(second, std::sync::atomic::Ordering::Relaxed);
            check.read(&[appended(at(86_400))]);
            check.read_own(Reading::of(&clock), &appended(at(86_400)));
            assert!(check.read_clock().is_ok());
        }
    }
}
