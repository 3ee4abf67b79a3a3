//! The worker of one channel: leases due reminders, and takes so many at once as far as they go.

use std::{collections::VecDeque, sync::Arc};

use saldo_channels::Transport;
use saldo_domain::party::Channel;
use saldo_telemetry::{
    KeyValue,
    span::{Links, around},
};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    DRAIN, Dispatcher, DispatcherError,
    attempt::{self, Ended},
    backoff::Backoff,
    leases::{self, Job, Leased, Queue},
    metrics::Metrics,
    route::Routes,
};

pub(crate) struct Worker {
    dispatcher: Arc<Dispatcher>,
    channel: Channel,
    metrics: Arc<Metrics>,
    routes: Arc<Routes>,
    stop: CancellationToken,
    queue: Queue,
    /// Leased, and not begun.
    leased: VecDeque<Job>,
    attempts: JoinSet<Ended>,
    /// Leases to give back, so that the reminders can be leased again at once.
    given_back: Vec<Job>,
    next_look: Instant,
}

impl Worker {
    pub(crate) fn new(
        dispatcher: Arc<Dispatcher>,
        transport: Arc<dyn Transport>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        let channel = transport.channel();
        let routes = Arc::new(Routes::new(transport, dispatcher.catalog.clone(), metrics.clone()));
        Self {
            dispatcher,
            channel,
            metrics,
            routes,
            stop,
            queue: Queue::of(channel),
            leased: VecDeque::new(),
            attempts: JoinSet::new(),
            given_back: Vec::new(),
            next_look: Instant::now(),
        }
    }

    /// Works until the stop or an error that no other try can mend. Then it waits for the attempts under way.
    pub(crate) async fn run(mut self) -> Result<(), DispatcherError> {
        let routes = self.routes.clone();
        let outcome = tokio::select! {
            outcome = self.work() => outcome,
            () = routes.probe() => Ok(()),
        };
        self.close().await;
        outcome
    }

    async fn work(&mut self) -> Result<(), DispatcherError> {
        let (stop, mut backoff) = (self.stop.clone(), Backoff::default());
        while !stop.is_cancelled() {
            if self.is_time_to_look() {
                match self.look().await {
                    Ok(()) => backoff.reset(),
                    Err(error) => backoff.wait(error, &stop).await?,
                }
            }
            self.begin();
            self.wait().await;
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.attempts.len() < self.dispatcher.options.concurrency.max(1)
    }

    fn is_time_to_look(&self) -> bool {
        self.leased.is_empty() && self.has_room() && Instant::now() >= self.next_look
    }

    /// Leases the next reminders.
    async fn look(&mut self) -> Result<(), DispatcherError> {
        let Dispatcher { pool, clock, options, .. } = self.dispatcher.as_ref();
        if !self.given_back.is_empty() {
            leases::give_back(pool, &self.given_back).await?;
            self.given_back.clear();
        }
        if self.routes.is_whole_on_hold() {
            self.next_look = Instant::now() + options.poll;
            return Ok(());
        }
        // Twice the number of messages that may be started: the next reminders are there before the first ones are done, and
        // wait no longer than these.
        let most = options.concurrency.max(1).min(self.routes.most_started()) * 2;
        let without = self.routes.tenants_on_hold();
        let Leased { jobs, more } = self.queue.lease(pool, clock.now(), options.lease, most, &without).await?;
        self.leased.extend(jobs);
        self.next_look = Instant::now();
        if !more {
            self.next_look += options.poll;
        }
        Ok(())
    }

    fn begin(&mut self) {
        while self.has_room()
            && !self.leased.is_empty()
            && let Some(slot) = self.routes.slot()
            && let Some(job) = self.leased.pop_front()
        {
            let due = Links::to(job.trace.as_deref());
            let attempt = attempt::run(self.dispatcher.clone(), self.routes.clone(), slot, job, self.stop.clone());
            let outcome = |ended: &Ended| Some(KeyValue::new("outcome", ended.outcome));
            self.attempts.spawn(around("attempt", due, attempt, outcome));
        }
    }

    /// Waits for an attempt to end, for the next look or for the stop.
    async fn wait(&mut self) {
        let will_look = self.leased.is_empty() && self.has_room();
        let will_begin = !self.leased.is_empty() && self.has_room();
        let routes = self.routes.clone();
        tokio::select! {
            () = self.stop.cancelled() => {}
            Some(ended) = self.attempts.join_next(), if !self.attempts.is_empty() => self.note(ended),
            () = sleep_until(self.next_look), if will_look => {}
            () = routes.slot_is_free(), if will_begin => {}
        }
    }

    fn note(&mut self, ended: Result<Ended, JoinError>) {
        match ended {
            Ok(ended) => {
                self.metrics.ended(self.channel, &ended);
                if ended.give_back {
                    self.given_back.push(ended.job);
                }
            }
            // A defect of ours, or the end of a stop that took too long.
            Err(broken) => {
                error!(error = %broken, "an attempt broke off; if it was started, the account will record it as unknown");
            }
        }
    }

    /// Takes no new work, and waits until the attempts under way have ended and their outcomes are recorded.
    async fn close(mut self) {
        let mut back = std::mem::take(&mut self.given_back);
        back.extend(self.leased.drain(..));
        // Without this the leases end by themselves, later.
        if !back.is_empty()
            && let Err(error) = leases::give_back(&self.dispatcher.pool, &back).await
        {
            warn!(%error, reminders = back.len(), "the leases of reminders that were not begun could not be given back; they end by themselves");
        }
        if !self.attempts.is_empty() {
            info!(attempts = self.attempts.len(), channel = self.channel.name(), "waiting for attempts under way");
        }
        let deadline = Instant::now() + DRAIN;
        while let Ok(Some(ended)) = timeout_at(deadline, self.attempts.join_next()).await {
            self.note(ended);
        }
        if !self.attempts.is_empty() {
            error!(
                attempts = self.attempts.len(),
                "attempts did not end in time and are broken off; the accounts will record them as unknown"
            );
            self.attempts.abort_all();
        }
    }
}

/// A hand-over that has begun goes on when its worker is dropped.
impl Drop for Worker {
    fn drop(&mut self) {
        self.attempts.detach_all();
    }
}
