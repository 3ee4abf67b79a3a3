//! The dispatcher: from a due reminder to a message and its outcome.
//!
//! # The way of one delivery
//!
//! 1. **Due job.** The read models say which reminders are due. They are where the work comes from, and nothing more.
//! 2. **Lease.** A [`worker`] leases due reminders of its channel for a short time ([`leases`]), one of each tenant in turn,
//!    so that several dispatchers share the work. A lease gives no right to send.
//! 3. **Open route.** [`route`] makes sure that the provider can be reached, so that no account is asked for a message that
//!    could not leave. A route that fails is on hold, and no reminder suffers for it.
//! 4. **Ask the account.** [`attempt`] asks the account to start an attempt. The account decides now, on everything that has
//!    happened since the reminder fell due. Only its answer gives the right to send, and only for a short time.
//! 5. **Render.** [`render`] makes the message of the account's answer and the template in force. It is a pure function.
//! 6. **Hand over.** [`hand_over`] gives the message to the channel's transport and waits no longer than the channel's
//!    patience.
//! 7. **Outcome.** [`outcome`] puts the result into the words of the command service, and the attempt records it on the
//!    account.
//!
//! Each step takes the result of the step before, so no step can be left out. Which channels there are is the business of
//! [`saldo_channels`]; this crate knows none of them. Each channel has a worker of its own with its own leases, so a slow
//! provider holds up no other channel.
//!
//! Nothing starts before the read models have reached the log's end ([`caught_up`]).
//!
//! # What remains uncertain
//!
//! The account may change between the last look at the clock, right before the message's first byte, and the moment that the
//! provider has the message. And a dispatcher that dies between the hand-over and the outcome leaves an attempt without an
//! outcome. The account records such an attempt as unknown once nobody can be sending any more.
//!
//! Logs and errors hold no personal data. A provider's words may repeat an address, so they only go into the sealed history.

mod attempt;
mod backoff;
mod caught_up;
mod hand_over;
mod housekeeping;
mod leases;
mod metrics;
mod outcome;
mod render;
mod route;
mod worker;

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use saldo_catalog::Catalog;
use saldo_channels::Transports;
use saldo_client::ServiceClients;
use saldo_clock::Clock;
use saldo_log::{Log, LogError, genesis::Identity};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{backoff::Backoff, metrics::Metrics, worker::Worker};

/// The longest that [`Dispatcher::run`] waits, after a stop, for messages that are being handed over.
pub const DRAIN: Duration = Duration::from_secs(110);

/// How much the dispatcher does at once.
#[derive(Debug, Clone)]
pub struct Options {
    /// Attempts under way at the same time, for each channel.
    pub concurrency: usize,
    /// The pause between two looks while nothing is due.
    pub poll: Duration,
    /// How long a leased reminder belongs to this dispatcher, in real time. It should be longer than starting an attempt
    /// takes: a dispatcher that leases the same reminder later only asks the account in vain.
    pub lease: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { concurrency: 32, poll: Duration::from_millis(200), lease: Duration::from_secs(20) }
    }
}

/// Everything that the dispatcher works with.
#[derive(Clone)]
pub struct Dispatcher {
    /// The database of the read models and of the leases.
    pub pool: PgPool,
    /// The accounts topic.
    pub log: Arc<dyn Log>,
    /// The identity of that log.
    pub identity: Identity,
    /// The catalog, with its follower running.
    pub catalog: Catalog,
    /// Clients of the command service.
    pub clients: ServiceClients,
    /// Tells what is due.
    pub clock: Clock,
    /// How messages leave, by channel. Reminders of a channel without a transport wait.
    pub transports: Transports,
    /// How much at once.
    pub options: Options,
}

/// Why the dispatcher stopped, or paused.
#[derive(Debug, thiserror::Error)]
pub enum DispatcherError {
    /// The database failed.
    #[error("the dispatcher's database: {0}")]
    Database(#[from] sqlx::Error),
    /// The log failed.
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
    /// Runs until `cancel`. Then it takes no new work, finishes the attempts under way and records their outcomes, which the
    /// channels' patience and [`DRAIN`] bound. Trouble with Postgres, the log and the command service is waited out.
    ///
    /// Do not drop the future to stop it: attempts under way would go on, and nobody would wait for them. Metrics go to the
    /// global meter provider that is set when this is called.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), DispatcherError> {
        // An error stops the workers here and nobody else's work.
        let stop = cancel.child_token();
        saldo_telemetry::interrupted(0);
        if !self.open(&stop).await? {
            return Ok(());
        }
        let (dispatcher, metrics) = (Arc::new(self), Arc::new(Metrics::new()));
        // Whichever part ends first stops the others. Each of them is waited for, so that its attempts are.
        let workers = join_all(dispatcher.transports.all().map(async |transport| {
            let outcome = Worker::new(dispatcher.clone(), transport.clone(), metrics.clone(), stop.clone()).run().await;
            stop.cancel();
            outcome
        }));
        let housekeeping = async {
            let outcome = housekeeping::run(&dispatcher, &metrics, &stop).await;
            stop.cancel();
            outcome
        };
        let (workers, housekeeping) = tokio::join!(workers, housekeeping);
        workers.into_iter().chain([housekeeping]).collect()
    }

    /// Waits until the read models have reached the end that the log has now. False where the stop came first.
    async fn open(&self, stop: &CancellationToken) -> Result<bool, DispatcherError> {
        let (mut ends, mut backoff) = (None, Backoff::default());
        loop {
            let opened = tokio::select! {
                () = stop.cancelled() => return Ok(false),
                opened = caught_up::open(self, &mut ends) => opened,
            };
            match opened {
                Ok(()) => {
                    backoff.reset();
                    let channels: Vec<&str> = self.transports.channels().map(|channel| channel.name()).collect();
                    tracing::info!(?channels, "the read models have reached the log's end: sending begins");
                    return Ok(true);
                }
                Err(error) => backoff.wait(error, stop).await?,
            }
        }
    }
}
