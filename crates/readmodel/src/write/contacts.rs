//! Reminders and attempts: new rows whole, the others by what the batch changed of them.

use super::{Writer, instant, owners};
use crate::{
    ReadModelError,
    rows::{AttemptChange, AttemptKey, Contacts, ReminderChange, ReminderKey},
};

/// The columns of some changes.
struct Columns<'r, K, C>(Vec<(&'r K, &'r C)>);

impl<'r, K, C> Columns<'r, K, C> {
    /// The changes that make their rows, and the others.
    fn split(all: impl Iterator<Item = (&'r K, &'r C)>, makes: impl Fn(&C) -> bool) -> (Self, Self) {
        let (new, known) = all.partition(|(_, change)| makes(change));
        (Self(new), Self(known))
    }

    fn of<T>(&self, value: impl Fn(&C) -> T) -> Vec<T> {
        self.0.iter().map(|(_, change)| value(change)).collect()
    }

    fn key<T>(&self, value: impl Fn(&K) -> T) -> Vec<T> {
        self.0.iter().map(|(key, _)| value(key)).collect()
    }
}

impl Writer<'_> {
    pub(super) async fn contacts(&mut self, contacts: &Contacts) -> Result<(), ReadModelError> {
        // Before the batch's own changes: what they say of an older reminder comes later than what made it older.
        self.superseded(contacts).await?;
        let (new, known) = Columns::split(contacts.reminders.iter(), |change| change.fell_due.is_some());
        self.new_reminders(&new).await?;
        self.known_reminders(&known).await?;
        let (new, known) = Columns::split(contacts.attempts.iter(), |change| change.started.is_some());
        self.new_attempts(&new).await?;
        self.known_attempts(&known).await
    }

    async fn superseded(&mut self, contacts: &Contacts) -> Result<(), ReadModelError> {
        if contacts.newest.is_empty() {
            return Ok(());
        }
        let (tenants, accounts) = owners(contacts.newest.keys());
        sqlx::query(self.sql(
            "UPDATE {s}.reminders r SET needs_person = false
             FROM unnest($1::text[], $2::text[], $3::bigint[]) AS n(tenant, account, newest)
             WHERE r.tenant = n.tenant AND r.account = n.account AND r.reminder < n.newest AND r.needs_person",
        ))
        .bind(tenants)
        .bind(accounts)
        .bind(contacts.newest.values().map(|newest| *newest as i64).collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    async fn new_reminders(&mut self, rows: &Columns<'_, ReminderKey, ReminderChange>) -> Result<(), ReadModelError> {
        let mut new = self.new_rows(
            "reminders",
            "tenant, account, reminder, step, tone, channel, template, due_at, retry_of, status, reason, ready_at, until,
             attempts, changed_at, needs_person, version, partition, record_offset, trace",
            rows.0.len(),
        );
        for (key, row) in &rows.0 {
            let notice = row.notice.as_ref();
            new.row(&[
                &key.owner.tenant.as_str(),
                &key.owner.account.as_str(),
                &(key.reminder as i64),
                &notice.map(|notice| notice.step.as_str()),
                &notice.map(|notice| notice.tone.name()),
                &notice.map(|notice| notice.channel.name()),
                &notice.map(|notice| notice.template.as_str()),
                &row.fell_due.as_ref().map(|due| due.at),
                &row.fell_due.as_ref().and_then(|due| due.retry_of).map(|of| of as i64),
                &row.standing.status,
                &row.standing.reason.as_deref(),
                &row.standing.ready_at,
                &row.standing.until,
                &row.attempts.map(|number| number as i32),
                &row.changed_at,
                &row.needs_person,
                &(row.place.version as i64),
                &(row.place.partition as i32),
                &(row.place.offset as i64),
                &row.trace.as_deref(),
            ]);
        }
        new.send(self.connection).await
    }

    /// A reminder that is dropped is withheld only if it still waits, which `ready_at` tells; what is closed has neither
    /// `ready_at` nor `until`, before and after.
    async fn known_reminders(&mut self, rows: &Columns<'_, ReminderKey, ReminderChange>) -> Result<(), ReadModelError> {
        if rows.0.is_empty() {
            return Ok(());
        }
        let (tenants, accounts) = owners(rows.0.iter().map(|(key, _)| &key.owner));
        sqlx::query(self.sql(
            "UPDATE {s}.reminders r
             SET step = coalesce(c.step, r.step), tone = coalesce(c.tone, r.tone),
                 channel = coalesce(c.channel, r.channel), template = coalesce(c.template, r.template),
                 attempts = coalesce(c.attempts, r.attempts), needs_person = c.needs_person, version = c.version,
                 partition = c.partition, record_offset = c.record_offset, trace = c.trace,
                 ready_at = c.ready_at::timestamptz, until = c.until::timestamptz,
                 status = CASE WHEN c.if_waiting AND r.ready_at IS NULL THEN r.status ELSE c.status END,
                 reason = CASE WHEN c.if_waiting AND r.ready_at IS NULL THEN r.reason ELSE c.reason END,
                 changed_at = CASE WHEN c.if_waiting AND r.ready_at IS NULL THEN r.changed_at
                                   ELSE c.changed_at::timestamptz END
             FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[],
                         $9::text[], $10::text[], $11::text[], $12::text[], $13::bool[], $14::text[], $15::bool[],
                         $16::bigint[], $17::int[], $18::bigint[], $19::text[])
               AS c(tenant, account, reminder, step, tone, channel, template, attempts, status, reason, ready_at, until,
                    if_waiting, changed_at, needs_person, version, partition, record_offset, trace)
             WHERE r.tenant = c.tenant AND r.account = c.account AND r.reminder = c.reminder",
        ))
        .bind(tenants)
        .bind(accounts)
        .bind(rows.key(|key| key.reminder as i64))
        .bind(rows.of(|row| row.notice.as_ref().map(|notice| notice.step.clone())))
        .bind(rows.of(|row| row.notice.as_ref().map(|notice| notice.tone.name())))
        .bind(rows.of(|row| row.notice.as_ref().map(|notice| notice.channel.name())))
        .bind(rows.of(|row| row.notice.as_ref().map(|notice| notice.template.clone())))
        .bind(rows.of(|row| row.attempts.map(|number| number as i32)))
        .bind(rows.of(|row| row.standing.status))
        .bind(rows.of(|row| row.standing.reason.clone()))
        .bind(rows.of(|row| row.standing.ready_at.map(instant)))
        .bind(rows.of(|row| row.standing.until.map(instant)))
        .bind(rows.of(|row| row.if_waiting))
        .bind(rows.of(|row| instant(row.changed_at)))
        .bind(rows.of(|row| row.needs_person))
        .bind(rows.of(|row| row.place.version as i64))
        .bind(rows.of(|row| row.place.partition as i32))
        .bind(rows.of(|row| row.place.offset as i64))
        .bind(rows.of(|row| row.trace.as_deref().map(str::to_owned)))
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    async fn new_attempts(&mut self, rows: &Columns<'_, AttemptKey, AttemptChange>) -> Result<(), ReadModelError> {
        let mut new = self.new_rows(
            "attempts",
            "tenant, account, reminder, attempt, step, tone, channel, recipient, template, language, policy_version,
             started_at, send_before, status, reason, ended_at, message_id, message_sha256, partition, record_offset",
            rows.0.len(),
        );
        for (key, row) in &rows.0 {
            let start = row.started.as_ref();
            new.row(&[
                &key.reminder.owner.tenant.as_str(),
                &key.reminder.owner.account.as_str(),
                &(key.reminder.reminder as i64),
                &(key.attempt as i32),
                &start.map(|start| start.notice.step.as_str()),
                &start.map(|start| start.notice.tone.name()),
                &start.map(|start| start.notice.channel.name()),
                &start.map(|start| start.recipient.as_slice()),
                &start.map(|start| start.notice.template.as_str()),
                &start.map(|start| start.language.as_str()),
                &start.map(|start| start.policy_version as i64),
                &start.map(|start| start.at),
                &start.map(|start| start.send_before),
                &row.status,
                &row.reason.as_deref(),
                &row.ended_at,
                &row.handed.as_ref().map(|(id, _)| id.as_str()),
                &row.handed.as_ref().map(|(_, sha256)| sha256.as_slice()),
                &(row.place.partition as i32),
                &(row.place.offset as i64),
            ]);
        }
        new.send(self.connection).await
    }

    async fn known_attempts(&mut self, rows: &Columns<'_, AttemptKey, AttemptChange>) -> Result<(), ReadModelError> {
        if rows.0.is_empty() {
            return Ok(());
        }
        let (tenants, accounts) = owners(rows.0.iter().map(|(key, _)| &key.reminder.owner));
        sqlx::query(self.sql(
            "UPDATE {s}.attempts a
             SET status = c.status, reason = c.reason, ended_at = c.ended_at::timestamptz,
                 message_id = coalesce(c.message_id, a.message_id),
                 message_sha256 = coalesce(c.message_sha256, a.message_sha256),
                 partition = c.partition, record_offset = c.record_offset
             FROM unnest($1::text[], $2::text[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[],
                         $9::bytea[], $10::int[], $11::bigint[])
               AS c(tenant, account, reminder, attempt, status, reason, ended_at, message_id, message_sha256, partition,
                    record_offset)
             WHERE a.tenant = c.tenant AND a.account = c.account AND a.reminder = c.reminder AND a.attempt = c.attempt",
        ))
        .bind(tenants)
        .bind(accounts)
        .bind(rows.key(|key| key.reminder.reminder as i64))
        .bind(rows.key(|key| key.attempt as i32))
        .bind(rows.of(|row| row.status))
        .bind(rows.of(|row| row.reason.clone()))
        .bind(rows.of(|row| row.ended_at.map(instant)))
        .bind(rows.of(|row| row.handed.as_ref().map(|(id, _)| id.clone())))
        .bind(rows.of(|row| row.handed.as_ref().map(|(_, sha256)| sha256.to_vec())))
        .bind(rows.of(|row| row.place.partition as i32))
        .bind(rows.of(|row| row.place.offset as i64))
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }
}
