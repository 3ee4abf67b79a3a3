//! The metrics of the command service. No attribute names a tenant, an account or a person.

use std::time::Duration;

use jiff::SignedDuration;
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Histogram},
};
use saldo_log::acceptor::VoidReason;

/// The instruments. Cheap to clone.
#[derive(Clone)]
pub struct CommandMetrics {
    requests: Counter<u64>,
    duration: Histogram<f64>,
    append: Histogram<f64>,
    read_back: Histogram<f64>,
    batch: Histogram<u64>,
    records: Counter<u64>,
    races_lost: Counter<u64>,
    accounts: Gauge<u64>,
    parked: Gauge<u64>,
    skew: Gauge<f64>,
}

impl CommandMetrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("saldo.command");
        let seconds = |name: &'static str, description: &'static str| {
            meter.f64_histogram(name).with_description(description).with_unit("s").build()
        };
        let counter = |name: &'static str, description: &'static str, unit: &'static str| {
            meter.u64_counter(name).with_description(description).with_unit(unit).build()
        };
        let accounts = |name: &'static str, description: &'static str| {
            meter.u64_gauge(name).with_description(description).with_unit("{account}").build()
        };
        Self {
            requests: counter(
                "saldo.command.requests",
                "Commands that came in, by method and result: accepted, replayed, refused, failed, abandoned by who \
                 asked; a no with its reason",
                "{request}",
            ),
            duration: seconds(
                "saldo.command.duration",
                "From a command's arrival to its answer, or until its client stops waiting, by method",
            ),
            append: seconds("saldo.command.append.duration", "From handing a batch to the log until it is durable"),
            read_back: seconds(
                "saldo.command.read_back.duration",
                "From handing a batch to the log until it is read back",
            ),
            batch: meter
                .u64_histogram("saldo.command.batch.size")
                .with_description("Commits appended together")
                .with_unit("{commit}")
                .build(),
            records: counter(
                "saldo.command.records",
                "Records read, by verdict: accepted or void; the void with its reason",
                "{record}",
            ),
            races_lost: counter(
                "saldo.command.races_lost",
                "Own commits that are void since another writer's came first",
                "{commit}",
            ),
            accounts: accounts("saldo.command.accounts", "Accounts in memory, by partition"),
            parked: accounts("saldo.command.parked", "Accounts that cannot be decided on, by partition"),
            skew: meter
                .f64_gauge("saldo.command.clock.skew")
                .with_description(
                    "How far the log's clock is surely ahead of this machine's; negative where it is behind",
                )
                .with_unit("s")
                .build(),
        }
    }

    /// Observes how many requests hold a permit of each queue, by partition. `depths` has nothing to say once the queues are
    /// gone.
    pub(crate) fn observe_queues(&self, depths: impl Fn() -> Option<Vec<u64>> + Send + Sync + 'static) {
        global::meter("saldo.command")
            .u64_observable_gauge("saldo.command.queue.depth")
            .with_description("Requests that wait or are being decided, by partition")
            .with_unit("{request}")
            .with_callback(move |observer| {
                for (number, depth) in depths().unwrap_or_default().into_iter().enumerate() {
                    observer.observe(depth, &[partition(number as u32)]);
                }
            })
            .build();
    }

    /// A command has ended with this result, and with this reason where it was refused or failed.
    pub(crate) fn ended(&self, method: &'static str, result: &'static str, reason: Option<String>, took: Duration) {
        let method = KeyValue::new("method", method);
        self.duration.record(took.as_secs_f64(), std::slice::from_ref(&method));
        let mut attributes = vec![method, KeyValue::new("result", result)];
        attributes.extend(reason.map(|reason| KeyValue::new("reason", reason)));
        self.requests.add(1, &attributes);
    }

    pub(crate) fn appended(&self, took: Duration) {
        self.append.record(took.as_secs_f64(), &[]);
    }

    pub(crate) fn decided(&self, commits: usize) {
        self.batch.record(commits as u64, &[]);
    }

    pub(crate) fn read_back(&self, took: Duration) {
        self.read_back.record(took.as_secs_f64(), &[]);
    }

    pub(crate) fn accepted(&self, records: u64) {
        self.records.add(records, &[KeyValue::new("verdict", "accepted")]);
    }

    pub(crate) fn void(&self, reason: VoidReason) {
        let reason = match reason {
            VoidReason::Probe => "probe",
            VoidReason::Marker => "marker",
            VoidReason::Malformed(_) => "malformed",
            VoidReason::LateGenesis => "late_genesis",
            VoidReason::Forged => "forged",
            VoidReason::OtherKey => "other_key",
            VoidReason::OtherPartition => "other_partition",
            VoidReason::NotTheHead => "not_the_head",
        };
        self.records.add(1, &[KeyValue::new("verdict", "void"), KeyValue::new("reason", reason)]);
    }

    pub(crate) fn races_lost(&self, commits: usize) {
        self.races_lost.add(commits as u64, &[]);
    }

    pub(crate) fn accounts(&self, number: u32, live: usize, parked: u64) {
        self.accounts.record(live as u64, &[partition(number)]);
        self.parked.record(parked, &[partition(number)]);
    }

    pub(crate) fn skew(&self, ahead: SignedDuration) {
        self.skew.record(ahead.as_secs_f64(), &[]);
    }
}

fn partition(number: u32) -> KeyValue {
    KeyValue::new("partition", i64::from(number))
}
