//! Every command that comes in is counted once, however it ends: answered, sent away at the gate, or given up by who asked.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
};
use tonic_types::StatusExt;

use crate::report::Report;

/// A command service whose calls are counted.
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    report: Report,
}

/// An answer that was given before says so to [`Counted`], which does not read answers.
#[derive(Clone, Copy)]
pub(crate) struct Replayed;

/// How a command ended, and why if it was a no.
type Ending = (&'static str, Option<String>);

/// A call that is counted when it is dropped.
struct Call {
    report: Report,
    method: &'static str,
    began: Instant,
    ending: Ending,
}

impl<S> Counted<S> {
    pub(crate) fn new(inner: S, report: Report) -> Self {
        Self { inner, report }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let (result, reason) = (self.ending.0, self.ending.1.take());
        self.report.ended(self.method, result, reason, self.began.elapsed());
    }
}

impl<S: NamedService> NamedService for Counted<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Counted<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let name = saldo_api::method(request.uri().path().trim_start_matches('/'));
        let call = name.and_then(|name| name.rsplit_once('/')).map(|(_, method)| Call {
            report: self.report.clone(),
            method,
            began: Instant::now(),
            // Unless it is answered: its client does not know, as when our own patience has ended.
            ending: ("abandoned", Some("OUTCOME_UNKNOWN".to_owned())),
        });
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            if let Some(mut call) = call {
                call.ending = ending(&answer);
            }
            Ok(answer)
        })
    }
}

/// A refusal says whether it was given before; a failure does not.
fn ending(answer: &http::Response<Body>) -> Ending {
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
    use super::*;
    use crate::{answer::Refused, failure::Failure};

    fn of(status: Status) -> (&'static str, String) {
        let (result, reason) = ending(&status.into_http());
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
