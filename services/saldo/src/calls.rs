//! Calls that are no commands, counted by method and status code. Commands have results and reasons, which the command
//! service counts itself.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram},
};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
};

/// A service whose calls are counted.
#[derive(Clone)]
pub struct Calls<S> {
    inner: S,
    figures: Figures,
}

#[derive(Clone)]
struct Figures {
    service: &'static str,
    calls: Counter<u64>,
    duration: Histogram<f64>,
}

/// A call that is counted when it is dropped.
struct Call {
    figures: Figures,
    method: &'static str,
    began: Instant,
    code: Code,
}

impl<S> Calls<S> {
    /// Of the service, under this name in figures.
    pub fn new(service: &'static str, inner: S) -> Self {
        let meter = global::meter("saldo");
        let calls = meter
            .u64_counter("saldo.calls")
            .with_description("Calls that are no commands, by service, method and gRPC status code")
            .with_unit("{call}")
            .build();
        // That it runs is seen before anybody calls.
        calls.add(0, &[KeyValue::new("service", service)]);
        let duration = meter
            .f64_histogram("saldo.calls.duration")
            .with_description("From their arrival to their answer, by service and method")
            .with_unit("s")
            .build();
        Self { inner, figures: Figures { service, calls, duration } }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Figures { service, calls, duration } = &self.figures;
        let method = [KeyValue::new("service", *service), KeyValue::new("method", self.method)];
        duration.record(self.began.elapsed().as_secs_f64(), &method);
        let [service, method] = method;
        calls.add(1, &[service, method, KeyValue::new("code", format!("{:?}", self.code))]);
    }
}

impl<S: NamedService> NamedService for Calls<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Calls<S>
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
            figures: self.figures.clone(),
            method,
            began: Instant::now(),
            // Unless it is answered.
            code: Code::Cancelled,
        });
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            if let Some(mut call) = call {
                call.code = Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code());
            }
            Ok(answer)
        })
    }
}
