//! The changes of a batch to reminders.
//!
//! A change stands for all that its batch did to one row, so that a row comes out the same however the log was cut into
//! batches. A change that makes its row is whole; any other sets what it knows and leaves the rest.

use std::collections::BTreeMap;

use jiff::Timestamp;
use saldo_domain::dunning::{ContactDeferred, Fact, HandOverFailure, Notice, WithheldReason, attempt::LAST_LOOK};

use crate::models::{Accepted, CommitPosition, Owner};

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

/// The changes of a batch to a reminder.
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

/// The changes of a batch to reminders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reminders {
    /// By key.
    pub changes: BTreeMap<ReminderKey, ReminderChange>,
    /// By account, the effect on the reminder from before the batch that a person should see to.
    pub older: BTreeMap<Owner, Older>,
}

/// The effect of a batch on an older reminder that a person should see to.
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

impl Reminders {
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

    /// Adds a fact.
    pub(super) fn fold(&mut self, accepted: &Accepted<'_>, fact: &Fact) {
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
pub(in crate::models) fn why_deferred(deferred: &ContactDeferred) -> String {
    match &deferred.failure {
        Some(failure) if deferred.route => why("route_failed", Some(failure)),
        Some(failure) if failure.stage == LAST_LOOK => "too_late".to_owned(),
        failure => why(deferred.reason.name(), failure.as_ref()),
    }
}

/// `refused: rcpt 550`; the provider's own words may repeat an address and stay sealed.
pub(in crate::models) fn why(reason: &str, failure: Option<&HandOverFailure>) -> String {
    match failure {
        None => reason.to_owned(),
        Some(HandOverFailure { stage, code: 0, .. }) => format!("{reason}: {stage}"),
        Some(HandOverFailure { stage, code, .. }) => format!("{reason}: {stage} {code}"),
    }
}
