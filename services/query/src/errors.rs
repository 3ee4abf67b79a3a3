//! The errors of queries.

use std::time::Duration;

use saldo_auth::ERROR_DOMAIN;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// A status with a stable reason. The same question gets the same status again.
fn refuse(code: Code, reason: &str, message: &str) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []))
}

/// A status with a stable reason, and when to ask again.
fn ask_again(code: Code, reason: &str, message: &str, after: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []);
    details.set_retry_info(Some(after));
    Status::with_error_details(code, message, details)
}

/// The read models do not hold yet what the consistency token asks for.
pub fn behind() -> Status {
    let message = "the read models have not reached the consistency_token in time; ask again";
    ask_again(Code::DeadlineExceeded, "READ_MODEL_BEHIND", message, SOON)
}

/// The read models are of another log than they were.
pub fn log_changed(why: &str) -> Status {
    ask_again(Code::Unavailable, "LOG_CHANGED", &format!("nothing is answered: {why}"), GUARDED)
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
    unknown("ACCOUNT_UNKNOWN", "the account does not exist")
}

/// The subject of the query is not there.
pub fn unknown(reason: &str, message: &str) -> Status {
    refuse(Code::NotFound, reason, message)
}

/// The consistency token is of another log.
pub fn other_log() -> Status {
    refuse(Code::FailedPrecondition, "OTHER_LOG", "the consistency_token is of another log")
}

/// The database's code for a statement that took longer than it may.
const TOO_LONG: &str = "57014";
/// The database's codes for a table or a column that is not there: the read models are of an earlier release.
const NOT_THERE: [&str; 2] = ["42P01", "42703"];
/// When to ask again: after a moment, and where read models are being made anew.
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(10);
/// When to ask again where a person must put the log right. Another instance may answer at once.
const GUARDED: Duration = Duration::from_secs(5);

/// The database did not answer. The database's words go to our log and not to the caller.
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
    use std::{borrow::Cow, fmt};

    use super::*;

    /// The database's error, by its code.
    #[derive(Debug)]
    struct Said(&'static str);

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Said {}

    impl sqlx::error::DatabaseError for Said {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }

    fn said(code: &'static str) -> Status {
        database(sqlx::Error::Database(Box::new(Said(code))))
    }

    fn reason(status: &Status) -> String {
        status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
    }

    /// Every status of this service.
    fn all() -> Vec<Status> {
        vec![
            behind(),
            log_changed("it was cut"),
            database(sqlx::Error::PoolTimedOut),
            said(NOT_THERE[0]),
            said(NOT_THERE[1]),
            said(TOO_LONG),
            invalid("account_id", "is empty"),
            parked("unknown fact"),
            account_unknown(),
            other_log(),
            unknown("INVOICE_UNKNOWN", "no such invoice"),
        ]
    }

    #[test]
    fn o11_every_status_that_a_client_should_retry_says_when() {
        for status in all() {
            let retried = [Code::Unavailable, Code::Aborted, Code::ResourceExhausted, Code::DeadlineExceeded];
            // A second try takes as long again.
            let is_retried = retried.contains(&status.code()) && reason(&status) != "QUERY_TOO_SLOW";
            let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
            assert_eq!(is_retried, after.is_some_and(|after| !after.is_zero()), "{status}");
        }
    }
}
