//! The check that the read models equal the log: the whole log is read from its start, judged by fresh acceptors, and
//! folded by the domain itself; the result is compared with the rows at exactly the checkpoints of one database snapshot.

use std::collections::{BTreeMap, HashMap};

use saldo_commit::Commit;
use saldo_domain::{
    account::{Account, CreditKind},
    evolve,
};
use saldo_log::{
    Log, LogError,
    acceptor::{Acceptor, Verdict},
    genesis::Identity,
};
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};

use crate::{ProjectorError, live::BATCH, rebuild::Progress};

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
    version: u64,
    hash: [u8; 32],
    lines: u64,
    parked: bool,
}

/// Reads the log up to the read models' checkpoints and compares.
pub async fn verify(
    log: &dyn Log,
    identity: &Identity,
    pool: &PgPool,
    mut progress: impl FnMut(Progress),
) -> Result<Report, ProjectorError> {
    saldo_readmodel::ensure(pool, identity).await?;
    let mut snapshot = pool.begin().await?;
    let schema = saldo_readmodel::live(&mut snapshot).await?;
    snapshot.rollback().await?;
    let mut snapshot = pool.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *snapshot).await?;
    let ends: Vec<(u32, u64)> = schema
        .checkpoints(&mut snapshot, identity, false)
        .await?
        .into_iter()
        .map(|checkpoint| (checkpoint.partition, checkpoint.position.map_or(0, |position| position.next)))
        .collect();
    let mut report = Report::default();
    let accounts = fold(log, identity, &ends, &mut report, &mut progress).await?;
    report.accounts = accounts.len() as u64;
    report.parked = accounts.values().filter(|one| one.parked).count() as u64;
    heads(&mut snapshot, schema.name(), &accounts, &mut report).await?;
    items(&mut snapshot, schema.name(), &accounts, &mut report).await?;
    ledger(&mut snapshot, schema.name(), &accounts, &mut report).await?;
    history(&mut snapshot, schema.name(), &accounts, &mut report).await?;
    snapshot.rollback().await?;
    Ok(report)
}

async fn fold(
    log: &dyn Log,
    identity: &Identity,
    ends: &[(u32, u64)],
    report: &mut Report,
    progress: &mut impl FnMut(Progress),
) -> Result<HashMap<String, Folded>, ProjectorError> {
    let total = ends.iter().map(|(_, end)| end).sum();
    for (partition, end) in ends {
        if log.end(*partition).await? < *end {
            let why = "the read models have read further".to_owned();
            return Err(LogError::Cut { partition: *partition, offset: *end, why }.into());
        }
    }
    let mut acceptors: HashMap<u32, (Acceptor, u64)> =
        ends.iter().map(|(partition, end)| (*partition, (Acceptor::new(identity, *partition), *end))).collect();
    let mut accounts: HashMap<String, Folded> = HashMap::new();
    let from: Vec<(u32, u64)> = ends.iter().filter(|(_, end)| *end > 0).map(|(partition, _)| (*partition, 0)).collect();
    if from.is_empty() {
        return Ok(accounts);
    }
    let mut tail = log.tail(&from).await?;
    while report.records < total {
        for record in tail.next(BATCH).await? {
            let Some((acceptor, end)) = acceptors.get_mut(&record.partition) else { continue };
            if record.offset >= *end {
                continue;
            }
            report.records += 1;
            match acceptor.judge(&record)? {
                Verdict::Genesis | Verdict::Resumed => {}
                Verdict::Void(reason) => *report.void.entry(reason.to_string()).or_default() += 1,
                Verdict::Accepted { frame, hash } => {
                    report.accepted += 1;
                    let folded = accounts.entry(frame.key()).or_default();
                    folded.version = frame.version;
                    folded.hash = hash;
                    match Commit::decode(frame.payload) {
                        Ok(commit) if !folded.parked => {
                            commit.events.iter().for_each(|event| evolve(&mut folded.account, event));
                            report.events += commit.events.len() as u64;
                            folded.lines += commit.events.len() as u64 + u64::from(commit.refusal.is_some());
                        }
                        Ok(_) => {}
                        Err(_) => folded.parked = true,
                    }
                }
            }
        }
        progress(Progress { done: report.records, total });
    }
    Ok(accounts)
}

async fn heads(
    connection: &mut PgConnection,
    schema: &str,
    accounts: &HashMap<String, Folded>,
    report: &mut Report,
) -> Result<(), ProjectorError> {
    let rows = sqlx::query(AssertSqlSafe(format!("SELECT key, hash, version FROM {schema}.heads")))
        .fetch_all(connection)
        .await?;
    let mut seen = 0;
    for row in rows {
        let (key, hash, version): (String, Vec<u8>, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        match accounts.get(&key) {
            Some(folded) if folded.hash.as_slice() == hash && folded.version == version as u64 => seen += 1,
            Some(folded) => report.differ(&key, "head", folded.version, version),
            None => report.differ(&key, "head", "none", version),
        }
    }
    if seen != accounts.len() {
        report.differ("", "number of heads", accounts.len(), seen);
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

async fn ledger(
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

async fn history(
    connection: &mut PgConnection,
    schema: &str,
    accounts: &HashMap<String, Folded>,
    report: &mut Report,
) -> Result<(), ProjectorError> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT tenant || '/' || account, count(*) FROM {schema}.history GROUP BY tenant, account"
    )))
    .fetch_all(connection)
    .await?;
    let mut counts: HashMap<String, i64> = HashMap::new();
    for row in rows {
        counts.insert(row.try_get(0)?, row.try_get(1)?);
    }
    for (key, folded) in accounts.iter().filter(|(_, folded)| !folded.parked) {
        let rows = counts.get(key).copied().unwrap_or(0);
        if folded.lines != rows as u64 {
            report.differ(key, "lines of history", folded.lines, rows);
        }
    }
    Ok(())
}

/// How many records the read models are behind the log's present end, after waiting up to `patience` for none.
pub async fn records_behind(
    log: &dyn Log,
    identity: &Identity,
    pool: &PgPool,
    patience: std::time::Duration,
) -> Result<u64, ProjectorError> {
    let mut ends = Vec::new();
    for partition in 0..identity.partitions {
        ends.push(log.end(partition).await?);
    }
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let mut connection = pool.begin().await?;
        let schema = saldo_readmodel::live(&mut connection).await?;
        let checkpoints = schema.checkpoints(&mut connection, identity, false).await?;
        connection.rollback().await?;
        let next = |checkpoint: &saldo_readmodel::Checkpoint| checkpoint.position.map_or(0, |position| position.next);
        let behind = ends.iter().zip(&checkpoints).map(|(end, one)| end.saturating_sub(next(one))).sum();
        if behind == 0 || tokio::time::Instant::now() >= deadline {
            return Ok(behind);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
