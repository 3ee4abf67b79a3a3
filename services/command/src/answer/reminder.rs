//! The part of an answer that is about a reminder.

use jiff::Timestamp;
use prost::Message;
use saldo_api::{
    ApiRequest,
    v1::{self, contact_answer::State},
};
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

/// The commands whose answer is about a reminder.
enum Asked {
    Start {
        reminder: u64,
    },
    Record {
        reminder: u64,
        attempt: u32,
    },
    /// A person has the reminder said again, or drops it.
    Settle {
        reminder: u64,
    },
}

impl Asked {
    fn of(commit: &Commit) -> Option<Self> {
        let command = commit.command.as_slice();
        if commit.method == v1::StartContactAttemptRequest::METHOD {
            let request = v1::StartContactAttemptRequest::decode(command).ok()?;
            Some(Self::Start { reminder: request.reminder })
        } else if commit.method == v1::RecordContactOutcomeRequest::METHOD {
            let request = v1::RecordContactOutcomeRequest::decode(command).ok()?;
            Some(Self::Record { reminder: request.reminder, attempt: request.attempt })
        } else if commit.method == v1::RetryContactRequest::METHOD {
            Some(Self::Settle { reminder: v1::RetryContactRequest::decode(command).ok()?.reminder })
        } else if commit.method == v1::DropContactRequest::METHOD {
            Some(Self::Settle { reminder: v1::DropContactRequest::decode(command).ok()?.reminder })
        } else {
            None
        }
    }

    /// Whether a reminder is the one that was asked about, or says that one again.
    fn is_about(&self, reminder: u64, commit: &Commit) -> bool {
        let (Self::Start { reminder: asked } | Self::Record { reminder: asked, .. } | Self::Settle { reminder: asked }) =
            *self;
        let says_it_again = |event: &Event| {
            matches!(event, Event::Dunning(dunning::Fact::ReminderDue(due))
                if due.reminder == reminder && due.retry_of == Some(asked))
        };
        reminder == asked || commit.events.iter().any(says_it_again)
    }

    /// The answer where nothing happened to the reminder.
    fn of_nothing(&self) -> Option<ReminderAnswer> {
        match *self {
            Self::Start { reminder } => Some(ReminderAnswer::UsedUp { reminder }),
            Self::Record { reminder, attempt } => Some(ReminderAnswer::Closed { reminder, attempt }),
            Self::Settle { .. } => None,
        }
    }
}

impl ReminderAnswer {
    /// The effect of a commit on the reminder that its command is about. The last effect on it counts, since time may have
    /// brought another one before. Time may also have brought effects on other reminders, which are no answer to the command.
    pub fn of(commit: &Commit) -> Option<Self> {
        let asked = Asked::of(commit)?;
        let mut effects = commit.events.iter().rev().filter_map(Self::of_event);
        effects.find(|effect| asked.is_about(effect.reminder(), commit)).or_else(|| asked.of_nothing())
    }

    fn of_event(event: &Event) -> Option<Self> {
        let Event::Dunning(fact) = event else { return None };
        match fact {
            dunning::Fact::ContactStarted(started) => Some(Self::Started(Box::new(started.clone()))),
            dunning::Fact::ContactDeferred(ContactDeferred { reminder, reason, until, .. }) => {
                Some(Self::Deferred { reminder: *reminder, reason: Some(*reason), until: *until })
            }
            dunning::Fact::ContactWithheld(ContactWithheld { reminder, reason, .. }) => {
                Some(Self::Withheld { reminder: *reminder, reason: *reason })
            }
            dunning::Fact::ContactAccepted(ContactAccepted { reminder, attempt, .. })
            | dunning::Fact::ContactRejected(ContactRejected { reminder, attempt, .. })
            | dunning::Fact::ContactUnknown(ContactUnknown { reminder, attempt, .. }) => {
                Some(Self::Closed { reminder: *reminder, attempt: *attempt })
            }
            dunning::Fact::ReminderDue(_) => None,
        }
    }

    fn reminder(&self) -> u64 {
        match self {
            Self::Started(started) => started.reminder,
            Self::Deferred { reminder, .. }
            | Self::Withheld { reminder, .. }
            | Self::UsedUp { reminder }
            | Self::Closed { reminder, .. } => *reminder,
        }
    }

    /// The answer to a command that brought nothing about.
    pub fn of_nothing(command: &Command, account: &Account) -> Option<Self> {
        match command {
            Command::Dunning(dunning::Command::StartContactAttempt { reminder, .. }) => {
                let open = account.dunning.open.as_ref().filter(|open| open.number == *reminder);
                match open.map(|open| &open.state) {
                    Some(ReminderState::Due { from: Some(until) }) => {
                        Some(Self::Deferred { reminder: *reminder, reason: None, until: *until })
                    }
                    _ => Asked::Start { reminder: *reminder }.of_nothing(),
                }
            }
            Command::Dunning(dunning::Command::RecordContactOutcome { reminder, attempt, .. }) => {
                Asked::Record { reminder: *reminder, attempt: *attempt }.of_nothing()
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

#[cfg(test)]
mod tests {
    use saldo_domain::{
        dunning::{Notice, ReminderDue, StepsTaken, Tone, UnknownReason},
        party::Channel,
    };
    use saldo_facts::CatalogVersions;

    use super::*;

    fn withheld(reminder: u64) -> Event {
        ContactWithheld::of(reminder, WithheldReason::Held, jiff::civil::date(2026, 3, 2)).into()
    }

    fn unknown(reminder: u64) -> Event {
        let took = StepsTaken { steps: Vec::new(), on: jiff::civil::date(2026, 3, 2) };
        ContactUnknown { reminder, attempt: 1, reason: UnknownReason::NoOutcome, handed: None, took }.into()
    }

    fn answer<R: ApiRequest>(request: &R, events: Vec<Event>) -> Option<ReminderAnswer> {
        ReminderAnswer::of(&Commit {
            request_id: "r-1".into(),
            method: R::METHOD.into(),
            fingerprint: [0; 32],
            command: request.encode_to_vec(),
            sealed: Vec::new(),
            actor: "sender".into(),
            actor_roles: Vec::new(),
            recorded_at: Timestamp::UNIX_EPOCH,
            catalog: CatalogVersions::default(),
            next_wakeup: None,
            refusal: None,
            events,
        })
    }

    fn start(reminder: u64) -> v1::StartContactAttemptRequest {
        v1::StartContactAttemptRequest { reminder, ..Default::default() }
    }

    #[test]
    fn the_answer_names_the_reminder_that_was_asked_about() {
        let held = ReminderAnswer::Withheld { reminder: 2, reason: WithheldReason::Held };
        assert_eq!(answer(&start(2), vec![unknown(1), withheld(2)]), Some(held));
        // Time brought the end of reminder 1, and a step that a hold keeps back.
        let closed = ReminderAnswer::Closed { reminder: 1, attempt: 1 };
        assert_eq!(answer(&start(1), vec![unknown(1), withheld(2)]), Some(closed.clone()));
        assert_eq!(answer(&start(1), vec![withheld(3)]), Some(ReminderAnswer::UsedUp { reminder: 1 }));
        let record = v1::RecordContactOutcomeRequest { reminder: 1, attempt: 1, ..Default::default() };
        assert_eq!(answer(&record, vec![withheld(2)]), Some(closed));
        let retry = v1::RetryContactRequest { reminder: 1, ..Default::default() };
        assert_eq!(answer(&retry, vec![withheld(2)]), None);
        let again = |reminder, retry_of| {
            let notice = Notice {
                step: "first".into(),
                tone: Tone::Friendly,
                channel: Channel::Email,
                template: "first".into(),
            };
            let takes = Vec::new();
            Event::from(ReminderDue { reminder, notice, takes, retry_of, note: None })
        };
        let held = Some(ReminderAnswer::Withheld { reminder: 2, reason: WithheldReason::Held });
        assert_eq!(answer(&retry, vec![again(2, Some(1)), withheld(2)]), held, "reminder 2 says it again");
        assert_eq!(answer(&retry, vec![again(2, None), withheld(2)]), None);
        let drop = v1::DropContactRequest { reminder: 2, ..Default::default() };
        assert_eq!(answer(&drop, vec![unknown(1), withheld(2)]), held);
    }
}
