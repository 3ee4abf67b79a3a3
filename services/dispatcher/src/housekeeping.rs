//! The dispatcher's work beside deliveries: counting reminders that wait, and removing old leases.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::{Dispatcher, DispatcherError, backoff::Backoff, leases, metrics::Metrics};

/// Between two counts of the reminders that are due.
const COUNT_DUE: Duration = Duration::from_secs(3);
/// Between two counts of the unknown outcomes, which people see to.
const COUNT_UNKNOWN: Duration = Duration::from_secs(15);
/// Between two removals of old leases.
const TIDY: Duration = Duration::from_secs(60);

/// Runs until the stop.
pub(crate) async fn run(
    dispatcher: &Dispatcher,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<(), DispatcherError> {
    let Dispatcher { pool, clock, .. } = dispatcher;
    let every = |from: Duration, period| {
        let mut ticks = interval_at(Instant::now() + from, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let mut due = every(Duration::ZERO, COUNT_DUE);
    let mut unknown = every(Duration::ZERO, COUNT_UNKNOWN);
    let mut tidy = every(TIDY, TIDY);
    let mut backoff = Backoff::default();
    loop {
        let done: Result<(), sqlx::Error> = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = due.tick() => async {
                let waiting = leases::waiting(pool, clock.now()).await?;
                metrics.waiting(&waiting, &dispatcher.transports);
                Ok(())
            }.await,
            _ = unknown.tick() => async {
                metrics.unknown(leases::unknown(pool).await?);
                Ok(())
            }.await,
            _ = tidy.tick() => leases::remove_old(pool).await,
        };
        match done {
            Ok(()) => backoff.reset(),
            Err(error) => backoff.wait(error.into(), stop).await?,
        }
    }
}
