//! `saldo rebuild`.

use std::{
    io::IsTerminal,
    num::NonZeroU32,
    process::ExitCode,
    time::{Duration, Instant},
};

use anstream::{print, println};
use indicatif::ProgressBar;
use saldo_projector::{End, Phase, Progress, Rebuilt};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Run;
use crate::{
    Failure, Outcome,
    cli::verify,
    config::{Config, Overrides},
    run::{belonging::open_keyring, stores::Stores, telemetry},
    terminal::progress,
};

/// Exit code of an interrupted rebuild, as shells use it.
const INTERRUPTED: u8 = 130;
/// Between two lines of progress.
const EVERY: Duration = Duration::from_secs(1);

/// Rebuild the read models from the log beside the live ones, compare both, and swap.
///
/// Queries go on meanwhile, and read the new models right after the swap. Needs room in Postgres for a second copy.
#[derive(clap::Parser)]
#[command(
    name = "rebuild",
    after_help = "A rebuild sends nothing. An interrupted rebuild keeps what it has filled, and the next run goes on from there.\n\nExit code 0: the new read models are in force; 3: the live rows differ and stay in force; 130: interrupted.\n\nExamples:\n  saldo rebuild\n  saldo rebuild --records-per-second 5000\n  saldo rebuild --fresh --config /etc/saldo/saldo.toml --json"
)]
pub struct Rebuild {
    #[command(flatten)]
    settings: Overrides,
    /// Begin anew, instead of going on where an earlier rebuild was interrupted.
    #[arg(long)]
    fresh: bool,
    /// Put the new read models in force even if the live ones differ from them.
    #[arg(long)]
    accept_differences: bool,
    /// Read at most so many records a second, to leave the live system its share.
    #[arg(long, value_name = "N")]
    records_per_second: Option<NonZeroU32>,
    /// Print the result as JSON, and progress as lines of JSON on standard error.
    #[arg(long)]
    json: bool,
}

impl Run for Rebuild {
    async fn run(self) -> Outcome {
        let config = Config::load(&self.settings)?;
        telemetry::start(&config.tracing)?;
        let stores = Stores::open_for_tool(&config, true).await?;
        let identities = stores.identities(&config, false).await?;
        let keyring = open_keyring(&config, &stores, &identities, None).await?;
        let identity = identities.accounts;
        let options = saldo_projector::Rebuild {
            fresh: self.fresh,
            accept_differences: self.accept_differences,
            records_per_second: self.records_per_second,
            pause: interrupted()?,
            ..saldo_projector::Rebuild::default()
        };
        let mut output = ProgressOutput::new(self.json);
        let pool = &stores.database()?.pool;
        let rebuilt = saldo_projector::rebuild(stores.log.as_ref(), &identity, pool, &keyring, &options, |progress| {
            output.show(progress);
        });
        let rebuilt = rebuilt.await;
        output.bar.finish_and_clear();
        stores.close().await;
        let rebuilt = rebuilt?;
        if self.json {
            println!("{}", serde_json::to_string(&rebuilt)?);
        } else {
            print!("{}", describe(&rebuilt));
        }
        Ok(match rebuilt.end {
            End::Swapped | End::InForce => ExitCode::SUCCESS,
            End::Different => ExitCode::from(verify::DIFFERENT),
            End::Paused => ExitCode::from(INTERRUPTED),
        })
    }
}

/// Cancelled by the first SIGINT or SIGTERM. The second ends the process at once, which loses at most one batch.
fn interrupted() -> Result<CancellationToken, Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let pause = CancellationToken::new();
    let told = pause.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if told.is_cancelled() {
                std::process::exit(INTERRUPTED.into());
            }
            told.cancel();
        }
    });
    Ok(pause)
}

fn describe(rebuilt: &Rebuilt) -> String {
    let records = rebuilt.records;
    let mut text = match rebuilt.compared_at {
        None => {
            "not compared: the live read models have another form, belong to another log, or are behind the rebuild\n"
                .to_owned()
        }
        Some(at) if rebuilt.found.differences == 0 => {
            format!("compared row by row with the live read models after {at} records: equal\n")
        }
        Some(at) => format!(
            "compared row by row with the live read models after {at} records: {} DIFFERENCES\n{}",
            rebuilt.found.differences,
            verify::examples(&rebuilt.found)
        ),
    };
    match rebuilt.end {
        End::Swapped => text += &format!("the read models were rebuilt from {records} records and are in force\n"),
        End::Different => {
            text += "the live read models stay in force; `saldo rebuild --accept-differences` goes on from here and swaps\n";
        }
        End::InForce => text = "another rebuild has put the read models in force\n".to_owned(),
        End::Paused => text = format!("interrupted after {records} records; `saldo rebuild` goes on from there\n"),
    }
    text
}

/// Progress on standard error: a bar on a terminal, lines elsewhere, and lines of JSON for machines.
struct ProgressOutput {
    bar: ProgressBar,
    line: Option<fn(&Line) -> String>,
    /// The position and the moment at which this run began.
    first: Option<(u64, Instant)>,
    told: Option<(Phase, Instant)>,
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    progress: Progress,
    records_per_second: u64,
    seconds_left: u64,
}

impl Line {
    fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn text(&self) -> String {
        let Progress { phase, done, total, .. } = self.progress;
        let (rate, left) = (self.records_per_second, self.seconds_left);
        format!("{}: {done} of {total} records, {rate} a second, {left} s left", name(phase))
    }
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Reading => "reading",
        Phase::Comparing => "comparing",
        Phase::Indexing => "indexing",
        Phase::Swapping => "swapping",
    }
}

impl ProgressOutput {
    fn new(json: bool) -> Self {
        let line: Option<fn(&Line) -> String> = match (json, std::io::stderr().is_terminal()) {
            (true, _) => Some(Line::json),
            (false, false) => Some(Line::text),
            (false, true) => None,
        };
        let bar = if line.is_some() { ProgressBar::hidden() } else { progress::records("reading") };
        Self { bar, line, first: None, told: None }
    }

    fn show(&mut self, progress: Progress) {
        let now = Instant::now();
        let (from, begun) = *self.first.get_or_insert((progress.done, now));
        self.bar.set_message(name(progress.phase));
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
        let told = |(phase, at): (Phase, Instant)| phase == progress.phase && now - at < EVERY;
        let Some(write) = self.line.filter(|_| !self.told.is_some_and(told)) else { return };
        self.told = Some((progress.phase, now));
        let per_second = |count: u64, time: Duration| (u128::from(count) * 1_000_000 / time.as_micros().max(1)) as u64;
        let records_per_second = per_second(progress.done - from, now - begun);
        let seconds_left = (progress.total - progress.done).checked_div(records_per_second).unwrap_or(0);
        let line = Line { progress, records_per_second, seconds_left };
        eprintln!("{}", write(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_json_only_if_json_was_asked_for() {
        let progress = Progress { phase: Phase::Comparing, done: 300, total: 900 };
        let line = Line { progress, records_per_second: 100, seconds_left: 6 };
        assert_eq!(line.text(), "comparing: 300 of 900 records, 100 a second, 6 s left");
        assert!(line.json().starts_with('{'));
    }
}
