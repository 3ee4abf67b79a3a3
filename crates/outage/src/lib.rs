//! The lines of a process about something that it needs and cannot reach: one when that begins, one when it ends, and one a
//! minute between them, however often it is tried.

use std::{
    fmt::Display,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Between two lines while it lasts.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// One thing that may be out of reach.
#[derive(Debug)]
pub struct Outage {
    begins: &'static str,
    ends: &'static str,
    /// Looked at on every success, without the lock.
    lasts: AtomicBool,
    since: Mutex<Option<Since>>,
}

#[derive(Debug)]
struct Since {
    began: Instant,
    said: Instant,
    failures: usize,
}

impl Outage {
    /// With the lines that say its beginning and its end.
    pub const fn new(begins: &'static str, ends: &'static str) -> Self {
        Self { begins, ends, lasts: AtomicBool::new(false), since: Mutex::new(None) }
    }

    /// It failed once more.
    pub fn failed(&self, error: impl Display) {
        self.failed_at(Instant::now(), 1, error);
    }

    /// So many things failed.
    pub fn failed_times(&self, failures: usize, error: impl Display) {
        self.failed_at(Instant::now(), failures, error);
    }

    /// It works.
    pub fn over(&self) {
        if self.lasts.load(Ordering::Acquire) {
            self.over_at(Instant::now());
        }
    }

    /// Whether it lasts.
    pub fn lasts(&self) -> bool {
        self.lasts.load(Ordering::Acquire)
    }

    /// Whether a line was said.
    fn failed_at(&self, now: Instant, failures: usize, error: impl Display) -> bool {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lasts) = since.as_mut() else {
            *since = Some(Since { began: now, said: now, failures });
            self.lasts.store(true, Ordering::Release);
            tracing::warn!(%error, "{}", self.begins);
            return true;
        };
        lasts.failures += failures;
        if now.duration_since(lasts.said) < SAY_EVERY {
            return false;
        }
        lasts.said = now;
        let (seconds, failures) = (now.duration_since(lasts.began).as_secs(), lasts.failures);
        tracing::warn!(%error, seconds, failures, "still: {}", self.begins);
        true
    }

    /// Whether a line was said.
    fn over_at(&self, now: Instant) -> bool {
        let ended = self.since.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.lasts.store(false, Ordering::Release);
        let Some(Since { began, failures, .. }) = ended else { return false };
        tracing::info!(after_seconds = now.duration_since(began).as_secs(), failures, "{}", self.ends);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o10_an_outage_is_said_when_it_begins_once_a_minute_and_when_it_ends() {
        let outage = Outage::new("the log is out of reach", "the log is in reach again");
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let fails = |seconds| outage.failed_at(after(seconds), 1, "connection refused");
        assert!(!outage.over_at(begin), "nothing was wrong");
        assert!(fails(0) && outage.lasts());
        assert!((1..60).all(|second| !fails(second)));
        assert!(fails(60) && !fails(61));
        assert!(outage.over_at(after(62)) && !outage.lasts());
        assert!(!outage.over_at(after(63)));
        assert!(fails(64), "another one");
    }
}
