//! Progress of work that takes more than a second or two. Hidden where standard error is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use saldo_embedded_postgres::StartStep;

/// A spinner with a text that changes.
pub fn spinner(text: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(text);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A bar of records with rate and remaining time.
pub fn records(text: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len}  {per_sec}  {eta} left");
    ProgressBar::new(0).with_message(text).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Shows what the embedded Postgres is doing. Its own process draws the bar of the download.
pub fn show_stage(bar: &ProgressBar, stage: &StartStep) {
    let hidden = *stage == StartStep::Downloading;
    bar.set_draw_target(if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
    bar.set_message(postgres_stage(stage));
}

pub fn postgres_stage(stage: &StartStep) -> &'static str {
    match stage {
        StartStep::Downloading => "fetching Postgres (15 MB, once)",
        StartStep::Unpacking => "unpacking Postgres (once)",
        StartStep::Initializing => "creating the database cluster",
        StartStep::Starting => "starting Postgres",
    }
}
