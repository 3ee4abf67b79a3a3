//! Whether this instance's clock may decide. All instances share one clock, the log's append time, and it is the one that
//! is believed: an instance that is beyond [`TOLERANCE`] of it decides nothing until it is right again.
//!
//! A record of our own says most: the log took it after we handed it over and before we read it back, both by our clock.
//! Any record says that our clock is behind if the log took it in what we hold for the future. At the start, and while the
//! clock is wrong, a probe is appended: a record that is no frame, so that it is void to every reader.
//!
//! What a record shows holds until the clock is set. So the last reading that was shown to be right is kept with the moment
//! it was taken at: where the clock has gone another way than time since, it was set, and nothing is decided until it is
//! shown anew.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use saldo_clock::{Clock, Moment};
use saldo_log::{Log, NewRecord, Record, frame::PROBE_KEY};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::{failure::Failure, report::Report};

/// How far the log's clock and ours may be apart.
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);
/// Between two probes, while the clock is not known to be right.
pub const PROBE_EVERY: Duration = Duration::from_secs(5);
/// The longest a start waits for the first probe.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// What is known of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet; the log is still being read.
    Unknown,
    /// To be found out, now that a probe is read back at once; or again, since the clock was set.
    Asked,
    /// It may decide.
    Right,
    /// It may not.
    Wrong(Skew),
}

/// How wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// How far the log's clock is surely ahead of ours; negative where it is behind.
    pub ahead: SignedDuration,
    /// The partition that showed it; a broker's clock can be wrong too.
    pub partition: u32,
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.ahead.is_positive() { "behind" } else { "ahead of" };
        write!(f, "at least {:#} {side} the log's", self.ahead.abs())
    }
}

/// By how much the log's clock is ahead of ours, at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ahead {
    least: SignedDuration,
    most: SignedDuration,
}

impl Ahead {
    /// What a record of our own shows that was handed over after the one and read by the other instant of our clock.
    fn of_own(after: Timestamp, appended_at: Timestamp, by: Timestamp) -> Self {
        Self { least: appended_at.duration_since(by), most: appended_at.duration_since(after) }
    }

    /// What any record shows that was read by then.
    fn of_any(appended_at: Timestamp, by: Timestamp) -> Self {
        Self { least: appended_at.duration_since(by), most: SignedDuration::MAX }
    }

    /// What is sure whatever happened in between.
    fn surely(self) -> SignedDuration {
        if self.least.is_positive() {
            self.least
        } else if self.most.is_negative() {
            self.most
        } else {
            SignedDuration::ZERO
        }
    }

    /// A clock that was found wrong is right again only when it is shown to be; one that was not is right until then.
    fn judge(self, partition: u32, standing: Standing) -> Standing {
        let ahead = self.surely();
        if ahead.abs() > TOLERANCE {
            return Standing::Wrong(Skew { ahead, partition });
        }
        let shown = self.least >= -TOLERANCE && self.most <= TOLERANCE;
        match standing {
            Standing::Wrong(_) if !shown => standing,
            Standing::Unknown | Standing::Asked if self.most == SignedDuration::MAX => standing,
            _ => Standing::Right,
        }
    }
}

/// What the clock showed, and at which moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// By the clock of decisions.
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

struct Probe {
    value: Bytes,
    after: Reading,
}

/// Collects what records show. Under another clock than the system's there is nothing to find out.
pub struct ClockCheck {
    clock: Clock,
    standing: watch::Sender<Standing>,
    probe: Mutex<Option<Probe>>,
    /// The last reading that the log's clock agreed with.
    right: Mutex<Option<Reading>>,
    report: Report,
}

impl ClockCheck {
    pub(crate) fn new(clock: Clock, report: Report) -> Self {
        let standing = if clock.is_system() { Standing::Unknown } else { Standing::Right };
        Self { clock, standing: watch::channel(standing).0, probe: Mutex::default(), right: Mutex::default(), report }
    }

    /// What is known, and what comes to be known.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Reads the clock, if anything may be decided by it.
    pub(crate) fn read_clock(&self) -> Result<Reading, Failure> {
        let now = Reading::of(&self.clock);
        // A record that was decided before the clock was set may just now have shown it to be right.
        let was_set = self.was_set(now);
        match *self.standing.borrow() {
            Standing::Right if !was_set => Ok(now),
            Standing::Right | Standing::Unknown | Standing::Asked => Err(Failure::ClockUnknown),
            Standing::Wrong(skew) => Err(Failure::ClockSkewed(skew)),
        }
    }

    /// Whether the clock was set since it was right: then it is to be found out about again.
    fn was_set(&self, now: Reading) -> bool {
        let Some(right) = *self.right.lock().unwrap_or_else(PoisonError::into_inner) else { return false };
        let set = now.set_since(right);
        if set.abs() <= TOLERANCE {
            return false;
        }
        self.standing.send_if_modified(|standing| {
            let was_right = *standing == Standing::Right;
            if was_right {
                warn!(
                    by_seconds = set.as_secs(),
                    "this machine's clock was set: nothing is decided until it is known to be right"
                );
                *standing = Standing::Asked;
            }
            was_right
        });
        true
    }

    /// The tail has come to the log's end: from here on a probe is read back at once. Waits for what it shows, or until it
    /// is to be found out later, since the log takes nothing.
    pub(crate) async fn find_out(&self) {
        self.standing.send_if_modified(|standing| {
            let unknown = *standing == Standing::Unknown;
            if unknown {
                *standing = Standing::Asked;
            }
            unknown
        });
        let mut standing = self.standing();
        let found_out = standing.wait_for(|standing| matches!(standing, Standing::Right | Standing::Wrong(_)));
        if tokio::time::timeout(FIRST_ANSWER, found_out).await.is_err() {
            warn!("the log does not say what time it is: nothing is decided until it does");
        }
    }

    /// A record of ours was read back that was handed over after that reading.
    pub(crate) fn read_own(&self, after: Reading, record: &Record) {
        if !self.clock.is_system() {
            return;
        }
        self.take_in(record.partition, Ahead::of_own(after.instant, record.appended_at, self.clock.now()));
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        // The reading that was taken before is the one that was shown to be right: the clock may have been set since.
        if *self.standing.borrow() == Standing::Right && right.is_none_or(|right| right.moment < after.moment) {
            *right = Some(after);
        }
    }

    /// Records were read.
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
        if shown.most < SignedDuration::MAX {
            self.report.skew(shown.surely());
        }
        self.standing.send_if_modified(|standing| {
            let before = std::mem::replace(standing, shown.judge(partition, *standing));
            match (before, *standing) {
                (Standing::Wrong(_), Standing::Wrong(_)) => {}
                (_, Standing::Wrong(skew)) => error!(
                    partition,
                    ahead_seconds = skew.ahead.as_secs(),
                    "this machine's clock is {skew}: nothing is decided until it is right"
                ),
                (Standing::Wrong(_), _) => info!("this machine's clock agrees with the log's again"),
                _ => {}
            }
            before != *standing
        });
    }

    /// Appends probes whenever the clock is not known to be right. Runs for ever.
    pub(crate) async fn probe(self: Arc<Self>, log: Arc<dyn Log>) {
        let mut standing = self.standing();
        let right = |standing: &Standing| *standing == Standing::Right;
        loop {
            let asked = standing.wait_for(|standing| matches!(standing, Standing::Asked | Standing::Wrong(_))).await;
            let partition = match asked.map(|standing| *standing) {
                Ok(Standing::Wrong(skew)) => skew.partition,
                Ok(_) => 0,
                Err(_) => return,
            };
            if let Err(why) = self.append_probe(log.as_ref(), partition).await {
                warn!(why, "the log's clock could not be asked; it is asked again");
            }
            // One that is not read back in time shows little.
            let _ = tokio::time::timeout(PROBE_EVERY, standing.wait_for(right)).await;
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

    fn wrong(ahead: i64) -> Standing {
        Standing::Wrong(Skew { ahead: seconds(ahead), partition: 3 })
    }

    /// Handed over and read back by our clock, appended by the log's.
    fn own(after: i64, appended_at: i64, by: i64, standing: Standing) -> Standing {
        Ahead::of_own(at(after), at(appended_at), at(by)).judge(3, standing)
    }

    #[test]
    fn an_append_between_hand_over_and_read_back_shows_a_right_clock() {
        assert_eq!(own(100, 100, 101, Standing::Asked), Standing::Right);
        assert_eq!(own(100, 105, 101, Standing::Right), Standing::Right);
        assert_eq!(own(100, 96, 101, Standing::Right), Standing::Right);
    }

    #[test]
    fn a_clock_beyond_the_tolerance_is_wrong_by_what_is_sure() {
        assert_eq!(own(100, 107, 101, Standing::Right), wrong(6));
        assert_eq!(own(100, 3_700, 101, Standing::Asked), wrong(3_599));
        assert_eq!(own(100, 94, 101, Standing::Right), wrong(-6));
    }

    #[test]
    fn a_slow_log_is_no_wrong_clock() {
        assert_eq!(own(100, 190, 200, Standing::Right), Standing::Right);
        assert_eq!(own(100, 101, 200, Standing::Right), Standing::Right);
    }

    #[test]
    fn a_wrong_clock_is_right_again_only_when_it_is_shown() {
        assert_eq!(own(100, 150, 200, wrong(60)), wrong(60));
        assert_eq!(own(100, 100, 101, wrong(60)), Standing::Right);
    }

    #[test]
    fn a_record_from_the_future_shows_a_clock_that_is_behind_and_no_record_shows_more() {
        assert_eq!(Ahead::of_any(at(110), at(100)).judge(3, Standing::Right), wrong(10));
        for standing in [Standing::Unknown, Standing::Asked, Standing::Right, wrong(60)] {
            assert_eq!(Ahead::of_any(at(104), at(100)).judge(3, standing), standing);
            assert_eq!(Ahead::of_any(at(-9_000), at(100)).judge(3, standing), standing);
        }
    }

    #[test]
    fn it_is_said_in_words() {
        let Standing::Wrong(skew) = wrong(3_601) else { panic!() };
        assert_eq!(skew.to_string(), "at least 1h 1s behind the log's");
        let Standing::Wrong(skew) = wrong(-6) else { panic!() };
        assert_eq!(skew.to_string(), "at least 6s ahead of the log's");
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
        let check = ClockCheck::new(clock.clone(), Report::new());
        let show = |reading: Reading| check.read_own(reading, &appended(reading.instant));
        show(Reading::of(&clock));
        assert!(check.read_clock().is_ok());
        for forward in [seconds(3_600), seconds(-3_600)] {
            let now = Reading::of(&clock);
            let before = Reading { instant: now.instant - forward, ..now };
            *check.right.lock().expect("no panic") = Some(before);
            assert!(matches!(check.read_clock(), Err(Failure::ClockUnknown)));
            assert_eq!(*check.standing().borrow(), Standing::Asked);
            // What was decided before says nothing of the clock as it is now.
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
        let check = ClockCheck::new(clock.clone(), Report::new());
        for second in [0, 3_600, 60] {
            hand.store(second, std::sync::atomic::Ordering::Relaxed);
            check.read(&[appended(at(86_400))]);
            check.read_own(Reading::of(&clock), &appended(at(86_400)));
            assert!(check.read_clock().is_ok());
        }
    }
}
