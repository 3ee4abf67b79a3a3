//! The check that the read models equal the log. The whole log is read from its start and judged by fresh acceptors. What
//! stands before the checkpoints of one database snapshot is folded twice: by the projections, into temporary tables that
//! are compared row by row, and by the domain itself, whose state must give the same open items, balances and reminders.

mod contacts;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use saldo_commit::Commit;
use saldo_domain::{
    account::{Account, CreditKind},
    evolve,
};
use saldo_log::{
    Log, LogError, Record,
    acceptor::{Acceptor, Verdict},
    genesis::Identity,
};
use saldo_readmodel::{COMPARED, Opened, ReadModelError, Schema};
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};

use crate::{ProjectorError, fold::Folding, live::BATCH, rebuild::Progress};

/// Differences listed; beyond it they are only counted.
const LISTED: usize = 100;

/// Something that is not as the log says.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// `tenant/account`.
    pub account: String,
    /// What differs.
    pub what: String,
    /// What the log says.
    pub log: String,
    /// What the rows say.
    pub rows: String,
}

/// What a check found.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Report {
    /// Records read, Genesis included.
    pub records: u64,
    /// Commits that count.
    pub accepted: u64,
    /// Records that do not, by reason.
    pub void: BTreeMap<String, u64>,
    /// Accounts with a history.
    pub accounts: u64,
    /// Accounts that stand still.
    pub parked: u64,
    /// Events in accepted commits.
    pub events: u64,
    /// Records that the read models have not come to: chains are checked there, rows are not.
    pub behind: u64,
    /// How many differences there are.
    pub differences: u64,
    /// The first of them.
    pub examples: Vec<Difference>,
}

impl Report {
    fn differ(&mut self, account: &str, what: &str, log: impl ToString, rows: impl ToString) {
        self.differences += 1;
        if self.examples.len() < LISTED {
            let (log, rows) = (log.to_string(), rows.to_string());
            self.examples.push(Difference { account: account.to_owned(), what: what.to_owned(), log, rows });
        }
    }
}

#[derive(Default)]
struct Folded {
    account: Account,
    parked: bool,
}

/// Reads the whole log and compares. Waits up to `patience` for the read models to reach the end the log has now.
pub async fn verify(
    log: &dyn Log,
    identity: &Identity,
    pool: &PgPool,
    patience: Duration,
    mut progress: impl FnMut(Progress),
) -> Result<Report, ProjectorError> {
    saldo_readmodel::ensure(pool, identity).await?;
    let mut ends = Vec::new();
    for partition in 0..identity.partitions {
        ends.push(log.end(partition).await?);
    }
    wait_for(&ends, identity, pool, patience).await?;
    let live = saldo_readmodel::live(&mut *pool.acquire().await?).await?;
    let mut snapshot = pool.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *snapshot).await?;
    let standing = standing(&live, &mut snapshot, identity).await?;
    let mut report = Report {
        behind: ends.iter().zip(&standing).map(|(end, standing)| end.saturating_sub(*standing)).sum(),
        ..Report::default()
    };
    let shadow = live.shadow(&mut snapshot).await?;
    let mut fold = Fold {
        acceptors: (0..identity.partitions).map(|partition| Acceptor::new(identity, partition)).collect(),
        folding: Folding::new(identity),
        accounts: HashMap::new(),
        standing,
    };
    fold.read(log, &ends, &shadow, &mut snapshot, &mut report, &mut progress).await?;
    report.parked = fold.accounts.values().filter(|one| one.parked).count() as u64;
    rows(&mut snapshot, &live, &shadow, &mut report).await?;
    items(&mut snapshot, live.name(), &fold.accounts, &mut report).await?;
    balances(&mut snapshot, live.name(), &fold.accounts, &mut report).await?;
    contacts::contacts(&mut snapshot, live.name(), &fold.accounts, &mut report).await?;
    snapshot.rollback().await?;
    Ok(report)
}

/// The offsets behind what a build has read, by partition.
async fn standing(
    build: &Schema,
    connection: &mut PgConnection,
    identity: &Identity,
) -> Result<Vec<u64>, ReadModelError> {
    let checkpoints = build.checkpoints(connection, identity, false).await?;
    Ok(checkpoints.iter().map(|one| one.position.map_or(0, |position| position.next)).collect())
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

struct Fold {
    acceptors: Vec<Acceptor>,
    folding: Folding,
    accounts: HashMap<String, Folded>,
    standing: Vec<u64>,
}

impl Fold {
    /// Reads up to the ends, or further where the read models have.
    async fn read(
        &mut self,
        log: &dyn Log,
        ends: &[u64],
        shadow: &Schema,
        snapshot: &mut PgConnection,
        report: &mut Report,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), ProjectorError> {
        let mut until = HashMap::new();
        for ((partition, end), standing) in (0u32..).zip(ends).zip(&self.standing) {
            if standing > end && log.end(partition).await? < *standing {
                let why = "the read models have read further".to_owned();
                return Err(LogError::Cut { partition, offset: *standing, why }.into());
            }
            until.insert(partition, *standing.max(end));
        }
        let total = until.values().sum();
        let from: Vec<(u32, u64)> =
            until.iter().filter(|(_, end)| **end > 0).map(|(partition, _)| (*partition, 0)).collect();
        if from.is_empty() {
            return Ok(());
        }
        let mut tail = log.tail(&from).await?;
        while report.records < total {
            let mut records = tail.next(BATCH).await?;
            records.retain(|record| until.get(&record.partition).is_some_and(|end| record.offset < *end));
            for record in &records {
                self.judge(record, report)?;
            }
            records.retain(|record| self.is_read(record));
            let (moves, rows) = self.folding.take(&records)?;
            if !moves.is_empty() {
                saldo_readmodel::apply(snapshot, shadow, &moves, &rows, &Opened::default()).await?;
            }
            progress(Progress { done: report.records, total });
        }
        Ok(())
    }

    /// Whether the read models have come to this record.
    fn is_read(&self, record: &Record) -> bool {
        self.standing.get(record.partition as usize).is_some_and(|standing| record.offset < *standing)
    }

    fn judge(&mut self, record: &Record, report: &mut Report) -> Result<(), ProjectorError> {
        let is_read = self.is_read(record);
        let Some(acceptor) = self.acceptors.get_mut(record.partition as usize) else { return Ok(()) };
        report.records += 1;
        let frame = match acceptor.judge(record)? {
            Verdict::Genesis | Verdict::Resumed => return Ok(()),
            Verdict::Void(reason) => {
                *report.void.entry(reason.to_string()).or_default() += 1;
                return Ok(());
            }
            Verdict::Accepted { frame, .. } => frame,
        };
        report.accepted += 1;
        report.accounts += u64::from(frame.version == 1);
        let commit = Commit::decode(frame.payload);
        report.events += commit.as_ref().map_or(0, |commit| commit.events.len()) as u64;
        if !is_read {
            return Ok(());
        }
        let folded = self.accounts.entry(frame.key()).or_default();
        match commit {
            Ok(commit) if !folded.parked => {
                commit.events.iter().for_each(|event| evolve(&mut folded.account, event));
            }
            Ok(_) => {}
            Err(_) => folded.parked = true,
        }
        Ok(())
    }
}

/// Row by row, both ways.
async fn rows(
    connection: &mut PgConnection,
    live: &Schema,
    shadow: &Schema,
    report: &mut Report,
) -> Result<(), ProjectorError> {
    for table in COMPARED {
        let (missing, log) = shadow.rows_beyond(connection, live, table, LISTED).await?;
        let (extra, rows) = live.rows_beyond(connection, shadow, table, LISTED).await?;
        for row in log {
            report.differ("", table, row, "no such row");
        }
        for row in rows {
            report.differ("", table, "no such row", row);
        }
        let listed = (missing.min(LISTED as u64)) + extra.min(LISTED as u64);
        report.differences += missing + extra - listed;
    }
    Ok(())
}

/// kind, document, instalment, currency -> open minor units.
type Items = BTreeMap<(String, String, u32, String), i64>;

fn expected(account: &Account) -> Items {
    let open = account.items.iter().map(|item| {
        (("invoice".to_owned(), item.invoice.to_string(), item.instalment, item.currency.to_string()), item.open)
    });
    let credits = account.credits.iter().map(|credit| {
        let kind = match credit.kind {
            CreditKind::Payment => "payment",
            CreditKind::CreditNote => "credit_note",
        };
        ((kind.to_owned(), credit.document.to_string(), 0, credit.currency.to_string()), -credit.remaining)
    });
    open.chain(credits).collect()
}

/// The domain's state gives the same open items.
async fn items(
    connection: &mut PgConnection,
    schema: &str,
    accounts: &HashMap<String, Folded>,
    report: &mut Report,
) -> Result<(), ProjectorError> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT tenant || '/' || account, kind, document, instalment, currency::text, open_minor
         FROM {schema}.items WHERE open_minor <> 0"
    )))
    .fetch_all(connection)
    .await?;
    let mut found: HashMap<String, Items> = HashMap::new();
    for row in rows {
        let item = (row.try_get(1)?, row.try_get(2)?, row.try_get::<i32, _>(3)? as u32, row.try_get(4)?);
        found.entry(row.try_get(0)?).or_default().insert(item, row.try_get(5)?);
    }
    for (key, folded) in accounts.iter().filter(|(_, folded)| !folded.parked) {
        let (log, rows) = (expected(&folded.account), found.remove(key).unwrap_or_default());
        if log != rows {
            report.differ(key, "open items", format!("{log:?}"), format!("{rows:?}"));
        }
    }
    for (key, rows) in found {
        if accounts.get(&key).is_none_or(|folded| !folded.parked) {
            report.differ(&key, "open items", "no such account", format!("{rows:?}"));
        }
    }
    Ok(())
}

/// The ledger sums to each account's balance.
async fn balances(
    connection: &mut PgConnection,
    schema: &str,
    accounts: &HashMap<String, Folded>,
    report: &mut Report,
) -> Result<(), ProjectorError> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT tenant || '/' || account, currency::text, sum(amount_minor)::bigint
         FROM {schema}.ledger GROUP BY tenant, account, currency"
    )))
    .fetch_all(connection)
    .await?;
    let mut sums: BTreeMap<(String, String), i64> = BTreeMap::new();
    for row in rows {
        sums.insert((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
    }
    for (key, folded) in accounts.iter().filter(|(_, folded)| !folded.parked) {
        let mut balances: BTreeMap<String, i64> = BTreeMap::new();
        for ((_, _, _, currency), open) in expected(&folded.account) {
            *balances.entry(currency).or_default() += open;
        }
        let of_account: Vec<(String, i64)> = sums
            .range((key.clone(), String::new())..)
            .take_while(|((account, _), _)| account == key)
            .map(|((_, currency), sum)| (currency.clone(), *sum))
            .collect();
        for (currency, sum) in &of_account {
            let balance = balances.remove(currency).unwrap_or(0);
            if balance != *sum {
                report.differ(key, &format!("ledger sum in {currency}"), balance, sum);
            }
        }
        for (currency, balance) in balances.into_iter().filter(|(_, balance)| *balance != 0) {
            report.differ(key, &format!("ledger sum in {currency}"), balance, 0);
        }
    }
    Ok(())
}
