//! Exporters whose collector may be down: what is lost is counted and said once in a while.

use std::{
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter},
};

/// Between two words about what is lost.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// An exporter that reports no failure to the SDK, which would say each.
#[derive(Debug)]
pub(crate) struct Tolerant<E> {
    inner: E,
    loss: Loss,
}

impl<E> Tolerant<E> {
    pub(crate) fn new(inner: E, what: &'static str) -> Self {
        Self { inner, loss: Loss { what, since: Mutex::default() } }
    }
}

impl<E: SpanExporter> SpanExporter for Tolerant<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.loss.note(count, self.inner.export(batch).await, Instant::now());
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
        self.loss.note(1, self.inner.export(metrics).await, Instant::now());
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

/// What the collector did not take.
struct Loss {
    what: &'static str,
    /// Lost since the last word, and when that was; `None` while all is well.
    since: Mutex<Option<(usize, Instant)>>,
}

impl fmt::Debug for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl Loss {
    /// Takes in what became of an export. Whether it was said.
    fn note(&self, count: usize, outcome: OTelSdkResult, now: Instant) -> bool {
        let Ok(mut since) = self.since.lock() else { return false };
        let Err(error) = outcome else {
            if let Some((lost, _)) = since.take() {
                tracing::info!(what = self.what, lost, "the collector is back");
                return true;
            }
            return false;
        };
        let (lost, said) = since.get_or_insert((0, now.checked_sub(SAY_EVERY).unwrap_or(now)));
        *lost += count;
        if now.duration_since(*said) < SAY_EVERY {
            return false;
        }
        tracing::warn!(what = self.what, lost = *lost, %error, "the collector takes nothing; what it does not take is lost");
        (*lost, *said) = (0, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;

    #[test]
    fn a_collector_that_is_down_is_complained_of_once_a_minute() {
        let loss = Loss { what: "spans", since: Mutex::default() };
        let down = || Err(OTelSdkError::InternalFailure("connection refused".into()));
        let begin = Instant::now() + SAY_EVERY;
        assert!(!loss.note(1, Ok(()), begin), "all is well");
        assert!(loss.note(1, down(), begin), "the first");
        assert!(!loss.note(1, down(), begin + Duration::from_secs(59)));
        assert!(loss.note(1, down(), begin + Duration::from_secs(60)), "a minute later");
        assert!(loss.note(1, Ok(()), begin + Duration::from_secs(61)), "the end of it");
        assert!(!loss.note(1, Ok(()), begin + Duration::from_secs(62)));
    }
}
