//! Traces and metrics over OTLP.
//!
//! Metrics are recorded through OpenTelemetry's global meter wherever they arise; [`export::start`] gives it somewhere to
//! send them. Spans are made here, and only where an exporter is running and the request is sampled: without one, each
//! function of [`span`] is a look at one word.
//!
//! What is exported holds no personal data and no ids: spans have names that stand in the code, and attributes of a few
//! fixed words. That is why spans are not made of `tracing`'s, which carry whatever is logged under them.

pub mod export;
mod parent;
mod sampler;
mod server;
pub mod span;
mod tolerant;

pub use opentelemetry::KeyValue;
pub use parent::traceparent;
pub use server::ServerSpans;
