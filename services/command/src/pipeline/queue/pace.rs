//! How long batches take, and so how long a request will wait.

use std::time::{Duration, Instant};

use super::BATCH;

/// The newest batch counts for one part in so many of the usual time.
const WEIGHT: u32 = 8;

/// How long batches take, from being handed to the log until they are read back.
#[derive(Debug, Default)]
pub struct Pace {
    usual: Duration,
    since: Option<Instant>,
}

impl Pace {
    pub fn begin(&mut self, now: Instant) {
        self.since = Some(now);
    }

    pub fn end(&mut self, now: Instant) {
        let Some(since) = self.since.take() else { return };
        let took = now.duration_since(since);
        self.usual = if self.usual.is_zero() { took } else { (self.usual * (WEIGHT - 1) + took) / WEIGHT };
    }

    /// How long a request waits for its answer that has so many before it. A batch that takes longer than usual says how
    /// long the next one will take.
    pub fn wait(&self, before: usize, now: Instant) -> Duration {
        let Some(since) = self.since else { return self.usual * (before / BATCH) as u32 };
        self.usual.max(now.duration_since(since)) * (before / BATCH + 2) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_time_follows_slowly() {
        let now = Instant::now();
        let mut pace = Pace::default();
        for (took, usual) in [(80, 80), (160, 90), (10, 80)] {
            pace.begin(now);
            pace.end(now + Duration::from_millis(took));
            assert_eq!(pace.usual, Duration::from_millis(usual));
        }
    }
}
