//! Where jobs are taken, worked on and counted.

use std::{collections::VecDeque, sync::Arc, time::Duration};

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
    DRAIN, Dispatcher, DispatcherError, FIRST_PAUSE,
    attempt::{self, Ended},
    caught_up,
    jobs::{self, Job},
    report::{self, Report},
};

/// Between two removals of old leases.
const TIDY: Duration = Duration::from_secs(60);

/// A dispatcher at work.
pub(crate) struct Desk {
    means: Arc<Dispatcher>,
    stop: CancellationToken,
    /// The log's ends at the start; those that the read models have to reach.
    ends: Option<Vec<u64>>,
    open: bool,
    /// Leased, and not begun.
    taken: VecDeque<Job>,
    attempts: JoinSet<Ended>,
    /// To be leased by anybody again.
    given_back: Vec<Job>,
    next_look: Instant,
    next_report: Instant,
    next_count: Instant,
    next_tidy: Instant,
    report: Report,
}

impl Desk {
    pub(crate) fn new(means: Dispatcher, stop: CancellationToken) -> Self {
        let now = Instant::now();
        Self {
            means: Arc::new(means),
            stop,
            ends: None,
            open: false,
            taken: VecDeque::new(),
            attempts: JoinSet::new(),
            given_back: Vec::new(),
            next_look: now,
            next_report: now,
            next_count: now,
            next_tidy: now + TIDY,
            report: Report::new(),
        }
    }

    /// Works until it is to stop, or until something fails; what is under way goes on meanwhile.
    pub(crate) async fn work(&mut self, pause: &mut Duration) -> Result<(), DispatcherError> {
        jobs::ensure(&self.means.pool).await?;
        if !self.open {
            let stop = self.stop.clone();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                opened = self.wait_to_open() => opened?,
            }
        }
        while !self.stop.is_cancelled() {
            if self.is_time_to_look() {
                self.look().await?;
                *pause = FIRST_PAUSE;
            }
            self.begin();
            self.keep_house().await?;
            self.wait().await;
        }
        Ok(())
    }

    async fn wait_to_open(&mut self) -> Result<(), DispatcherError> {
        let Dispatcher { pool, log, identity, .. } = self.means.as_ref();
        let ends = match self.ends.take() {
            Some(ends) => ends,
            None => saldo_log::ends(log.as_ref(), identity).await?,
        };
        let reached = caught_up::wait(pool, identity, &ends).await;
        self.ends = Some(ends);
        reached?;
        self.open = true;
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.attempts.len() < self.means.options.concurrency.max(1)
    }

    fn is_time_to_look(&self) -> bool {
        self.taken.is_empty() && self.has_room() && Instant::now() >= self.next_look
    }

    async fn look(&mut self) -> Result<(), DispatcherError> {
        let Dispatcher { pool, clock, options, .. } = self.means.as_ref();
        if !self.given_back.is_empty() {
            jobs::give_back(pool, &self.given_back).await?;
            self.given_back.clear();
        }
        // Twice what is worked on at once: the next lot is there before this one is done, and waits for no longer than it.
        let most = options.concurrency.max(1) * 2;
        self.taken.extend(jobs::lease(pool, clock.now(), options.lease, most).await?);
        self.next_look = Instant::now();
        if self.taken.len() < most {
            self.next_look += options.poll;
        }
        Ok(())
    }

    fn begin(&mut self) {
        while self.has_room()
            && let Some(job) = self.taken.pop_front()
        {
            let due = Links::to(job.trace.as_deref());
            let attempt = attempt::run(self.means.clone(), job, self.stop.clone());
            let told = |ended: &Ended| Some(KeyValue::new("outcome", ended.outcome));
            self.attempts.spawn(around("attempt", due, attempt, told));
        }
    }

    async fn keep_house(&mut self) -> Result<(), DispatcherError> {
        let Dispatcher { pool, clock, .. } = self.means.as_ref();
        let now = Instant::now();
        if now >= self.next_report {
            self.report.tell(jobs::waiting(pool, clock.now()).await?);
            self.next_report = now + report::EVERY;
        }
        if now >= self.next_count {
            self.report.unknown(jobs::unknown(pool).await?);
            self.next_count = now + report::COUNT_UNKNOWN;
        }
        if now >= self.next_tidy {
            jobs::remove_old(pool).await?;
            self.next_tidy = now + TIDY;
        }
        Ok(())
    }

    /// Waits for an attempt to end, or for the next look.
    async fn wait(&mut self) {
        let looks = self.taken.is_empty() && self.has_room();
        let until = if looks { self.next_look.min(self.next_report) } else { self.next_report };
        tokio::select! {
            () = self.stop.cancelled() => {}
            Some(ended) = self.attempts.join_next(), if !self.attempts.is_empty() => self.note(ended),
            () = sleep_until(until) => {}
        }
    }

    fn note(&mut self, ended: Result<Ended, JoinError>) {
        match ended {
            Ok(ended) => {
                self.report.note(&ended);
                if ended.give_back {
                    self.given_back.push(ended.job);
                }
            }
            // A defect of ours, or the end of a stop that took too long.
            Err(broken) => {
                error!(error = %broken, "an attempt broke off; if it was started, the account will say that it is unknown");
            }
        }
    }

    /// Takes nothing more, and waits until what is under way has ended and been told.
    pub(crate) async fn close(mut self) {
        let mut back = std::mem::take(&mut self.given_back);
        back.extend(self.taken.drain(..));
        // Without it the leases end by themselves.
        if !back.is_empty()
            && let Err(error) = jobs::give_back(&self.means.pool, &back).await
        {
            warn!(%error, reminders = back.len(), "the leases of reminders not begun stand until they end");
        }
        if !self.attempts.is_empty() {
            info!(attempts = self.attempts.len(), "waiting for what is under way");
        }
        let deadline = Instant::now() + DRAIN;
        while let Ok(Some(ended)) = timeout_at(deadline, self.attempts.join_next()).await {
            self.note(ended);
        }
        if !self.attempts.is_empty() {
            error!(
                attempts = self.attempts.len(),
                "attempts did not end in time and are broken off; the accounts will say that they are unknown"
            );
            self.attempts.abort_all();
        }
    }
}

/// A hand-over that has begun is not dropped with whoever waited for it.
impl Drop for Desk {
    fn drop(&mut self) {
        self.attempts.detach_all();
    }
}
