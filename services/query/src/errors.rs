//! What a query can be answered with instead of rows.

use std::time::Duration;

use saldo_auth::ERROR_DOMAIN;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// A status with a stable reason.
pub fn refuse(code: Code, reason: &str, message: &str) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []))
}

/// A field that breaks a rule.
pub fn invalid(field: &str, rule: &str) -> Status {
    let mut details = ErrorDetails::with_error_info("INVALID_REQUEST", ERROR_DOMAIN, []);
    details.add_bad_request_violation(field, rule);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {rule}"), details)
}

/// The account's read models stand still.
pub fn parked(reason: &str) -> Status {
    refuse(Code::FailedPrecondition, "ACCOUNT_PARKED", &format!("the account's read models stand still: {reason}"))
}

/// No such account in this tenant.
pub fn account_unknown() -> Status {
    refuse(Code::NotFound, "ACCOUNT_UNKNOWN", "the account does not exist")
}

/// What the database says of a statement that took longer than it may.
const TOO_LONG: &str = "57014";

/// The database did not answer. What it said goes to our log and not to the caller.
pub fn database(error: sqlx::Error) -> Status {
    if error.as_database_error().is_some_and(|error| error.code().as_deref() == Some(TOO_LONG)) {
        tracing::warn!("a query was ended: it took too long");
        let message = "the query takes too long: ask about one account, or about a day that is less long ago";
        return refuse(Code::DeadlineExceeded, "QUERY_TOO_SLOW", message);
    }
    tracing::error!(%error, "a query failed");
    let mut details = ErrorDetails::with_error_info("READ_MODELS_UNAVAILABLE", ERROR_DOMAIN, []);
    details.set_retry_info(Some(Duration::from_secs(1)));
    Status::with_error_details(Code::Unavailable, "the read models are out of reach; try again", details)
}
