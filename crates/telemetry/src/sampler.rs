//! Which traces are kept.

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceContextExt, TraceId},
};
use opentelemetry_sdk::trace::{Sampler, SamplingResult, ShouldSample};

/// Samples the calls that the caller samples, and the given share of the traces that begin here. A span with links is kept: it
/// is only made where something behind it was.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    share: Sampler,
}

impl Kept {
    /// From 0.0, none, to 1.0, all of what begins here.
    pub(crate) fn new(share: f64) -> Self {
        Self { share: Sampler::TraceIdRatioBased(share) }
    }

    fn sampler(&self, parent: Option<&Context>, links: &[Link]) -> &Sampler {
        let span = parent.map(|context| context.span().span_context().clone()).filter(|context| context.is_valid());
        match span {
            Some(parent) if parent.is_sampled() => &Sampler::AlwaysOn,
            Some(_) => &Sampler::AlwaysOff,
            None if !links.is_empty() => &Sampler::AlwaysOn,
            None => &self.share,
        }
    }
}

impl ShouldSample for Kept {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        self.sampler(parent, links).should_sample(parent, trace, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::SpanContext;
    use opentelemetry_sdk::trace::SamplingDecision;

    use super::*;
    use crate::parent;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn context(traceparent: &str) -> SpanContext {
        parent::parse(traceparent).expect("a trace context")
    }

    fn kept(share: f64, parent: Option<&str>, links: &[Link]) -> bool {
        let parent = parent.map(|parent| Context::new().with_remote_span_context(context(parent)));
        let trace = context(SAMPLED).trace_id();
        let said = Kept::new(share).should_sample(parent.as_ref(), trace, "", &SpanKind::Internal, &[], links);
        said.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn the_caller_decides_and_without_one_the_share() {
        assert!(kept(0.0, Some(SAMPLED), &[]) && !kept(1.0, Some(UNSAMPLED), &[]));
        assert!(kept(1.0, None, &[]) && !kept(0.0, None, &[]));
    }

    #[test]
    fn what_is_linked_to_something_sampled_is_kept() {
        assert!(kept(0.0, None, &[Link::with_context(context(SAMPLED))]));
    }
}
