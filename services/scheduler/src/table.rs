//! `saldo.wakeups`: when each account wants to be woken, as far as the agenda and the answers have said.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use saldo_facts::CatalogVersions;
use sqlx::{AssertSqlSafe, PgPool, Row};

/// Rows of the agenda taken over at once, for each partition.
const SYNC_PAGE: i64 = 2_000;

const TABLE: &[&str] = &[
    // "Already there, skipping" is nobody's news.
    "SET LOCAL client_min_messages = warning",
    // The one under which every service makes its tables: they share a schema.
    "SELECT pg_advisory_xact_lock(hashtext('saldo_readmodel'))",
    "CREATE SCHEMA IF NOT EXISTS saldo",
    "CREATE TABLE IF NOT EXISTS saldo.wakeups (
        tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, wakeup_at timestamptz,
        account_version bigint NOT NULL, catalog_version bigint NOT NULL, system_version bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant, account))",
    // A table of an earlier release; asked first, since altering waits for everybody.
    "DO $$ BEGIN
       IF NOT EXISTS (SELECT FROM pg_attribute
                      WHERE attrelid = 'saldo.wakeups'::regclass AND attname = 'system_version') THEN
         ALTER TABLE saldo.wakeups ADD COLUMN system_version bigint NOT NULL DEFAULT 0;
       END IF;
     END $$",
    "CREATE INDEX IF NOT EXISTS wakeups_due ON saldo.wakeups (wakeup_at, tenant, account)",
    "CREATE INDEX IF NOT EXISTS wakeups_behind ON saldo.wakeups (tenant, catalog_version, account)",
    "CREATE INDEX IF NOT EXISTS wakeups_behind_system ON saldo.wakeups (tenant, system_version, account)",
];

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) tenant: String,
    pub(crate) account: String,
}

/// What an account's answer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) wakeup_at: Option<Timestamp>,
    pub(crate) account_version: u64,
    pub(crate) catalog: CatalogVersions,
}

/// A chain of the catalog that an account's answer can be older than.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Chain {
    /// The creditor's.
    Tenant,
    /// The operator's.
    System,
}

impl Chain {
    /// The column with the version that an answer used of it.
    fn column(self) -> &'static str {
        match self {
            Chain::Tenant => "catalog_version",
            Chain::System => "system_version",
        }
    }
}

/// A creditor with accounts whose answers are older than the newest version of a chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BehindTenant {
    pub(crate) tenant: String,
    pub(crate) chain: Chain,
    pub(crate) version: u64,
}

impl BehindTenant {
    /// Which sweep it is.
    pub(crate) fn key(&self) -> (String, Chain) {
        (self.tenant.clone(), self.chain)
    }
}

/// What is known of an account after asking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    Answered(Answer),
    /// It could not be woken, and is not asked again before.
    NotBefore(Timestamp),
}

/// Makes the table where it is missing.
pub(crate) async fn ensure(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    for statement in TABLE {
        sqlx::query(*statement).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

/// How far a build's agenda was taken over.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    build: i64,
    offsets: BTreeMap<i32, i64>,
}

/// Takes over what the agenda has new. True where there is more.
pub(crate) async fn sync(pool: &PgPool, seen: &mut Seen) -> Result<bool, sqlx::Error> {
    let build = live(pool).await?;
    if seen.build != build {
        *seen = Seen { build, offsets: BTreeMap::new() };
    }
    let statement = format!(
        "WITH seen AS (
            SELECT c.partition, coalesce(s.after, -1) AS after
            FROM rm_{build}.checkpoints c
            LEFT JOIN unnest($1::int[], $2::bigint[]) AS s(partition, after) USING (partition)),
        page AS (
            SELECT a.* FROM seen CROSS JOIN LATERAL (
                SELECT tenant, account, wakeup_at, account_version, catalog_version, system_version, partition,
                       record_offset
                FROM rm_{build}.agenda
                WHERE partition = seen.partition AND record_offset > seen.after
                ORDER BY record_offset LIMIT $3) AS a),
        merged AS (
            INSERT INTO saldo.wakeups AS w
                (tenant, account, wakeup_at, account_version, catalog_version, system_version)
            SELECT tenant, account, wakeup_at, account_version, catalog_version, system_version FROM page
            ON CONFLICT (tenant, account) DO UPDATE SET wakeup_at = excluded.wakeup_at,
                account_version = excluded.account_version, catalog_version = excluded.catalog_version,
                system_version = excluded.system_version
            WHERE (excluded.account_version, excluded.catalog_version, excluded.system_version)
                  > (w.account_version, w.catalog_version, w.system_version))
        SELECT partition, max(record_offset), count(*) FROM page GROUP BY partition"
    );
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(seen.offsets.keys().copied().collect::<Vec<_>>())
        .bind(seen.offsets.values().copied().collect::<Vec<_>>())
        .bind(SYNC_PAGE)
        .fetch_all(pool)
        .await?;
    let mut more = false;
    for row in rows {
        seen.offsets.insert(row.try_get(0)?, row.try_get(1)?);
        more |= row.try_get::<i64, _>(2)? >= SYNC_PAGE;
    }
    Ok(more)
}

async fn live(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT number FROM saldo.live").fetch_one(pool).await
}

/// Before every wake-up: the year 1.
pub(crate) const FIRST: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// A page of what is due, oldest first, behind a place in that order.
pub(crate) async fn due(
    pool: &PgPool,
    now: Timestamp,
    after: &(Timestamp, Key),
    limit: usize,
) -> Result<Vec<(Timestamp, Key)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT wakeup_at, tenant, account FROM saldo.wakeups
         WHERE wakeup_at <= $1 AND (wakeup_at, tenant, account) > ($2, $3, $4)
         ORDER BY wakeup_at, tenant, account LIMIT $5",
    )
    .bind(now.to_sqlx())
    .bind(after.0.to_sqlx())
    .bind(&after.1.tenant)
    .bind(&after.1.account)
    .bind(limit as i64)
    .fetch_all(pool)
    .await?;
    let of = |row: sqlx::postgres::PgRow| {
        let at = row.try_get::<jiff_sqlx::Timestamp, _>(0)?.to_jiff();
        Ok((at, Key { tenant: row.try_get(1)?, account: row.try_get(2)? }))
    };
    rows.into_iter().map(of).collect()
}

/// The creditors that have accounts decided under an older version of their chain than the one given, or of the operator's
/// chain than `system`.
pub(crate) async fn tenants_behind(
    pool: &PgPool,
    versions: &[(String, u64)],
    system: u64,
) -> Result<Vec<BehindTenant>, sqlx::Error> {
    let mut behind = Vec::new();
    let rows = sqlx::query(
        "SELECT v.tenant, v.version FROM unnest($1::text[], $2::bigint[]) AS v(tenant, version)
         WHERE EXISTS (SELECT FROM saldo.wakeups w WHERE w.tenant = v.tenant AND w.catalog_version < v.version)",
    )
    .bind(versions.iter().map(|(tenant, _)| tenant.as_str()).collect::<Vec<_>>())
    .bind(versions.iter().map(|(_, version)| *version as i64).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    for row in rows {
        let version = row.try_get::<i64, _>(1)? as u64;
        behind.push(BehindTenant { tenant: row.try_get(0)?, chain: Chain::Tenant, version });
    }
    // The operator's chain concerns every creditor, also those that have published nothing. Each is found by one step in the
    // index: reading all accounts would cost too much for a look.
    let tenants: Vec<String> = sqlx::query_scalar(
        "WITH RECURSIVE known AS (
            (SELECT tenant FROM saldo.wakeups ORDER BY tenant LIMIT 1)
            UNION ALL
            SELECT (SELECT w.tenant FROM saldo.wakeups w WHERE w.tenant > known.tenant ORDER BY w.tenant LIMIT 1)
            FROM known WHERE known.tenant IS NOT NULL)
         SELECT tenant FROM known
         WHERE EXISTS (SELECT FROM saldo.wakeups w WHERE w.tenant = known.tenant AND w.system_version < $1)",
    )
    .bind(system as i64)
    .fetch_all(pool)
    .await?;
    behind.extend(tenants.into_iter().map(|tenant| BehindTenant { tenant, chain: Chain::System, version: system }));
    Ok(behind)
}

/// A page of a creditor's accounts decided under an older version of a chain, the oldest version first, behind a place in
/// that order.
pub(crate) async fn behind(
    pool: &PgPool,
    BehindTenant { tenant, chain, version }: &BehindTenant,
    after: &(i64, String),
    limit: usize,
) -> Result<Vec<(i64, String)>, sqlx::Error> {
    let used = chain.column();
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT {used}, account FROM saldo.wakeups
         WHERE tenant = $1 AND {used} < $2 AND ({used}, account) > ($3, $4)
         ORDER BY {used}, account LIMIT $5"
    )))
    .bind(tenant)
    .bind(*version as i64)
    .bind(after.0)
    .bind(&after.1)
    .bind(limit as i64)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Keeps what was learned.
pub(crate) async fn write(pool: &PgPool, mut known: Vec<(Key, Known)>) -> Result<Vec<Key>, sqlx::Error> {
    // Two schedulers lock rows in the same order.
    known.sort_by(|(one, _), (other, _)| one.cmp(other));
    let (mut tenants, mut accounts, mut wakeups) = (Vec::new(), Vec::new(), Vec::new());
    let (mut versions, mut catalogs, mut systems) = (Vec::new(), Vec::new(), Vec::new());
    let mut held = (Vec::new(), Vec::new(), Vec::new());
    for (key, known) in &known {
        match known {
            Known::Answered(answer) => {
                tenants.push(key.tenant.as_str());
                accounts.push(key.account.as_str());
                wakeups.push(answer.wakeup_at.map(|at| at.to_string()));
                versions.push(answer.account_version as i64);
                catalogs.push(answer.catalog.tenant as i64);
                systems.push(answer.catalog.system as i64);
            }
            Known::NotBefore(at) => {
                held.0.push(key.tenant.as_str());
                held.1.push(key.account.as_str());
                held.2.push(at.to_string());
            }
        }
    }
    if !tenants.is_empty() {
        // Of the same versions the answer knows more than the commit: it was computed later.
        sqlx::query(
            "UPDATE saldo.wakeups w SET wakeup_at = a.wakeup_at::timestamptz,
                 account_version = a.account_version, catalog_version = a.catalog_version,
                 system_version = a.system_version
             FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
                  AS a(tenant, account, wakeup_at, account_version, catalog_version, system_version)
             WHERE w.tenant = a.tenant AND w.account = a.account
               AND (a.account_version, a.catalog_version, a.system_version)
                   >= (w.account_version, w.catalog_version, w.system_version)",
        )
        .bind(tenants)
        .bind(accounts)
        .bind(wakeups)
        .bind(versions)
        .bind(catalogs)
        .bind(systems)
        .execute(pool)
        .await?;
    }
    if !held.0.is_empty() {
        // What is later anyway, or never, stays.
        sqlx::query(
            "UPDATE saldo.wakeups w SET wakeup_at = h.until::timestamptz
             FROM unnest($1::text[], $2::text[], $3::text[]) AS h(tenant, account, until)
             WHERE w.tenant = h.tenant AND w.account = h.account AND w.wakeup_at < h.until::timestamptz",
        )
        .bind(held.0)
        .bind(held.1)
        .bind(held.2)
        .execute(pool)
        .await?;
    }
    Ok(known.into_iter().map(|(key, _)| key).collect())
}

/// How many are due, and since when.
pub(crate) async fn backlog(pool: &PgPool, now: Timestamp) -> Result<(u64, Option<Timestamp>), sqlx::Error> {
    let row = sqlx::query("SELECT count(*), min(wakeup_at) FROM saldo.wakeups WHERE wakeup_at <= $1")
        .bind(now.to_sqlx())
        .fetch_one(pool)
        .await?;
    let oldest = row.try_get::<Option<jiff_sqlx::Timestamp>, _>(1)?.map(|at| at.to_jiff());
    Ok((row.try_get::<i64, _>(0)? as u64, oldest))
}
