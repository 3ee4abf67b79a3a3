//! Reminders: their rows, and the statements that write them. [`changes`] folds a batch.

mod changes;

use jiff::Timestamp;
use saldo_domain::{
    dunning::{Notice, ReminderState},
    event::Event,
};

pub use self::changes::Reminders;
use self::changes::{FellDue, Standing, Unsaid};
pub(super) use self::changes::{ReminderKey, why, why_deferred};
use super::{Accepted, Model};
use crate::{
    ReadModelError,
    engine::{Arrays, Column, Declaration, Expected, Kind, Shown, Table, TableRows, View, Writer},
};

const REMINDERS: Table = Table {
    indexes: &[
        "(ready_at) WHERE ready_at IS NOT NULL",
        "(channel, tenant, ready_at, account, reminder) WHERE ready_at IS NOT NULL",
        "(tenant, due_at, account, reminder)",
        "(tenant, due_at, account, reminder) WHERE needs_person OR status IN ('due', 'deferred', 'started')",
    ],
    ..Table::new(
        "reminders",
        "tenant, account, reminder",
        &[
            Column::tenant(),
            Column::account(),
            Column::new("reminder", Kind::Big, "Number of the reminder on the account, from 1"),
            Column::new("step", Kind::Text, "Step of the ladder, as its latest attempt spoke"),
            Column::new("tone", Kind::Text, "friendly, firm or formal"),
            Column::new("channel", Kind::Text, "email, sms, whatsapp, phone or post"),
            Column::new("template", Kind::Text, "Name of the message's template"),
            Column::new("due_at", Kind::Instant, "When it fell due"),
            Column::new(
                "retry_of",
                Kind::Big,
                "The reminder that it says again because a person asked; null where the ladder brought it",
            )
            .nullable(),
            Column::new(
                "status",
                Kind::Text,
                "due, deferred or started while it is open; accepted, rejected, unknown or withheld once it is closed",
            ),
            Column::new(
                "reason",
                Kind::Text,
                "Why it waits, was withheld, was rejected or is unknown; with stage and code where a hand-over failed",
            )
            .nullable(),
            Column::new("ready_at", Kind::Instant, "From when it may be started, while it waits for that").nullable(),
            Column::new(
                "until",
                Kind::Instant,
                "deferred: when it is due again; started: until when it may be handed over",
            )
            .nullable(),
            Column::new("attempts", Kind::Int, "Attempts started so far"),
            Column::new("changed_at", Kind::Instant, "When its status last changed"),
            Column::new(
                "needs_person",
                Kind::Bool,
                "It reached nobody or its outcome is unknown, and nobody has seen to it: retry it, drop it, or add an address",
            ),
            Column::new(
                "superseded_by",
                Kind::Big,
                "The newer reminder by which a person need not see to this one; where that one is not sent, they can have to again",
            )
            .nullable(),
            Column::new("version", Kind::Big, "Version of the account's newest commit about it"),
            Column::new("partition", Kind::Int, "Partition of that commit's record"),
            Column::new("record_offset", Kind::Big, "Offset of that commit's record"),
            Column::new("trace", Kind::Text, "Trace that the commit was written under: W3C's traceparent").nullable(),
        ],
    )
};

const VIEW: View = View {
    name: "reminders",
    comment: "One row per reminder that the ladder brought or a person asked to say again, and where it stands",
    of: &REMINDERS,
    columns: &[
        Shown::Column("tenant"),
        Shown::Column("account"),
        Shown::Column("reminder"),
        Shown::Column("step"),
        Shown::Column("tone"),
        Shown::Column("channel"),
        Shown::Column("template"),
        Shown::Column("due_at"),
        Shown::Column("status"),
        Shown::Column("reason"),
        Shown::Column("until"),
        Shown::Column("attempts"),
        Shown::Column("changed_at"),
        Shown::Column("needs_person"),
        Shown::Column("retry_of"),
        Shown::Column("version"),
        Shown::Column("partition"),
        Shown::Column("record_offset"),
    ],
    rest: "",
};

const BY_STEP: View = View {
    name: "reminders_by_step",
    comment: "How many reminders stand where, by step of the ladder",
    of: &REMINDERS,
    columns: &[
        Shown::Column("tenant"),
        Shown::Said("step", "Step of the ladder"),
        Shown::Said("status", "As in bi.reminders"),
        Shown::Computed("reminders", "count(*)", "How many"),
    ],
    rest: "GROUP BY tenant, step, status",
};

const WITHHELD: View = View {
    name: "withheld_by_reason",
    comment: "How many reminders were withheld, by reason",
    of: &REMINDERS,
    columns: &[
        Shown::Column("tenant"),
        // Without the hold that a reminder was held back by.
        Shown::Computed(
            "reason",
            "split_part(reason, ':', 1)",
            "settled, sending_off, no_contact_point, dropped, held or nothing_owed",
        ),
        Shown::Computed("reminders", "count(*)", "How many"),
    ],
    rest: "WHERE status = 'withheld' GROUP BY 1, 2",
};

/// How many reminders there ever were, which is open and where it stands, and which one a person should look at.
const REMEMBERED: Expected = Expected {
    what: "reminders",
    rows: "SELECT tenant || '/' || account, count(*) || ' in all', false FROM {s}.reminders GROUP BY tenant, account
           UNION ALL
           SELECT tenant || '/' || account, reminder || ' needs a person', false FROM {s}.reminders WHERE needs_person
           UNION ALL
           SELECT tenant || '/' || account,
               concat_ws(' ', reminder, status, coalesce((extract(epoch FROM until) * 1000000)::bigint, 0), attempts, step, template,
                   coalesce(retry_of, 0)),
               false
           FROM {s}.reminders WHERE status IN ('due', 'deferred', 'started')",
    lines: |account| {
        let dunning = &account.dunning;
        let mut lines = Vec::new();
        if dunning.reminders > 0 {
            lines.push(format!("{} in all", dunning.reminders));
        }
        lines.extend(dunning.needs_person().map(|reminder| format!("{reminder} needs a person")));
        lines.extend(dunning.open.as_ref().map(|open| {
            let (status, until) = match open.state {
                ReminderState::Due { from: None } => ("due", None),
                ReminderState::Due { from } => ("deferred", from),
                ReminderState::Started { send_before, .. } => ("started", Some(send_before)),
            };
            let (until, retry_of) = (until.map_or(0, Timestamp::as_microsecond), open.retry_of.unwrap_or(0));
            let Notice { step, template, .. } = &open.notice;
            format!("{} {status} {until} {} {step} {template} {retry_of}", open.number, open.attempts)
        }));
        lines
    },
};

impl Model for Reminders {
    const DECLARATION: Declaration =
        Declaration::new("reminders", 3, &[REMINDERS], &[VIEW, BY_STEP, WITHHELD]).expecting(&[REMEMBERED]);

    fn add(&mut self, accepted: &Accepted<'_>) {
        for event in &accepted.commit.events {
            if let Event::Dunning(fact) = event {
                self.fold(accepted, fact);
            }
        }
    }

    async fn write(&self, writer: &mut Writer<'_>) -> Result<(), ReadModelError> {
        // An older reminder is superseded before the batch's own changes: an outcome of it can arrive later.
        self.supersede(writer).await?;
        let mut new = TableRows::of(&REMINDERS, self.changes.len());
        let mut changed = Arrays::of(CHANGED);
        for (key, row) in &self.changes {
            let (tenant, account) = (key.owner.tenant.as_str(), key.owner.account.as_str());
            let (number, attempts) = (key.reminder as i64, row.attempts.map(|number| number as i32));
            let step = row.notice.as_ref().map(|notice| notice.step.as_str());
            let tone = row.notice.as_ref().map(|notice| notice.tone.name());
            let channel = row.notice.as_ref().map(|notice| notice.channel.name());
            let template = row.notice.as_ref().map(|notice| notice.template.as_str());
            let Standing { status, reason, ready_at, until } = &row.standing;
            let (reason, trace) = (reason.as_deref(), row.trace.as_deref());
            let superseded_by = row.superseded_by.map(|newer| newer as i64);
            let version = row.position.version as i64;
            let (partition, offset) = (row.position.partition as i32, row.position.offset as i64);
            if let Some(FellDue { at, retry_of }) = &row.fell_due {
                new.insert(&[
                    &tenant,
                    &account,
                    &number,
                    &step,
                    &tone,
                    &channel,
                    &template,
                    at,
                    &retry_of.map(|former| former as i64),
                    status,
                    &reason,
                    ready_at,
                    until,
                    &attempts,
                    &row.changed_at,
                    &row.needs_person,
                    &superseded_by,
                    &version,
                    &partition,
                    &offset,
                    &trace,
                ]);
            } else {
                changed.row(&[
                    &tenant,
                    &account,
                    &number,
                    &step,
                    &tone,
                    &channel,
                    &template,
                    &attempts,
                    status,
                    &reason,
                    ready_at,
                    until,
                    &row.if_waiting,
                    &row.changed_at,
                    &row.needs_person,
                    &superseded_by,
                    &version,
                    &partition,
                    &offset,
                    &trace,
                ]);
            }
        }
        writer.write(new).await?;
        writer.run(CHANGE, changed).await?;
        Ok(())
    }
}

/// The columns of a row of [`CHANGE`].
const CHANGED: [(&str, Kind); 20] = [
    ("tenant", Kind::Id),
    ("account", Kind::Id),
    ("reminder", Kind::Big),
    ("step", Kind::Text),
    ("tone", Kind::Text),
    ("channel", Kind::Text),
    ("template", Kind::Text),
    ("attempts", Kind::Int),
    ("status", Kind::Text),
    ("reason", Kind::Text),
    ("ready_at", Kind::Instant),
    ("until", Kind::Instant),
    ("if_waiting", Kind::Bool),
    ("changed_at", Kind::Instant),
    ("needs_person", Kind::Bool),
    ("superseded_by", Kind::Big),
    ("version", Kind::Big),
    ("partition", Kind::Int),
    ("record_offset", Kind::Big),
    ("trace", Kind::Text),
];

/// A reminder that is dropped is withheld only if it still waits, which `ready_at` tells. A closed reminder has neither
/// `ready_at` nor `until`, before and after.
const CHANGE: &str = "
    UPDATE {s}.reminders r
    SET step = coalesce(c.step, r.step), tone = coalesce(c.tone, r.tone), channel = coalesce(c.channel, r.channel),
        template = coalesce(c.template, r.template), attempts = coalesce(c.attempts, r.attempts),
        needs_person = c.needs_person, superseded_by = c.superseded_by, version = c.version, partition = c.partition, record_offset = c.record_offset,
        trace = c.trace, ready_at = c.ready_at, until = c.until,
        status = CASE WHEN c.if_waiting AND r.ready_at IS NULL THEN r.status ELSE c.status END,
        reason = CASE WHEN c.if_waiting AND r.ready_at IS NULL THEN r.reason ELSE c.reason END,
        changed_at = CASE WHEN c.if_waiting AND r.ready_at IS NULL THEN r.changed_at ELSE c.changed_at END
    FROM {rows} AS c WHERE r.tenant = c.tenant AND r.account = c.account AND r.reminder = c.reminder";

impl Reminders {
    async fn supersede(&self, writer: &mut Writer<'_>) -> Result<(), ReadModelError> {
        const COLUMNS: [(&str, Kind); 3] = [("tenant", Kind::Id), ("account", Kind::Id), ("newer", Kind::Big)];
        let mut returned = Arrays::of([COLUMNS[0], COLUMNS[1], COLUMNS[2], ("nothing_left", Kind::Bool)]);
        let mut superseded = Arrays::of(COLUMNS);
        for (owner, older) in &self.older {
            let (tenant, account) = (owner.tenant.as_str(), owner.account.as_str());
            if let Some(Unsaid { reminder, nothing_left }) = older.returned_by {
                returned.row(&[&tenant, &account, &(reminder as i64), &nothing_left]);
            }
            if let Some(newer) = older.superseded_by {
                superseded.row(&[&tenant, &account, &(newer as i64)]);
            }
        }
        let return_older = "
            UPDATE {s}.reminders r SET needs_person = true, superseded_by = NULL FROM {rows} AS n
            WHERE r.tenant = n.tenant AND r.account = n.account AND r.superseded_by = n.newer
                AND NOT (n.nothing_left AND EXISTS (
                    SELECT FROM {s}.reminders newer WHERE newer.tenant = n.tenant AND newer.account = n.account
                        AND newer.reminder = n.newer AND newer.retry_of = r.reminder))";
        writer.run(return_older, returned).await?;
        let supersede_older = "
            UPDATE {s}.reminders r SET needs_person = false, superseded_by = n.newer FROM {rows} AS n
            WHERE r.tenant = n.tenant AND r.account = n.account AND r.reminder < n.newer AND r.needs_person";
        writer.run(supersede_older, superseded).await?;
        Ok(())
    }
}
