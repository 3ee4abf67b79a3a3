//! One partition's worker: the only place where its accounts change. It runs on a thread of its own, since its store
//! reads from disk.
//!
//! What waits for an account is decided as one chain of commits on top of the account's head, appended together, and
//! answered as the worker's own tail brings the commits back. An account has at most one chain unresolved. When the
//! tail brings another writer's commit first, the whole chain is void by the log's rule, and its requests are decided
//! again on the new head.

mod chain;
mod live;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use saldo_catalog::Catalog;
use saldo_clock::Clock;
use saldo_crash_point::crash_point;
use saldo_domain::{document::Document, evolve};
use saldo_facts::Commit;
use saldo_gate::Held;
use saldo_log::{
    AppendError, Log, NewRecord, Record,
    acceptor::{Acceptor, Verdict},
};
use saldo_telemetry::span::Steps;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};
use tracing::{error, warn};

use self::live::Live;
use crate::{
    answer::Answer,
    failure::Failure,
    queue::{Place, Taker},
    report::Report,
    skew::{ClockCheck, Reading},
    store::{Store, StoreError, StoredAccount, StoredAnswer},
};

/// Times a request is decided again after losing its account to another writer.
const MAX_RACES: u32 = 16;
/// Accounts kept in memory over all partitions; beyond its share a worker reads the idle ones from the store again.
const MAX_LIVE: usize = 16_384;
/// Between two looks whether a version of the catalog that an account has used was read here too.
const CATALOG_PAUSE: Duration = Duration::from_millis(20);
/// The longest a batch may be on its way: beyond what the log's client tries for, it is not going to be read back.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// How often the store is saved while it changes.
const SAVE_EVERY: Duration = Duration::from_secs(2);
/// Answers given between two saves at most, over all partitions, which bounds the memory they take.
const MAX_UNSAVED: usize = 80_000;

/// One request on its way to an answer.
pub struct Ask {
    /// `tenant/account`.
    pub key: Box<str>,
    /// The creditor, for the frame.
    pub tenant: String,
    /// The debtor's account, for the frame.
    pub account: String,
    /// Everything of the commit but what the decision brings.
    pub draft: Draft,
    /// The command to decide.
    pub command: saldo_domain::command::Command,
    /// Do not decide before the tail has read up to here.
    pub after: u64,
    /// Lost races so far.
    pub races: u32,
    /// When its client stops waiting.
    pub deadline: Instant,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Given, Failure>>,
    /// Its spans.
    pub steps: Steps,
    /// Its place in the queue, given back with it.
    pub _place: Place,
    /// Its room in the process, likewise; absent where no gate let it in.
    pub _held: Option<Arc<Held>>,
}

impl Ask {
    /// Whether its client has stopped waiting: then it is not to be decided.
    fn is_over(&self, now: Instant) -> bool {
        self.deadline <= now || self.reply.is_closed()
    }
}

/// The parts of a commit known before the decision.
#[derive(Clone)]
pub struct Draft {
    /// The client's id of the request.
    pub request_id: String,
    /// The RPC's name.
    pub method: &'static str,
    /// HMAC-SHA-256 under the tenant's key over method and request.
    pub fingerprint: [u8; 32],
    /// The request re-encoded, personal values emptied.
    pub command: Vec<u8>,
    /// The personal values, sealed.
    pub sealed: Vec<saldo_api::v1::SealedField>,
    /// The token's subject.
    pub actor: String,
    /// The token's roles.
    pub actor_roles: Vec<String>,
}

/// An answer, and whether it is given again.
#[derive(Debug)]
pub struct Given {
    /// The answer.
    pub answer: Answer,
    /// Given before.
    pub replayed: bool,
}

/// What a worker hears besides requests: from the tail, and from whoever wants to look.
pub enum Heard {
    /// Records of this partition, in order.
    Records(Vec<Record>),
    /// An append failed for these accounts' chains, numbered.
    Failed(Vec<(Box<str>, u64)>, AppendError),
    /// The tail is opened again; says where, which is at the last record read.
    Reopened(oneshot::Sender<u64>),
    /// Somebody wants to see an account as it stands.
    Look(Box<str>, oneshot::Sender<StoredAccount>),
}

/// What decisions rest on besides the account.
#[derive(Clone)]
pub struct Basis {
    /// The instant of a decision.
    pub clock: Clock,
    /// What creditors have published.
    pub catalog: Catalog,
}

/// A partition's worker.
pub struct Worker {
    pub(crate) partition: u32,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) acceptor: Acceptor,
    pub(crate) store: Store,
    pub(crate) basis: Basis,
    pub(crate) heard: mpsc::Sender<Heard>,
    pub(crate) position: watch::Sender<u64>,
    pub(crate) check: Arc<ClockCheck>,
    pub(crate) report: Report,
    limits: Limits,
    /// Accounts that cannot be decided on.
    parked: u64,
    accounts: HashMap<Box<str>, Box<Live>>,
    /// Accounts whose state is not saved; they stay in memory until it is.
    changed: HashSet<Box<str>>,
    /// Asks that wait until the tail has read far enough.
    waiting_for_end: Vec<Ask>,
    /// Accounts to decide on.
    ready: Vec<Box<str>>,
    /// Accounts whose chain, when last looked, was still on its way.
    unresolved: Vec<Box<str>>,
    /// When what is unresolved was appended.
    appended_at: Instant,
    /// When it was decided, by the clock of decisions.
    decided_at: Reading,
    /// Accounts that lost a race and wait a moment.
    resting: Vec<(Instant, Box<str>)>,
    chains: u64,
    unsaved_since: Option<Instant>,
}

/// Why a worker stops before it is told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The log is not the one read so far.
    #[error("{0}")]
    Diverged(#[from] saldo_log::acceptor::Diverged),
    /// The local store failed.
    #[error("local store: {0}; restart, or delete the partition's file: it is rebuilt from the log")]
    Store(#[from] StoreError),
}

/// One worker's share of what all may keep in memory.
struct Limits {
    live: usize,
    unsaved: usize,
}

/// What the workers of an instance share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub log: Arc<dyn Log>,
    pub basis: Basis,
    pub check: Arc<ClockCheck>,
    pub report: Report,
    pub partitions: u32,
}

impl Worker {
    pub(crate) fn new(
        partition: u32,
        shared: Shared,
        acceptor: Acceptor,
        store: Store,
        parked: u64,
        heard: mpsc::Sender<Heard>,
        position: watch::Sender<u64>,
    ) -> Self {
        let Shared { log, basis, check, report, partitions } = shared;
        let share = |of: usize| of.div_ceil(partitions.max(1) as usize);
        Self {
            partition,
            log,
            acceptor,
            store,
            decided_at: Reading::of(&basis.clock),
            basis,
            heard,
            position,
            check,
            report,
            limits: Limits { live: share(MAX_LIVE), unsaved: share(MAX_UNSAVED) },
            parked,
            accounts: HashMap::new(),
            changed: HashSet::new(),
            waiting_for_end: Vec::new(),
            ready: Vec::new(),
            unresolved: Vec::new(),
            appended_at: Instant::now(),
            resting: Vec::new(),
            chains: 0,
            unsaved_since: None,
        }
    }

    /// Runs until the queue of requests is closed and empty, or something fails for good.
    pub(crate) fn run(
        mut self,
        runtime: Handle,
        asks: Taker<Ask>,
        mut heard: mpsc::Receiver<Heard>,
    ) -> Result<(), WorkerError> {
        while asks.is_open() || self.accounts.values().any(|live| live.is_busy()) {
            let timer = self.next_timer();
            // What comes while a batch is on its way waits in the queue, so that every tenant is in the next.
            let taking = self.unresolved.is_empty() && asks.is_open();
            let event = runtime.block_on(async {
                tokio::select! {
                    biased;
                    event = heard.recv() => event.map(Event::Heard),
                    () = asks.filled(), if taking => Some(Event::Asked),
                    () = sleep_until(timer), if timer.is_some() => Some(Event::Timer),
                }
            });
            match event {
                None => break,
                Some(Event::Asked) | Some(Event::Timer) => {}
                Some(Event::Heard(event)) => self.hear(event)?,
            }
            self.wake();
            if self.settle(&asks) {
                for ask in asks.take() {
                    self.admit(ask)?;
                }
                self.decide(&runtime, &asks)?;
            }
            self.keep_tidy()?;
        }
        self.save()
    }

    fn next_timer(&self) -> Option<Instant> {
        let rested = self.resting.iter().map(|(at, _)| *at).min();
        let save = self.unsaved_since.map(|since| since + SAVE_EVERY);
        let lost = (!self.unresolved.is_empty()).then(|| self.appended_at + LOST_AFTER);
        [rested, save, lost].into_iter().flatten().min()
    }

    fn hear(&mut self, event: Heard) -> Result<(), WorkerError> {
        match event {
            Heard::Records(records) => self.read(&records),
            Heard::Failed(chains, error) => {
                for (key, chain) in chains {
                    if let Some(live) = self.accounts.get_mut(&key)
                        && live.fail_chain(chain, &error)
                    {
                        self.ready.push(key);
                    }
                }
                Ok(())
            }
            Heard::Reopened(start) => {
                // Without anybody to hear it there is no tail to open.
                let _ = start.send(self.acceptor.reopen());
                Ok(())
            }
            Heard::Look(key, seen) => {
                let live = live::load(&mut self.accounts, &self.store, &key)?;
                // Whoever went away sees nothing.
                let _ = seen.send(live.stored.clone());
                Ok(())
            }
        }
    }

    /// Reads records in log order: answers ours, takes in the others', writes it all down with the position.
    fn read(&mut self, records: &[Record]) -> Result<(), WorkerError> {
        let mut touched: Vec<Box<str>> = Vec::new();
        let (mut accepted, mut compared) = (0, false);
        for record in records {
            let (frame, hash) = match self.acceptor.judge(record)? {
                Verdict::Accepted { frame, hash } => (frame, hash),
                Verdict::Void(reason) => {
                    self.report.void(reason);
                    continue;
                }
                Verdict::Genesis | Verdict::Resumed => continue,
            };
            accepted += 1;
            let key: Box<str> = format!("{}/{}", frame.tenant, frame.account).into();
            let live = live::load(&mut self.accounts, &self.store, &key)?;
            let (commit, waiter) = match live.take_own(&hash) {
                Some(pending) => {
                    if !std::mem::replace(&mut compared, true) {
                        self.check.read_own(self.decided_at, record);
                    }
                    (Ok(pending.commit), Some(pending.ask.reply))
                }
                None => (Commit::decode(frame.payload), None),
            };
            let commit = match commit {
                Ok(commit) if live.stored.parked.is_none() => commit,
                Ok(_) => {
                    touched.push(key);
                    continue;
                }
                Err(why) => {
                    warn!(partition = self.partition, offset = record.offset, %why, "account parked");
                    self.parked += u64::from(live.stored.parked.is_none());
                    live.park(why.to_string());
                    touched.push(key);
                    continue;
                }
            };
            for event in &commit.events {
                evolve(&mut live.stored.account, event);
                for document_key in Document::touched(event) {
                    let before = self.store.document(&key, &document_key)?;
                    if let Some(after) = Document::evolve(&document_key, before, event) {
                        self.store.put_document(&key, &document_key, after);
                    }
                }
            }
            live.stored.recorded_at = Some(commit.recorded_at);
            live.stored.catalog = live.stored.catalog.max(commit.catalog);
            let answer = Answer::of(&commit, frame.version, record.offset);
            match waiter {
                Some(waiter) => {
                    // A client that went away asks again with its request id.
                    let _ = waiter.send(Ok(Given { answer: answer.clone(), replayed: false }));
                }
                None => self.report.races_lost(live.lose_race()),
            }
            let answer = StoredAnswer { fingerprint: commit.fingerprint, answer };
            self.store.put_answer(&key, &commit.request_id, answer);
            touched.push(key);
        }
        self.report.accepted(accepted);
        let Some(position) = self.acceptor.position() else { return Ok(()) };
        touched.sort_unstable();
        touched.dedup();
        for key in &touched {
            if !self.changed.contains(key) {
                self.changed.insert(key.clone());
            }
        }
        self.unsaved_since.get_or_insert_with(Instant::now);
        let _ = self.position.send(position.next);
        for key in touched {
            match self.accounts.get(&key).and_then(|live| live.rest()) {
                Some(rest) => self.resting.push((Instant::now() + rest, key)),
                None => self.ready.push(key),
            }
        }
        for ask in std::mem::take(&mut self.waiting_for_end) {
            self.admit(ask)?;
        }
        Ok(())
    }

    fn admit(&mut self, ask: Ask) -> Result<(), WorkerError> {
        if ask.is_over(Instant::now()) {
            let _ = ask.reply.send(Err(Failure::TimedOut));
            return Ok(());
        }
        if ask.after > self.acceptor.position().map_or(0, |position| position.next) {
            self.waiting_for_end.push(ask);
            return Ok(());
        }
        let key = ask.key.clone();
        live::load(&mut self.accounts, &self.store, &key)?.waiting.push_back(ask);
        self.ready.push(key);
        Ok(())
    }

    fn wake(&mut self) {
        let now = Instant::now();
        self.resting.retain(|(at, key)| {
            let rested = *at <= now;
            if rested {
                self.ready.push(key.clone());
            }
            !rested
        });
    }

    /// Whether what was appended before is resolved, so that what came meanwhile can go as one batch.
    fn settle(&mut self, asks: &Taker<Ask>) -> bool {
        if self.unresolved.is_empty() {
            return true;
        }
        self.unresolved.retain(|key| self.accounts.get(key).is_some_and(|live| !live.pending.is_empty()));
        if !self.unresolved.is_empty() {
            if self.appended_at.elapsed() < LOST_AFTER {
                return false;
            }
            self.give_up();
        }
        self.report.read_back(self.appended_at.elapsed());
        asks.end(Instant::now());
        true
    }

    /// Decides what waits for the ready accounts, and appends all their chains together.
    fn decide(&mut self, runtime: &Handle, asks: &Taker<Ask>) -> Result<(), WorkerError> {
        let mut ready = std::mem::take(&mut self.ready);
        ready.sort_unstable();
        ready.dedup();
        let now = match self.check.read_clock() {
            Ok(now) => now,
            Err(failure) => {
                for key in ready {
                    if let Some(live) = self.accounts.get_mut(&key) {
                        live.send_away(&failure);
                    }
                }
                return Ok(());
            }
        };
        let catalog = self.basis.catalog.state();
        let mut records: Vec<NewRecord> = Vec::new();
        let mut chains = Vec::new();
        for key in ready {
            let Some(live) = self.accounts.get_mut(&key) else { continue };
            let before = records.len();
            self.chains += 1;
            let Some(tenant) = live.waiting.front().map(|ask| ask.tenant.clone()) else { continue };
            let in_force = catalog.in_force(&tenant);
            if !in_force.read().reach(live.stored.catalog) {
                // Another instance has read a newer catalog: along a chain neither of its versions goes back.
                if live.give_up_late(Instant::now()) {
                    self.resting.push((Instant::now() + CATALOG_PAUSE, key));
                }
                continue;
            }
            let place = chain::Place { partition: self.partition, head: self.acceptor.head(&key), chain: self.chains };
            chain::decide(live, &self.store, place, &in_force, now.instant, &mut records)?;
            if records.len() > before {
                self.unresolved.push(key.clone());
                chains.push((key, self.chains));
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        crash_point("command.decided");
        let begun = Instant::now();
        (self.appended_at, self.decided_at) = (begun, now);
        asks.begin(begun);
        self.report.decided(records.len());
        let appended = self.log.append(records);
        let (heard, report) = (self.heard.clone(), self.report.clone());
        runtime.spawn(async move {
            match appended.await {
                Ok(()) => {
                    report.appended(begun.elapsed());
                    crash_point("command.appended");
                }
                // A worker that has ended has answered everybody already.
                Err(error) => drop(heard.send(Heard::Failed(chains, error)).await),
            }
        });
        Ok(())
    }

    /// The log took a batch and did not bring it back: its outcome is open, and its accounts are free again.
    fn give_up(&mut self) {
        error!(partition = self.partition, "the log did not bring back what it took; were records lost?");
        for key in self.unresolved.drain(..) {
            if let Some(live) = self.accounts.get_mut(&key) {
                live.lose_chain();
            }
            self.ready.push(key);
        }
    }

    /// Saves the store from time to time, and forgets idle accounts when there are many.
    fn keep_tidy(&mut self) -> Result<(), WorkerError> {
        if self.unsaved_since.is_some_and(|since| since.elapsed() >= SAVE_EVERY)
            || self.store.unsaved() >= self.limits.unsaved
        {
            self.save()?;
        }
        if self.accounts.len() > self.limits.live {
            self.save()?;
            self.accounts.retain(|_, live| live.is_busy());
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), WorkerError> {
        if let (Some(_), Some(position)) = (self.unsaved_since.take(), self.acceptor.position()) {
            let states = self.changed.iter().filter_map(|key| Some((key, self.accounts.get(key)?)));
            let rows = states.map(|(key, live)| (&**key, self.acceptor.head(key), &live.stored));
            self.store.save(rows, position)?;
            self.changed.clear();
            self.report.accounts(self.partition, self.accounts.len(), self.parked);
        }
        Ok(())
    }
}

enum Event {
    Heard(Heard),
    Asked,
    Timer,
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl Drop for Worker {
    /// Whoever still waits is told that the outcome is open.
    fn drop(&mut self) {
        for live in self.accounts.values_mut() {
            live.stop();
        }
        if std::thread::panicking() {
            error!(partition = self.partition, "the partition's worker panicked");
        }
    }
}
