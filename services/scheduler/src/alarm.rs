//! The alarm clock itself: finds what is due, wakes it, and writes down the answers.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use jiff::Timestamp;
use saldo_catalog::Catalog;
use saldo_client::ServiceClients;
use saldo_clock::Clock;
use saldo_outage::Outage;
use saldo_postgres::Lock;
use saldo_telemetry::{
    KeyValue,
    span::{Links, around},
};
use sqlx::PgPool;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

use crate::{
    FIRST_PAUSE, Options, SchedulerError,
    in_flight::InFlight,
    leader,
    metrics::{self, Metrics},
    stale::Stale,
    wake::{Woken, wake},
    wakeups::{self, Checkpoint, FIRST, Key, Update},
};

/// Due accounts read at once: some tenths of a second of work.
const PAGE: usize = 2_000;
/// Most answers that are not written yet. A database that is slower than the accounts makes them wait here.
const MAX_UNWRITTEN: usize = 5_000;

/// Everything that the scheduler works with.
pub(crate) struct Scheduler {
    pub(crate) pool: PgPool,
    pub(crate) catalog: Catalog,
    pub(crate) clients: ServiceClients,
    pub(crate) clock: Clock,
    pub(crate) options: Options,
}

/// Waits until no other scheduler works, and works until something fails.
pub(crate) async fn follow(
    scheduler: &Scheduler,
    pause: &mut Duration,
    outage: &Outage,
) -> Result<Infallible, SchedulerError> {
    wakeups::ensure(&scheduler.pool).await?;
    let leadership = leader::lead(&scheduler.pool).await?;
    let mut alarm = Alarm::new(scheduler, leadership);
    loop {
        if alarm.is_time_to_look() {
            alarm.look().await?;
            *pause = FIRST_PAUSE;
            outage.over();
        }
        alarm.start();
        alarm.write();
        alarm.count().await?;
        alarm.wait().await?;
    }
}

fn result(woken: &Result<Woken, SchedulerError>) -> Option<KeyValue> {
    woken.as_ref().ok().map(|woken| KeyValue::new("result", woken.result.name()))
}

struct Alarm<'s> {
    scheduler: &'s Scheduler,
    leadership: Lock,
    /// How far the agenda was taken over.
    agenda: Checkpoint,
    /// How far the list of what is due was read, and the instant of that list.
    sweep: Option<(Timestamp, (Timestamp, Key))>,
    due: VecDeque<Key>,
    stale: Stale,
    in_flight: InFlight,
    waking: JoinSet<Result<Woken, SchedulerError>>,
    answers: Vec<(Key, Update)>,
    writing: Option<JoinHandle<Result<Vec<Key>, sqlx::Error>>>,
    /// There is more than the last look brought.
    more: bool,
    next_look: Instant,
    metrics: Metrics,
    next_count: Instant,
}

impl<'s> Alarm<'s> {
    fn new(scheduler: &'s Scheduler, leadership: Lock) -> Self {
        let now = Instant::now();
        Self {
            scheduler,
            leadership,
            agenda: Checkpoint::default(),
            sweep: None,
            due: VecDeque::new(),
            stale: Stale::new(scheduler.options.rewake_per_second),
            in_flight: InFlight::default(),
            waking: JoinSet::new(),
            answers: Vec::new(),
            writing: None,
            more: false,
            next_look: now,
            metrics: Metrics::new(),
            next_count: now,
        }
    }

    fn has_room(&self) -> bool {
        let concurrency = self.scheduler.options.concurrency.max(1);
        self.waking.len() < concurrency && self.in_flight.len() < concurrency + MAX_UNWRITTEN
    }

    fn is_time_to_look(&self) -> bool {
        Instant::now() >= self.next_look || (self.more && self.due.is_empty() && self.has_room())
    }

    async fn look(&mut self) -> Result<(), SchedulerError> {
        let pool = &self.scheduler.pool;
        self.leadership.keep().await?;
        self.more = wakeups::sync(pool, &mut self.agenda).await?;
        if self.due.is_empty() {
            let first = || (self.scheduler.clock.now(), (FIRST, Key { tenant: String::new(), account: String::new() }));
            let (now, after) = self.sweep.take().unwrap_or_else(first);
            let page = wakeups::due(pool, now, &after, PAGE).await?;
            // After a full page the sweep goes on. Accounts that fell due meanwhile wait for the next sweep.
            self.sweep = page.last().filter(|_| page.len() == PAGE).map(|last| (now, last.clone()));
            self.due.extend(page.into_iter().map(|(_, key)| key).filter(|key| !self.in_flight.contains(key)));
        }
        self.more |= self.sweep.is_some();
        self.stale.look(pool, &self.scheduler.catalog.state()).await?;
        self.next_look = Instant::now() + self.scheduler.options.poll;
        Ok(())
    }

    /// Wakes as many accounts as may be woken at once; first those that are due.
    fn start(&mut self) {
        while self.has_room()
            && let Some(key) = self.due.pop_front().or_else(|| self.stale.next())
        {
            if self.in_flight.begin(&key) {
                let woken = wake(self.scheduler.clients.clone(), self.scheduler.clock.clone(), key);
                self.waking.spawn(around("wake", Links::default(), woken, result));
            }
        }
    }

    /// Writes the answers that came while the answers before them were being written.
    fn write(&mut self) {
        if self.writing.is_none() && !self.answers.is_empty() {
            let (pool, answers) = (self.scheduler.pool.clone(), std::mem::take(&mut self.answers));
            self.writing = Some(tokio::spawn(async move { wakeups::write(&pool, answers).await }));
        }
    }

    async fn count(&mut self) -> Result<(), SchedulerError> {
        let worked_off = self.metrics.has_backlog() && self.due.is_empty() && self.in_flight.is_empty() && !self.more;
        if Instant::now() >= self.next_count || worked_off {
            let now = self.scheduler.clock.now();
            self.metrics.backlog(wakeups::backlog(&self.scheduler.pool, now).await?, now, worked_off);
            self.next_count = Instant::now() + metrics::EVERY;
        }
        Ok(())
    }

    /// Waits for an answer, for answers to be written, or for the next look.
    async fn wait(&mut self) -> Result<(), SchedulerError> {
        let written = async {
            match &mut self.writing {
                Some(writing) => writing.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(woken) = self.waking.join_next(), if !self.waking.is_empty() => {
                let woken = woken??;
                self.metrics.woken(&woken);
                self.answers.push((woken.key, woken.update));
            }
            written = written => {
                self.writing = None;
                for key in written?? {
                    if self.in_flight.end(&key) {
                        self.stale.push(key);
                    }
                }
            }
            () = sleep_until(self.next_look) => {}
        }
        Ok(())
    }
}
