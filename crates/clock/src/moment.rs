//! How long ago something was, whatever anybody does to the machine's clock.

use std::{ops::Add, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// The one that goes on while the machine sleeps, which [`std::time::Instant`]'s does not.
#[cfg(target_os = "linux")]
const UNSET: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const UNSET: ClockId = ClockId::Monotonic;

/// A moment by a clock that nobody sets. It says nothing of the day, and nothing to another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// This one.
    pub fn now() -> Self {
        let read = clock_gettime(UNSET);
        Self(Duration::new(read.tv_sec.unsigned_abs(), read.tv_nsec.unsigned_abs() as u32))
    }

    /// How long it is after an earlier one; nothing where that is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_follow_each_other() {
        let (first, hour) = (Moment::now(), Duration::from_secs(3_600));
        assert!(first <= Moment::now() && Moment::now() < first + hour);
        assert_eq!((first + hour).since(first), hour);
        assert_eq!(first.since(first + hour), Duration::ZERO);
    }
}
