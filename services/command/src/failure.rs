//! Why a command has no answer. A refusal is an answer: see [`crate::answer`].

use std::{sync::Arc, time::Duration};

use saldo_auth::ERROR_DOMAIN;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    skew::{PROBE_EVERY, Skew},
    violations::{MAX_LISTED, Violation},
};

/// The system failed, or the request was wrong in itself. Nothing here depends on what the domain allows.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The request is malformed; the log was not asked.
    #[error("the request is invalid")]
    Invalid(Vec<Violation>),
    /// The request id was used for another request.
    #[error("request_id was already used on this account for a request with other content; use a new id")]
    RequestIdReused,
    /// The account has no history. Said only after reading up to an end of the log that was fetched after the request came.
    #[error("the account does not exist; open it first with OpenAccount")]
    AccountUnknown,
    /// The account's history has an event this release does not know.
    #[error("the account is parked: {0}")]
    Parked(String),
    /// The tenant's policy in force is one this release cannot read.
    #[error("the policy in force cannot be read by this release: {0}; deploy a newer one, or publish a policy anew")]
    PolicyParked(String),
    /// The decision has a fact that the log may not hold yet. It is no recorded answer: after the upgrade the same request is
    /// decided.
    #[error(transparent)]
    FormatNotRaised(#[from] saldo_catalog::FormatNotRaised),
    /// The tenant holds its share of the partition's queue, or the answer could not come in time; when to ask again.
    #[error("too many requests wait for this partition; nothing was done, try again later")]
    QueueFull(Duration),
    /// This machine's clock is too far from the log's.
    #[error(
        "this machine's clock is {0}: nothing is decided until the clock is right; ask again with the same request_id"
    )]
    ClockSkewed(Skew),
    /// This machine's clock was not yet compared with the log's, or not since it was set.
    #[error(
        "this machine's clock was not yet compared with the log's; nothing was done, ask again with the same request_id"
    )]
    ClockUnknown,
    /// Other writers kept winning the account.
    #[error("other writers kept changing the account; nothing was done, try again")]
    RacesLost,
    /// No answer in time; the command may or may not have happened.
    #[error("no answer in time: the outcome is unknown; ask again with the same request_id")]
    TimedOut,
    /// The log did not say whether it took the record.
    #[error("the log is out of reach: the outcome is unknown; ask again with the same request_id")]
    LogUnknown,
    /// The log did not take the record.
    #[error("the log did not take the record: {0}; nothing was done")]
    LogRefused(String),
    /// The worker has stopped (shutdown, or a log that diverged).
    #[error("the service is stopping; ask again with the same request_id")]
    Stopped,
    /// The log is not the one that this instance has read.
    #[error("the log is not the one that this instance has read: {0}; nothing was done")]
    LogChanged(Arc<str>),
    /// The key store failed.
    #[error("the key store failed; nothing was done, try again later")]
    KeyStore,
}

impl Failure {
    fn code_and_reason(&self) -> (Code, &'static str) {
        match self {
            Failure::Invalid(_) => (Code::InvalidArgument, "INVALID_REQUEST"),
            Failure::RequestIdReused => (Code::AlreadyExists, "REQUEST_ID_REUSED"),
            Failure::AccountUnknown => (Code::NotFound, "ACCOUNT_UNKNOWN"),
            Failure::Parked(_) => (Code::FailedPrecondition, "ACCOUNT_PARKED"),
            Failure::PolicyParked(_) => (Code::FailedPrecondition, "POLICY_PARKED"),
            Failure::FormatNotRaised(_) => (Code::FailedPrecondition, "FORMAT_NOT_RAISED"),
            Failure::QueueFull(_) => (Code::ResourceExhausted, "QUEUE_FULL"),
            Failure::ClockSkewed(_) => (Code::Unavailable, "CLOCK_SKEWED"),
            Failure::ClockUnknown => (Code::Unavailable, "CLOCK_UNKNOWN"),
            Failure::RacesLost => (Code::Aborted, "RACES_LOST"),
            Failure::TimedOut => (Code::DeadlineExceeded, "OUTCOME_UNKNOWN"),
            Failure::LogUnknown => (Code::Unavailable, "OUTCOME_UNKNOWN"),
            Failure::LogRefused(_) => (Code::Unavailable, "LOG_UNAVAILABLE"),
            Failure::Stopped => (Code::Unavailable, "STOPPING"),
            Failure::LogChanged(_) => (Code::Unavailable, "LOG_CHANGED"),
            Failure::KeyStore => (Code::Unavailable, "KEY_STORE_UNAVAILABLE"),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Failure::QueueFull(after) => Some(*after),
            Failure::RacesLost => Some(Duration::from_millis(100)),
            Failure::ClockSkewed(_) | Failure::LogChanged(_) => Some(PROBE_EVERY),
            Failure::TimedOut
            | Failure::LogUnknown
            | Failure::LogRefused(_)
            | Failure::Stopped
            | Failure::KeyStore
            | Failure::ClockUnknown => Some(Duration::from_secs(1)),
            Failure::Invalid(_)
            | Failure::RequestIdReused
            | Failure::AccountUnknown
            | Failure::Parked(_)
            | Failure::PolicyParked(_)
            | Failure::FormatNotRaised(_) => None,
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        let (code, reason) = failure.code_and_reason();
        let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []);
        if let Some(after) = failure.retry_after() {
            details.set_retry_info(Some(after));
        }
        let mut message = failure.to_string();
        if let Failure::Invalid(violations) = &failure {
            let listed: Vec<Violation> = violations.iter().take(MAX_LISTED).map(Violation::listed).collect();
            for violation in &listed {
                details.add_bad_request_violation(&violation.field, &violation.rule);
            }
            if let Some(first) = listed.first() {
                message = format!("{}: {}", first.field, first.rule);
            }
        }
        Status::with_error_details(code, message, details)
    }
}

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The local store's folder or file could not be used.
    #[error(
        "local store {path}: {why}; end the other process that uses it, or correct the owner of the folder or `data_dir`; the store can be deleted, since it is read again from the log"
    )]
    Store {
        /// The file.
        path: String,
        /// The store's own words.
        why: String,
    },
    /// The local store has read what the log does not have.
    #[error(
        "local store {path} has read partition {partition} of {topic} up to offset {offset}, which this log does not have: an older copy of the log was restored, or this is another server. Correct log.kafka or log.embedded_url if it is the wrong one. If the older log is meant, stop every process, run `saldo log accept --older-log` and start them again. If that was done before, delete the folder of the local store"
    )]
    Ahead {
        /// The file.
        path: String,
        /// The log's topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset behind what was read.
        offset: u64,
    },
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] saldo_log::LogError),
    /// A thread could not be started.
    #[error("a worker thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use saldo_facts::Format;

    use super::*;

    /// The failure behind this one. A failure that is missing here does not compile.
    fn next(failure: &Failure) -> Option<Failure> {
        let skew = Skew { ahead: SignedDuration::from_secs(9), partition: 0 };
        let format =
            saldo_catalog::FormatNotRaised { fact: "hold.placed", needed: Format::NEWEST, allowed: Format::FIRST };
        Some(match failure {
            Failure::Invalid(_) => Failure::RequestIdReused,
            Failure::RequestIdReused => Failure::AccountUnknown,
            Failure::AccountUnknown => Failure::Parked(String::new()),
            Failure::Parked(_) => Failure::PolicyParked(String::new()),
            Failure::PolicyParked(_) => Failure::FormatNotRaised(format),
            Failure::FormatNotRaised(_) => Failure::QueueFull(Duration::from_millis(100)),
            Failure::QueueFull(_) => Failure::ClockSkewed(skew),
            Failure::ClockSkewed(_) => Failure::ClockUnknown,
            Failure::ClockUnknown => Failure::RacesLost,
            Failure::RacesLost => Failure::TimedOut,
            Failure::TimedOut => Failure::LogUnknown,
            Failure::LogUnknown => Failure::LogRefused(String::new()),
            Failure::LogRefused(_) => Failure::Stopped,
            Failure::Stopped => Failure::KeyStore,
            Failure::KeyStore => Failure::LogChanged("cut".into()),
            Failure::LogChanged(_) => return None,
        })
    }

    #[test]
    fn an_answer_lists_few_faults_and_repeats_little_of_the_request() {
        let fault =
            |number: usize| Violation { field: format!("{number}{}", "ä".repeat(5_000)), rule: "x".repeat(5_000) };
        let status = Status::from(Failure::Invalid((0..1_000).map(fault).collect()));
        let listed = status.get_details_bad_request().expect("faults").field_violations;
        assert_eq!(listed.len(), MAX_LISTED);
        assert!(status.details().len() + status.message().len() < 40_000, "{}", status.details().len());
    }

    #[test]
    fn o11_every_failure_that_a_client_should_retry_says_when() {
        let mut seen = 0;
        for failure in std::iter::successors(Some(Failure::Invalid(Vec::new())), next) {
            let status = Status::from(failure);
            let retried = [Code::Unavailable, Code::Aborted, Code::ResourceExhausted, Code::DeadlineExceeded];
            let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
            assert_eq!(retried.contains(&status.code()), after.is_some_and(|after| !after.is_zero()), "{status}");
            seen += 1;
        }
        assert!(seen >= 16);
    }
}
