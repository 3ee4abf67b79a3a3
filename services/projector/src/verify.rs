//! The check that the read models equal the log. The whole log is read from its start and judged by fresh acceptors. The
//! records before the checkpoints of one database snapshot are folded twice. The projections fold them into temporary tables
//! that are compared row by row. The domain folds them too, and its state must agree with what each read model expects of it.
//!
//! Memory is bounded over any log: two batches, the heads that every reader has, and the states of as many accounts as go
//! into [`AT_ONCE`]. Where there are more, the log is read again for the others.

mod accounts;
mod expected;

use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

use saldo_facts::Commit;
use saldo_keyring::{Absent, Keyring};
use saldo_log::{Log, LogError, Record, ends, genesis::Identity};
use saldo_readmodel::{DECLARATIONS, ReadModelError, Schema};
use serde::Serialize;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tokio::task::JoinSet;

use crate::{
    ProjectorError,
    build::Build,
    compare::{self, Differences},
    fold::{Batch, Folding, Judged},
    live::READ,
    rebuild::{BATCH, BATCH_BYTES, Phase, Progress, WORTH},
};
use accounts::Accounts;

/// Bytes that the states of accounts may take up at once, as far as they are estimated.
pub const AT_ONCE: usize = 512 << 20;

/// One view of the live rows, with the shadow tables in it.
type Snapshot = Transaction<'static, Postgres>;

/// The findings of a check.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Report {
    /// Records read, Genesis included.
    pub records: u64,
    /// Commits that count.
    pub accepted: u64,
    /// Records that do not, by reason.
    pub void: BTreeMap<String, u64>,
    /// Those of them that no writer of ours makes.
    pub foreign: u64,
    /// Accounts with a history.
    pub accounts: u64,
    /// Accounts that stand still.
    pub parked: u64,
    /// Events in accepted commits.
    pub events: u64,
    /// Sealed values in accepted commits whose key is not in the key store; `None` where there was no key store to look in.
    pub seals_without_key: Option<u64>,
    /// The keys that they need. Each account has one.
    pub missing_keys: Option<u64>,
    /// Records that the read models have not come to: chains are checked there, rows are not.
    pub behind: u64,
    /// The differences.
    #[serde(flatten)]
    pub found: Differences,
}

/// Reads the whole log and compares; makes and changes nothing. Waits up to `patience` for the read models to reach the end
/// the log has now. With a key store personal values are compared too, where their keys still exist.
pub async fn verify(
    log: &dyn Log,
    identity: &Identity,
    pool: &PgPool,
    keyring: Option<&Keyring>,
    patience: Duration,
    progress: impl FnMut(Progress),
) -> Result<Report, ProjectorError> {
    verify_within(AT_ONCE, log, identity, pool, keyring, patience, progress).await
}

/// As [`verify`], with so many bytes of accounts in memory at once.
pub async fn verify_within(
    at_once: usize,
    log: &dyn Log,
    identity: &Identity,
    pool: &PgPool,
    keyring: Option<&Keyring>,
    patience: Duration,
    mut progress: impl FnMut(Progress),
) -> Result<Report, ProjectorError> {
    saldo_readmodel::existing(&mut *pool.acquire().await?).await?;
    let ends = ends(log, identity).await?;
    wait_for(&ends, identity, pool, patience).await?;
    saldo_readmodel::existing(&mut *pool.acquire().await?).await?;
    let mut snapshot = saldo_postgres::begin_long(pool).await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *snapshot).await?;
    let live = saldo_readmodel::keep(&mut snapshot).await?;
    let standing = standing(&live, &mut snapshot, identity).await?;
    let mut report = Report {
        behind: ends.iter().zip(&standing).map(|(end, standing)| end.saturating_sub(*standing)).sum(),
        ..Report::default()
    };
    let shadow = live.shadow(&mut snapshot).await?;
    let build = Build { pool: pool.clone(), schema: shadow.clone(), keyring: keyring.cloned(), only_live: false };
    let keys = keyring.map(|keyring| (keyring, Absent::default()));
    let mut fold = Fold { folding: Folding::new(identity), accounts: Accounts::within(at_once), standing, keys };
    let mut snapshot = fold.read(log, &ends, Arc::new(build), snapshot, &mut report, &mut progress).await?;
    if let Some((keyring, absent)) = fold.keys.take() {
        let absent = absent.count(keyring).await?;
        (report.seals_without_key, report.missing_keys) = (Some(absent.values), Some(absent.keys));
    }
    progress(Progress { phase: Phase::Comparing, done: report.records, total: report.records });
    compare::rows(&mut snapshot, &shadow, &live, shadow.compared(&live), &mut report.found).await?;
    if keyring.is_some() {
        compare::personal(&mut snapshot, &shadow, &live, &mut report.found).await?;
    }
    loop {
        let accounts = &fold.accounts;
        report.parked += accounts.parked();
        for expected in DECLARATIONS.iter().flat_map(|model| model.expected) {
            expected::compare(&mut snapshot, live.name(), expected, accounts, &mut report.found).await?;
        }
        if !fold.accounts.next_slice() {
            break;
        }
        fold.read_again(log, identity, &mut progress).await?;
    }
    snapshot.rollback().await?;
    Ok(report)
}

/// The offsets behind what a build has read, by partition.
async fn standing(
    build: &Schema,
    connection: &mut PgConnection,
    identity: &Identity,
) -> Result<Vec<u64>, ReadModelError> {
    build.standing(connection, identity, false).await?.ok_or(ReadModelError::OtherLog)
}

async fn wait_for(ends: &[u64], identity: &Identity, pool: &PgPool, patience: Duration) -> Result<(), ProjectorError> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let mut connection = pool.acquire().await?;
        let live = saldo_readmodel::live(&mut connection).await?;
        let standing = standing(&live, &mut connection, identity).await?;
        if ends.iter().zip(&standing).all(|(end, standing)| standing >= end) || tokio::time::Instant::now() >= deadline
        {
            return Ok(());
        }
        drop(connection);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Fold<'k> {
    folding: Folding,
    accounts: Accounts,
    standing: Vec<u64>,
    /// The key store, and the seals whose keys it does not have.
    keys: Option<(&'k Keyring, Absent)>,
}

impl Fold<'_> {
    /// Reads up to the ends, or further where the read models have. While one batch is written into the shadow tables of
    /// the snapshot, the next is folded.
    async fn read(
        &mut self,
        log: &dyn Log,
        ends: &[u64],
        build: Arc<Build>,
        snapshot: Snapshot,
        report: &mut Report,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Snapshot, ProjectorError> {
        let mut until = Vec::new();
        for ((partition, end), standing) in (0u32..).zip(ends).zip(&self.standing) {
            if standing > end && log.end(partition).await? < *standing {
                let why = "the read models have read further".to_owned();
                return Err(LogError::Cut { partition, offset: *standing, why }.into());
            }
            until.push(*standing.max(end));
        }
        let until = |partition: u32| until.get(partition as usize).copied().unwrap_or(0);
        let total = (0u32..).zip(&self.standing).map(|(partition, _)| until(partition)).sum();
        let Some(mut tail) = self.folding.tail(log, until).await? else { return Ok(snapshot) };
        let mut batch = Batch::default();
        let mut idle = Some(snapshot);
        // One at most; ended with this function.
        let mut writing = JoinSet::new();
        loop {
            let read = report.records == total;
            if (read || batch.is_full(WORTH, BATCH_BYTES))
                && !batch.is_empty()
                && let Some(mut snapshot) = idle.take()
            {
                let (taken, build) = (mem::take(&mut batch), build.clone());
                writing.spawn(async move { build.write_in(&mut snapshot, &taken).await.map(|_| snapshot) });
            }
            if read && let Some(snapshot) = idle.take_if(|_| batch.is_empty()) {
                return Ok(snapshot);
            }
            tokio::select! {
                Some(ended) = writing.join_next() => idle = Some(ended??),
                records = tail.next(READ), if !read && !batch.is_full(BATCH, BATCH_BYTES) => {
                    for record in records?.iter().filter(|record| record.offset < until(record.partition)) {
                        self.fold(&mut batch, record, report)?;
                    }
                    progress(Progress { phase: Phase::Reading, done: report.records, total });
                }
            }
        }
    }

    /// Judges a record; where the read models have come to it, it is folded both ways.
    fn fold(&mut self, batch: &mut Batch, record: &Record, report: &mut Report) -> Result<(), ProjectorError> {
        let is_read = self.standing.get(record.partition as usize).is_some_and(|standing| record.offset < *standing);
        let judged = self.folding.judge(record)?;
        report.records += 1;
        match &judged {
            Judged::Genesis | Judged::Again => {}
            Judged::Void(reason) => {
                *report.void.entry(reason.to_string()).or_default() += 1;
                report.foreign += u64::from(reason.is_foreign());
            }
            Judged::Accepted { frame, commit, .. } => {
                report.accepted += 1;
                report.accounts += u64::from(frame.version == 1);
                report.events += commit.as_ref().as_ref().map_or(0, |commit| commit.events.len()) as u64;
                if let Some((keyring, absent)) = &mut self.keys {
                    Commit::key_ids(frame.payload).iter().for_each(|id| absent.note(keyring, id));
                }
                if is_read {
                    self.accounts.fold(frame, commit);
                }
            }
        }
        if is_read {
            self.folding.take(batch, record, judged);
        }
        Ok(())
    }

    /// Reads up to where the read models stand, for the accounts of the next slice alone.
    async fn read_again(
        &mut self,
        log: &dyn Log,
        identity: &Identity,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), ProjectorError> {
        let mut folding = Folding::new(identity);
        let until = |partition: u32| self.standing.get(partition as usize).copied().unwrap_or(0);
        let total = self.standing.iter().sum();
        let Some(mut tail) = folding.tail(log, until).await? else { return Ok(()) };
        let mut done = 0;
        while done < total {
            for record in tail.next(READ).await?.iter().filter(|record| record.offset < until(record.partition)) {
                done += 1;
                if let Judged::Accepted { frame, commit, .. } = folding.judge(record)? {
                    self.accounts.fold(&frame, &commit);
                }
            }
            progress(Progress { phase: Phase::Reading, done, total });
        }
        Ok(())
    }
}
