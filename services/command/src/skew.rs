//! The judgement on a clock: how far this machine's clock is from the log's, by what records show.
//!
//! All instances share one clock, the log's append time, and it is the one believed. A record of our own says most: the log
//! took it after we handed it over and before we read it back, both by our clock. Any other record says only that our clock
//! is behind, if the log took it in what we hold for the future. A slow log never looks like a wrong clock.

use std::{fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};

/// How far the log's clock and ours may be apart.
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);
/// Between two probes, while the clock is not known to be right. A request that is refused meanwhile is told to wait so long.
pub const PROBE_EVERY: Duration = Duration::from_secs(5);

/// The state of this machine's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockState {
    /// Nothing yet: the log is still being read.
    Unknown,
    /// A probe is under way, since the log is read to its end or since the clock was set.
    Asked,
    /// The clock may decide.
    Right,
    /// The clock may not decide.
    Wrong(Skew),
}

/// How wrong a clock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// How far the log's clock is surely ahead of ours; negative where it is behind.
    pub ahead: SignedDuration,
    /// The partition whose record showed the skew; a broker's clock can be wrong too.
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
pub(crate) struct Ahead {
    least: SignedDuration,
    most: SignedDuration,
}

impl Ahead {
    /// The evidence of a record of our own. By our clock it was handed over after the one instant and read by the other.
    pub fn of_own(after: Timestamp, appended_at: Timestamp, by: Timestamp) -> Self {
        Self { least: appended_at.duration_since(by), most: appended_at.duration_since(after) }
    }

    /// The evidence of any record that was read by then.
    pub fn of_any(appended_at: Timestamp, by: Timestamp) -> Self {
        Self { least: appended_at.duration_since(by), most: SignedDuration::MAX }
    }

    /// Whether it says how far ahead the log's clock is at most.
    pub fn is_bounded(self) -> bool {
        self.most < SignedDuration::MAX
    }

    /// The part that is sure, whatever happened in between.
    pub fn surely(self) -> SignedDuration {
        if self.least.is_positive() {
            self.least
        } else if self.most.is_negative() {
            self.most
        } else {
            SignedDuration::ZERO
        }
    }

    /// A clock that was found wrong is right again only when a record shows it. A clock that was never found wrong counts
    /// as right until then.
    pub fn judge(self, partition: u32, state: ClockState) -> ClockState {
        let ahead = self.surely();
        if ahead.abs() > TOLERANCE {
            return ClockState::Wrong(Skew { ahead, partition });
        }
        let shown = self.least >= -TOLERANCE && self.most <= TOLERANCE;
        match state {
            ClockState::Wrong(_) if !shown => state,
            ClockState::Unknown | ClockState::Asked if !self.is_bounded() => state,
            _ => ClockState::Right,
        }
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

    fn wrong(ahead: i64) -> ClockState {
        ClockState::Wrong(Skew { ahead: seconds(ahead), partition: 3 })
    }

    /// Handed over and read back by our clock, appended by the log's.
    fn own(after: i64, appended_at: i64, by: i64, state: ClockState) -> ClockState {
        Ahead::of_own(at(after), at(appended_at), at(by)).judge(3, state)
    }

    #[test]
    fn an_append_between_hand_over_and_read_back_shows_a_right_clock() {
        assert_eq!(own(100, 100, 101, ClockState::Asked), ClockState::Right);
        assert_eq!(own(100, 105, 101, ClockState::Right), ClockState::Right);
        assert_eq!(own(100, 96, 101, ClockState::Right), ClockState::Right);
    }

    #[test]
    fn a_clock_beyond_the_tolerance_is_wrong_by_what_is_sure() {
        assert_eq!(own(100, 107, 101, ClockState::Right), wrong(6));
        assert_eq!(own(100, 3_700, 101, ClockState::Asked), wrong(3_599));
        assert_eq!(own(100, 94, 101, ClockState::Right), wrong(-6));
    }

    #[test]
    fn a_slow_log_is_no_wrong_clock() {
        assert_eq!(own(100, 190, 200, ClockState::Right), ClockState::Right);
        assert_eq!(own(100, 101, 200, ClockState::Right), ClockState::Right);
    }

    #[test]
    fn a_wrong_clock_is_right_again_only_when_it_is_shown() {
        assert_eq!(own(100, 150, 200, wrong(60)), wrong(60));
        assert_eq!(own(100, 100, 101, wrong(60)), ClockState::Right);
    }

    #[test]
    fn a_record_from_the_future_shows_a_clock_that_is_behind_and_no_record_shows_more() {
        assert_eq!(Ahead::of_any(at(110), at(100)).judge(3, ClockState::Right), wrong(10));
        for state in [ClockState::Unknown, ClockState::Asked, ClockState::Right, wrong(60)] {
            assert_eq!(Ahead::of_any(at(104), at(100)).judge(3, state), state);
            assert_eq!(Ahead::of_any(at(-9_000), at(100)).judge(3, state), state);
        }
    }

    #[test]
    fn it_is_said_in_words() {
        let ClockState::Wrong(skew) = wrong(3_601) else { panic!() };
        assert_eq!(skew.to_string(), "at least 1h 1s behind the log's");
        let ClockState::Wrong(skew) = wrong(-6) else { panic!() };
        assert_eq!(skew.to_string(), "at least 6s ahead of the log's");
    }
}
