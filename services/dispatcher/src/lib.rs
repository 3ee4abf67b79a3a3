//! The dispatcher: from a reminder that is due to a message and an outcome.
//!
//! - Its work is what the read models say is due. [`jobs`] leases it, so that several dispatchers share it; the right to
//!   send comes from no lease, but from the account alone.
//! - [`attempt`] is one job's way: start (the account decides, now), render, hand over, record. Each step takes what the
//!   one before brought, so none can be left out.
//! - [`letter`] is what the message says; [`channel`] is how it leaves, and what is certainly known of it afterwards.
//! - [`caught_up`] holds everything back at the start until the read models have reached the log's end.
//!
//! The residue: between the last look at the clock, right before the message's first byte, and the moment that the
//! provider has it, the account may change. And whoever dies between the hand-over and the outcome leaves an attempt that
//! the account itself says is unknown, once nobody can be on the way any more.
//!
//! Neither logs nor errors hold personal data: what a provider says may repeat an address, and goes into the sealed
//! history only.

mod attempt;
mod caught_up;
mod channel;
mod desk;
mod jobs;
mod letter;
mod report;

use std::{sync::Arc, time::Duration};

use saldo_catalog::Catalog;
use saldo_client::ServiceClients;
use saldo_clock::Clock;
use saldo_log::{Log, LogError, genesis::Identity};
use sqlx::PgPool;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use channel::{Channel, LastLook};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest that [`Dispatcher::run`] waits, after a stop, for messages that are being handed over.
pub const DRAIN: Duration = Duration::from_secs(110);

/// How much the dispatcher does at once.
#[derive(Debug, Clone)]
pub struct Options {
    /// Attempts under way at the same time; as many as the channel hands over at once.
    pub concurrency: usize,
    /// Between two looks while nothing is due.
    pub poll: Duration,
    /// How long a reminder is nobody else's, in real time: longer than starting an attempt takes. Whoever comes after
    /// it only asks in vain.
    pub lease: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { concurrency: 32, poll: Duration::from_millis(200), lease: Duration::from_secs(20) }
    }
}

/// All that the dispatcher works with.
#[derive(Clone)]
pub struct Dispatcher {
    /// The read models' database, and its own table's.
    pub pool: PgPool,
    /// The accounts topic.
    pub log: Arc<dyn Log>,
    /// Which log that is.
    pub identity: Identity,
    /// The catalog, with its follower running.
    pub catalog: Catalog,
    /// Clients of the command service.
    pub clients: ServiceClients,
    /// Tells what is due.
    pub clock: Clock,
    /// How messages leave.
    pub channel: Arc<dyn Channel>,
    /// How much at once.
    pub options: Options,
}

/// Why the dispatcher stopped, or paused.
#[derive(Debug, thiserror::Error)]
pub enum DispatcherError {
    /// Its database.
    #[error("the dispatcher's database: {0}")]
    Database(#[from] sqlx::Error),
    /// The log.
    #[error("the dispatcher's look at the log's end: {0}")]
    Log(#[from] LogError),
    /// The read models are of another log.
    #[error(
        "the read models are of another log than the one configured: nothing is sent; correct database.url or the log's, or run `saldo rebuild`"
    )]
    OtherLog,
}

impl DispatcherError {
    /// Whether trying again can help by itself.
    fn is_transient(&self) -> bool {
        matches!(self, DispatcherError::Database(_) | DispatcherError::Log(LogError::Unavailable(_)))
    }
}

impl Dispatcher {
    /// Runs until `cancel`; then takes no new work, finishes what is under way and says what became of it, which the
    /// channel's own patience bounds. Trouble with Postgres, the log and the command service is waited out.
    ///
    /// Do not drop the future to stop it: what is under way goes on without being waited for. Metrics go to the global
    /// meter provider as it is when this is called.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), DispatcherError> {
        // Of its own, so that an error here stops what is under way here and nobody else's work.
        let stop = cancel.child_token();
        let mut desk = desk::Desk::new(self, stop.clone());
        let mut pause = FIRST_PAUSE;
        saldo_telemetry::interrupted(0);
        let outcome = loop {
            match desk.work(&mut pause).await {
                Ok(()) => break Ok(()),
                Err(error) if error.is_transient() => {
                    warn!(%error, "the dispatcher goes on when it can");
                    saldo_telemetry::interrupted(1);
                    tokio::select! {
                        () = cancel.cancelled() => break Ok(()),
                        () = sleep(pause) => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => break Err(error),
            }
        };
        stop.cancel();
        desk.close().await;
        outcome
    }
}
