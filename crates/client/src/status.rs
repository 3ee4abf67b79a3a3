//! An error status, read for machines and for people.

use std::{collections::HashMap, error::Error, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The google.rpc details of an error status.
#[derive(Debug, Clone, Default)]
pub struct StatusDetails {
    /// ErrorInfo's reason; empty where there is none.
    pub reason: String,
    /// ErrorInfo's details.
    pub details: HashMap<String, String>,
    /// RetryInfo's delay.
    pub retry_after: Option<Duration>,
}

impl StatusDetails {
    /// Reads them.
    pub fn of(status: &Status) -> Self {
        let info = status.get_details_error_info();
        Self {
            retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
            reason: info.as_ref().map(|info| info.reason.clone()).unwrap_or_default(),
            details: info.map(|info| info.metadata).unwrap_or_default(),
        }
    }
}

/// The one time limit that a second try runs into again.
const TOO_SLOW: &str = "QUERY_TOO_SLOW";

/// Whether a retry with the same request id is the right answer to this status.
pub fn is_transient(status: &Status) -> bool {
    let may_change = matches!(
        status.code(),
        Code::Unavailable
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
    );
    may_change && StatusDetails::of(status).reason != TOO_SLOW
}

/// A status in one line for people: its message, or each field at fault with its rule. Adds every cause of a call that never
/// came to the service: tonic's message is "transport error" for all of them.
pub fn explain(status: &Status) -> String {
    let mut text = match status.source() {
        Some(cause) if status.details().is_empty() => error_chain(cause),
        _ => status.message().to_owned(),
    };
    if let Some(bad) = status.get_details_bad_request() {
        let rules: Vec<String> = bad
            .field_violations
            .iter()
            .map(|violation| format!("{}: {}", violation.field, violation.description))
            .collect();
        if !rules.is_empty() {
            text = rules.join("; ");
        }
    }
    if text.is_empty() { format!("{:?}", status.code()) } else { text }
}

/// An error with all its causes.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    #[test]
    fn a_status_is_read_by_its_details() {
        let mut details = ErrorDetails::with_error_info("QUEUE_FULL", "saldo", []);
        details.set_retry_info(Some(Duration::from_millis(100)));
        let status = Status::with_error_details(Code::ResourceExhausted, "later", details);
        let details = StatusDetails::of(&status);
        assert_eq!((details.reason.as_str(), details.retry_after), ("QUEUE_FULL", Some(Duration::from_millis(100))));
        assert!(is_transient(&status));
        assert!(StatusDetails::of(&Status::not_found("no")).reason.is_empty());
        let slow = ErrorDetails::with_error_info(TOO_SLOW, "saldo", []);
        let slow = Status::with_error_details(Code::DeadlineExceeded, "it takes too long", slow);
        assert!(!is_transient(&slow) && is_transient(&Status::deadline_exceeded("no answer")));
    }

    #[test]
    fn every_field_at_fault_is_explained() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("claim", "must be 16 bytes");
        details.add_bad_request_violation("reminder", "must be above 0");
        let status = Status::with_error_details(Code::InvalidArgument, "claim: must be 16 bytes", details);
        assert_eq!(explain(&status), "claim: must be 16 bytes; reminder: must be above 0");
        assert_eq!(explain(&Status::new(Code::Internal, "")), "Internal");
        let broken = Status::from_error(Box::new(std::io::Error::other("received fatal alert: CertificateRequired")));
        assert_eq!(explain(&broken), "received fatal alert: CertificateRequired");
        assert!(!is_transient(&status));
    }
}
