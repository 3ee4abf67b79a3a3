//! The history of an account as commits, a minute apart.

use jiff::{SignedDuration, Timestamp, civil::date};
use saldo_domain::{
    account::Account,
    dunning::{
        self, Claim, ContactAccepted, ContactDeferred, ContactRejected, ContactStarted, ContactUnknown,
        ContactWithheld, DeferredReason, HandOverFailure, HandedOver, ItemStep, ListedItem, MessageStamp, Notice,
        RejectedReason, ReminderDue, StepsTaken, Tone, UnknownReason, WithheldReason,
    },
    event::Event,
    evolve,
    ids::DocumentNumber,
    money::Currency,
    party::Channel,
    sealed::Sealed,
};
use saldo_facts::{CatalogVersions, Commit};
use saldo_readmodel::{Accepted, CommitPosition, Owner, Rows};

/// An account's history: what stands in its rows must be told by it.
pub struct Story {
    pub name: String,
    pub commits: Vec<Commit>,
}

impl Story {
    pub fn of(name: &str, commits: Vec<Vec<Event>>) -> Self {
        let commit = |(index, events)| Commit {
            request_id: format!("r-{index}"),
            method: "AdvanceTime".into(),
            fingerprint: [0; 32],
            command: Vec::new(),
            sealed: Vec::new(),
            actor: "ana".into(),
            actor_roles: Vec::new(),
            recorded_at: minute(index),
            catalog: CatalogVersions { tenant: 7, system: 0 },
            next_wakeup: (index % 2 == 0).then(|| minute(index + 60)),
            refusal: None,
            events,
        };
        Self { name: name.to_owned(), commits: (1..).zip(commits).map(commit).collect() }
    }

    /// A story with commits at these instants.
    pub fn told(name: &str, commits: &[(Timestamp, Vec<Event>)]) -> Self {
        let mut story = Self::of(name, commits.iter().map(|(_, events)| events.clone()).collect());
        story.commits.iter_mut().zip(commits).for_each(|(commit, (at, _))| commit.recorded_at = *at);
        story
    }

    pub fn owner(&self) -> Owner {
        Owner { tenant: "acme".into(), account: self.name.as_str().into() }
    }

    pub fn position(&self, index: usize, offset: u64) -> CommitPosition {
        CommitPosition { partition: 0, offset, version: index as u64 + 1, known_at: self.commits[index].recorded_at }
    }

    /// All of it in one batch.
    pub fn rows(&self) -> Rows {
        let mut rows = Rows::default();
        for (index, commit) in self.commits.iter().enumerate() {
            let position = self.position(index, index as u64);
            rows.add(&Accepted { owner: &self.owner(), position, trace: None, commit });
        }
        rows
    }

    /// As the domain folds it.
    pub fn account(&self) -> Account {
        let mut account = Account::default();
        self.commits.iter().flat_map(|commit| &commit.events).for_each(|event| evolve(&mut account, event));
        account
    }
}

pub fn minute(minute: i64) -> Timestamp {
    "2026-03-02T09:00:00Z".parse::<Timestamp>().expect("an instant") + SignedDuration::from_mins(minute)
}

fn notice(step: &str, tone: Tone) -> Notice {
    Notice { step: step.into(), tone, channel: Channel::Email, template: format!("{step}-mail") }
}

fn number(text: &str) -> DocumentNumber {
    DocumentNumber::new(text).expect("a number")
}

fn sealed() -> Sealed {
    Sealed(b"sealed".to_vec())
}

pub fn due(reminder: u64) -> Event {
    let takes = [("F-1", 3), ("F-2", 10)].map(|(invoice, offset_days)| ItemStep {
        invoice: number(invoice),
        instalment: 1,
        offset_days,
    });
    Event::Dunning(dunning::Fact::ReminderDue(ReminderDue {
        reminder,
        notice: notice("second", Tone::Firm),
        takes: takes.into(),
        retry_of: None,
        note: None,
    }))
}

pub fn again(reminder: u64, former: u64) -> Event {
    let Event::Dunning(dunning::Fact::ReminderDue(ReminderDue { notice, takes, .. })) = due(reminder) else {
        unreachable!("a reminder falls due")
    };
    Event::Dunning(dunning::Fact::ReminderDue(ReminderDue {
        reminder,
        notice,
        takes,
        retry_of: Some(former),
        note: None,
    }))
}

pub fn started(reminder: u64, attempt: u32) -> Event {
    started_as(reminder, attempt, notice("second", Tone::Firm))
}

/// Only the friendly step of the reminder is left.
pub fn started_friendlier(reminder: u64, attempt: u32) -> Event {
    started_as(reminder, attempt, notice("first", Tone::Friendly))
}

fn started_as(reminder: u64, attempt: u32, notice: Notice) -> Event {
    let eur = Currency::new("EUR").expect("EUR");
    let item = |invoice, open, takes| ListedItem {
        invoice: number(invoice),
        instalment: 1,
        currency: eur,
        due_date: date(2026, 2, 20),
        open,
        takes,
    };
    Event::Dunning(dunning::Fact::ContactStarted(ContactStarted {
        reminder,
        attempt,
        claim: Claim([attempt as u8; 16]),
        notice,
        language: "es".into(),
        name: sealed(),
        address: sealed(),
        recipient: [7; 32],
        at: minute(attempt.into()),
        day: date(2026, 3, 2),
        send_before: minute(i64::from(attempt) + 2),
        items: vec![item("F-1", 100_000, Some(3)), item("F-2", 23_450, None)],
        unlisted: Vec::new(),
        unapplied: vec![(eur, 5_000)],
        stamp: Some(MessageStamp {
            id: format!("<{attempt}@acme.example>"),
            at: minute(attempt.into()),
            day: date(2026, 3, 2),
        }),
    }))
}

fn failed(stage: &str, code: u32) -> HandOverFailure {
    HandOverFailure { stage: stage.into(), code, reply: Some(sealed()) }
}

fn handed(attempt: u32) -> HandedOver {
    HandedOver { message_id: format!("<{attempt}@acme.example>"), sha256: [attempt as u8; 32], message: sealed() }
}

/// The debtor may not be contacted now.
pub fn waits(reminder: u64) -> Event {
    Event::Dunning(dunning::Fact::ContactDeferred(ContactDeferred {
        reminder,
        attempt: 0,
        reason: DeferredReason::OutsideHours,
        until: minute(600),
        failure: None,
        route: false,
    }))
}

/// The hand-over failed for the moment.
pub fn deferred(reminder: u64, attempt: u32) -> Event {
    Event::Dunning(dunning::Fact::ContactDeferred(ContactDeferred {
        reminder,
        attempt,
        reason: DeferredReason::HandOverFailed,
        until: minute(60 * i64::from(attempt)),
        failure: Some(failed("rcpt", 450)),
        route: false,
    }))
}

pub fn accepted(reminder: u64, attempt: u32) -> Event {
    Event::Dunning(dunning::Fact::ContactAccepted(ContactAccepted {
        reminder,
        attempt,
        handed: handed(attempt),
        reply: Some(sealed()),
        took: took(),
    }))
}

pub fn refused(reminder: u64, attempt: u32) -> Event {
    let reason = RejectedReason::Refused;
    Event::Dunning(dunning::Fact::ContactRejected(ContactRejected {
        reminder,
        attempt,
        reason,
        failure: failed("rcpt", 550),
        handed: None,
        took: took(),
        tried: None,
        steps_before: Vec::new(),
    }))
}

pub fn given_up(reminder: u64, attempt: u32) -> Event {
    let reason = RejectedReason::RetriesExhausted;
    Event::Dunning(dunning::Fact::ContactRejected(ContactRejected {
        reminder,
        attempt,
        reason,
        failure: failed("connect", 0),
        handed: None,
        took: took(),
        tried: None,
        steps_before: Vec::new(),
    }))
}

pub fn no_answer(reminder: u64, attempt: u32) -> Event {
    Event::Dunning(dunning::Fact::ContactUnknown(ContactUnknown {
        reminder,
        attempt,
        reason: UnknownReason::NoAnswer,
        handed: Some(handed(attempt)),
        took: took(),
    }))
}

pub fn no_outcome(reminder: u64, attempt: u32) -> Event {
    Event::Dunning(dunning::Fact::ContactUnknown(ContactUnknown {
        reminder,
        attempt,
        reason: UnknownReason::NoOutcome,
        handed: None,
        took: took(),
    }))
}

pub fn withheld(reminder: u64, reason: WithheldReason) -> Event {
    ContactWithheld::of(reminder, reason, took().on).into()
}

fn took() -> StepsTaken {
    StepsTaken { steps: Vec::new(), on: date(2026, 3, 2) }
}
