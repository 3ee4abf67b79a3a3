//! One partition's worker: the only place where its accounts change. It runs on a thread of its own, since its store reads
//! from disk.
//!
//! The commands that wait for an account are decided as one chain of commits on top of the account's head. The chains of all ready
//! accounts are appended together, and answered as the worker's own tail brings the commits back. An account has at most one
//! chain in flight. When the tail brings another writer's commit first, the whole chain is void by the log's rule, and its
//! commands are decided again on the new head.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use saldo_catalog::Catalog;
use saldo_clock::Clock;
use saldo_crash_point::crash_point;
use saldo_keyring::Keyring;
use saldo_log::{AppendError, Log, NewRecord, Record, acceptor::Head, keys::LogKeys, same::Trust};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};
use tracing::error;

use super::{
    batch::Batch,
    chain::{self, ChainStart},
    clock_check::{ClockCheck, Reading},
    partition::{Partition, PartitionError},
    queue::QueueReceiver,
    request::QueuedCommand,
    store::StoredAccount,
};
use crate::{failure::Failure, metrics::CommandMetrics};

/// Between two looks whether a policy version that an account has used was read here too.
const CATALOG_PAUSE: Duration = Duration::from_millis(20);

/// The inputs of decisions besides the account.
#[derive(Clone)]
pub struct Basis {
    /// The instant of a decision.
    pub clock: Clock,
    /// The policies that creditors have published.
    pub catalog: Catalog,
}

/// Shared by the workers of an instance.
#[derive(Clone)]
pub struct Shared {
    pub log: Arc<dyn Log>,
    /// The keys that records are written under.
    pub keys: LogKeys,
    pub keyring: Keyring,
    pub basis: Basis,
    pub check: Arc<ClockCheck>,
    pub trust: Trust,
    pub metrics: CommandMetrics,
}

impl Shared {
    /// Reads the clock of a decision. Fails while nothing may be decided.
    fn now(&self) -> Result<Reading, Failure> {
        if let Some(why) = self.trust.lost() {
            return Err(Failure::LogChanged(why));
        }
        // What is sealed under a key that is lost must not be appended. The process's guard says why, once.
        self.keyring.check().map_err(|_| Failure::KeyStore)?;
        self.check.read_clock()
    }
}

/// A message to a worker. Commands come by the queue instead.
pub enum Message {
    /// Records of this partition, in order.
    Records(Vec<Record>),
    /// An append failed for these accounts' chains, by number.
    Failed(Vec<(Box<str>, u64)>, AppendError),
    /// The tail is opened again. The answer is the offset to open it at, which is that of the last record read.
    Reopened(oneshot::Sender<u64>),
    /// Asks for an account as it stands.
    Look(Box<str>, oneshot::Sender<StoredAccount>),
    /// Asks for the head of an account.
    Head(Box<str>, oneshot::Sender<Head>),
}

/// A partition's worker.
pub struct Worker {
    partition: Partition,
    shared: Shared,
    /// The way back to itself, for appends that fail.
    messages: mpsc::Sender<Message>,
    /// Tells others how far the log is read.
    position: watch::Sender<u64>,
    /// Commands that wait until the tail has read far enough.
    waiting_for_end: Vec<QueuedCommand>,
    /// Accounts to decide on.
    ready: Vec<Box<str>>,
    /// Accounts that wait a moment, after a lost race or for a policy version.
    resting: Vec<(Instant, Box<str>)>,
    batch: Batch,
    /// The number of the newest chain.
    chains: u64,
}

impl Worker {
    pub fn new(
        partition: Partition,
        shared: Shared,
        messages: mpsc::Sender<Message>,
        position: watch::Sender<u64>,
    ) -> Self {
        let batch = Batch::none(Reading::of(&shared.basis.clock));
        Self {
            partition,
            shared,
            messages,
            position,
            waiting_for_end: Vec::new(),
            ready: Vec::new(),
            resting: Vec::new(),
            batch,
            chains: 0,
        }
    }

    /// Runs until the queue is closed and empty, or something fails for good.
    pub fn run(
        mut self,
        runtime: Handle,
        queue: QueueReceiver<QueuedCommand>,
        mut messages: mpsc::Receiver<Message>,
    ) -> Result<(), PartitionError> {
        while queue.is_open() || self.partition.is_busy() {
            let timer = self.next_timer();
            // While a batch is in flight, commands wait in the queue, so that every tenant is in the next batch.
            let taking = self.batch.is_resolved() && queue.is_open();
            let event = runtime.block_on(async {
                tokio::select! {
                    biased;
                    message = messages.recv() => message.map(Event::Told),
                    () = queue.filled(), if taking => Some(Event::Queued),
                    () = sleep_until(timer), if timer.is_some() => Some(Event::Timer),
                }
            });
            match event {
                None => break,
                Some(Event::Queued) | Some(Event::Timer) => {}
                Some(Event::Told(message)) => self.take_message(message)?,
            }
            self.wake();
            if self.settle(&queue) {
                for queued in queue.take() {
                    self.admit(queued)?;
                }
                self.decide(&runtime, &queue)?;
            }
            self.partition.keep_tidy()?;
        }
        Ok(self.partition.save()?)
    }

    fn next_timer(&self) -> Option<Instant> {
        let rested = self.resting.iter().map(|(at, _)| *at).min();
        [rested, self.partition.save_at(), self.batch.lost_at()].into_iter().flatten().min()
    }

    fn take_message(&mut self, message: Message) -> Result<(), PartitionError> {
        match message {
            Message::Records(records) => self.read(&records),
            Message::Failed(chains, error) => {
                for (key, chain) in chains {
                    if let Some((live, _)) = self.partition.live(&key)
                        && live.fail_chain(chain, &error)
                    {
                        self.ready.push(key);
                    }
                }
                Ok(())
            }
            Message::Reopened(start) => {
                // Without a receiver there is no tail to open.
                let _ = start.send(self.partition.reopen());
                Ok(())
            }
            Message::Look(key, seen) => {
                // Nobody may wait any more.
                let _ = seen.send(self.partition.account(&key)?.stored.clone());
                Ok(())
            }
            Message::Head(key, seen) => {
                let _ = seen.send(self.partition.head(&key));
                Ok(())
            }
        }
    }

    /// Reads records, and lets the touched accounts be decided on again.
    fn read(&mut self, records: &[Record]) -> Result<(), PartitionError> {
        let (check, decided_at) = (&self.shared.check, self.batch.decided_at);
        let mut compared = false;
        let touched = self.partition.read(records, |own| {
            if !std::mem::replace(&mut compared, true) {
                check.read_own(decided_at, own);
            }
        })?;
        let Some(position) = self.partition.position() else { return Ok(()) };
        let _ = self.position.send(position.next);
        for key in touched {
            match self.partition.live(&key).and_then(|(live, _)| live.backoff()) {
                Some(backoff) => self.resting.push((Instant::now() + backoff, key)),
                None => self.ready.push(key),
            }
        }
        for queued in std::mem::take(&mut self.waiting_for_end) {
            self.admit(queued)?;
        }
        Ok(())
    }

    fn admit(&mut self, queued: QueuedCommand) -> Result<(), PartitionError> {
        if queued.is_over(Instant::now()) {
            queued.answer(Err(Failure::TimedOut));
            return Ok(());
        }
        if queued.after > self.partition.position().map_or(0, |position| position.next) {
            self.waiting_for_end.push(queued);
            return Ok(());
        }
        let key = queued.key.clone();
        self.partition.account(&key)?.waiting.push_back(queued);
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

    /// Whether the batch before is resolved, so that what came meanwhile can go as the next one.
    fn settle(&mut self, queue: &QueueReceiver<QueuedCommand>) -> bool {
        if self.batch.is_resolved() {
            return true;
        }
        self.batch.unresolved.retain(|key| self.partition.is_in_flight(key));
        if !self.batch.is_resolved() {
            if !self.batch.is_lost() {
                return false;
            }
            self.give_up();
        }
        self.shared.metrics.read_back(self.batch.appended_at.elapsed());
        queue.batch_ended(Instant::now());
        true
    }

    /// The log took a batch and did not bring it back. The outcome is open, and the accounts can be decided on again.
    fn give_up(&mut self) {
        error!(partition = self.partition.number, "the log did not bring back what it took; were records lost?");
        for key in self.batch.unresolved.drain(..) {
            if let Some((live, _)) = self.partition.live(&key) {
                live.lose_chain();
            }
            self.ready.push(key);
        }
    }

    /// Decides what waits for the ready accounts, and appends all their chains together.
    fn decide(&mut self, runtime: &Handle, queue: &QueueReceiver<QueuedCommand>) -> Result<(), PartitionError> {
        let mut ready = std::mem::take(&mut self.ready);
        if ready.is_empty() {
            return Ok(());
        }
        ready.sort_unstable();
        ready.dedup();
        let now = match self.shared.now() {
            Ok(now) => now,
            Err(failure) => {
                for key in ready {
                    if let Some((live, _)) = self.partition.live(&key) {
                        live.send_away(&failure);
                    }
                }
                return Ok(());
            }
        };
        let catalog = self.shared.basis.catalog.state();
        let mut records: Vec<NewRecord> = Vec::new();
        let mut chains = Vec::new();
        for key in ready {
            let (partition, head) = (self.partition.number, self.partition.head(&key));
            let Some((live, store)) = self.partition.live(&key) else { continue };
            let before = records.len();
            self.chains += 1;
            let Some(tenant) = live.waiting.front().map(|queued| queued.tenant.clone()) else { continue };
            let in_force = catalog.in_force(&tenant);
            if !in_force.read().reach(live.stored.catalog) {
                // Another instance has read a newer catalog: along a chain neither of its versions goes back.
                if live.give_up_late(Instant::now()) {
                    self.resting.push((Instant::now() + CATALOG_PAUSE, key));
                }
                continue;
            }
            let start = ChainStart { partition, head, number: self.chains, keys: &self.shared.keys };
            chain::decide(live, store, start, &in_force, now.instant, &mut records)?;
            if records.len() > before {
                self.batch.unresolved.push(key.clone());
                chains.push((key, self.chains));
            }
        }
        if !records.is_empty() {
            crash_point("command.decided");
            (self.batch.appended_at, self.batch.decided_at) = (Instant::now(), now);
            queue.batch_began(self.batch.appended_at);
            self.append(runtime, records, chains);
        }
        Ok(())
    }

    /// Hands the records to the log. An append that fails is told to the worker.
    fn append(&self, runtime: &Handle, records: Vec<NewRecord>, chains: Vec<(Box<str>, u64)>) {
        let begun = self.batch.appended_at;
        self.shared.metrics.decided(records.len());
        let appended = self.shared.log.append(records);
        let (messages, metrics) = (self.messages.clone(), self.shared.metrics.clone());
        runtime.spawn(async move {
            match appended.await {
                Ok(()) => {
                    metrics.appended(begun.elapsed());
                    crash_point("command.appended");
                }
                // A worker that has ended has answered everybody already.
                Err(error) => drop(messages.send(Message::Failed(chains, error)).await),
            }
        });
    }
}

enum Event {
    Told(Message),
    Queued,
    Timer,
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl Drop for Worker {
    /// Tells every client that still waits that the outcome is open.
    fn drop(&mut self) {
        for live in self.partition.all_live() {
            live.stop();
        }
        if std::thread::panicking() {
            error!(partition = self.partition.number, "the partition's worker panicked");
        }
    }
}
