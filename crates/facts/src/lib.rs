//! Stored bytes on one side, the domain's facts on the other.
//!
//! Each fact is declared once, in the file of its subject ([`declare`] says how): stored type, versions, fields, the day that it
//! is true of, and its line for people. The list of facts below is the only other place that names a fact. A reader that meets a
//! type or version that it does not know gets [`DecodeError::UnknownVersion`] and parks the account; it never guesses.

pub mod address;
mod agreement;
mod api;
mod catalog;
pub mod declare;
mod dunning;
mod format;
mod ledger;
mod party;
mod payload;
mod rules;
pub mod sealed;
mod token;
pub mod wire;

use saldo_domain::{
    agreement as agreement_facts, dunning as dunning_facts, ledger as ledger_facts, party as party_facts,
};

pub use api::{
    REQUEST_DAY_RULE, REQUEST_INSTANT_RULE, channel_from_api, channel_to_api, check_country, check_language,
    check_time_zone, date_from_api, date_to_api, day_from_request, instant_from_request, line_to_api, listed_from_api,
    listed_to_api, notice_from_api, notice_to_api, tone_from_api, tone_to_api, unlisted_to_api,
};
pub use catalog::{
    CATALOG_FACTS, CatalogEvent, FiscalYearStart, FormatRaised, KeyStoreBound, PolicyPublished, SendingHeld,
    SendingReleased, SendingSet, Settings, SettingsPublished, TemplatePublished,
};
pub use declare::{
    NEWEST_FORMAT, decode_event, decode_event_as, effective_date, encode_event, event_type, is_known, needed_format,
    summarise,
};
pub use format::Format;
pub use payload::{CatalogVersions, Commit, Refusal, StoredEvent, timestamp_from_api, timestamp_to_api};
pub use token::{ConsistencyToken, InvalidToken};

declare::facts! {
    Party party_facts { AccountOpened, AccountAmended }
    Ledger ledger_facts {
        InvoiceIssued,
        InvoiceCredited,
        InvoiceVoided,
        PaymentRecorded,
        PaymentAllocated,
        PaymentReversed,
        PaymentDeallocated,
        CreditNoteAllocated,
        CreditNoteDeallocated,
        CreditRefunded,
    }
    Dunning dunning_facts {
        ReminderDue,
        ContactStarted,
        ContactWithheld,
        ContactDeferred,
        ContactAccepted,
        ContactRejected,
        ContactUnknown,
    }
    Agreement agreement_facts { HoldPlaced, HoldAmended, HoldReleased }
}

/// Why stored bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer release.
    #[error("event {kind} version {version} is newer than this release knows; deploy a newer release to the readers")]
    UnknownVersion {
        /// The event's type.
        kind: String,
        /// The version met.
        version: u32,
    },
    /// Not what the schema says.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// The message or field.
        what: String,
        /// The fault.
        why: String,
    },
}

impl DecodeError {
    pub(crate) fn malformed(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Malformed { what: what.into(), why: why.to_string() }
    }

    /// Says which stored type the malformed part stands in.
    pub(crate) fn within(self, kind: &str) -> Self {
        match self {
            Self::Malformed { what, why } => Self::Malformed { what: format!("{kind}: {what}"), why },
            other => other,
        }
    }
}
