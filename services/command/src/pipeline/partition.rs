//! The accounts of one partition, as the log has them: read from records, kept in memory over the store, and saved together
//! with the position in the log that they belong to.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::{Duration, Instant},
};

use saldo_log::{
    Record,
    acceptor::{Acceptor, Diverged, Head, Position, Verdict},
    frame::Frame,
    genesis::Identity,
};
use tracing::{info, warn};

use super::{
    account::LiveAccount,
    fold::{Decoder, fold},
    request::Reply,
    store::{Resumed, Store, StoreError, UnreadCommit},
};
use crate::metrics::CommandMetrics;

/// Accounts kept in memory over all partitions. Beyond its share a partition reads idle accounts from the store again.
const MAX_LIVE: usize = 16_384;
/// How often the store is saved while it changes.
const SAVE_EVERY: Duration = Duration::from_secs(2);
/// Answers given between two saves at most, over all partitions, which bounds the memory they take.
const MAX_UNSAVED: usize = 80_000;
/// Bytes of parked accounts' commits between two saves at most, over all partitions; likewise.
const MAX_UNSAVED_BYTES: usize = 64 << 20;

/// Why a partition cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// The log is not the one read so far.
    #[error("{0}")]
    Diverged(#[from] Diverged),
    /// The local store failed.
    #[error("local store: {0}")]
    Store(#[from] StoreError),
}

/// The accounts of one partition.
pub struct Partition {
    /// Its number.
    pub number: u32,
    acceptor: Acceptor,
    store: Store,
    decode: Decoder,
    accounts: HashMap<Box<str>, Box<LiveAccount>>,
    /// Accounts whose state is not saved; they stay in memory until it is.
    changed: HashSet<Box<str>>,
    /// Accounts that cannot be decided on.
    parked: u64,
    unsaved_since: Option<Instant>,
    limits: Limits,
    metrics: CommandMetrics,
}

/// One partition's share of what an instance may keep in memory.
struct Limits {
    live: usize,
    unsaved: usize,
    unsaved_bytes: usize,
}

impl Partition {
    /// Opens the store in this file and goes on where it was saved. Accounts that were parked are read again.
    pub fn open(
        path: &Path,
        identity: &Identity,
        number: u32,
        decode: Decoder,
        metrics: CommandMetrics,
    ) -> Result<Self, StoreError> {
        let store = Store::open(path, identity.log_id)?;
        let (acceptor, parked) = match store.resume()? {
            Some(Resumed { position, heads, parked }) => (Acceptor::resume(identity, number, position, heads), parked),
            None => (Acceptor::new(identity, number), Vec::new()),
        };
        let share = |of: usize| of.div_ceil(identity.partitions.max(1) as usize);
        let mut partition = Self {
            number,
            acceptor,
            store,
            decode,
            accounts: HashMap::new(),
            changed: HashSet::new(),
            parked: parked.len() as u64,
            unsaved_since: None,
            limits: Limits {
                live: share(MAX_LIVE),
                unsaved: share(MAX_UNSAVED),
                unsaved_bytes: share(MAX_UNSAVED_BYTES),
            },
            metrics,
        };
        for key in parked {
            partition.read_again(&key)?;
        }
        Ok(partition)
    }

    /// Folds the commits of a parked account that this release can read. The account is parked no more when it can read all.
    fn read_again(&mut self, key: &str) -> Result<(), StoreError> {
        let live = load(&mut self.accounts, &self.store, key)?;
        live.stored.parked = None;
        for UnreadCommit { version, offset, payload } in self.store.unread(key)? {
            match (self.decode)(&payload) {
                Ok(commit) => {
                    let remembered = fold(&mut live.stored, &mut self.store, key, &commit, version, offset)?;
                    self.store.put_answer(key, &commit.request_id, remembered);
                    self.store.forget_unread(key, version);
                }
                Err(why) => {
                    live.stored.parked = Some(why.to_string());
                    break;
                }
            }
        }
        if live.stored.parked.is_none() {
            info!(partition = self.number, "a parked account is read again");
            self.parked = self.parked.saturating_sub(1);
        }
        self.changed.insert(key.into());
        self.unsaved_since.get_or_insert_with(Instant::now);
        self.keep_tidy()
    }

    /// Why the store was emptied when it was opened, where it was.
    pub fn emptied(&self) -> Option<&str> {
        self.store.emptied()
    }

    /// The offset to open the tail at.
    pub fn start(&self) -> u64 {
        self.acceptor.start()
    }

    /// Reads records in log order: answers the commands whose commits they are, and folds every accepted commit. `own` sees
    /// each record of our own. Returns the accounts that were touched.
    pub fn read(&mut self, records: &[Record], mut own: impl FnMut(&Record)) -> Result<Vec<Box<str>>, PartitionError> {
        let mut touched: Vec<Box<str>> = Vec::new();
        let mut accepted = 0;
        for record in records {
            let (frame, hash) = match self.acceptor.judge(record)? {
                Verdict::Accepted { frame, hash } => (frame, hash),
                Verdict::Void(reason) => {
                    self.metrics.void(reason);
                    if reason.is_foreign() {
                        saldo_telemetry::foreign_records("accounts", 1);
                        let (partition, offset) = (self.number, record.offset);
                        warn!(partition, offset, %reason, "somebody else has written the log; the record counts for nobody");
                    }
                    continue;
                }
                Verdict::Genesis | Verdict::Resumed => continue,
            };
            accepted += 1;
            let key: Box<str> = frame.key().into();
            self.take_in(&key, record, &frame, &hash, &mut own)?;
            touched.push(key);
        }
        self.metrics.accepted(accepted);
        touched.sort_unstable();
        touched.dedup();
        for key in &touched {
            if !self.changed.contains(key) {
                self.changed.insert(key.clone());
            }
        }
        self.unsaved_since.get_or_insert_with(Instant::now);
        Ok(touched)
    }

    /// Folds one accepted commit, and answers its command where it is ours.
    fn take_in(
        &mut self,
        key: &str,
        record: &Record,
        frame: &Frame<'_>,
        hash: &[u8; 32],
        own: &mut impl FnMut(&Record),
    ) -> Result<(), PartitionError> {
        let live = load(&mut self.accounts, &self.store, key)?;
        let (commit, queued) = match live.take_own(hash) {
            Some(in_flight) => {
                own(record);
                (Ok(in_flight.commit), Some(in_flight.queued))
            }
            None => ((self.decode)(frame.payload), None),
        };
        let commit = match commit {
            Ok(commit) if live.stored.parked.is_none() => commit,
            unread => {
                if let (None, Err(why)) = (&live.stored.parked, &unread) {
                    warn!(partition = self.number, offset = record.offset, %why, "account parked");
                    self.parked += 1;
                    live.park(why.to_string());
                }
                let payload = frame.payload.to_vec();
                let unread = UnreadCommit { version: frame.version, offset: record.offset, payload };
                self.store.keep_unread(key, unread);
                return Ok(());
            }
        };
        let remembered = fold(&mut live.stored, &mut self.store, key, &commit, frame.version, record.offset)?;
        match queued {
            Some(queued) => queued.answer(Ok(Reply { answer: remembered.answer.clone(), replayed: false })),
            None => self.metrics.races_lost(live.lose_race()),
        }
        self.store.put_answer(key, &commit.request_id, remembered);
        Ok(())
    }

    /// An account, from memory or from the store.
    pub fn account(&mut self, key: &str) -> Result<&mut LiveAccount, StoreError> {
        load(&mut self.accounts, &self.store, key)
    }

    /// An account that is in memory, with the store that its documents and answers stand in.
    pub fn live(&mut self, key: &str) -> Option<(&mut LiveAccount, &Store)> {
        Some((self.accounts.get_mut(key)?, &self.store))
    }

    /// Every account that is in memory.
    pub fn all_live(&mut self) -> impl Iterator<Item = &mut LiveAccount> {
        self.accounts.values_mut().map(|live| &mut **live)
    }

    /// Whether a command waits or is in flight on any account.
    pub fn is_busy(&self) -> bool {
        self.accounts.values().any(|live| live.is_busy())
    }

    /// Whether a commit of this account is in flight.
    pub fn is_in_flight(&self, key: &str) -> bool {
        self.accounts.get(key).is_some_and(|live| !live.in_flight.is_empty())
    }

    /// An account's head.
    pub fn head(&self, key: &str) -> Head {
        self.acceptor.head(key)
    }

    /// How far the log is read; `None` before the first record.
    pub fn position(&self) -> Option<Position> {
        self.acceptor.position()
    }

    /// The tail is opened again, at the offset returned.
    pub fn reopen(&mut self) -> u64 {
        self.acceptor.reopen()
    }

    /// When the store is to be saved next; `None` while nothing has changed.
    pub fn save_at(&self) -> Option<Instant> {
        self.unsaved_since.map(|since| since + SAVE_EVERY)
    }

    /// Saves the store from time to time, and drops idle accounts from memory when there are many.
    pub fn keep_tidy(&mut self) -> Result<(), StoreError> {
        let full =
            self.store.unsaved() >= self.limits.unsaved || self.store.unsaved_bytes() >= self.limits.unsaved_bytes;
        if full || self.save_at().is_some_and(|at| at <= Instant::now()) {
            self.save()?;
        }
        if self.accounts.len() > self.limits.live {
            self.save()?;
            self.accounts.retain(|_, live| live.is_busy());
        }
        Ok(())
    }

    /// Saves what has changed, with the position it belongs to.
    pub fn save(&mut self) -> Result<(), StoreError> {
        if let (Some(_), Some(position)) = (self.unsaved_since.take(), self.acceptor.position()) {
            let (changed, accounts, acceptor) = (&self.changed, &mut self.accounts, &self.acceptor);
            self.store.save(position, |writer| {
                for key in changed {
                    if let Some(live) = accounts.get_mut(key) {
                        writer.write(key, acceptor.head(key), &mut live.stored)?;
                    }
                }
                Ok(())
            })?;
            self.changed.clear();
            self.metrics.accounts(self.number, self.accounts.len(), self.parked);
        }
        Ok(())
    }
}

fn load<'a>(
    accounts: &'a mut HashMap<Box<str>, Box<LiveAccount>>,
    store: &Store,
    key: &str,
) -> Result<&'a mut LiveAccount, StoreError> {
    if !accounts.contains_key(key) {
        accounts.insert(key.into(), Box::new(LiveAccount::new(store.account(key)?)));
    }
    Ok(accounts.entry(key.into()).or_default())
}

#[cfg(test)]
mod tests;
