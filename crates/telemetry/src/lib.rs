//! Traces and metrics over OTLP.
//!
//! Metrics are recorded through OpenTelemetry's global meter wherever they arise; [`export::start`] gives it somewhere to
//! send them. Spans are made here, and only where an exporter is running and the request is sampled: without one, each
//! function of [`span`] is a look at one word.
//!
//! Exported data hold no personal data and no ids: spans have names that stand in the code, and attributes of a few fixed
//! words. Spans are therefore not made of `tracing`'s, which carry everything that is logged under them.

mod catching_up;
mod counted;
pub mod export;
mod parent;
mod sampler;
mod server;
pub mod span;
mod tolerant;

pub use catching_up::CatchingUp;
pub use counted::{Counted, Tally};
pub use opentelemetry::KeyValue;
use opentelemetry::global;
pub use parent::traceparent;
pub use server::ServerSpans;

/// Counts how often this service was kept from its work by what it needs, such as Postgres or the log, and tries again. Said
/// with 0 where the work begins, so that there is a figure.
pub fn interrupted(times: u64) {
    global::meter("saldo")
        .u64_counter("saldo.interruptions")
        .with_description(
            "Times that a service was kept from its work, by Postgres, the log or the key store, and tried again",
        )
        .with_unit("{interruption}")
        .build()
        .add(times, &[]);
}

/// Counts sealed values that were to be opened and whose key is not in the key store. Said with 0 where the work begins, so that
/// there is a figure.
pub fn seals_without_key(count: u64) {
    global::meter("saldo")
        .u64_counter("saldo.seals.without_key")
        .with_description("Sealed values that could not be opened, since their key is not in the key store")
        .with_unit("{value}")
        .build()
        .add(count, &[]);
}

/// Counts records of the `accounts` or the `catalog` that no writer of ours makes. Said with 0 where reading begins, since an alarm
/// sees only what rises from a value before it.
pub fn foreign_records(log: &'static str, count: u64) {
    global::meter("saldo")
        .u64_counter("saldo.foreign_records")
        .with_description("Records read that no writer of ours makes: another program can write the topic")
        .with_unit("{record}")
        .build()
        .add(count, &[KeyValue::new("log", log)]);
}

/// Whether something that the process works with is the one that belongs to it: `log`, `catalog`, `log_keys`, `key_store` or `database`.
pub fn belongs(what: &'static str, belongs: bool) {
    global::meter("saldo")
        .u64_gauge("saldo.foreign")
        .with_description(
            "1 where the log, the catalog, the key store or the database is not the one that the process was started with",
        )
        .with_unit("{store}")
        .build()
        .record(u64::from(!belongs), &[KeyValue::new("what", what)]);
}
