//! Reminders, and where each one stands.
//!
//! A change stands for all that its batch did to one row, so that a row comes out the same however the log was cut into
//! batches. A change that makes its row is whole; any other sets what it knows and leaves the rest.

use std::collections::BTreeMap;

use jiff::Timestamp;
use saldo_domain::{
    dunning::{ContactDeferred, Fact, HandOverFailure, Notice, ReminderState, WithheldReason, attempt::LAST_LOOK},
    event::Event,
};

use super::{Accepted, CommitPosition, Model, Owner};
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

/// A reminder, by its number on the account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReminderKey {
    /// Whose.
    pub owner: Owner,
    /// From 1.
    pub reminder: u64,
}

/// Where a reminder stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// `due`, `deferred`, `started`, `accepted`, `rejected`, `unknown` or `withheld`.
    pub status: &'static str,
    /// Why it waits, was withheld, was given up or is unknown.
    pub reason: Option<String>,
    /// From when it may be started, while it waits for that.
    pub ready_at: Option<Timestamp>,
    /// When it is due again, or until when its attempt may be handed over.
    pub until: Option<Timestamp>,
}

/// A reminder as it fell due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FellDue {
    /// When.
    pub at: Timestamp,
    /// The reminder that it says again.
    pub retry_of: Option<u64>,
}

/// What a batch did to a reminder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReminderChange {
    /// Present where the batch makes the row.
    pub fell_due: Option<FellDue>,
    /// How it speaks, if that changes.
    pub notice: Option<Notice>,
    /// Attempts started so far, if that changes.
    pub attempts: Option<u32>,
    /// Where it stands now.
    pub standing: Standing,
    /// The standing is only of a reminder that waits: dropping one that is closed leaves it as it stands.
    pub if_waiting: bool,
    /// When it came to stand there.
    pub changed_at: Timestamp,
    /// It reached nobody for certain or its outcome is unknown, and no person has seen to it.
    pub needs_person: bool,
    /// The newer reminder by which no person need see to it any more.
    pub superseded_by: Option<u64>,
    /// The newest commit about it.
    pub position: CommitPosition,
    /// The trace that commit was written under: whoever works on the reminder next links to it.
    pub trace: Option<Box<str>>,
}

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

/// What a batch did to reminders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reminders {
    /// By key.
    pub changes: BTreeMap<ReminderKey, ReminderChange>,
    /// Of each account, what that did to the reminder from before the batch that a person should see to.
    pub older: BTreeMap<Owner, Older>,
}

/// What a batch did to a reminder from before it that a person should see to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Older {
    /// The reminder that had superseded it and was not sent: first of all, a person should see to it again.
    pub returned_by: Option<Unsaid>,
    /// The reminder that then superseded it.
    pub superseded_by: Option<u64>,
}

/// A newer reminder that was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsaid {
    /// Its number.
    pub reminder: u64,
    /// Nothing of it is left to say. A retry says the same as the older reminder, so then nobody need see to that one either.
    pub nothing_left: bool,
}

impl Older {
    /// A newer reminder fell due.
    fn superseded(&mut self, by: u64) {
        self.superseded_by.get_or_insert(by);
    }

    /// A newer reminder was not sent.
    fn returned(&mut self, by: Unsaid) {
        match self.superseded_by {
            None => self.returned_by = Some(by),
            Some(newer) if newer == by.reminder => self.superseded_by = None,
            Some(_) => {}
        }
    }
}

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

/// What a row of [`CHANGE`] says.
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

    /// The reminders of an account before a newer one, as far as the batch has changed them.
    fn before(&mut self, owner: &Owner, newer: u64) -> impl Iterator<Item = &mut ReminderChange> {
        let key = |reminder| ReminderKey { owner: owner.clone(), reminder };
        self.changes.range_mut(key(0)..key(newer)).map(|(_, change)| change)
    }

    /// A reminder was not sent, so a person sees to the one before it.
    fn unsaid(&mut self, owner: &Owner, reminder: u64, nothing_left: bool) {
        let key = ReminderKey { owner: owner.clone(), reminder };
        let fell_due = self.changes.get(&key).and_then(|change| change.fell_due.as_ref());
        if nothing_left && fell_due.is_some_and(|due| due.retry_of.is_some()) {
            return;
        }
        for older in self.before(owner, reminder).filter(|older| older.superseded_by == Some(reminder)) {
            (older.needs_person, older.superseded_by) = (true, None);
        }
        self.older.entry(owner.clone()).or_default().returned(Unsaid { reminder, nothing_left });
    }

    fn fold(&mut self, accepted: &Accepted<'_>, fact: &Fact) {
        let stands = |standing| stands(accepted, standing);
        let owner = accepted.owner;
        match fact {
            Fact::ReminderDue(due) => {
                let at = accepted.commit.recorded_at;
                for older in self.before(owner, due.reminder).filter(|older| older.needs_person) {
                    (older.needs_person, older.superseded_by) = (false, Some(due.reminder));
                }
                self.older.entry(owner.clone()).or_default().superseded(due.reminder);
                let standing = Standing { ready_at: Some(at), ..standing("due", None) };
                let change = ReminderChange {
                    fell_due: Some(FellDue { at, retry_of: due.retry_of }),
                    notice: Some(due.notice.clone()),
                    attempts: Some(0),
                    ..stands(standing)
                };
                self.change(owner, due.reminder, change);
            }
            Fact::ContactStarted(started) => {
                let standing = Standing { until: Some(started.send_before), ..standing("started", None) };
                let change = ReminderChange {
                    notice: Some(started.notice.clone()),
                    attempts: Some(started.attempt),
                    ..stands(standing)
                };
                self.change(owner, started.reminder, change);
            }
            Fact::ContactWithheld(withheld) => {
                match withheld.reason {
                    // Nothing was said, and what kept the message back passes: a person sees to the reminder before it.
                    WithheldReason::Held | WithheldReason::SendingOff => self.unsaid(owner, withheld.reminder, false),
                    // The ladder's own reminder can be about other items: a person sees to the reminder before it too.
                    WithheldReason::Settled | WithheldReason::NothingOwed => {
                        self.unsaid(owner, withheld.reminder, true)
                    }
                    WithheldReason::NoContactPoint | WithheldReason::Dropped => {}
                }
                let by = match &withheld.hold {
                    Some(hold) => format!(": {hold}"),
                    None if withheld.for_every_creditor => ": held for every creditor".to_owned(),
                    None => String::new(),
                };
                let reason = format!("{}{by}", withheld.reason.name());
                let change = ReminderChange {
                    if_waiting: withheld.reason == WithheldReason::Dropped,
                    needs_person: withheld.reason == WithheldReason::NoContactPoint,
                    ..stands(standing("withheld", Some(reason)))
                };
                self.change(owner, withheld.reminder, change);
            }
            Fact::ContactDeferred(deferred) => {
                let (reason, until) = (why_deferred(deferred), Some(deferred.until));
                let standing = Standing { ready_at: until, until, ..standing("deferred", Some(reason)) };
                self.change(owner, deferred.reminder, stands(standing));
            }
            Fact::ContactAccepted(accepted) => {
                self.change(owner, accepted.reminder, stands(standing("accepted", None)));
            }
            Fact::ContactRejected(rejected) => {
                let reason = why(rejected.reason.name(), Some(&rejected.failure));
                let standing = standing("rejected", Some(reason));
                self.change(owner, rejected.reminder, ReminderChange { needs_person: true, ..stands(standing) });
            }
            Fact::ContactUnknown(unknown) => {
                let standing = standing("unknown", Some(unknown.reason.name().to_owned()));
                self.change(owner, unknown.reminder, ReminderChange { needs_person: true, ..stands(standing) });
            }
        }
    }

    fn change(&mut self, owner: &Owner, reminder: u64, change: ReminderChange) {
        let key = ReminderKey { owner: owner.clone(), reminder };
        match self.changes.get_mut(&key) {
            Some(before) => before.then(change),
            None => drop(self.changes.insert(key, change)),
        }
    }
}

impl ReminderChange {
    fn then(&mut self, later: ReminderChange) {
        self.needs_person = later.needs_person;
        self.superseded_by = later.superseded_by;
        self.position = later.position;
        self.trace = later.trace;
        self.notice = later.notice.or(self.notice.take());
        self.attempts = later.attempts.or(self.attempts);
        if later.if_waiting && self.standing.ready_at.is_none() {
            return;
        }
        self.standing = later.standing;
        self.if_waiting = false;
        self.changed_at = later.changed_at;
    }
}

fn stands(accepted: &Accepted<'_>, standing: Standing) -> ReminderChange {
    ReminderChange {
        fell_due: None,
        notice: None,
        attempts: None,
        standing,
        if_waiting: false,
        changed_at: accepted.commit.recorded_at,
        needs_person: false,
        superseded_by: None,
        position: accepted.position,
        trace: accepted.trace.map(Into::into),
    }
}

fn standing(status: &'static str, reason: Option<String>) -> Standing {
    Standing { status, reason, ready_at: None, until: None }
}

/// `route_failed: connect` where the route failed, and `too_late` where the message was too late to leave.
pub(super) fn why_deferred(deferred: &ContactDeferred) -> String {
    match &deferred.failure {
        Some(failure) if deferred.route => why("route_failed", Some(failure)),
        Some(failure) if failure.stage == LAST_LOOK => "too_late".to_owned(),
        failure => why(deferred.reason.name(), failure.as_ref()),
    }
}

/// `refused: rcpt 550`; the provider's own words may repeat an address and stay sealed.
pub(super) fn why(reason: &str, failure: Option<&HandOverFailure>) -> String {
    match failure {
        None => reason.to_owned(),
        Some(HandOverFailure { stage, code: 0, .. }) => format!("{reason}: {stage}"),
        Some(HandOverFailure { stage, code, .. }) => format!("{reason}: {stage} {code}"),
    }
}
