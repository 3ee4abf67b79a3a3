//! Attempts to hand a reminder's message over, and what became of each.
//!
//! A change stands for all that its batch did to one row, as with reminders.

use std::{collections::BTreeMap, mem};

use jiff::Timestamp;
use saldo_domain::{
    dunning::{Fact, HandedOver, Notice},
    event::Event,
};

use super::{
    Accepted, CommitPosition, Model,
    reminders::{ReminderKey, why, why_deferred},
};
use crate::{
    ReadModelError,
    engine::{Column, Declaration, Kind, Shown, Table, TableRows, View, Writer},
};

const ATTEMPTS: Table = Table {
    partial_changes: true,
    ..Table::new(
        "attempts",
        "tenant, account, reminder, attempt",
        &[
            Column::tenant(),
            Column::account(),
            Column::new("reminder", Kind::Big, "Number of the reminder on the account, from 1"),
            Column::new(
                "attempt",
                Kind::Int,
                "Number of the attempt on the reminder, from 1; 0 where the reminder was withheld",
            ),
            Column::new("step", Kind::Text, "Step of the ladder").never_changes(),
            Column::new("tone", Kind::Text, "friendly, firm or formal").never_changes(),
            Column::new("channel", Kind::Text, "email, sms, whatsapp, phone or post").never_changes(),
            Column::new(
                "recipient",
                Kind::Bytes,
                "Keyed digest of the address, in hex: the same for the same address, and not to be turned back; null where withheld",
            )
            .never_changes(),
            Column::new("template", Kind::Text, "Name of the message's template").never_changes(),
            Column::new("language", Kind::Text, "ISO 639-1 language of the message; null where withheld").never_changes(),
            Column::new(
                "policy_version",
                Kind::Big,
                "Version of the tenant's policies and templates that decided it; null where withheld",
            )
            .never_changes(),
            Column::new("started_at", Kind::Instant, "When the account allowed it; null where withheld").never_changes(),
            Column::new("send_before", Kind::Instant, "Nothing of it leaves from this instant on; null where withheld")
                .never_changes(),
            Column::new(
                "status",
                Kind::Text,
                "started, accepted, rejected, deferred (certainly not handed over, to be tried again), unknown or withheld",
            ),
            Column::new(
                "reason",
                Kind::Text,
                "Why it was withheld or did not get through; with stage and code where the hand-over failed",
            )
            .nullable(),
            Column::new("ended_at", Kind::Instant, "When its outcome was recorded; null while it is under way").nullable(),
            Column::new("message_id", Kind::Text, "Message-ID of the attempt's message, from its start on; null where withheld")
                .nullable()
                .set_if_known(),
            Column::new(
                "message_sha256",
                Kind::Bytes,
                "SHA-256 of the exact bytes handed over, in hex; null where it did not come to that",
            )
            .nullable()
            .set_if_known(),
            Column::new("partition", Kind::Int, "Partition of the newest record about it"),
            Column::new("record_offset", Kind::Big, "Offset of the newest record about it"),
        ],
    )
};

/// Attempts, and withheld reminders as attempt 0. These come from the reminders' view, which that model points to whichever
/// build holds it.
const VIEW: View = View {
    name: "contact_attempts",
    comment: "One row per attempt to hand a message over, and one, with attempt 0, per reminder that was withheld",
    of: &ATTEMPTS,
    columns: &[
        Shown::Column("tenant"),
        Shown::Column("account"),
        Shown::Column("reminder"),
        Shown::Column("attempt"),
        Shown::Column("step"),
        Shown::Column("tone"),
        Shown::Column("channel"),
        Shown::Hex("recipient"),
        Shown::Column("template"),
        Shown::Column("language"),
        Shown::Column("policy_version"),
        Shown::Column("started_at"),
        Shown::Column("send_before"),
        Shown::Column("status"),
        Shown::Column("reason"),
        Shown::Column("ended_at"),
        Shown::Column("message_id"),
        Shown::Hex("message_sha256"),
        Shown::Column("partition"),
        Shown::Column("record_offset"),
    ],
    rest: "UNION ALL
        SELECT tenant, account, reminder, 0, step, tone, channel, NULL, template, NULL, NULL, NULL, NULL, status, reason,
               changed_at, NULL, NULL, partition, record_offset
        FROM bi.reminders WHERE status = 'withheld'",
};

/// An attempt, by its number on the reminder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptKey {
    /// Whose.
    pub reminder: ReminderKey,
    /// From 1.
    pub attempt: u32,
}

/// An attempt as it was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptStart {
    /// How it speaks.
    pub notice: Notice,
    /// The template's language.
    pub language: String,
    /// Keyed digest of the address.
    pub recipient: [u8; 32],
    /// The version of the tenant's catalog that decided it.
    pub policy_version: u64,
    /// When.
    pub at: Timestamp,
    /// Not a byte of it leaves from this instant on.
    pub send_before: Timestamp,
}

/// The changes of a batch to an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptChange {
    /// Present where the batch makes the row.
    pub started: Option<AttemptStart>,
    /// `started`, `accepted`, `rejected`, `deferred` or `unknown`.
    pub status: &'static str,
    /// Why it did not get through.
    pub reason: Option<String>,
    /// When its outcome was recorded.
    pub ended_at: Option<Timestamp>,
    /// Message-ID of the attempt's message, where it becomes known.
    pub message_id: Option<String>,
    /// SHA-256 of what was handed over, where it becomes known.
    pub message_sha256: Option<[u8; 32]>,
    /// The newest commit about it.
    pub position: CommitPosition,
}

/// The changes of a batch to attempts, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempts {
    /// By key.
    pub changes: BTreeMap<AttemptKey, AttemptChange>,
}

impl Model for Attempts {
    const DECLARATION: Declaration = Declaration::new("attempts", 2, &[ATTEMPTS], &[VIEW]);

    fn add(&mut self, accepted: &Accepted<'_>) {
        for event in &accepted.commit.events {
            if let Event::Dunning(fact) = event {
                self.fold(accepted, fact);
            }
        }
    }

    async fn write(&self, writer: &mut Writer<'_>) -> Result<(), ReadModelError> {
        let mut rows = TableRows::of(&ATTEMPTS, self.changes.len());
        for (key, row) in &self.changes {
            let start = row.started.as_ref();
            rows.put(
                start.is_some(),
                &[
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
                    &row.message_id.as_deref(),
                    &row.message_sha256.as_ref().map(|sha256| sha256.as_slice()),
                    &(row.position.partition as i32),
                    &(row.position.offset as i64),
                ],
            );
        }
        writer.write(rows).await
    }
}

impl Attempts {
    fn fold(&mut self, accepted: &Accepted<'_>, fact: &Fact) {
        let ends = |status, reason, handed: Option<&HandedOver>| AttemptChange {
            started: None,
            status,
            reason,
            ended_at: Some(accepted.commit.recorded_at),
            message_id: handed.map(|handed| handed.message_id.clone()),
            message_sha256: handed.map(|handed| handed.sha256),
            position: accepted.position,
        };
        let (reminder, attempt, change) = match fact {
            Fact::ContactStarted(started) => {
                let start = AttemptStart {
                    notice: started.notice.clone(),
                    language: started.language.clone(),
                    recipient: started.recipient,
                    policy_version: accepted.commit.catalog.tenant,
                    at: started.at,
                    send_before: started.send_before,
                };
                let message_id = started.stamp.as_ref().map(|stamp| stamp.id.clone());
                let change =
                    AttemptChange { started: Some(start), ended_at: None, message_id, ..ends("started", None, None) };
                (started.reminder, started.attempt, change)
            }
            // Attempt 0: the reminder waits without having been started.
            Fact::ContactDeferred(deferred) if deferred.attempt > 0 => {
                let reason = why_deferred(deferred);
                (deferred.reminder, deferred.attempt, ends("deferred", Some(reason), None))
            }
            Fact::ContactAccepted(accepted) => {
                (accepted.reminder, accepted.attempt, ends("accepted", None, Some(&accepted.handed)))
            }
            Fact::ContactRejected(rejected) => {
                let reason = why(rejected.reason.name(), Some(&rejected.failure));
                (rejected.reminder, rejected.attempt, ends("rejected", Some(reason), rejected.handed.as_ref()))
            }
            Fact::ContactUnknown(unknown) => {
                let reason = unknown.reason.name().to_owned();
                (unknown.reminder, unknown.attempt, ends("unknown", Some(reason), unknown.handed.as_ref()))
            }
            Fact::ReminderDue(_) | Fact::ContactWithheld(_) | Fact::ContactDeferred(_) => return,
        };
        let reminder = ReminderKey { owner: accepted.owner.clone(), reminder };
        let key = AttemptKey { reminder, attempt };
        match self.changes.get_mut(&key) {
            Some(before) => before.then(change),
            None => drop(self.changes.insert(key, change)),
        }
    }
}

impl AttemptChange {
    fn then(&mut self, later: AttemptChange) {
        let before = mem::replace(self, later);
        self.started = before.started.or(self.started.take());
        self.message_id = self.message_id.take().or(before.message_id);
        self.message_sha256 = self.message_sha256.or(before.message_sha256);
    }
}
