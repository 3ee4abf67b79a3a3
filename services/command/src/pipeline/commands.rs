//! Starts the workers and the tail that feeds them, and hands each command to the worker of its account.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use saldo_facts::Commit;
use saldo_keyring::Keyring;
use saldo_log::{
    Log, LogError,
    acceptor::Position,
    frame,
    genesis::Identity,
    same::{Trust, records_at},
};
use saldo_telemetry::CatchingUp;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    clock_check::ClockCheck,
    feed::Feed,
    partition::{Partition, PartitionError},
    queue::{self, QueueSender},
    request::{NewCommand, QueuedCommand, Reply},
    store::{StoreError, StoredAccount, damage},
    worker::{Basis, Message, Shared, Worker},
};
use crate::{
    failure::{Failure, StartError},
    metrics::CommandMetrics,
    skew::ClockState,
};

/// Between two looks at how far the log is read.
const LOOK: Duration = Duration::from_secs(1);
/// Messages that a worker may have before it; beyond them the tail waits.
const MESSAGES: usize = 4;

/// How a command service runs.
#[derive(Clone)]
pub struct Options {
    /// The folder of the local stores, one file a partition. One instance at a time may use it.
    pub store_dir: PathBuf,
    /// Requests of one partition that may be unanswered, shared between tenants. Further ones are answered
    /// RESOURCE_EXHAUSTED.
    pub queue: usize,
    /// The longest a request waits for its answer.
    pub patience: Duration,
    /// Whether the process still trusts its log. Nothing is decided once the log is another one.
    pub trust: Trust,
    /// The key store. Nothing is appended while it is gone.
    pub keyring: Keyring,
}

/// The workers, and the way to them.
#[derive(Clone)]
pub struct Commands {
    log: Arc<dyn Log>,
    identity: Identity,
    /// The queue of each partition.
    queues: Arc<[QueueSender<QueuedCommand>]>,
    /// The other way to each worker.
    workers: Arc<[mpsc::WeakSender<Message>]>,
    /// How far each partition is read.
    positions: Arc<[watch::Receiver<u64>]>,
    check: Arc<ClockCheck>,
    trust: Trust,
    metrics: CommandMetrics,
    patience: Duration,
}

/// The running threads and tasks. Ends when every [`Commands`] is dropped, or when something fails for good.
pub struct Running {
    threads: Vec<std::thread::JoinHandle<()>>,
    tail: JoinHandle<()>,
    probe: JoinHandle<()>,
    /// Deletes the local stores once the log is another one.
    clearing: JoinHandle<()>,
    failed: FirstFailure,
}

/// Set when something has failed for good, with the first reason.
#[derive(Clone, Default)]
struct FirstFailure {
    token: CancellationToken,
    why: Arc<Mutex<Option<String>>>,
}

impl FirstFailure {
    fn note(&self, why: String) {
        if let Ok(mut first) = self.why.lock() {
            first.get_or_insert(why);
        }
    }
}

impl Commands {
    /// Opens the stores and starts a worker a partition and the tail that feeds them.
    pub async fn start(
        log: Arc<dyn Log>,
        identity: Identity,
        basis: Basis,
        options: Options,
    ) -> Result<(Self, Running), StartError> {
        saldo_private_files::folder(&options.store_dir)
            .map_err(|error| store_error(&options.store_dir, error.to_string()))?;
        saldo_telemetry::foreign_records("accounts", 0);
        let runtime = Handle::current();
        let failed = FirstFailure::default();
        let metrics = CommandMetrics::new();
        let check = Arc::new(ClockCheck::new(basis.clock.clone(), metrics.clone()));
        let trust = options.trust;
        let shared = Shared {
            log: log.clone(),
            keys: identity.keys.clone(),
            keyring: options.keyring,
            basis,
            check: check.clone(),
            trust: trust.clone(),
            metrics: metrics.clone(),
        };
        let is_held = shared.basis.catalog.state().system().held.is_some();
        let partitions = open_partitions(&options.store_dir, log.as_ref(), &identity, is_held, &metrics).await?;
        let stores: Vec<PathBuf> = partitions.iter().map(|(path, _)| path.clone()).collect();
        let (mut queues, mut workers, mut positions, mut threads, mut senders, mut next) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), HashMap::new(), Vec::new());
        for (path, partition) in partitions {
            let number = partition.number;
            next.push((number, partition.start()));
            let (queue, commands) = queue::queue(options.queue);
            let (sender, messages) = mpsc::channel(MESSAGES);
            let (moved, position) = watch::channel(partition.position().map_or(0, |position| position.next));
            let worker = Worker::new(partition, shared.clone(), sender.clone(), moved);
            let (runtime, failed, trust) = (runtime.clone(), failed.clone(), trust.clone());
            threads.push(std::thread::Builder::new().name(format!("partition-{number}")).spawn(move || {
                // A worker's thread that ends by itself has failed, a panic included: the whole service stops.
                let stop = failed.token.clone().drop_guard();
                let why = match damage::guarded(|| worker.run(runtime, commands, messages)) {
                    Ok(()) => return drop(stop.disarm()),
                    Err(PartitionError::Diverged(why)) => {
                        trust.lose(&why);
                        why.to_string()
                    }
                    Err(PartitionError::Store(why)) => broken(&path, &why),
                };
                error!(partition = number, why, "the command service stops");
                failed.note(why);
            })?);
            queues.push(queue);
            workers.push(sender.downgrade());
            positions.push(position);
            senders.insert(number, sender);
        }
        let feed = Feed { log: log.clone(), next, workers: senders, check: check.clone(), trust: trust.clone() };
        let tail = tokio::spawn({
            let (failed, trust) = (failed.clone(), trust.clone());
            async move {
                let error = feed.run().await;
                // It is found out what has changed, and said better.
                trust.doubt();
                failed.note(error.to_string());
                failed.token.cancel();
            }
        });
        let clearing = tokio::spawn(clear_stores(trust.clone(), stores));
        let probe = tokio::spawn(check.clone().probe(log.clone()));
        let queues: Arc<[QueueSender<QueuedCommand>]> = queues.into();
        let observed = Arc::downgrade(&queues);
        metrics.observe_queues(move || Some(observed.upgrade()?.iter().map(QueueSender::depth).collect()));
        let commands = Self {
            log,
            identity,
            queues,
            workers: workers.into(),
            positions: positions.into(),
            check,
            trust,
            metrics,
            patience: options.patience,
        };
        Ok((commands, Running { threads, tail, probe, clearing, failed }))
    }

    /// Whether this machine's clock may decide, and how that changes.
    pub fn clock(&self) -> watch::Receiver<ClockState> {
        self.check.state()
    }

    /// The instant of a decision that is made now. Fails while nothing may be decided.
    pub(crate) fn now(&self) -> Result<Timestamp, Failure> {
        if let Some(why) = self.trust.lost() {
            return Err(Failure::LogChanged(why));
        }
        self.check.read_clock().map(|reading| reading.instant)
    }

    /// The metrics of the service.
    pub(crate) fn metrics(&self) -> &CommandMetrics {
        &self.metrics
    }

    /// When a request that comes now must be answered. Its client waits so long, or for ever.
    pub(crate) fn deadline(&self, client_waits: Option<Duration>) -> Instant {
        Instant::now() + client_waits.map_or(self.patience, |waits| waits.min(self.patience))
    }

    /// The log's identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The partition of `tenant/account`.
    pub fn partition_of(&self, key: &str) -> u32 {
        frame::partition_of(key, self.identity.partitions)
    }

    /// Waits until every partition has been read up to the end it has now, and the clock was compared with the log's, if
    /// the log takes anything.
    pub async fn caught_up(&self) -> Result<(), LogError> {
        let ends = saldo_log::ends(self.log.as_ref(), &self.identity).await?;
        let total = ends.iter().sum();
        let done = || self.positions.iter().zip(&ends).map(|(position, end)| (*position.borrow()).min(*end)).sum();
        let mut progress = CatchingUp::begin("command", done(), total);
        let mut reached = pin!(async {
            for (position, end) in self.positions.iter().zip(&ends) {
                // The sender lives as long as the worker; without one there is nothing to wait for.
                let _ = position.clone().wait_for(|next| next >= end).await;
            }
        });
        while tokio::time::timeout(LOOK, &mut reached).await.is_err() {
            progress.at(done(), total);
        }
        progress.end(done());
        self.check.find_out().await;
        Ok(())
    }

    /// An account as it stands where its partition is read to.
    pub(crate) async fn look(&self, key: &str) -> Result<StoredAccount, Failure> {
        let seen = self.ask_worker(key, Message::Look);
        tokio::time::timeout(self.patience, seen).await.map_err(|_| Failure::TimedOut)?
    }

    /// Whether an account has a history. "No" is said only after reading up to an end fetched after the request came.
    pub(crate) async fn has_history(&self, key: &str, deadline: Instant) -> Result<bool, Failure> {
        let found_out = async {
            if self.ask_worker(key, Message::Head).await?.version > 0 {
                return Ok(true);
            }
            let partition = self.partition_of(key);
            let end = self.log.end(partition).await.map_err(|_| Failure::LogUnknown)?;
            let position = self.positions.get(partition as usize).ok_or(Failure::Stopped)?;
            position.clone().wait_for(|next| *next >= end).await.map_err(|_| Failure::Stopped)?;
            Ok(self.ask_worker(key, Message::Head).await?.version > 0)
        };
        tokio::time::timeout_at(deadline.into(), found_out).await.map_err(|_| Failure::TimedOut)?
    }

    /// Asks the worker of an account something about it.
    async fn ask_worker<T>(
        &self,
        key: &str,
        question: impl FnOnce(Box<str>, oneshot::Sender<T>) -> Message,
    ) -> Result<T, Failure> {
        let worker = self.workers.get(self.partition_of(key) as usize).ok_or(Failure::Stopped)?;
        let (reply, answer) = oneshot::channel();
        let sender = worker.upgrade().ok_or(Failure::Stopped)?;
        sender.send(question(key.into(), reply)).await.map_err(|_| Failure::Stopped)?;
        drop(sender);
        answer.await.map_err(|_| Failure::Stopped)
    }

    /// Has a command decided. "Unknown account" is said only after reading up to an end fetched after the request came.
    pub(crate) async fn submit(&self, command: NewCommand) -> Result<Reply, Failure> {
        // A command that cannot be decided takes no permit of a queue.
        self.now()?;
        let partition = self.partition_of(&command.key);
        match self.submit_after(partition, command.clone(), 0).await {
            Err(Failure::AccountUnknown) => {
                let end = tokio::time::timeout_at(command.deadline.into(), self.log.end(partition)).await;
                let end = end.map_err(|_| Failure::TimedOut)?.map_err(|_| Failure::LogUnknown)?;
                self.submit_after(partition, command, end).await
            }
            reply => reply,
        }
    }

    async fn submit_after(&self, partition: u32, command: NewCommand, after: u64) -> Result<Reply, Failure> {
        let deadline = command.deadline;
        let queue = self.queues.get(partition as usize).ok_or(Failure::Stopped)?;
        let permit = queue.acquire(&command.tenant, deadline, Instant::now())?;
        let tenant = permit.tenant().clone();
        let (queued, answer) = QueuedCommand::new(command, permit, after);
        queue.push(&tenant, queued)?;
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(Failure::LogUnknown),
            Err(_) => Err(Failure::TimedOut),
        }
    }
}

impl Running {
    /// Resolves when something has failed for good.
    pub async fn failed(&self) -> String {
        self.failed.token.cancelled().await;
        let why = self.failed.why.lock().ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| "a worker ended unexpectedly".to_owned())
    }

    /// Waits for the workers to answer what they have and end. Drop every [`Commands`] first.
    pub async fn finish(self) {
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().for_each(|thread| {
                if thread.join().is_err() {
                    error!("a worker panicked");
                }
            });
        });
        if joined.await.is_err() {
            error!("waiting for the workers failed");
        }
        self.tail.abort();
        self.probe.abort();
        self.clearing.abort();
    }
}

/// One line for all stores that were emptied: an upgrade empties each of them.
fn tell_emptied(dir: &Path, partitions: &[(PathBuf, Partition)]) {
    let mut reasons: Vec<&str> = partitions.iter().filter_map(|(_, partition)| partition.emptied()).collect();
    let stores = reasons.len();
    reasons.sort_unstable();
    reasons.dedup();
    if stores > 0 {
        let (dir, why) = (dir.display(), reasons.join("; "));
        info!(%dir, stores, "local stores are {why}: they are emptied and read anew from the log");
    }
}

/// Opens every partition's store. A store that is damaged is begun anew. So is a store that has read what the log does not have,
/// while sending is held: a person has accepted that the log goes on from an earlier state. Otherwise nothing starts.
async fn open_partitions(
    dir: &Path,
    log: &dyn Log,
    identity: &Identity,
    is_held: bool,
    metrics: &CommandMetrics,
) -> Result<Vec<(PathBuf, Partition)>, StartError> {
    let open = |number: u32| {
        let path = dir.join(format!("partition-{number}.redb"));
        let opened = damage::open(&path, || Partition::open(&path, identity, number, Commit::decode, metrics.clone()));
        match opened {
            Ok(partition) => Ok((path, partition)),
            Err(error) => Err(store_error(&path, error.to_string())),
        }
    };
    let mut partitions = (0..identity.partitions).map(open).collect::<Result<Vec<_>, _>>()?;
    tell_emptied(dir, &partitions);
    let last = |position: Position| position.next.checked_sub(1);
    let places: Vec<(u32, u64)> = (partitions.iter())
        .filter_map(|(_, partition)| Some((partition.number, partition.position().and_then(last)?)))
        .collect();
    let records = records_at(log, &places).await?;
    for (path, partition) in &mut partitions {
        let Some(position) = partition.position() else { continue };
        let number = partition.number;
        if records.get(&number).is_some_and(|record| frame::hash(&record.value) == position.last_hash) {
            continue;
        }
        if !is_held {
            let (path, offset) = (path.display().to_string(), position.next);
            return Err(StartError::Ahead { path, topic: log.topic().to_owned(), partition: number, offset });
        }
        warn!(
            path = %path.display(),
            partition = number,
            offset = position.next,
            "the log does not have what a local store has read: the store is deleted, and its partition is read again"
        );
        std::fs::remove_file(&*path).map_err(|error| store_error(path, error.to_string()))?;
        *partition = open(number)?.1;
    }
    Ok(partitions)
}

/// Deletes the stores once the log is another one. They may have read records that are not its own, and are disposable.
async fn clear_stores(trust: Trust, stores: Vec<PathBuf>) {
    trust.until_lost().await;
    for path in stores {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            error!(path = %path.display(), %error, "a local store of another log could not be deleted; delete it before the next start");
        }
    }
}

/// The reason and the remedy where a store failed under its worker. A damaged store is set aside for the next start.
fn broken(path: &Path, why: &StoreError) -> String {
    let store = path.display();
    match why {
        StoreError::Database(_) => {
            format!("local store {store}: {why}; correct that and restart the process")
        }
        _ => match damage::set_aside(path, why) {
            Ok(aside) => {
                let aside = aside.display();
                format!(
                    "local store {store}: {why}; it was set aside as {aside}: restart the process, which reads the partition again from the log"
                )
            }
            Err(error) => format!("local store {store}: {error}; delete it and restart the process"),
        },
    }
}

fn store_error(path: &Path, why: String) -> StartError {
    StartError::Store { path: path.display().to_string(), why }
}
