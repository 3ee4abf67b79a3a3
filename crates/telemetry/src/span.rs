//! Spans: of requests that go through several threads, of futures, and of batches.

use std::sync::OnceLock;

use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    trace::{Link, Span as _, SpanContext, SpanKind, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use crate::parent;

/// Links of one span at most.
const MAX_LINKS: usize = 64;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// The tracer of this process, while spans are exported.
pub(crate) fn tracer() -> Option<&'static SdkTracer> {
    TRACER.get()
}

/// Makes spans go there from now on; a second call changes nothing.
pub(crate) fn trace_with(tracer: SdkTracer) {
    let _ = TRACER.set(tracer);
}

/// The span that a request's work is under, carried along where it changes threads. Empty where it is not sampled.
#[derive(Debug, Clone, Default)]
pub struct Trace(Option<Box<SpanContext>>);

impl Trace {
    /// The context of the span that the running future is under.
    pub fn current() -> Self {
        if tracer().is_none() {
            return Self(None);
        }
        Self(Context::map_current(|context| sampled(context.span().span_context())))
    }

    /// Begins a part of it.
    pub fn begin(&self, name: &'static str) -> Open {
        let (Some(parent), Some(tracer)) = (&self.0, tracer()) else { return Open(None) };
        let parent = Context::new().with_remote_span_context(parent.as_ref().clone());
        Open(Some(Box::new(tracer.span_builder(name).start_with_context(tracer, &parent))))
    }
}

fn sampled(context: &SpanContext) -> Option<Box<SpanContext>> {
    (context.is_valid() && context.is_sampled()).then(|| Box::new(context.clone()))
}

/// A span that ends with it. Empty where nothing is sampled.
#[derive(Debug, Default)]
pub struct Open(Option<Box<Span>>);

impl Open {
    /// As `traceparent`, for those who come later to link to.
    pub fn traceparent(&self) -> Option<Box<str>> {
        self.0.as_ref().map(|span| parent::format(span.span_context()).into())
    }
}

/// The steps of a request, one after the other, on whatever thread: each ends where the next begins, the last with it.
#[derive(Debug, Default)]
pub struct Steps {
    trace: Trace,
    step: Open,
}

impl Steps {
    /// Begins the first of them.
    pub fn begin(trace: Trace, name: &'static str) -> Self {
        Self { step: trace.begin(name), trace }
    }

    /// Begins the next.
    pub fn next(&mut self, name: &'static str) -> &Open {
        if self.trace.0.is_some() {
            // In this order, so that they follow each other without a gap or an overlap that confuses.
            self.step = Open(None);
            self.step = self.trace.begin(name);
        }
        &self.step
    }
}

/// Does this under a span of its own, linked to what is behind it: a part of what it is done in, or else the beginning of a
/// trace. In one word of ours, `told` says what came of it.
pub async fn around<T>(
    name: &'static str,
    links: Links,
    work: impl Future<Output = T>,
    told: impl FnOnce(&T) -> Option<KeyValue>,
) -> T {
    let Some(tracer) = tracer() else { return work.await };
    let span = tracer.span_builder(name).with_links(links.0).start_with_context(tracer, &Context::current());
    under(span, work, told).await
}

/// The spans behind what is done, some of them where they are many.
#[derive(Debug, Default)]
pub struct Links(Vec<Link>);

impl Links {
    /// To the one it comes from.
    pub fn to(traceparent: Option<&str>) -> Self {
        let mut links = Self::default();
        links.note(traceparent);
        links
    }

    /// Takes in where a part of the batch comes from, as [`Open::traceparent`] said.
    pub fn note(&mut self, traceparent: Option<&str>) {
        if let (Some(text), Some(_)) = (traceparent, tracer())
            && self.0.len() < MAX_LINKS
            && let Some(context) = parent::parse(text).filter(SpanContext::is_sampled)
        {
            self.0.push(Link::with_context(context));
        }
    }
}

/// Does this under a span of its own that is linked to what is behind it, if any of that was sampled.
pub async fn linked<T>(
    name: &'static str,
    links: Links,
    work: impl Future<Output = T>,
    told: impl FnOnce(&T) -> Option<KeyValue>,
) -> T {
    let Some(tracer) = tracer().filter(|_| !links.0.is_empty()) else { return work.await };
    let span = tracer.span_builder(name).with_kind(SpanKind::Consumer).with_links(links.0);
    under(span.start_with_context(tracer, &Context::new()), work, told).await
}

/// An unsampled one is attached too: it tells other services that it is none.
async fn under<T>(span: Span, work: impl Future<Output = T>, told: impl FnOnce(&T) -> Option<KeyValue>) -> T {
    let context = Context::new().with_span(span);
    let done = work.with_context(context.clone()).await;
    if let Some(told) = told(&done) {
        context.span().set_attribute(told);
    }
    context.span().end();
    done
}
