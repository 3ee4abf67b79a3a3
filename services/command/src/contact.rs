//! What a command did to a reminder, and the snapshot for whoever may send it.

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
use saldo_facts::{Commit, date_to_api, listed_to_api, notice_to_api, timestamp_to_api, unlisted_to_api};
use saldo_keyring::{Keyring, KeyringError};
use serde::{Deserialize, Serialize};

use crate::personal::{ProfileField, open_profile_value};

/// Part of the answer to a command about a reminder; a function of the commit, as the rest of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContactAnswer {
    /// An attempt is started.
    Started(Box<ContactStarted>),
    /// The reminder waits.
    Deferred {
        /// Which.
        reminder: u64,
        /// Why, where it was said just now.
        reason: Option<DeferredReason>,
        /// Until when.
        until: Timestamp,
    },
    /// Nothing is sent.
    Withheld {
        /// Which.
        reminder: u64,
        /// Why.
        reason: WithheldReason,
    },
    /// It was closed before, or another sender has it.
    UsedUp {
        /// Which.
        reminder: u64,
    },
    /// An outcome is recorded.
    Closed {
        /// Which.
        reminder: u64,
        /// The attempt.
        attempt: u32,
    },
}

impl ContactAnswer {
    /// What a commit did; the last of it where time brought something too.
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

    /// What a command found that had nothing to do.
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

    /// As the protocol says it, without the snapshot.
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

/// All that the message of an attempt is made of, name and address opened.
pub async fn snapshot(
    keyring: &Keyring,
    record_key: &str,
    started: &ContactStarted,
) -> Result<v1::ContactSnapshot, KeyringError> {
    Ok(v1::ContactSnapshot {
        claim: started.claim.0.to_vec(),
        send_before: Some(timestamp_to_api(started.send_before)),
        saying: Some(notice_to_api(&started.notice)),
        language: started.language.clone(),
        name: open_profile_value(keyring, record_key, ProfileField::Name, &started.name).await?,
        address: open_profile_value(keyring, record_key, ProfileField::Address, &started.address).await?,
        day: Some(date_to_api(started.day)),
        items: started.items.iter().map(listed_to_api).collect(),
        at: Some(timestamp_to_api(started.at)),
        unapplied: (started.unapplied.iter())
            .map(|(currency, minor)| v1::Money { minor_units: *minor, currency: currency.to_string() })
            .collect(),
        unlisted: started.unlisted.iter().map(unlisted_to_api).collect(),
    })
}
