//! Metrics of queries and catalog calls, by method and status code. The command service counts commands itself, by result and
//! reason.

use std::time::Duration;

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram},
};
use saldo_telemetry::Tally;
use tonic::{Code, Status, codegen::http};

/// The metrics of one service.
#[derive(Clone)]
pub struct Calls {
    service: &'static str,
    calls: Counter<u64>,
    duration: Histogram<f64>,
}

impl Calls {
    /// `service` is the label in the metrics.
    pub fn of(service: &'static str) -> Self {
        let meter = global::meter("saldo");
        let calls = meter
            .u64_counter("saldo.calls")
            .with_description("Calls that are no commands, by service, method and gRPC status code")
            .with_unit("{call}")
            .build();
        // The series exists before the first call, so that a dashboard shows that the service runs.
        calls.add(0, &[KeyValue::new("service", service)]);
        let duration = meter
            .f64_histogram("saldo.calls.duration")
            .with_description("From their arrival to their answer, by service and method")
            .with_unit("s")
            .build();
        Self { service, calls, duration }
    }
}

impl Tally for Calls {
    type Ending = Code;

    fn given_up() -> Code {
        Code::Cancelled
    }

    fn ending<A>(answer: &http::Response<A>) -> Code {
        Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code())
    }

    fn count(&self, method: &'static str, code: Code, took: Duration) {
        let method = [KeyValue::new("service", self.service), KeyValue::new("method", method)];
        self.duration.record(took.as_secs_f64(), &method);
        let [service, method] = method;
        self.calls.add(1, &[service, method, KeyValue::new("code", format!("{code:?}"))]);
    }
}
