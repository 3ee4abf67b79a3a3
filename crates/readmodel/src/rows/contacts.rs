//! Reminders and attempts: what a batch of commits changes of them.
//!
//! A change stands for all that its batch did to one row, so that a row comes out the same however the log was cut into
//! batches. A change that makes its row is whole; any other sets what it knows and leaves the rest.

use std::{collections::BTreeMap, mem};

use jiff::Timestamp;
use saldo_domain::{
    dunning::{
        self, ContactAccepted, ContactDeferred, ContactRejected, ContactUnknown, ContactWithheld, HandOverFailure,
        HandedOver, Notice, ReminderDue, WithheldReason,
    },
    event::Event,
};
use saldo_facts::Commit;

use super::{Owner, Place};

/// A reminder, by its number on the account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReminderKey {
    /// Whose.
    pub owner: Owner,
    /// From 1.
    pub reminder: u64,
}

/// An attempt, by its number on the reminder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptKey {
    /// Whose.
    pub reminder: ReminderKey,
    /// From 1.
    pub attempt: u32,
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
    /// It reached nobody for certain, and no person has seen to it.
    pub needs_person: bool,
    /// The newest commit about it.
    pub place: Place,
    /// The trace that commit was written under, for who works on it next to link to: W3C's `traceparent`.
    pub trace: Option<Box<str>>,
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

/// What a batch did to an attempt.
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
    /// Message-ID and SHA-256 of what was handed over, where that becomes known.
    pub handed: Option<(String, [u8; 32])>,
    /// The newest commit about it.
    pub place: Place,
}

/// What a batch did to reminders and attempts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contacts {
    /// By key.
    pub reminders: BTreeMap<ReminderKey, ReminderChange>,
    /// By key.
    pub attempts: BTreeMap<AttemptKey, AttemptChange>,
    /// The newest reminder that fell due on each account: nobody need look at the ones before it any more.
    pub newest: BTreeMap<Owner, u64>,
}

impl Contacts {
    /// Adds a commit.
    pub(super) fn add(&mut self, owner: &Owner, place: Place, trace: Option<&str>, commit: &Commit) {
        let mut said = Said { contacts: self, owner, place, trace, commit };
        commit.events.iter().for_each(|event| said.hear(event));
    }

    fn supersede(&mut self, owner: &Owner, newest: u64) {
        let key = |reminder| ReminderKey { owner: owner.clone(), reminder };
        self.reminders.range_mut(key(0)..key(newest)).for_each(|(_, older)| older.needs_person = false);
        self.newest.insert(owner.clone(), newest);
    }

    fn remind(&mut self, key: ReminderKey, change: ReminderChange) {
        match self.reminders.get_mut(&key) {
            Some(before) => before.then(change),
            None => drop(self.reminders.insert(key, change)),
        }
    }

    fn attempt(&mut self, key: AttemptKey, change: AttemptChange) {
        match self.attempts.get_mut(&key) {
            Some(before) => before.then(change),
            None => drop(self.attempts.insert(key, change)),
        }
    }
}

impl ReminderChange {
    fn then(&mut self, later: ReminderChange) {
        self.needs_person = later.needs_person;
        self.place = later.place;
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

impl AttemptChange {
    fn then(&mut self, later: AttemptChange) {
        let handed = self.handed.take();
        let started = mem::take(&mut self.started);
        *self = AttemptChange { started: started.or(later.started), handed: later.handed.or(handed), ..later };
    }
}

/// One commit's events, being turned into changes.
struct Said<'c> {
    contacts: &'c mut Contacts,
    owner: &'c Owner,
    place: Place,
    trace: Option<&'c str>,
    commit: &'c Commit,
}

impl Said<'_> {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Dunning(dunning::Fact::ReminderDue(ReminderDue { reminder, notice, retry_of, .. })) => {
                let at = self.commit.recorded_at;
                self.contacts.supersede(self.owner, *reminder);
                let standing = Standing { ready_at: Some(at), ..standing("due", None) };
                let change = ReminderChange {
                    fell_due: Some(FellDue { at, retry_of: *retry_of }),
                    notice: Some(notice.clone()),
                    attempts: Some(0),
                    ..self.stands(standing)
                };
                self.contacts.remind(self.reminder(*reminder), change);
            }
            Event::Dunning(dunning::Fact::ContactStarted(started)) => {
                let standing = Standing { until: Some(started.send_before), ..standing("started", None) };
                let change = ReminderChange {
                    notice: Some(started.notice.clone()),
                    attempts: Some(started.attempt),
                    ..self.stands(standing)
                };
                self.contacts.remind(self.reminder(started.reminder), change);
                let start = AttemptStart {
                    notice: started.notice.clone(),
                    language: started.language.clone(),
                    recipient: started.recipient,
                    policy_version: self.commit.catalog.tenant,
                    at: started.at,
                    send_before: started.send_before,
                };
                let change = AttemptChange { started: Some(start), ended_at: None, ..self.ends("started", None, None) };
                self.contacts.attempt(self.key(started.reminder, started.attempt), change);
            }
            Event::Dunning(dunning::Fact::ContactWithheld(ContactWithheld { reminder, reason, hold, .. })) => {
                let by = hold.as_ref().map_or_else(String::new, |hold| format!(": {hold}"));
                let withheld = format!("{}{by}", reason.name());
                let change = ReminderChange {
                    if_waiting: *reason == WithheldReason::Dropped,
                    needs_person: *reason == WithheldReason::NoContactPoint,
                    ..self.stands(standing("withheld", Some(withheld)))
                };
                self.contacts.remind(self.reminder(*reminder), change);
            }
            Event::Dunning(dunning::Fact::ContactDeferred(ContactDeferred {
                reminder,
                attempt,
                reason,
                until,
                failure,
            })) => {
                let reason = Some(why(reason.name(), failure.as_ref()));
                let standing =
                    Standing { ready_at: Some(*until), until: Some(*until), ..standing("deferred", reason.clone()) };
                self.contacts.remind(self.reminder(*reminder), self.stands(standing));
                if *attempt > 0 {
                    self.contacts.attempt(self.key(*reminder, *attempt), self.ends("deferred", reason, None));
                }
            }
            Event::Dunning(dunning::Fact::ContactAccepted(ContactAccepted { reminder, attempt, handed, .. })) => {
                self.close((*reminder, *attempt), "accepted", None, Some(handed));
            }
            Event::Dunning(dunning::Fact::ContactRejected(ContactRejected {
                reminder,
                attempt,
                reason,
                failure,
                handed,
                ..
            })) => {
                let reason = Some(why(reason.name(), Some(failure)));
                self.close((*reminder, *attempt), "rejected", reason, handed.as_ref());
            }
            Event::Dunning(dunning::Fact::ContactUnknown(ContactUnknown {
                reminder, attempt, reason, handed, ..
            })) => {
                let reason = Some(reason.name().to_owned());
                self.close((*reminder, *attempt), "unknown", reason, handed.as_ref());
            }
            _ => {}
        }
    }

    /// The attempt has an outcome, and the reminder with it.
    fn close(
        &mut self,
        (reminder, attempt): (u64, u32),
        status: &'static str,
        reason: Option<String>,
        handed: Option<&HandedOver>,
    ) {
        let standing = standing(status, reason.clone());
        let change = ReminderChange { needs_person: status != "accepted", ..self.stands(standing) };
        self.contacts.remind(self.reminder(reminder), change);
        self.contacts.attempt(self.key(reminder, attempt), self.ends(status, reason, handed));
    }

    fn reminder(&self, reminder: u64) -> ReminderKey {
        ReminderKey { owner: self.owner.clone(), reminder }
    }

    fn key(&self, reminder: u64, attempt: u32) -> AttemptKey {
        AttemptKey { reminder: self.reminder(reminder), attempt }
    }

    fn stands(&self, standing: Standing) -> ReminderChange {
        ReminderChange {
            fell_due: None,
            notice: None,
            attempts: None,
            standing,
            if_waiting: false,
            changed_at: self.commit.recorded_at,
            needs_person: false,
            place: self.place,
            trace: self.trace.map(Into::into),
        }
    }

    fn ends(&self, status: &'static str, reason: Option<String>, handed: Option<&HandedOver>) -> AttemptChange {
        AttemptChange {
            started: None,
            status,
            reason,
            ended_at: Some(self.commit.recorded_at),
            handed: handed.map(|handed| (handed.message_id.clone(), handed.sha256)),
            place: self.place,
        }
    }
}

fn standing(status: &'static str, reason: Option<String>) -> Standing {
    Standing { status, reason, ready_at: None, until: None }
}

/// `refused: rcpt 550`; the provider's own words may repeat an address and stay sealed.
fn why(reason: &str, failure: Option<&HandOverFailure>) -> String {
    match failure {
        None => reason.to_owned(),
        Some(HandOverFailure { stage, code: 0, .. }) => format!("{reason}: {stage}"),
        Some(HandOverFailure { stage, code, .. }) => format!("{reason}: {stage} {code}"),
    }
}
