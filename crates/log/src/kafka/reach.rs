//! The outage of a Kafka that is out of reach. All clients of the process meet the same outage, and librdkafka says each try of
//! each client: here it becomes one line at its beginning and one at its end.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, RDKafkaErrorCode},
};
use saldo_outage::Outage;

/// The outage that all clients of the process share.
pub(super) static KAFKA: Outage = Outage::new("Kafka is out of reach, and is tried again", "Kafka is in reach again");

/// Complaints that last so long are said although something of Kafka is in reach: one of its brokers may be gone.
const LASTING: Duration = Duration::from_secs(45);
/// After so long without a complaint the next one is the first again.
const QUIET: Duration = Duration::from_secs(120);

static COMPLAINTS: Mutex<Option<Complaints>> = Mutex::new(None);

struct Complaints {
    said: Instant,
    last: Instant,
    count: usize,
}

/// The clients' context.
#[derive(Clone, Copy)]
pub(super) struct Quietly;

impl ConsumerContext for Quietly {}

impl ClientContext for Quietly {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => complained(message),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(facility, message, "librdkafka");
            }
        }
    }

    fn error(&self, _: KafkaError, reason: &str) {
        complained(reason);
    }
}

/// A client complains of something that it tries again by itself.
pub(super) fn complained(message: &str) {
    tracing::debug!(message, "a Kafka client complains");
    if let Some(count) = count(Instant::now()).filter(|_| !KAFKA.lasts()) {
        tracing::warn!(message, count, "the Kafka clients complain, and try again: a broker may be down");
    }
}

/// How many complaints there were, if it is time to say so.
fn count(now: Instant) -> Option<usize> {
    let mut complaints = COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner);
    let lasting = complaints.take().filter(|complaints| now.duration_since(complaints.last) < QUIET);
    let mut lasting = lasting.unwrap_or(Complaints { said: now, last: now, count: 0 });
    (lasting.count, lasting.last) = (lasting.count + 1, now);
    let is_time = now.duration_since(lasting.said) >= LASTING;
    let count = lasting.count;
    if is_time {
        (lasting.said, lasting.count) = (now, 0);
    }
    *complaints = Some(lasting);
    is_time.then_some(count)
}

/// The evidence of a question to Kafka, or of an append.
pub(super) fn noted<T>(outcome: Result<T, KafkaError>) -> Result<T, KafkaError> {
    match &outcome {
        Ok(_) => KAFKA.over(),
        Err(error) if is_out_of_reach(error) => KAFKA.failed(error),
        Err(_) => {}
    }
    outcome
}

/// Whether an error says that no broker answers.
fn is_out_of_reach(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::MessageTimedOut
                | RDKafkaErrorCode::Resolve
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o10_complaints_are_counted_and_said_once_they_last() {
        let begin = Instant::now();
        let after = |seconds| count(begin + Duration::from_secs(seconds));
        assert!((0..45).all(|second| after(second).is_none()));
        assert_eq!(after(45), Some(46));
        assert!((46..90).all(|second| after(second).is_none()));
        assert_eq!(after(90), Some(45));
        assert_eq!(after(90 + 121), None, "these are others");
    }
}
