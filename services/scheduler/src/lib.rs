//! The scheduler: an alarm clock that knows no rules. It knows when each account wants to be woken, and wakes it with
//! AdvanceTime. The account decides what is due then.
//!
//! - Wake-ups come from two sources: from the read models' agenda, which is what commits said, and from the answers to
//!   AdvanceTime, which appends nothing where nothing is due. Both are kept in `saldo.wakeups` ([`wakeups`]). The higher
//!   (account version, catalog version) wins.
//! - An account is also woken if its creditor has published something since it was decided, at a limited rate ([`stale`]).
//! - One scheduler works at a time. The others wait for its lock, and take the lock from one that has fallen silent
//!   ([`leader`]). Two at once would be harmless, since AdvanceTime may be asked any number of times.
//!
//! Nothing but punctuality depends on the scheduler. The injected clock says what is due. Pauses and rates run in real time.

mod alarm;
mod in_flight;
mod leader;
mod metrics;
mod stale;
mod wake;
pub mod wakeups;

use std::{convert::Infallible, num::NonZeroU32, time::Duration};

use saldo_catalog::Catalog;
use saldo_client::ServiceClients;
use saldo_clock::Clock;
use saldo_outage::Outage;
use sqlx::PgPool;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How much the scheduler does at once.
#[derive(Debug, Clone)]
pub struct Options {
    /// Accounts woken at the same time.
    pub concurrency: usize,
    /// Accounts woken per second because their creditor has published something since.
    pub rewake_per_second: NonZeroU32,
    /// The pause between two looks while nothing is due.
    pub poll: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let rewake_per_second = NonZeroU32::MIN.saturating_add(499);
        Self { concurrency: 128, rewake_per_second, poll: Duration::from_millis(200) }
    }
}

/// Why the scheduler paused.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// The database failed.
    #[error("the scheduler's database: {0}")]
    Database(sqlx::Error),
    /// The read models have no agenda as this release reads it.
    #[error(
        "the read models' agenda is missing or of an earlier release: accounts are woken once a projector of this release has made it ({0})"
    )]
    NoAgenda(sqlx::Error),
    /// The command service refuses the scheduler itself, whatever the account.
    #[error(
        "the command service refuses the scheduler itself ({code}, {reason:?}): is the public key of its tokens among auth.service_public_keys there?"
    )]
    Refused {
        /// The status code.
        code: String,
        /// The reason, where the service gave one.
        reason: String,
    },
    /// A defect of ours.
    #[error("waking an account broke off: {0}")]
    BrokeOff(#[from] tokio::task::JoinError),
}

impl From<sqlx::Error> for SchedulerError {
    fn from(error: sqlx::Error) -> Self {
        /// SQLSTATE of a table and of a column that is not there.
        const NOT_THERE: [&str; 2] = ["42P01", "42703"];
        let code = error.as_database_error().and_then(|error| error.code());
        match code.is_some_and(|code| NOT_THERE.contains(&&*code)) {
            true => Self::NoAgenda(error),
            false => Self::Database(error),
        }
    }
}

/// Runs until `cancel`. Trouble with Postgres and the command service is waited out.
///
/// Metrics go to the global meter provider that is set when this is called.
pub async fn run(
    pool: PgPool,
    catalog: Catalog,
    clients: ServiceClients,
    clock: Clock,
    options: Options,
    cancel: CancellationToken,
) -> Result<(), Infallible> {
    let scheduler = alarm::Scheduler { pool, catalog, clients, clock, options };
    let outage = Outage::new("the scheduler goes on when it can", "the scheduler goes on");
    let mut pause = FIRST_PAUSE;
    saldo_telemetry::interrupted(0);
    loop {
        let outcome = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            outcome = alarm::follow(&scheduler, &mut pause, &outage) => outcome,
        };
        let Err(error) = outcome;
        outage.failed(error);
        saldo_telemetry::interrupted(1);
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
