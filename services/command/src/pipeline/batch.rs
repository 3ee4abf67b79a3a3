//! The chains that were appended together and are not read back yet. A worker has at most one batch in flight. Commands wait
//! in the queue meanwhile, so that every tenant is in the next batch.

use std::time::{Duration, Instant};

use super::clock_check::Reading;

/// The longest that a batch may be in flight. The log's client tries for less, so a batch that is out longer will not be
/// read back.
const LOST_AFTER: Duration = Duration::from_secs(60);

/// The batch in flight.
pub struct Batch {
    /// Accounts whose chain, when last looked at, was not read back.
    pub unresolved: Vec<Box<str>>,
    /// When it was handed to the log.
    pub appended_at: Instant,
    /// The clock that it was decided by.
    pub decided_at: Reading,
}

impl Batch {
    /// Nothing is in flight yet.
    pub fn none(clock: Reading) -> Self {
        Self { unresolved: Vec::new(), appended_at: Instant::now(), decided_at: clock }
    }

    pub fn is_resolved(&self) -> bool {
        self.unresolved.is_empty()
    }

    /// When the batch counts as lost, if it is still in flight then.
    pub fn lost_at(&self) -> Option<Instant> {
        (!self.is_resolved()).then(|| self.appended_at + LOST_AFTER)
    }

    pub fn is_lost(&self) -> bool {
        self.lost_at().is_some_and(|at| at <= Instant::now())
    }
}
