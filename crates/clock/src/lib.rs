//! The clock that decisions are stamped with, passed in so that it can be another one; and moments, which no clock's
//! setting moves.

mod moment;

use std::{fmt, sync::Arc};

use jiff::Timestamp;

pub use moment::Moment;

/// Tells the instant of a decision.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    system: bool,
}

impl Clock {
    /// The machine's clock.
    #[allow(clippy::disallowed_methods, reason = "the one place where the system clock enters decisions")]
    pub fn system() -> Self {
        Self { now: Arc::new(Timestamp::now), system: true }
    }

    /// Any other clock.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), system: false }
    }

    /// The present instant, to the microsecond: Postgres keeps no more, and an instant must be the same in log and rows.
    pub fn now(&self) -> Timestamp {
        let now = (self.now)();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    /// Whether it means to tell the real time, so that it can be wrong.
    pub fn is_system(&self) -> bool {
        self.system
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
