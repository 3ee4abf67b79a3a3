//! Reminders and attempts: what waits, what was sent, what was not and why.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use saldo_api::v1;
use sqlx::{AssertSqlSafe, Row, postgres::PgRow};
use tonic::Status;

use crate::{
    Query, TenantRows,
    errors::{database, invalid},
    paging::{self, PageToken, page_size},
    values::{timestamp, timestamp_if_any},
};

/// Reminders that wait, or need a person. Word for word the predicate of the table's partial index.
const OUTBOX: &str = "(needs_person OR status IN ('due', 'deferred', 'started'))";

/// A page of reminders, newest first.
impl Query for v1::ListRemindersRequest {
    const MODELS: &'static [&'static str] = &["accounts", "reminders"];
    const OF_ONE_ACCOUNT: bool = false;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::ListRemindersResponse, Status> {
        let size = page_size(self.page_size)?;
        let after = PageToken::<3>::parse(&self.page_token)?;
        let due_before = match after.number(0)? {
            Some(at) => Some(Timestamp::from_microsecond(at).map_err(|rule| invalid("page_token", &rule.to_string()))?),
            None => None,
        };
        let which = if self.outbox { OUTBOX } else { "true" };
        let found = sqlx::query(AssertSqlSafe(format!(
            "SELECT account, reminder, step, tone, channel, due_at, status, reason, until, attempts, changed_at,
                    needs_person, retry_of,
                    (SELECT message_id FROM bi.contact_attempts a WHERE a.tenant = r.tenant AND a.account = r.account
                     AND a.reminder = r.reminder AND a.attempt = r.attempts AND r.attempts > 0)
             FROM bi.reminders r
             WHERE tenant = $1 AND ($2 = '' OR account = $2) AND {which}
               AND (due_at, account, reminder) < (coalesce($3, 'infinity'::timestamptz), $4, $5)
             ORDER BY due_at DESC, account DESC, reminder DESC LIMIT $6"
        )))
        .bind(rows.tenant)
        .bind(&self.account_id)
        .bind(due_before.map(ToSqlx::to_sqlx))
        .bind(after.text(1))
        .bind(after.number(2)?.unwrap_or_default())
        .bind(size + 1)
        .fetch_all(rows.pool)
        .await
        .map_err(database)?;
        let mut reminders: Vec<v1::ReminderView> =
            found.iter().map(reminder).collect::<Result<_, _>>().map_err(database)?;
        let next_page_token = paging::cut(&mut reminders, size, |last| {
            let due_at = last.due_at.map_or(0, |at| at.seconds * 1_000_000 + i64::from(at.nanos / 1_000));
            PageToken::of([&due_at.to_string(), &last.account_id, &last.reminder.to_string()])
        });
        Ok(v1::ListRemindersResponse { reminders, next_page_token })
    }
}

/// The attempts of one account, oldest first.
impl Query for v1::ListAttemptsRequest {
    const MODELS: &'static [&'static str] = &["accounts", "attempts", "reminders"];
    const OF_ONE_ACCOUNT: bool = true;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::ListAttemptsResponse, Status> {
        let found = sqlx::query(
            "SELECT reminder, attempt, step, channel, decode(recipient, 'hex'), template, language, policy_version,
                    started_at, send_before, status, reason, ended_at, message_id, decode(message_sha256, 'hex')
             FROM bi.contact_attempts WHERE tenant = $1 AND account = $2 AND attempt > 0 ORDER BY reminder, attempt",
        )
        .bind(rows.tenant)
        .bind(&self.account_id)
        .fetch_all(rows.pool)
        .await
        .map_err(database)?;
        let attempts = found.iter().map(attempt).collect::<Result<_, _>>().map_err(database)?;
        Ok(v1::ListAttemptsResponse { attempts })
    }
}

/// The tenant's reminders by step and status, and the withheld ones by reason.
impl Query for v1::GetContactTotalsRequest {
    const MODELS: &'static [&'static str] = &["reminders"];
    const OF_ONE_ACCOUNT: bool = false;

    async fn answer(self, rows: TenantRows<'_>) -> Result<v1::GetContactTotalsResponse, Status> {
        // One statement, so that all figures are of one moment.
        let found = sqlx::query(
            "SELECT step, status, reminders FROM bi.reminders_by_step WHERE tenant = $1
             UNION ALL
             SELECT NULL, reason, reminders FROM bi.withheld_by_reason WHERE tenant = $1
             UNION ALL
             SELECT NULL, NULL, count(*) FROM bi.parked WHERE tenant = $1
             ORDER BY 1, 2",
        )
        .bind(rows.tenant)
        .fetch_all(rows.pool)
        .await
        .map_err(database)?;
        let mut totals = v1::GetContactTotalsResponse::default();
        for row in &found {
            total(&mut totals, row).map_err(database)?;
        }
        Ok(totals)
    }
}

fn total(totals: &mut v1::GetContactTotalsResponse, row: &PgRow) -> Result<(), sqlx::Error> {
    let count = row.try_get::<i64, _>(2)? as u64;
    match (row.try_get(0)?, row.try_get(1)?) {
        (Some(step), status) => {
            let status: Option<String> = status;
            totals.by_step.push(v1::StepTotal { step, status: status.unwrap_or_default(), reminders: count });
        }
        (None, Some(reason)) => totals.withheld.push(v1::ReasonTotal { reason, reminders: count }),
        (None, None) => totals.parked_accounts = count as u32,
    }
    Ok(())
}

fn reminder(row: &PgRow) -> Result<v1::ReminderView, sqlx::Error> {
    Ok(v1::ReminderView {
        account_id: row.try_get(0)?,
        reminder: row.try_get::<i64, _>(1)? as u64,
        step: row.try_get(2)?,
        tone: row.try_get(3)?,
        channel: row.try_get(4)?,
        due_at: Some(timestamp(row, 5)?),
        status: row.try_get(6)?,
        reason: row.try_get::<Option<String>, _>(7)?.unwrap_or_default(),
        until: timestamp_if_any(row, 8)?,
        attempts: row.try_get::<i32, _>(9)? as u32,
        changed_at: Some(timestamp(row, 10)?),
        needs_person: row.try_get(11)?,
        retry_of: row.try_get::<Option<i64>, _>(12)?.unwrap_or_default() as u64,
        message_id: row.try_get::<Option<String>, _>(13)?.unwrap_or_default(),
    })
}

fn attempt(row: &PgRow) -> Result<v1::AttemptView, sqlx::Error> {
    Ok(v1::AttemptView {
        reminder: row.try_get::<i64, _>(0)? as u64,
        attempt: row.try_get::<i32, _>(1)? as u32,
        step: row.try_get(2)?,
        channel: row.try_get(3)?,
        recipient: row.try_get(4)?,
        template: row.try_get(5)?,
        language: row.try_get(6)?,
        policy_version: row.try_get::<i64, _>(7)? as u64,
        started_at: Some(timestamp(row, 8)?),
        send_before: Some(timestamp(row, 9)?),
        status: row.try_get(10)?,
        reason: row.try_get::<Option<String>, _>(11)?.unwrap_or_default(),
        ended_at: timestamp_if_any(row, 12)?,
        message_id: row.try_get::<Option<String>, _>(13)?.unwrap_or_default(),
        message_sha256: row.try_get::<Option<Vec<u8>>, _>(14)?.unwrap_or_default(),
    })
}
