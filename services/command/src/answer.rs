//! The answer to a command: a function of the commit and its position, so that it can be given again.

mod reminder;
mod snapshot;

use jiff::{Timestamp, civil::Date};
use saldo_api::v1;
use saldo_auth::ERROR_DOMAIN;
use saldo_domain::{
    account::Account,
    command::Command,
    event::Event,
    ids::DocumentNumber,
    ledger::{AllocationLine, CreditKind},
    money::Currency,
    refusal::{Refusal, RefusalKind},
};
use saldo_facts::{
    CatalogVersions, Commit, ConsistencyToken, date_to_api, effective_date, event_type, line_to_api, timestamp_to_api,
};
use serde::{Deserialize, Serialize};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

pub use self::{reminder::ReminderAnswer, snapshot::snapshot};

/// A refusal, as answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Stable and upper case.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Named details.
    pub details: Vec<(String, String)>,
}

/// A part of a payment or a credit note that was applied to an instalment, or taken back from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The kind of the document.
    pub kind: CreditKind,
    /// Payment reference or credit note number.
    pub document: DocumentNumber,
    /// The document's currency.
    pub currency: Currency,
    /// The part, and from which day on it was applied or taken back.
    pub line: AllocationLine,
    /// The part was taken back.
    pub is_back: bool,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The account's version after the command.
    pub version: u64,
    /// The record's offset; `None` where nothing was appended.
    pub offset: Option<u64>,
    /// When the command was decided.
    pub recorded_at: Timestamp,
    /// When the account next needs waking.
    pub next_wakeup: Option<Timestamp>,
    /// Types of the events, in order.
    pub event_types: Vec<String>,
    /// The allocations that were made and taken back.
    pub moved: Vec<Moved>,
    /// The day that the first fact of the ledger or of holds is true of.
    pub effective_date: Option<Date>,
    /// The effect of the command on a reminder.
    pub reminder: Option<ReminderAnswer>,
    /// The versions of the catalog that the decision used.
    pub catalog: CatalogVersions,
    /// Present where the domain refused the command.
    pub refused: Option<Refused>,
}

impl Answer {
    /// The answer that a commit at `offset` gives.
    pub fn of(commit: &Commit, version: u64, offset: u64) -> Self {
        Self {
            version,
            offset: Some(offset),
            recorded_at: commit.recorded_at,
            next_wakeup: commit.next_wakeup,
            event_types: commit.events.iter().map(|event| event_type(event).to_owned()).collect(),
            moved: commit.events.iter().flat_map(moved).collect(),
            effective_date: (commit.events.iter())
                .find(|event| matches!(event, Event::Ledger(_) | Event::Agreement(_)))
                .and_then(effective_date),
            reminder: ReminderAnswer::of(commit),
            catalog: commit.catalog,
            refused: commit.refusal.as_ref().map(|refusal| Refused {
                reason: refusal.reason.clone(),
                message: refusal.message.clone(),
                details: refusal.details.clone(),
            }),
        }
    }

    /// The answer to a command that brought nothing about, so that nothing was appended.
    pub fn of_nothing(
        command: &Command,
        account: &Account,
        version: u64,
        now: Timestamp,
        next_wakeup: Option<Timestamp>,
        catalog: CatalogVersions,
    ) -> Self {
        Self {
            version,
            offset: None,
            recorded_at: now,
            next_wakeup,
            event_types: Vec::new(),
            moved: Vec::new(),
            effective_date: None,
            reminder: ReminderAnswer::of_nothing(command, account),
            catalog,
            refused: None,
        }
    }

    /// The response of the protocol, or the status of a refusal. `replayed` says whether the answer was given before.
    pub fn into_response(
        self,
        account_id: &str,
        log_id: [u8; 16],
        partition: u32,
        replayed: bool,
    ) -> Result<v1::CommandResponse, Status> {
        if let Some(refused) = self.refused {
            return Err(refused.into_status(replayed));
        }
        let token = self.offset.map(|offset| ConsistencyToken { log_id, partition, offset });
        Ok(v1::CommandResponse {
            account_id: account_id.to_owned(),
            version: self.version,
            consistency_token: token.map(|token| token.to_string()).unwrap_or_default(),
            recorded_at: Some(timestamp_to_api(self.recorded_at)),
            next_wakeup: self.next_wakeup.map(timestamp_to_api),
            replayed,
            event_types: self.event_types,
            allocations: self.moved.iter().filter(|one| !one.is_back).map(|one| line_to_api(&one.line)).collect(),
            contact: self.reminder.map(ReminderAnswer::into_api),
            policy_version: self.catalog.tenant,
            system_version: self.catalog.system,
            moved: self.moved.into_iter().map(Moved::into_api).collect(),
            effective_date: self.effective_date.map(date_to_api),
        })
    }
}

impl Refused {
    fn code(&self) -> Code {
        match Refusal::kind_of(&self.reason) {
            RefusalKind::AlreadyExists => Code::AlreadyExists,
            RefusalKind::NotFound => Code::NotFound,
            RefusalKind::FailedPrecondition => Code::FailedPrecondition,
        }
    }

    pub(crate) fn into_status(self, replayed: bool) -> Status {
        let code = self.code();
        let replayed = ("replayed".to_owned(), replayed.to_string());
        let details = ErrorDetails::with_error_info(
            self.reason,
            ERROR_DOMAIN,
            self.details.into_iter().chain([replayed]).collect::<std::collections::HashMap<_, _>>(),
        );
        Status::with_error_details(code, self.message, details)
    }
}

impl Moved {
    fn into_api(self) -> v1::MovedCredit {
        let Self { kind, document, currency, line, is_back } = self;
        v1::MovedCredit {
            kind: kind.name().to_owned(),
            document: document.to_string(),
            invoice_number: line.invoice.to_string(),
            instalment: line.instalment,
            due_date: Some(date_to_api(line.due_date)),
            amount_minor: if is_back { -line.amount } else { line.amount },
            currency: currency.to_string(),
            effective_date: Some(date_to_api(line.effective_date)),
        }
    }
}

/// The credit that a fact applied or took back, a part for each instalment.
fn moved(event: &Event) -> Vec<Moved> {
    let Event::Ledger(fact) = event else { return Vec::new() };
    let Some(moved) = fact.moved_credit() else { return Vec::new() };
    let one = |(line, _, effective_date): (&AllocationLine, i64, Date)| Moved {
        kind: moved.kind,
        document: moved.document.clone(),
        currency: moved.currency,
        line: AllocationLine { effective_date, ..line.clone() },
        is_back: moved.back_on.is_some(),
    };
    moved.parts().map(one).collect()
}
