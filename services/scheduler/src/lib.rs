//! The scheduler: a dumb alarm clock. It knows when each account wants to be woken, and wakes it with AdvanceTime; what
//! is due then, the account decides.
//!
//! - Wake-ups come from the read models' agenda (what commits said) and from the answers to AdvanceTime, which appends
//!   nothing where nothing is due. Both are kept in `saldo.wakeups`; the higher (account version, catalog version) wins.
//! - Accounts that were decided under an older catalog than their creditor's are woken too, gently.
//! - One scheduler works at a time; others wait for its lock, and take it from one that has fallen silent ([`sole`]). Two
//!   would be harmless: AdvanceTime may be asked any number of times.
//!
//! Nothing rests on it but punctuality. Due is what the injected clock says; pauses and rates are real time.

mod alarm;
mod behind;
mod report;
mod sole;
mod table;
mod under_way;
mod wake;

use std::{convert::Infallible, num::NonZeroU32, time::Duration};

use saldo_catalog::Catalog;
use saldo_client::ServiceClients;
use saldo_clock::Clock;
use sqlx::PgPool;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How much the scheduler does at once.
#[derive(Debug, Clone)]
pub struct Options {
    /// Accounts woken at the same time.
    pub concurrency: usize,
    /// Accounts a second woken because their creditor has published something since.
    pub rewake_per_second: NonZeroU32,
    /// Between two looks while nothing is due.
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
    /// Its database.
    #[error("the scheduler's database: {0}")]
    Database(#[from] sqlx::Error),
    /// The command service will not be asked by us, whatever the account.
    #[error(
        "the command service refuses the scheduler itself ({code}, {reason:?}): is the public key of its tokens among auth.public_keys there?"
    )]
    Refused {
        /// The status code.
        code: String,
        /// The reason, where it gave one.
        reason: String,
    },
    /// A defect of ours.
    #[error("waking an account broke off: {0}")]
    BrokeOff(#[from] tokio::task::JoinError),
}

/// Runs until `cancel`. Trouble with Postgres and the command service is waited out.
///
/// Metrics go to the global meter provider as it is when this is called.
pub async fn run(
    pool: PgPool,
    catalog: Catalog,
    clients: ServiceClients,
    clock: Clock,
    options: Options,
    cancel: CancellationToken,
) -> Result<(), Infallible> {
    let means = alarm::Means { pool, catalog, clients, clock, options };
    let mut pause = FIRST_PAUSE;
    saldo_telemetry::interrupted(0);
    loop {
        let outcome = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            outcome = alarm::follow(&means, &mut pause) => outcome,
        };
        let Err(error) = outcome;
        warn!(%error, "the scheduler goes on when it can");
        saldo_telemetry::interrupted(1);
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
