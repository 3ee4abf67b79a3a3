//! The meaning of a record's payload: protobuf bytes on one side, the domain's facts on the other.
//!
//! A reader that meets an event version above its own gets [`DecodeError::UnknownVersion`] and parks the account; it
//! never guesses.

mod catalog;
mod contact;
mod event;
mod format;
mod payload;
pub mod sealed;
mod token;

pub use catalog::{CatalogEvent, FiscalYearStart, Settings};
pub use contact::{
    listed_from_api, listed_to_api, saying_from_api, saying_to_api, tone_from_api, tone_to_api, unlisted_to_api,
};
pub use event::{
    REQUEST_DAY_RULE, REQUEST_INSTANT_RULE, channel_from_api, channel_to_api, date_from_api, date_to_api,
    day_from_request, decode_event, encode_event, event_type, instant_from_request, line_to_api,
};
pub use format::Format;
pub use payload::{CatalogVersions, Commit, Refusal, StoredEvent, timestamp_from_api, timestamp_to_api};
pub use token::{ConsistencyToken, InvalidToken};

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
        /// What is wrong with it.
        why: String,
    },
}

impl DecodeError {
    pub(crate) fn unknown(stored: &saldo_api::v1::Event) -> Self {
        Self::UnknownVersion { kind: stored.r#type.clone(), version: stored.version }
    }

    pub(crate) fn malformed(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Malformed { what: what.into(), why: why.to_string() }
    }
}
