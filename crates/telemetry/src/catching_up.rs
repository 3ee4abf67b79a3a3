//! The lines of a process while it reads the records that were written before it started.

use std::time::{Duration, Instant};

use opentelemetry::{KeyValue, global, metrics::Gauge};

/// Between two lines of progress.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// A reader on its way to an end that it knows.
#[derive(Debug)]
pub struct CatchingUp {
    part: &'static str,
    left: Gauge<u64>,
    begun: Instant,
    from: u64,
    said: Instant,
}

impl CatchingUp {
    /// This part of the process begins to read from here.
    pub fn begin(part: &'static str, from: u64, total: u64) -> Self {
        let left = global::meter("saldo")
            .u64_gauge("saldo.catching_up")
            .with_description("Records of the log that a part has still to read before it is ready; 0 once it is")
            .with_unit("{record}")
            .build();
        let now = Instant::now();
        let this = Self { part, left, begun: now, from, said: now };
        this.measure(total.saturating_sub(from));
        this
    }

    /// It stands here.
    pub fn at(&mut self, done: u64, total: u64) {
        self.measure(total.saturating_sub(done));
        let now = Instant::now();
        if now.duration_since(self.said) < SAY_EVERY {
            return;
        }
        self.said = now;
        let Pace { per_second, seconds_left } =
            Pace::of(done.saturating_sub(self.from), total.saturating_sub(done), now - self.begun);
        tracing::info!(part = self.part, done, total, per_second, seconds_left, "catching up with the log");
    }

    /// It has reached the end.
    pub fn end(self, done: u64) {
        let records = done.saturating_sub(self.from);
        tracing::info!(part = self.part, records, seconds = self.begun.elapsed().as_secs(), "caught up with the log");
    }

    fn measure(&self, left: u64) {
        self.left.record(left, &[KeyValue::new("part", self.part)]);
    }
}

impl Drop for CatchingUp {
    fn drop(&mut self) {
        self.measure(0);
    }
}

/// How fast it goes.
#[derive(Debug, PartialEq, Eq)]
struct Pace {
    per_second: u64,
    /// As far as can be said.
    seconds_left: Option<u64>,
}

impl Pace {
    fn of(read: u64, left: u64, time: Duration) -> Self {
        let per_second = (u128::from(read) * 1_000 / time.as_millis().max(1)) as u64;
        Self { per_second, seconds_left: left.checked_div(per_second) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o7_progress_has_a_rate_and_a_remaining_time() {
        let pace = Pace::of(240_000, 480_000, Duration::from_secs(5));
        assert_eq!(pace, Pace { per_second: 48_000, seconds_left: Some(10) });
        assert_eq!(Pace::of(0, 480_000, Duration::from_secs(5)).seconds_left, None);
    }
}
