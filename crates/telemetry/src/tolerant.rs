//! Exporters whose collector may be down: what is lost is counted and said once in a while.

use std::time::Duration;

use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter},
};
use saldo_outage::Outage;

/// The outage of a collector that takes nothing.
const SPANS: (&str, &str) =
    ("the collector takes no spans; what it does not take is lost", "the collector takes spans again");
const METRICS: (&str, &str) =
    ("the collector takes no metrics; what it does not take is lost", "the collector takes metrics again");

/// An exporter that reports no failure to the SDK, which would say each.
#[derive(Debug)]
pub(crate) struct Tolerant<E> {
    inner: E,
    loss: Outage,
}

impl<E> Tolerant<E> {
    pub(crate) fn of_spans(inner: E) -> Self {
        Self { inner, loss: Outage::new(SPANS.0, SPANS.1) }
    }

    pub(crate) fn of_metrics(inner: E) -> Self {
        Self { inner, loss: Outage::new(METRICS.0, METRICS.1) }
    }

    fn note(&self, count: usize, outcome: OTelSdkResult) {
        match outcome {
            Ok(()) => self.loss.over(),
            Err(error) => self.loss.failed_times(count, error),
        }
    }
}

impl<E: SpanExporter> SpanExporter for Tolerant<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.note(count, self.inner.export(batch).await);
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Tolerant<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.note(1, self.inner.export(metrics).await);
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}
