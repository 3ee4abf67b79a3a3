//! The part of an answer that is about a reminder.

use jiff::Timestamp;
use saldo_api::v1::{self, contact_answer::State};
use saldo_domain::{
    account::Account,
    command::Command,
    dunning::{
        self, ContactAccepted, ContactDeferred, ContactRejected, ContactStarted, ContactUnknown, ContactWithheld,
        DeferredReason, ReminderState, WithheldReason,
    },
    event::Event,
};
use saldo_facts::{Commit, timestamp_to_api};
use serde::{Deserialize, Serialize};

/// The part of an answer that is about a reminder; a function of the commit, like the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReminderAnswer {
    /// An attempt is started.
    Started(Box<ContactStarted>),
    /// The reminder waits.
    Deferred {
        /// The reminder.
        reminder: u64,
        /// Why, where this command deferred it.
        reason: Option<DeferredReason>,
        /// Until when.
        until: Timestamp,
    },
    /// Nothing is sent.
    Withheld {
        /// The reminder.
        reminder: u64,
        /// Why.
        reason: WithheldReason,
    },
    /// The reminder was closed before, or another sender has it.
    UsedUp {
        /// The reminder.
        reminder: u64,
    },
    /// An outcome is recorded.
    Closed {
        /// The reminder.
        reminder: u64,
        /// The attempt.
        attempt: u32,
    },
}

impl ReminderAnswer {
    /// The effect of a commit on a reminder. The last effect counts, since time may have brought another one before.
    pub fn of(commit: &Commit) -> Option<Self> {
        commit.events.iter().rev().find_map(|event| match event {
            Event::Dunning(dunning::Fact::ContactStarted(started)) => Some(Self::Started(Box::new(started.clone()))),
            Event::Dunning(dunning::Fact::ContactDeferred(ContactDeferred { reminder, reason, until, .. })) => {
                Some(Self::Deferred { reminder: *reminder, reason: Some(*reason), until: *until })
            }
            Event::Dunning(dunning::Fact::ContactWithheld(ContactWithheld { reminder, reason, .. })) => {
                Some(Self::Withheld { reminder: *reminder, reason: *reason })
            }
            Event::Dunning(dunning::Fact::ContactAccepted(ContactAccepted { reminder, attempt, .. }))
            | Event::Dunning(dunning::Fact::ContactRejected(ContactRejected { reminder, attempt, .. }))
            | Event::Dunning(dunning::Fact::ContactUnknown(ContactUnknown { reminder, attempt, .. })) => {
                Some(Self::Closed { reminder: *reminder, attempt: *attempt })
            }
            _ => None,
        })
    }

    /// The answer to a command that brought nothing about.
    pub fn of_nothing(command: &Command, account: &Account) -> Option<Self> {
        match command {
            Command::Dunning(dunning::Command::StartContactAttempt { reminder, .. }) => {
                let open = account.dunning.open.as_ref().filter(|open| open.number == *reminder);
                Some(match open.map(|open| &open.state) {
                    Some(ReminderState::Due { from: Some(until) }) => {
                        Self::Deferred { reminder: *reminder, reason: None, until: *until }
                    }
                    _ => Self::UsedUp { reminder: *reminder },
                })
            }
            Command::Dunning(dunning::Command::RecordContactOutcome { reminder, attempt, .. }) => {
                Some(Self::Closed { reminder: *reminder, attempt: *attempt })
            }
            _ => None,
        }
    }

    /// The message of the protocol, without the snapshot.
    pub fn into_api(self) -> v1::ContactAnswer {
        let answer = |state: State, reminder| v1::ContactAnswer { state: state.into(), reminder, ..Default::default() };
        match self {
            Self::Started(started) => {
                v1::ContactAnswer { attempt: started.attempt, ..answer(State::Started, started.reminder) }
            }
            Self::Deferred { reminder, reason, until } => v1::ContactAnswer {
                reason: reason.map(DeferredReason::name).unwrap_or_default().to_owned(),
                due_from: Some(timestamp_to_api(until)),
                ..answer(State::Deferred, reminder)
            },
            Self::Withheld { reminder, reason } => {
                v1::ContactAnswer { reason: reason.name().to_owned(), ..answer(State::Withheld, reminder) }
            }
            Self::UsedUp { reminder } => answer(State::UsedUp, reminder),
            Self::Closed { reminder, attempt } => v1::ContactAnswer { attempt, ..answer(State::Closed, reminder) },
        }
    }
}
