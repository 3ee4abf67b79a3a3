//! Which traces are kept.

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceContextExt, TraceId},
};
use opentelemetry_sdk::trace::{Sampler, SamplingResult, ShouldSample};

/// What the caller sampled, and nothing that it did not; of what begins here the given share. A span with links is kept:
/// it is only made where something behind it was.
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
