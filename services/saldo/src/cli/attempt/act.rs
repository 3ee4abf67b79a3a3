//! A person's decision about one reminder.

use jiff::Timestamp;
use saldo_api::v1::{self, contact_answer::State};
use saldo_facts::timestamp_from_api;
use tonic::Status;
use uuid::Uuid;

use crate::client::Clients;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Retry,
    Drop,
}

/// What `--reason` becomes.
pub const NAMES: &[(&str, &str)] = &[("note", "--reason")];

/// The account's answer.
#[derive(Debug)]
pub struct Done {
    pub version: u64,
    pub events: Vec<String>,
    /// The retry waits until then.
    pub until: Option<Timestamp>,
    /// Why it waits.
    pub reason: String,
}

impl Act {
    /// Asks the account, for as long as it takes.
    pub async fn ask(self, clients: &Clients, account: &str, reminder: u64, note: &str) -> Result<Done, Status> {
        let (request_id, account_id, note) = (Uuid::new_v4().to_string(), account.to_owned(), note.to_owned());
        let answer = match self {
            Self::Retry => {
                clients.ask_patiently(v1::RetryContactRequest { request_id, account_id, reminder, note }).await
            }
            Self::Drop => {
                clients.ask_patiently(v1::DropContactRequest { request_id, account_id, reminder, note }).await
            }
        }?;
        let waits = answer.contact.filter(|contact| contact.state() == State::Deferred).unwrap_or_default();
        Ok(Done {
            version: answer.version,
            events: answer.event_types,
            until: waits.due_from.and_then(|at| timestamp_from_api(at).ok()),
            reason: waits.reason,
        })
    }

    /// The answer, for people.
    pub fn told(self, account: &str, reminder: u64, done: &Done) -> String {
        match (self, done.until) {
            (Self::Drop, _) => {
                format!("reminder {reminder} of {account} is dropped; its steps count as taken, and the ladder goes on")
            }
            (Self::Retry, None) => {
                format!(
                    "reminder {reminder} of {account} is sent again now; `saldo outbox {account}` shows what becomes of it"
                )
            }
            (Self::Retry, Some(until)) => {
                let why = match done.reason.as_str() {
                    "budget" => "the debtor was contacted often enough for now",
                    _ => "messages are not permitted at this hour",
                };
                let until = until.round(jiff::Unit::Second).unwrap_or(until);
                format!("reminder {reminder} of {account} is sent again from {until} on: {why}")
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Drop => "drop",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_told_when_a_retry_goes_out_and_that_a_dropped_step_counts_as_taken() {
        let done = |until: Option<&str>, reason: &str| Done {
            version: 3,
            events: Vec::new(),
            until: until.map(|at| at.parse().expect("an instant")),
            reason: reason.to_owned(),
        };
        let retried = Act::Retry.told("D-1", 2, &done(Some("2026-03-10T08:00:00Z"), "budget"));
        assert_eq!(
            retried,
            "reminder 2 of D-1 is sent again from 2026-03-10T08:00:00Z on: the debtor was contacted often enough for now"
        );
        assert!(Act::Retry.told("D-1", 2, &done(None, "")).contains("is sent again now"));
        assert!(Act::Drop.told("D-1", 2, &done(None, "")).contains("its steps count as taken"));
    }
}
