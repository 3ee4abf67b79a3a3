//! The OpenTelemetry SDK: what is exported, where, and its end.

use std::{sync::mpsc, time::Duration};

use opentelemetry::{KeyValue, global, trace::TracerProvider};
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::{Aggregation, Instrument, InstrumentKind, PeriodicReader, SdkMeterProvider, Stream},
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};

use crate::{sampler::Kept, span, tolerant::Tolerant};

/// The longest that one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest that the last exports may hold up the process's end.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Spans that wait for their export; beyond it they are dropped, and counted.
const MAX_WAITING_SPANS: usize = 16_384;
/// Spans of one export.
const MAX_BATCH: usize = 2_048;
/// The longest that a span waits.
const SPAN_DELAY: Duration = Duration::from_secs(1);

/// Bounds of a histogram's buckets, in seconds: from what memory takes to what nobody waits for.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Where to, and how much.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A collector, `http://host:4317` or `https://…` with a certificate that the web trusts.
    pub otlp: String,
    /// The share of the traces beginning here that is kept, 0.0 to 1.0.
    pub sample: f64,
    /// Between two exports of metrics.
    pub interval: Duration,
    /// The name of this process's service, for example `saldo-command`.
    pub service: String,
    /// Its version.
    pub version: &'static str,
}

/// Exporting, until it is stopped.
pub struct Exporting {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
}

/// Which of several this process is: whoever reads it in an alarm finds the machine, or the container, and the process.
pub fn instance() -> String {
    format!("{}:{}", rustix::system::uname().nodename().to_string_lossy(), std::process::id())
}

/// Begins exporting. Call it once, within a Tokio runtime and before whatever records metrics begins; a collector that is
/// not there is nobody's problem but its own.
pub fn start(settings: Settings) -> Result<Exporting, ExporterBuildError> {
    let Settings { otlp, sample, interval, service, version } = settings;
    let resource = Resource::builder_empty()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", version))
        .with_attribute(KeyValue::new("service.instance.id", instance()))
        .build();

    let spans = SpanExporter::builder().with_tonic().with_endpoint(&otlp).with_timeout(EXPORT_TIMEOUT).build()?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(MAX_WAITING_SPANS)
        .with_max_export_batch_size(MAX_BATCH)
        .with_scheduled_delay(SPAN_DELAY)
        .build();
    let processor = BatchSpanProcessor::builder(Tolerant::of_spans(spans)).with_batch_config(batches).build();
    let traces = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_sampler(Box::new(Kept::new(sample)) as Box<dyn opentelemetry_sdk::trace::ShouldSample>)
        .with_span_processor(processor)
        .build();

    let points = MetricExporter::builder().with_tonic().with_endpoint(otlp).with_timeout(EXPORT_TIMEOUT).build()?;
    let reader = PeriodicReader::builder(Tolerant::of_metrics(points)).with_interval(interval).build();
    let metrics = SdkMeterProvider::builder().with_resource(resource).with_reader(reader).with_view(buckets).build();

    global::set_meter_provider(metrics.clone());
    span::trace_with(traces.tracer("saldo"));
    Ok(Exporting { traces, metrics })
}

/// Histograms of times have buckets made for times.
fn buckets(instrument: &Instrument) -> Option<Stream> {
    if (instrument.kind(), instrument.unit()) != (InstrumentKind::Histogram, "s") {
        return None;
    }
    let aggregation = Aggregation::ExplicitBucketHistogram { boundaries: SECONDS.to_vec(), record_min_max: true };
    Stream::builder().with_aggregation(aggregation).build().ok()
}

impl Exporting {
    /// Sends what is left, if the collector takes it in time. Blocks for [`LAST_WORDS`] at most.
    pub fn stop(self) {
        let (done, ended) = mpsc::channel();
        let Self { traces, metrics } = self;
        // On threads of their own: the SDK's own patience may be longer, and nobody is to wait for it.
        let ends: [Box<dyn FnOnce() + Send>; 2] = [
            Box::new(move || drop(traces.shutdown_with_timeout(LAST_WORDS))),
            Box::new(move || drop(metrics.shutdown())),
        ];
        for end in ends {
            let done = done.clone();
            std::thread::spawn(move || {
                end();
                let _ = done.send(());
            });
        }
        drop(done);
        let deadline = std::time::Instant::now() + LAST_WORDS;
        while ended.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now())).is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::span::{Links, Trace, around};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_collector_that_is_not_there_holds_up_no_end() {
        assert!(Trace::current().begin("before").traceparent().is_none(), "nothing is made before it begins");
        let exporting = start(Settings {
            otlp: "http://127.0.0.1:1".into(),
            sample: 1.0,
            interval: Duration::from_secs(1),
            service: "saldo-test".into(),
            version: "0",
        });
        let exporting = exporting.expect("started");
        let part = async { Trace::current().begin("part").traceparent() };
        assert!(around("whole", Links::default(), part, |_| None).await.is_some(), "sampled");
        assert!(Trace::current().begin("outside").traceparent().is_none());
        global::meter("saldo.test").u64_counter("saldo.test").build().add(1, &[]);
        let asked = Instant::now();
        exporting.stop();
        assert!(asked.elapsed() < LAST_WORDS + Duration::from_secs(2), "{:?}", asked.elapsed());
    }
}
