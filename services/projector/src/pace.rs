//! Reading no faster than at a given rate.

use std::{num::NonZeroU32, time::Duration};

use saldo_log::{LogError, Record, Tail};
use tokio::time::{Instant, sleep_until};

use crate::live::READ;

/// The rate, and how far reading has come.
pub struct Pace {
    per_second: NonZeroU32,
    begun: Instant,
    read: u64,
}

impl Pace {
    pub fn new(per_second: NonZeroU32) -> Self {
        Self { per_second, begun: Instant::now(), read: 0 }
    }

    /// How many may be read at once: a tenth of a second's, at most.
    fn most(&self) -> usize {
        (self.per_second.get() as usize / 10).clamp(1, READ)
    }

    /// When the next may be read.
    fn due(&self) -> Instant {
        self.begun + Duration::from_micros(self.read * 1_000_000 / u64::from(self.per_second.get()))
    }
}

/// Reads the next records, as soon as the rate allows.
pub async fn paced(pace: Option<&mut Pace>, tail: &mut dyn Tail) -> Result<Vec<Record>, LogError> {
    let Some(pace) = pace else { return tail.next(READ).await };
    sleep_until(pace.due()).await;
    let records = tail.next(pace.most()).await?;
    pace.read += records.len() as u64;
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_spreads_the_reading() {
        let mut pace = Pace::new(NonZeroU32::MIN.saturating_add(499));
        assert_eq!(pace.most(), 50);
        pace.read = 250;
        assert_eq!(pace.due() - pace.begun, Duration::from_millis(500));
    }
}
