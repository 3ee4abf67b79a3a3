//! `saldo.wakeups`: when each account wants to be woken, as the agenda and the answers have said.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use saldo_facts::CatalogVersions;
use sqlx::{AssertSqlSafe, PgPool, Row};

/// Rows of the agenda taken over at once, for each partition.
const SYNC_PAGE: i64 = 2_000;

const TABLE: &[&str] = &[
    // "Already there, skipping" is no news for anybody.
    "SET LOCAL client_min_messages = warning",
    // Every service makes its tables under this lock, since they share a schema.
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
pub struct Key {
    /// Its tenant.
    pub tenant: String,
    /// Its id within the tenant.
    pub account: String,
}

/// The content of an account's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// When the account wants to be woken next, if ever.
    pub wakeup_at: Option<Timestamp>,
    /// The version of the account that answered.
    pub account_version: u64,
    /// The versions of the catalog that it was decided under.
    pub catalog: CatalogVersions,
}

/// A chain of the catalog that an account's answer can be older than.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chain {
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
pub struct StaleTenant {
    /// The creditor.
    pub tenant: String,
    /// The chain.
    pub chain: Chain,
    /// Its newest version.
    pub version: u64,
}

impl StaleTenant {
    /// Which sweep it is.
    pub fn key(&self) -> (String, Chain) {
        (self.tenant.clone(), self.chain)
    }
}

/// The knowledge of an account after it was woken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// The account answered.
    Answered(Answer),
    /// The account could not be woken, and is not tried again before this instant.
    NotBefore(Timestamp),
}

/// Makes the table where it is missing.
pub async fn ensure(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut transaction = saldo_postgres::begin(pool).await?;
    for statement in TABLE {
        sqlx::query(*statement).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

/// How far the agenda of one build of the read models was taken over.
#[derive(Debug, Default)]
pub struct Checkpoint {
    build: i64,
    /// The build's epoch. Healing a parked account raises the epoch, and adds rows at offsets that were passed already.
    epoch: i64,
    offsets: BTreeMap<i32, i64>,
}

/// Takes over what is new in the agenda. True if there is more.
pub async fn sync(pool: &PgPool, checkpoint: &mut Checkpoint) -> Result<bool, sqlx::Error> {
    let (build, epoch) = live(pool).await?;
    if (checkpoint.build, checkpoint.epoch) != (build, epoch) {
        *checkpoint = Checkpoint { build, epoch, offsets: BTreeMap::new() };
    }
    // Rows are locked in the order of their keys, here and in `write`. In any other order the two could wait for each other
    // for ever.
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
            ORDER BY tenant, account
            ON CONFLICT (tenant, account) DO UPDATE SET wakeup_at = excluded.wakeup_at,
                account_version = excluded.account_version, catalog_version = excluded.catalog_version,
                system_version = excluded.system_version
            WHERE (excluded.account_version, excluded.catalog_version, excluded.system_version)
                  > (w.account_version, w.catalog_version, w.system_version))
        SELECT partition, max(record_offset), count(*) FROM page GROUP BY partition"
    );
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(checkpoint.offsets.keys().copied().collect::<Vec<_>>())
        .bind(checkpoint.offsets.values().copied().collect::<Vec<_>>())
        .bind(SYNC_PAGE)
        .fetch_all(pool)
        .await?;
    let mut more = false;
    for row in rows {
        checkpoint.offsets.insert(row.try_get(0)?, row.try_get(1)?);
        more |= row.try_get::<i64, _>(2)? >= SYNC_PAGE;
    }
    Ok(more)
}

/// The build in force and its epoch, which a database of an earlier release has not.
async fn live(pool: &PgPool) -> Result<(i64, i64), sqlx::Error> {
    let statement = "SELECT number, coalesce((to_jsonb(live) ->> 'epoch')::bigint, 0) FROM saldo.live AS live";
    sqlx::query_as(statement).fetch_one(pool).await
}

/// Before every wake-up: the year 1.
pub const FIRST: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// A page of what is due, oldest first, from after this position on.
pub async fn due(
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

/// The creditors that have accounts decided under an older version of their chain than the given one, or of the operator's
/// chain than `system`.
pub async fn tenants_behind(
    pool: &PgPool,
    versions: &[(String, u64)],
    system: u64,
) -> Result<Vec<StaleTenant>, sqlx::Error> {
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
        behind.push(StaleTenant { tenant: row.try_get(0)?, chain: Chain::Tenant, version });
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
    behind.extend(tenants.into_iter().map(|tenant| StaleTenant { tenant, chain: Chain::System, version: system }));
    Ok(behind)
}

/// A page of a creditor's accounts that were decided under an older version of a chain, the oldest version first, from
/// after this position on.
pub async fn behind(
    pool: &PgPool,
    StaleTenant { tenant, chain, version }: &StaleTenant,
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

/// Writes down what was learned. Gives the accounts back.
pub async fn write(pool: &PgPool, updates: Vec<(Key, Update)>) -> Result<Vec<Key>, sqlx::Error> {
    let (mut tenants, mut accounts, mut wakeups) = (Vec::new(), Vec::new(), Vec::new());
    // Absent where the account could not be woken.
    let (mut versions, mut catalogs, mut systems) = (Vec::new(), Vec::new(), Vec::new());
    for (key, update) in &updates {
        tenants.push(key.tenant.as_str());
        accounts.push(key.account.as_str());
        let (wakeup_at, answer) = match update {
            Update::Answered(answer) => (answer.wakeup_at, Some(answer)),
            Update::NotBefore(at) => (Some(*at), None),
        };
        wakeups.push(wakeup_at.map(|at| at.to_string()));
        versions.push(answer.map(|answer| answer.account_version as i64));
        catalogs.push(answer.map(|answer| answer.catalog.tenant as i64));
        systems.push(answer.map(|answer| answer.catalog.system as i64));
    }
    // An answer of the same versions knows more than the commit, since it was computed later. If an account could not be
    // woken, its wake-up is only ever moved to a later instant.
    sqlx::query(
        "WITH learned AS MATERIALIZED (
             SELECT l.* FROM unnest($1::text[], $2::text[], $3::text[]::timestamptz[], $4::bigint[], $5::bigint[],
                                     $6::bigint[])
                 AS l(tenant, account, wakeup_at, account_version, catalog_version, system_version)),
         locked AS MATERIALIZED (
             SELECT w.tenant, w.account FROM saldo.wakeups AS w JOIN learned USING (tenant, account)
             ORDER BY w.tenant, w.account FOR UPDATE OF w)
         UPDATE saldo.wakeups AS w SET wakeup_at = l.wakeup_at,
             account_version = coalesce(l.account_version, w.account_version),
             catalog_version = coalesce(l.catalog_version, w.catalog_version),
             system_version = coalesce(l.system_version, w.system_version)
         FROM learned AS l JOIN locked USING (tenant, account)
         WHERE w.tenant = l.tenant AND w.account = l.account
           AND CASE WHEN l.account_version IS NULL THEN w.wakeup_at < l.wakeup_at
               ELSE (l.account_version, l.catalog_version, l.system_version)
                    >= (w.account_version, w.catalog_version, w.system_version) END",
    )
    .bind(tenants)
    .bind(accounts)
    .bind(wakeups)
    .bind(versions)
    .bind(catalogs)
    .bind(systems)
    .execute(pool)
    .await?;
    Ok(updates.into_iter().map(|(key, _)| key).collect())
}

/// How many accounts are due, and since when the oldest is.
pub async fn backlog(pool: &PgPool, now: Timestamp) -> Result<(u64, Option<Timestamp>), sqlx::Error> {
    let row = sqlx::query("SELECT count(*), min(wakeup_at) FROM saldo.wakeups WHERE wakeup_at <= $1")
        .bind(now.to_sqlx())
        .fetch_one(pool)
        .await?;
    let oldest = row.try_get::<Option<jiff_sqlx::Timestamp>, _>(1)?.map(|at| at.to_jiff());
    Ok((row.try_get::<i64, _>(0)? as u64, oldest))
}
