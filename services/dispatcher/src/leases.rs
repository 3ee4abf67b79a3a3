//! `saldo.jobs`: which dispatcher works on which reminder, so that dispatchers share the work instead of doing it twice.
//!
//! A lease is a courtesy and gives no right. It stays when the work is done, because the read models follow a moment later.
//! If it ends too early, the next dispatcher learns from the account that the reminder is used up. Leases run in real time,
//! by the database's clock alone.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use saldo_domain::party::Channel;
use sqlx::{AssertSqlSafe, PgPool, Row, postgres::PgRow};

/// How long after its end a lease is removed.
const KEPT: &str = "1 hour";
/// Leases removed at once.
const REMOVED_AT_ONCE: i64 = 10_000;

const TABLE: &[&str] = &[
    // "Already there, skipping" is no news for anybody.
    "SET LOCAL client_min_messages = warning",
    // Every service makes its tables under this lock, since they share a schema.
    "SELECT pg_advisory_xact_lock(hashtext('saldo_readmodel'))",
    "CREATE SCHEMA IF NOT EXISTS saldo",
    "CREATE TABLE IF NOT EXISTS saldo.jobs (
        tenant text COLLATE \"C\" NOT NULL, account text COLLATE \"C\" NOT NULL, reminder bigint NOT NULL,
        version bigint NOT NULL, taken_until timestamptz NOT NULL, PRIMARY KEY (tenant, account, reminder, version))",
    "CREATE INDEX IF NOT EXISTS jobs_taken_until ON saldo.jobs (taken_until)",
];

/// Whether no lease on the reminder `r` is running. A scalar subquery, since the planner turns any other form into a join
/// with all leases.
const FREE: &str =
    "coalesce((SELECT j.taken_until FROM saldo.jobs j WHERE j.tenant = r.tenant AND j.account = r.account
    AND j.reminder = r.reminder AND j.version = r.version), '-infinity') <= now()";

/// A reminder that is due, as of a version of its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) tenant: String,
    pub(crate) account: String,
    pub(crate) reminder: u64,
    pub(crate) version: u64,
    /// The trace of the commit that made the reminder due, or deferred it.
    pub(crate) trace: Option<String>,
}

/// The due reminders of one channel, one of each tenant in turn.
pub(crate) struct Queue {
    channel: Channel,
    /// The tenant that had its turn last.
    last: String,
}

/// The reminders that one look has leased.
pub(crate) struct Leased {
    pub(crate) jobs: Vec<Job>,
    /// More may be due right now.
    pub(crate) more: bool,
}

impl Queue {
    pub(crate) fn of(channel: Channel) -> Self {
        Self { channel, last: String::new() }
    }

    /// Leases at most `most` reminders that are due at `now`. Their order is the order of work: the oldest reminder of each
    /// tenant, then the second oldest of each, and so on. The tenants after the one that had its turn last come first. So no
    /// tenant waits for another one's backlog. Tenants in `without` get none.
    pub(crate) async fn lease(
        &mut self,
        pool: &PgPool,
        now: Timestamp,
        lease: Duration,
        most: usize,
        without: &[String],
    ) -> Result<Leased, sqlx::Error> {
        let most = most.max(1);
        let build = live(pool).await?;
        let mut tenants = self.tenants(pool, build, now, (&self.last, None), most, without).await?;
        if !self.last.is_empty() && tenants.len() < most {
            let more = self.tenants(pool, build, now, ("", Some(&self.last)), most - tenants.len(), without);
            tenants.extend(more.await?);
        }
        let Some(last) = tenants.last().cloned() else { return Ok(Leased { jobs: Vec::new(), more: false }) };
        let share = (most / tenants.len()).max(1);
        let jobs = self.take(pool, build, now, lease, &tenants, share).await?;
        let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
        for job in &jobs {
            *taken.entry(&job.tenant).or_default() += 1;
        }
        let more = tenants.len() == most || taken.values().any(|count| *count >= share);
        self.last = last;
        Ok(Leased { jobs, more })
    }

    /// The tenants behind `after`, up to `until` and not in `without`, that have a reminder due which nobody has leased. Each
    /// tenant costs two searches in an index, however many of its reminders wait.
    async fn tenants(
        &self,
        pool: &PgPool,
        build: i64,
        now: Timestamp,
        (after, until): (&str, Option<&str>),
        most: usize,
        without: &[String],
    ) -> Result<Vec<String>, sqlx::Error> {
        let statement = format!(
            "WITH RECURSIVE waiting (tenant) AS (
                 (SELECT tenant FROM rm_{build}.reminders
                  WHERE channel = $1 AND ready_at IS NOT NULL AND tenant > $2 AND ($3::text IS NULL OR tenant <= $3)
                  ORDER BY tenant LIMIT 1)
                 UNION ALL
                 SELECT next.tenant FROM waiting CROSS JOIN LATERAL (
                     SELECT tenant FROM rm_{build}.reminders
                     WHERE channel = $1 AND ready_at IS NOT NULL AND tenant > waiting.tenant
                       AND ($3::text IS NULL OR tenant <= $3)
                     ORDER BY tenant LIMIT 1) AS next)
             SELECT waiting.tenant FROM waiting CROSS JOIN LATERAL (
                 SELECT FROM rm_{build}.reminders AS r
                 WHERE r.channel = $1 AND r.tenant = waiting.tenant AND r.ready_at <= $4 AND {FREE}
                 ORDER BY r.ready_at LIMIT 1) AS due
             WHERE waiting.tenant <> ALL($6)
             LIMIT $5"
        );
        sqlx::query_scalar(AssertSqlSafe(statement))
            .bind(self.channel.name())
            .bind(after)
            .bind(until)
            .bind(now.to_sqlx())
            .bind(most as i64)
            .bind(without)
            .fetch_all(pool)
            .await
    }

    /// Leases the oldest due reminders of these tenants, at most `share` of each.
    async fn take(
        &self,
        pool: &PgPool,
        build: i64,
        now: Timestamp,
        lease: Duration,
        tenants: &[String],
        share: usize,
    ) -> Result<Vec<Job>, sqlx::Error> {
        // Dispatchers insert in the order of the key: in any other they could wait for each other for ever.
        let statement = format!(
            "WITH due AS MATERIALIZED (
                 SELECT own.*, turn.place, row_number() OVER (PARTITION BY own.tenant ORDER BY ready_at, account, reminder)
                     AS round
                 FROM unnest($2::text[]) WITH ORDINALITY AS turn(tenant, place) CROSS JOIN LATERAL (
                     SELECT tenant, account, reminder, version, ready_at, trace FROM rm_{build}.reminders AS r
                     WHERE channel = $1 AND tenant = turn.tenant AND ready_at <= $3 AND {FREE}
                     ORDER BY ready_at, account, reminder LIMIT $4) AS own),
             leased AS (
                 INSERT INTO saldo.jobs AS j (tenant, account, reminder, version, taken_until)
                 SELECT tenant, account, reminder, version, now() + $5 * interval '1 millisecond' FROM due
                 ORDER BY tenant, account, reminder, version
                 ON CONFLICT (tenant, account, reminder, version) DO UPDATE SET taken_until = excluded.taken_until
                 WHERE j.taken_until <= now()
                 RETURNING tenant, account, reminder, version)
             SELECT tenant, account, reminder, version, trace
             FROM due JOIN leased USING (tenant, account, reminder, version)
             ORDER BY round, place"
        );
        let rows = sqlx::query(AssertSqlSafe(statement))
            .bind(self.channel.name())
            .bind(tenants)
            .bind(now.to_sqlx())
            .bind(share as i64)
            .bind(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX))
            .fetch_all(pool)
            .await?;
        rows.into_iter().map(job).collect()
    }
}

fn job(row: PgRow) -> Result<Job, sqlx::Error> {
    Ok(Job {
        tenant: row.try_get(0)?,
        account: row.try_get(1)?,
        reminder: row.try_get::<i64, _>(2)? as u64,
        version: row.try_get::<i64, _>(3)? as u64,
        trace: row.try_get(4)?,
    })
}

/// Makes the table where it is missing.
pub(crate) async fn ensure(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut transaction = saldo_postgres::begin(pool).await?;
    for statement in TABLE {
        sqlx::query(*statement).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

/// The number of the live build of the read models.
pub(crate) async fn live(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT number FROM saldo.live").fetch_one(pool).await
}

/// Gives leases back.
pub(crate) async fn give_back(pool: &PgPool, jobs: &[Job]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH given AS (
             SELECT j.tenant, j.account, j.reminder, j.version FROM saldo.jobs AS j
             JOIN unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS g(tenant, account, reminder, version)
                 USING (tenant, account, reminder, version)
             ORDER BY tenant, account, reminder, version FOR UPDATE OF j)
         DELETE FROM saldo.jobs AS j USING given AS g
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
             ORDER BY taken_until LIMIT {REMOVED_AT_ONCE} FOR UPDATE SKIP LOCKED)"
    )))
    .execute(pool)
    .await?;
    Ok(())
}

/// How many reminders need a person because nobody knows whether their message was sent.
pub(crate) async fn unknown(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let build = live(pool).await?;
    let statement = format!("SELECT count(*) FROM rm_{build}.reminders WHERE needs_person AND status = 'unknown'");
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(pool).await?;
    Ok(count as u64)
}

/// How many reminders are due, by channel.
pub(crate) async fn waiting(pool: &PgPool, now: Timestamp) -> Result<BTreeMap<String, u64>, sqlx::Error> {
    let build = live(pool).await?;
    let statement = format!("SELECT channel, count(*) FROM rm_{build}.reminders WHERE ready_at <= $1 GROUP BY channel");
    let rows = sqlx::query(AssertSqlSafe(statement)).bind(now.to_sqlx()).fetch_all(pool).await?;
    rows.into_iter().map(|row| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)? as u64))).collect()
}
