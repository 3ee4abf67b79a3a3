//! The alarm clock itself: looks what is due, wakes it, keeps what was answered.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use jiff::Timestamp;
use saldo_catalog::Catalog;
use saldo_client::ServiceClients;
use saldo_clock::Clock;
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
    behind::Behind,
    report::{self, Report},
    sole::Sole,
    table::{self, FIRST, Key, Known, Seen},
    under_way::UnderWay,
    wake::{Woken, wake},
};

/// Due accounts fetched at once: some tenths of a second's work.
const PAGE: usize = 2_000;
/// Accounts asked whose answers are not kept yet, beyond those being asked; a database that is slower than the accounts
/// holds them up here.
const MAX_UNWRITTEN: usize = 5_000;

/// What the scheduler works with.
pub(crate) struct Means {
    pub(crate) pool: PgPool,
    pub(crate) catalog: Catalog,
    pub(crate) clients: ServiceClients,
    pub(crate) clock: Clock,
    pub(crate) options: Options,
}

/// Waits until no other scheduler works, and works until something fails.
pub(crate) async fn follow(means: &Means, pause: &mut Duration) -> Result<Infallible, SchedulerError> {
    table::ensure(&means.pool).await?;
    let sole = Sole::wait(&means.pool).await?;
    let mut alarm = Alarm::new(means, sole);
    loop {
        if alarm.is_time_to_look() {
            alarm.look().await?;
            *pause = FIRST_PAUSE;
        }
        alarm.start();
        alarm.keep();
        alarm.tell().await?;
        alarm.wait().await?;
    }
}

fn told(woken: &Result<Woken, SchedulerError>) -> Option<KeyValue> {
    woken.as_ref().ok().map(|woken| KeyValue::new("result", woken.outcome.name()))
}

struct Alarm<'m> {
    means: &'m Means,
    sole: Sole,
    seen: Seen,
    /// The place in the order of what is due, and the instant that order is of.
    sweep: Option<(Timestamp, (Timestamp, Key))>,
    due: VecDeque<Key>,
    behind: Behind,
    under_way: UnderWay,
    asking: JoinSet<Result<Woken, SchedulerError>>,
    answers: Vec<(Key, Known)>,
    keeping: Option<JoinHandle<Result<Vec<Key>, sqlx::Error>>>,
    /// There is more than the last look brought.
    more: bool,
    next_look: Instant,
    report: Report,
    next_report: Instant,
}

impl<'m> Alarm<'m> {
    fn new(means: &'m Means, sole: Sole) -> Self {
        let now = Instant::now();
        Self {
            means,
            sole,
            seen: Seen::default(),
            sweep: None,
            due: VecDeque::new(),
            behind: Behind::new(means.options.rewake_per_second),
            under_way: UnderWay::default(),
            asking: JoinSet::new(),
            answers: Vec::new(),
            keeping: None,
            more: false,
            next_look: now,
            report: Report::new(),
            next_report: now,
        }
    }

    fn has_room(&self) -> bool {
        let concurrency = self.means.options.concurrency.max(1);
        self.asking.len() < concurrency && self.under_way.len() < concurrency + MAX_UNWRITTEN
    }

    fn is_time_to_look(&self) -> bool {
        Instant::now() >= self.next_look || (self.more && self.due.is_empty() && self.has_room())
    }

    async fn look(&mut self) -> Result<(), SchedulerError> {
        let pool = &self.means.pool;
        self.sole.keep().await?;
        self.more = table::sync(pool, &mut self.seen).await?;
        if self.due.is_empty() {
            let first = || (self.means.clock.now(), (FIRST, Key { tenant: String::new(), account: String::new() }));
            let (now, after) = self.sweep.take().unwrap_or_else(first);
            let page = table::due(pool, now, &after, PAGE).await?;
            // Behind a full page the sweep goes on; what fell due meanwhile, or is due again, waits for the next one.
            self.sweep = page.last().filter(|_| page.len() == PAGE).map(|last| (now, last.clone()));
            self.due.extend(page.into_iter().map(|(_, key)| key).filter(|key| !self.under_way.contains(key)));
        }
        self.more |= self.sweep.is_some();
        self.behind.look(pool, &self.means.catalog.state()).await?;
        self.next_look = Instant::now() + self.means.options.poll;
        Ok(())
    }

    /// Asks as many as may be asked at once; first what is due.
    fn start(&mut self) {
        while self.has_room()
            && let Some(key) = self.due.pop_front().or_else(|| self.behind.next())
        {
            if self.under_way.begin(&key) {
                let woken = wake(self.means.clients.clone(), self.means.clock.clone(), key);
                self.asking.spawn(around("wake", Links::default(), woken, told));
            }
        }
    }

    /// Keeps what was answered while the answers before were being kept.
    fn keep(&mut self) {
        if self.keeping.is_none() && !self.answers.is_empty() {
            let (pool, answers) = (self.means.pool.clone(), std::mem::take(&mut self.answers));
            self.keeping = Some(tokio::spawn(async move { table::write(&pool, answers).await }));
        }
    }

    async fn tell(&mut self) -> Result<(), SchedulerError> {
        let worked_off = self.report.has_backlog() && self.due.is_empty() && self.under_way.is_empty() && !self.more;
        if Instant::now() >= self.next_report || worked_off {
            let now = self.means.clock.now();
            self.report.tell(table::backlog(&self.means.pool, now).await?, now, worked_off);
            self.next_report = Instant::now() + report::EVERY;
        }
        Ok(())
    }

    /// Waits for an answer, for answers to be kept, or for the next look.
    async fn wait(&mut self) -> Result<(), SchedulerError> {
        let kept = async {
            match &mut self.keeping {
                Some(keeping) => keeping.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(woken) = self.asking.join_next(), if !self.asking.is_empty() => {
                let woken = woken??;
                self.report.note(&woken);
                self.answers.push((woken.key, woken.known));
            }
            kept = kept => {
                self.keeping = None;
                for key in kept?? {
                    if self.under_way.end(&key) {
                        self.behind.push(key);
                    }
                }
            }
            () = sleep_until(self.next_look) => {}
        }
        Ok(())
    }
}
