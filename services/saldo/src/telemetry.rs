//! What is written to standard error: fields, for people or for machines. Never personal data, never secrets.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

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
