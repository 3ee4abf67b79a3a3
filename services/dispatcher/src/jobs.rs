//! `saldo.jobs`: who works on which reminder, so that dispatchers share the work instead of doing it twice.
//!
//! A lease is a courtesy. It is left to stand when the work is done, since the read model follows a moment later; and if
//! it ends too early, the next one is told by the account that the reminder is used up. Leases are real time, by the
//! database's clock alone.

use std::time::Duration;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{AssertSqlSafe, PgPool, Row};

/// How long after its end a lease is removed.
const KEPT: &str = "1 hour";
/// Leases removed at once.
const REMOVED_AT_ONCE: i64 = 10_000;

const TABLE: &[&str] = &[
    // "Already there, skipping" is nobody's news.
    "SET LOCAL client_min_messages = warning",
    // The one under which every service makes its tables: they share a schema.
    "SELECT pg_advisory_xact_lock(hashtext('saldo_readmodel'))",
    "CREATE SCHEMA IF NOT EXISTS saldo",
    "CREATE TABLE IF NOT EXISTS saldo.jobs (
        tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, reminder bigint NOT NULL,
        version bigint NOT NULL, taken_until timestamptz NOT NULL, PRIMARY KEY (tenant, account, reminder, version))",
    "CREATE INDEX IF NOT EXISTS jobs_taken_until ON saldo.jobs (taken_until)",
];

/// A reminder that is due, as of a version of its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) tenant: String,
    pub(crate) account: String,
    pub(crate) reminder: u64,
    pub(crate) version: u64,
    /// The trace of the commit that made it due, or deferred it.
    pub(crate) trace: Option<String>,
}

/// Makes the table where it is missing.
pub(crate) async fn ensure(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    for statement in TABLE {
        sqlx::query(*statement).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

/// The number of the live build of the read models.
pub(crate) async fn live(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT number FROM saldo.live").fetch_one(pool).await
}

/// Takes what is due at `now`, oldest first, and is nobody's.
pub(crate) async fn lease(
    pool: &PgPool,
    now: Timestamp,
    lease: Duration,
    limit: usize,
) -> Result<Vec<Job>, sqlx::Error> {
    let build = live(pool).await?;
    let statement = format!(
        "WITH due AS MATERIALIZED (
             SELECT tenant, account, reminder, version, ready_at, trace
             FROM rm_{build}.reminders AS r
             WHERE ready_at <= $1 AND NOT EXISTS (
                 SELECT FROM saldo.jobs AS taken
                 WHERE taken.tenant = r.tenant AND taken.account = r.account AND taken.reminder = r.reminder
                   AND taken.version = r.version AND taken.taken_until > now())
             ORDER BY ready_at, tenant, account, reminder LIMIT $3),
         leased AS (
             INSERT INTO saldo.jobs AS j (tenant, account, reminder, version, taken_until)
             SELECT tenant, account, reminder, version, now() + $2 * interval '1 millisecond' FROM due
             ON CONFLICT (tenant, account, reminder, version) DO UPDATE SET taken_until = excluded.taken_until
             WHERE j.taken_until <= now()
             RETURNING tenant, account, reminder, version)
         SELECT tenant, account, reminder, version, trace
         FROM due JOIN leased USING (tenant, account, reminder, version)
         ORDER BY ready_at, tenant, account, reminder"
    );
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(now.to_sqlx())
        .bind(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX))
        .bind(limit as i64)
        .fetch_all(pool)
        .await?;
    let job = |row: sqlx::postgres::PgRow| {
        Ok(Job {
            tenant: row.try_get(0)?,
            account: row.try_get(1)?,
            reminder: row.try_get::<i64, _>(2)? as u64,
            version: row.try_get::<i64, _>(3)? as u64,
            trace: row.try_get(4)?,
        })
    };
    rows.into_iter().map(job).collect()
}

/// Gives back what was not begun.
pub(crate) async fn give_back(pool: &PgPool, jobs: &[Job]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM saldo.jobs j USING unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
             AS g(tenant, account, reminder, version)
         WHERE j.tenant = g.tenant AND j.account = g.account AND j.reminder = g.reminder AND j.version = g.version",
    )
    .bind(jobs.iter().map(|job| job.tenant.as_str()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.account.as_str()).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.reminder as i64).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.version as i64).collect::<Vec<_>>())
    .execute(pool)
    .await?;
    Ok(())
}

/// Removes leases that ended long ago.
pub(crate) async fn remove_old(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(format!(
        "DELETE FROM saldo.jobs WHERE ctid IN (
             SELECT ctid FROM saldo.jobs WHERE taken_until < now() - interval '{KEPT}'
             ORDER BY taken_until LIMIT {REMOVED_AT_ONCE})"
    )))
    .execute(pool)
    .await?;
    Ok(())
}

/// How many reminders want a person because nobody knows whether their message was sent.
pub(crate) async fn unknown(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let build = live(pool).await?;
    let statement = format!("SELECT count(*) FROM rm_{build}.reminders WHERE needs_person AND status = 'unknown'");
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(pool).await?;
    Ok(count as u64)
}

/// How many reminders are due.
pub(crate) async fn waiting(pool: &PgPool, now: Timestamp) -> Result<u64, sqlx::Error> {
    let build = live(pool).await?;
    let statement = format!("SELECT count(*) FROM rm_{build}.reminders WHERE ready_at <= $1");
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(statement)).bind(now.to_sqlx()).fetch_one(pool).await?;
    Ok(count as u64)
}
