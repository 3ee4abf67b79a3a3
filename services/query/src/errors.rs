//! What a query can be answered with instead of rows.

use std::time::Duration;

use saldo_auth::ERROR_DOMAIN;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// A status with a stable reason.
pub fn refuse(code: Code, reason: &str, message: &str) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []))
}

/// A status with a stable reason, and when to ask again.
pub fn ask_again(code: Code, reason: &str, message: &str, after: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []);
    details.set_retry_info(Some(after));
    Status::with_error_details(code, message, details)
}

/// The read models do not hold yet what the consistency token asks for.
pub fn behind() -> Status {
    let message = "the read models have not reached the consistency_token in time; ask again";
    ask_again(Code::DeadlineExceeded, "READ_MODEL_BEHIND", message, SOON)
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
/// What it says of a table or a column that is not there: the read models are of an earlier release.
const NOT_THERE: [&str; 2] = ["42P01", "42703"];
/// When to ask again: after a moment, and where read models are being made anew.
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(10);

/// The database did not answer. What it said goes to our log and not to the caller.
pub fn database(error: sqlx::Error) -> Status {
    if error.as_database_error().is_some_and(|error| error.code().as_deref() == Some(TOO_LONG)) {
        tracing::warn!("a query was ended: it took too long");
        let message = "the query takes too long: ask about one account, or about a day that is less long ago";
        return refuse(Code::DeadlineExceeded, "QUERY_TOO_SLOW", message);
    }
    if error.as_database_error().and_then(|error| error.code()).is_some_and(|code| NOT_THERE.contains(&&*code)) {
        tracing::warn!(%error, "the read models are of an earlier release; a projector of this release makes them anew");
        let message =
            "the read models are of an earlier release and are made anew by a projector of this one; ask again";
        return ask_again(Code::Unavailable, "READ_MODELS_OLDER", message, LATER);
    }
    tracing::error!(%error, "a query failed");
    let message = "the read models are out of reach; try again";
    ask_again(Code::Unavailable, "READ_MODELS_UNAVAILABLE", message, SOON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o11_every_status_that_a_client_should_retry_says_when() {
        for status in [behind(), database(sqlx::Error::PoolTimedOut)] {
            let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
            assert!(after.is_some_and(|after| !after.is_zero()), "{status}");
        }
        for status in [invalid("account_id", "is empty"), parked("unknown fact"), account_unknown()] {
            assert!(status.get_details_retry_info().is_none(), "{status}");
        }
    }
}
