//! Feeds the workers: requests by their account's partition, records by the partition they stand in.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use saldo_gate::Held;
use saldo_log::{Log, LogError, Record, acceptor::Acceptor, frame, genesis::Identity};
use saldo_telemetry::span::{Steps, Trace};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    failure::{Failure, StartError},
    queue::{self, Giver},
    report::Report,
    skew::{ClockCheck, Standing},
    store::{Resumed, Store, StoreError, StoredAccount},
    worker::{Ask, Basis, Given, Heard, Shared, Worker},
};

/// Records asked of the tail in one go.
const BATCH: usize = 2_048;
/// Batches of records a worker may have before it; beyond it the tail waits.
const FEED: usize = 4;
/// Between tries to reach a log that is out of reach.
const RETRY: Duration = Duration::from_millis(500);

/// How a command service runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the local stores, one file a partition. One instance at a time.
    pub store_dir: PathBuf,
    /// Requests of one partition that may be unanswered, shared between tenants; beyond it they are answered
    /// RESOURCE_EXHAUSTED.
    pub queue: usize,
    /// The longest a request waits for its answer.
    pub patience: Duration,
}

/// The workers, and the way to them.
#[derive(Clone)]
pub struct Commands {
    log: Arc<dyn Log>,
    identity: Identity,
    /// What waits for each worker.
    queues: Arc<[Giver<Ask>]>,
    /// What else each worker hears.
    ears: Arc<[mpsc::WeakSender<Heard>]>,
    positions: Arc<[watch::Receiver<u64>]>,
    check: Arc<ClockCheck>,
    report: Report,
    patience: Duration,
}

/// The running threads and tasks. Ends when every [`Commands`] is dropped, or when something fails for good.
pub struct Running {
    threads: Vec<std::thread::JoinHandle<()>>,
    tail: JoinHandle<()>,
    probe: JoinHandle<()>,
    failed: CancellationToken,
    failure: Arc<Mutex<Option<String>>>,
}

impl Commands {
    /// Opens the stores and starts a worker a partition and the tail that feeds them.
    pub async fn start(
        log: Arc<dyn Log>,
        identity: Identity,
        basis: Basis,
        options: Options,
    ) -> Result<(Self, Running), StartError> {
        let store_error =
            |path: &std::path::Path, why: String| StartError::Store { path: path.display().to_string(), why };
        std::fs::create_dir_all(&options.store_dir)
            .map_err(|error| store_error(&options.store_dir, error.to_string()))?;
        let runtime = Handle::current();
        let failed = CancellationToken::new();
        let failure = Arc::new(Mutex::new(None));
        let report = Report::new();
        let check = Arc::new(ClockCheck::new(basis.clock.clone(), report.clone()));
        let partitions = identity.partitions;
        let shared = Shared { log: log.clone(), basis, check: check.clone(), report: report.clone(), partitions };
        let (mut queues, mut ears, mut positions, mut threads, mut feeds, mut starts) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), HashMap::new(), Vec::new());
        for partition in 0..identity.partitions {
            let path = options.store_dir.join(format!("partition-{partition}.redb"));
            let (store, acceptor, parked) =
                open(&path, &identity, partition).map_err(|error| store_error(&path, error.to_string()))?;
            starts.push((partition, acceptor.start()));
            let (queue, asks) = queue::queue(options.queue);
            let (feed, heard) = mpsc::channel(FEED);
            let (moved, position) = watch::channel(acceptor.position().map_or(0, |position| position.next));
            let worker = Worker::new(partition, shared.clone(), acceptor, store, parked, feed.clone(), moved);
            let (runtime, failed, failure) = (runtime.clone(), failed.clone(), failure.clone());
            threads.push(std::thread::Builder::new().name(format!("partition-{partition}")).spawn(move || {
                // A worker's thread that ends by itself has failed, a panic included: the whole service stops.
                let stop = failed.clone().drop_guard();
                match worker.run(runtime, asks, heard) {
                    Ok(()) => drop(stop.disarm()),
                    Err(why) => {
                        error!(partition, %why, "the command service stops");
                        note(&failure, why.to_string());
                    }
                }
            })?);
            queues.push(queue);
            ears.push(feed.downgrade());
            positions.push(position);
            feeds.insert(partition, feed);
        }
        let tail = tokio::spawn(feed(log.clone(), starts, feeds, check.clone(), failed.clone(), failure.clone()));
        let probe = tokio::spawn(check.clone().probe(log.clone()));
        let queues: Arc<[Giver<Ask>]> = queues.into();
        report.watch_queues(&queues);
        let commands = Self {
            log,
            identity,
            queues,
            ears: ears.into(),
            positions: positions.into(),
            check,
            report,
            patience: options.patience,
        };
        Ok((commands, Running { threads, tail, probe, failed, failure }))
    }

    /// Whether this machine's clock may decide, and how that changes.
    pub fn clock(&self) -> watch::Receiver<Standing> {
        self.check.standing()
    }

    /// The instant of a decision that is made now. Fails while nothing may be decided.
    pub(crate) fn now(&self) -> Result<Timestamp, Failure> {
        self.check.read_clock().map(|reading| reading.instant)
    }

    /// Where figures go.
    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// When a request that comes now has to be answered, whose client waits so long.
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
        for partition in 0..self.identity.partitions {
            let end = self.log.end(partition).await?;
            if let Some(position) = self.positions.get(partition as usize) {
                // The sender lives as long as the worker; without one there is nothing to wait for.
                let _ = position.clone().wait_for(|next| *next >= end).await;
            }
        }
        self.check.find_out().await;
        Ok(())
    }

    /// An account as it stands where its partition's tail has come to.
    pub(crate) async fn look(&self, key: &str) -> Result<StoredAccount, Failure> {
        let ear = self.ears.get(self.partition_of(key) as usize).ok_or(Failure::Stopped)?;
        let (reply, seen) = oneshot::channel();
        let heard = ear.upgrade().ok_or(Failure::Stopped)?;
        heard.send(Heard::Look(key.into(), reply)).await.map_err(|_| Failure::Stopped)?;
        drop(heard);
        tokio::time::timeout(self.patience, seen).await.map_err(|_| Failure::TimedOut)?.map_err(|_| Failure::Stopped)
    }

    /// Asks the account's worker. "Unknown account" is said only after reading to an end fetched after the request came.
    pub(crate) async fn ask(&self, request: NewAsk) -> Result<Given, Failure> {
        // A request that cannot be decided takes no place in a queue.
        self.now()?;
        let partition = self.partition_of(&request.key);
        match self.ask_after(partition, request.clone(), 0).await {
            Err(Failure::AccountUnknown) => {
                let end = tokio::time::timeout_at(request.deadline.into(), self.log.end(partition)).await;
                let end = end.map_err(|_| Failure::TimedOut)?.map_err(|_| Failure::LogUnknown)?;
                self.ask_after(partition, request, end).await
            }
            answer => answer,
        }
    }

    async fn ask_after(&self, partition: u32, request: NewAsk, after: u64) -> Result<Given, Failure> {
        let (reply, answer) = oneshot::channel();
        let deadline = request.deadline;
        let queue = self.queues.get(partition as usize).ok_or(Failure::Stopped)?;
        let place = queue.enter(&request.tenant, deadline, Instant::now())?;
        let tenant = place.tenant().clone();
        let ask = Ask {
            key: request.key,
            tenant: request.tenant,
            account: request.account,
            draft: request.draft,
            command: request.command,
            after,
            races: 0,
            deadline,
            reply,
            steps: Steps::begin(request.trace, "queue"),
            _place: place,
            _held: request.held,
        };
        queue.push(&tenant, ask)?;
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Failure::LogUnknown),
            Err(_) => Err(Failure::TimedOut),
        }
    }
}

/// A request for a worker, before it has a place in a queue.
#[derive(Clone)]
pub(crate) struct NewAsk {
    pub key: Box<str>,
    pub tenant: String,
    pub account: String,
    pub draft: crate::worker::Draft,
    pub command: saldo_domain::command::Command,
    pub trace: Trace,
    /// When its client stops waiting.
    pub deadline: Instant,
    /// Its room in the process.
    pub held: Option<Arc<Held>>,
}

impl Running {
    /// Resolves when something has failed for good.
    pub async fn failed(&self) -> String {
        self.failed.cancelled().await;
        let why = self.failure.lock().ok().and_then(|why| why.clone());
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
    }
}

fn note(failure: &Mutex<Option<String>>, why: String) {
    if let Ok(mut failure) = failure.lock() {
        failure.get_or_insert(why);
    }
}

/// A partition's store, where it stands, and how many of its accounts are parked.
fn open(path: &std::path::Path, identity: &Identity, partition: u32) -> Result<(Store, Acceptor, u64), StoreError> {
    let store = Store::open(path, identity.log_id)?;
    let (acceptor, parked) = match store.resume()? {
        Some(Resumed { position, heads, parked }) => (Acceptor::resume(identity, partition, position, heads), parked),
        None => (Acceptor::new(identity, partition), 0),
    };
    Ok((store, acceptor, parked))
}

/// Reads one tail over all partitions and hands each its records. When the log was out of reach, the tail is opened again
/// at the last record of each, so that the workers see whether it is still the log they know.
async fn feed(
    log: Arc<dyn Log>,
    mut next: Vec<(u32, u64)>,
    feeds: HashMap<u32, mpsc::Sender<Heard>>,
    check: Arc<ClockCheck>,
    failed: CancellationToken,
    failure: Arc<Mutex<Option<String>>>,
) {
    loop {
        let error = match log.tail(&next).await {
            Ok(mut tail) => loop {
                match tail.next(BATCH).await {
                    Ok(records) => {
                        check.read(&records);
                        hand_out(records, &mut next, &feeds).await;
                    }
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        if let LogError::Cut { .. } = error {
            note(&failure, error.to_string());
            failed.cancel();
            return;
        }
        warn!(%error, "the log is out of reach; trying again");
        tokio::time::sleep(RETRY).await;
        for (partition, offset) in &mut next {
            let (asked, start) = oneshot::channel();
            if let Some(feed) = feeds.get(partition)
                && feed.send(Heard::Reopened(asked)).await.is_ok()
                && let Ok(start) = start.await
            {
                *offset = start;
            }
        }
    }
}

async fn hand_out(records: Vec<Record>, next: &mut [(u32, u64)], feeds: &HashMap<u32, mpsc::Sender<Heard>>) {
    let mut by_partition: HashMap<u32, Vec<Record>> = HashMap::new();
    for record in records {
        if let Some((_, offset)) = next.iter_mut().find(|(partition, _)| *partition == record.partition) {
            *offset = record.offset + 1;
        }
        by_partition.entry(record.partition).or_default().push(record);
    }
    for (partition, records) in by_partition {
        if let Some(feed) = feeds.get(&partition) {
            // A worker that has ended reports itself.
            let _ = feed.send(Heard::Records(records)).await;
        }
    }
}
