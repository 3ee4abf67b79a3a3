//! A span for each gRPC call.

use std::task::{Context as TaskContext, Poll};

use futures::future::{BoxFuture, Either, FutureExt as _};
use http::{HeaderMap, Request, Response};
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt as _,
    trace::{SpanKind, Status, TraceContextExt, Tracer},
};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    parent::{self, HEADER},
    span::tracer,
};

/// Codes that are the server's fault, by OpenTelemetry's conventions: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL,
/// UNAVAILABLE, DATA_LOSS.
const FAULTS: [i64; 6] = [2, 4, 12, 13, 14, 15];

/// Puts each call of these methods under a span, which continues the caller's trace.
#[derive(Clone, Copy)]
pub struct ServerSpans {
    /// A method's name (`package.Service/Method`) as it stands in the code, if it is one: what a caller makes up is
    /// exported nowhere.
    known: fn(&str) -> Option<&'static str>,
}

impl ServerSpans {
    /// Spans for the methods that `known` knows.
    pub fn new(known: fn(&str) -> Option<&'static str>) -> Self {
        Self { known }
    }

    /// The span of a call, if the call is sampled.
    fn begin<B>(self, request: &Request<B>) -> Option<Context> {
        let tracer = tracer()?;
        let name = (self.known)(request.uri().path().trim_start_matches('/'))?;
        let header = request.headers().get(HEADER).and_then(|value| value.to_str().ok());
        let parent = header.and_then(parent::parse);
        let parent = parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let span = tracer.span_builder(name).with_kind(SpanKind::Server).start_with_context(tracer, &parent);
        let context = Context::new().with_span(span);
        let sampled = context.span().is_recording();
        sampled.then_some(context)
    }
}

impl<S> Layer<S> for ServerSpans {
    type Service = Spanned<S>;

    fn layer(&self, inner: S) -> Spanned<S> {
        Spanned { inner, spans: *self }
    }
}

/// A service whose calls have spans.
#[derive(Clone)]
pub struct Spanned<S> {
    inner: S,
    spans: ServerSpans,
}

impl<S, B, A> Service<Request<B>> for Spanned<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
    S::Response: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(context) = self.spans.begin(&request) else { return Either::Left(self.inner.call(request)) };
        let call = self.inner.call(request).with_context(context.clone());
        let call = async move {
            let answer = call.await;
            if let Ok(answer) = &answer {
                tell(&context, code(answer.headers()));
            }
            context.span().end();
            answer
        };
        Either::Right(call.boxed())
    }
}

/// An answer that is an error has its code in its headers, any other in the trailers behind its body.
fn code(headers: &HeaderMap) -> i64 {
    let code = headers.get("grpc-status").and_then(|value| value.to_str().ok());
    code.and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn tell(context: &Context, code: i64) {
    let span = context.span();
    span.set_attributes([KeyValue::new("rpc.system", "grpc"), KeyValue::new("rpc.grpc.status_code", code)]);
    if FAULTS.contains(&code) {
        span.set_status(Status::error(""));
    }
}
