//! Counts how commands end: answered, sent away at the gate, or given up by the client.

use std::time::Duration;

use saldo_telemetry::Tally;
use tonic::{Status, codegen::http};
use tonic_types::StatusExt;

use crate::metrics::CommandMetrics;

/// Marks a response as replayed, for the count, which does not read responses.
#[derive(Clone, Copy)]
pub(crate) struct Replayed;

/// The result of a command, and the reason of a refusal or failure.
type Ending = (&'static str, Option<String>);

impl Tally for CommandMetrics {
    type Ending = Ending;

    /// The client does not know the outcome, as after a time-out of ours.
    fn given_up() -> Ending {
        ("abandoned", Some("OUTCOME_UNKNOWN".to_owned()))
    }

    fn ending<A>(answer: &http::Response<A>) -> Ending {
        ending(answer)
    }

    fn count(&self, method: &'static str, (result, reason): Ending, took: Duration) {
        self.ended(method, result, reason, took);
    }
}

/// A refusal says whether it is replayed; a failure does not.
fn ending<A>(answer: &http::Response<A>) -> Ending {
    let Some(status) = Status::from_header_map(answer.headers()) else {
        let replayed = answer.extensions().get::<Replayed>().is_some();
        return (if replayed { "replayed" } else { "accepted" }, None);
    };
    let Some(info) = status.get_details_error_info() else { return ("failed", None) };
    let result = match info.metadata.get("replayed").map(String::as_str) {
        Some("true") => "replayed",
        Some(_) => "refused",
        None => "failed",
    };
    (result, Some(info.reason))
}

#[cfg(test)]
mod tests {
    use tonic::body::Body;

    use super::*;
    use crate::{answer::Refused, failure::Failure};

    fn of(status: Status) -> (&'static str, String) {
        let (result, reason) = ending(&status.into_http::<Body>());
        (result, reason.unwrap_or_default())
    }

    fn refused(replayed: bool) -> Status {
        let refused =
            Refused { reason: "OVER_ALLOCATION".into(), message: "more than is open".into(), details: Vec::new() };
        refused.into_status(replayed)
    }

    #[test]
    fn every_answer_has_its_result_and_every_no_its_reason() {
        let mut answer = http::Response::new(Body::empty());
        assert_eq!(ending(&answer), ("accepted", None));
        answer.extensions_mut().insert(Replayed);
        assert_eq!(ending(&answer), ("replayed", None));
        assert_eq!(of(refused(false)), ("refused", "OVER_ALLOCATION".into()));
        assert_eq!(of(refused(true)), ("replayed", "OVER_ALLOCATION".into()));
        assert_eq!(of(Failure::RequestIdReused.into()), ("failed", "REQUEST_ID_REUSED".into()));
        assert_eq!(of(Failure::TimedOut.into()), ("failed", "OUTCOME_UNKNOWN".into()));
        assert_eq!(of(Status::internal("unlike ours")), ("failed", String::new()));
    }
}
