//! `[tracing]` and `[telemetry]`: what a process says of itself.

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, within};

/// The lines on standard error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracingConfig {
    pub format: TracingFormat,
    /// A tracing filter, for example `info,saldo_log=debug`.
    pub filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TracingFormat {
    /// For a terminal.
    Human,
    /// One object a line.
    Json,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self { format: TracingFormat::Human, filter: "info".to_owned() }
    }
}

/// Traces and metrics.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// An OpenTelemetry collector's OTLP over gRPC, `http://host:4317` or `https://…`; absent: nothing is exported.
    pub otlp: Option<String>,
    /// The share of the traces beginning here that is kept, 0.0 to 1.0. A trace that the caller has sampled is always kept.
    pub sample: f64,
    /// Seconds between two exports of metrics.
    pub interval_seconds: u64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        // One in twenty: enough to see where time goes, and cheap at thousands of commands a second.
        Self { otlp: None, sample: 0.05, interval_seconds: 10 }
    }
}

impl TelemetryConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("telemetry.interval_seconds", self.interval_seconds, 3_600)?;
        match (0.0..=1.0).contains(&self.sample) {
            true => Ok(()),
            false => Err(ConfigError::NoShare { key: "telemetry.sample", value: self.sample }),
        }
    }
}
