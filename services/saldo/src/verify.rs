//! `saldo verify`.

use std::{process::ExitCode, time::Duration};

use anstream::{print, println};
use saldo_keyring::Keyring;
use saldo_log::genesis;
use saldo_projector::{Difference, Differences, Report};

use crate::{
    Outcome,
    config::{Config, Overrides},
    progress,
    stores::Stores,
    telemetry,
};

/// How long the read models may take to reach the log's end.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Exit code of a check that found differences, or read models that are behind.
pub const DIFFERENT: u8 = 3;

/// What `verify` takes.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Where log and read models are.
    #[command(flatten)]
    pub settings: Overrides,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Reads the whole log and compares.
pub async fn run(args: VerifyArgs) -> Outcome {
    let config = Config::load(&args.settings)?;
    telemetry::start(&config.tracing)?;
    let stores = Stores::open_shown(&config).await?;
    let identity = genesis::open(stores.log.as_ref()).await?;
    let bar = progress::records("verifying");
    // Without the key store everything but personal values can be checked.
    let keyring = match config.keyring_dir() {
        dir if dir.is_dir() => Some(Keyring::open(&dir)?).filter(|keyring| !keyring.is_empty()),
        _ => None,
    };
    let keys = keyring.as_ref();
    let pool = &stores.database()?.pool;
    let report = saldo_projector::verify(stores.log.as_ref(), &identity, pool, keys, PATIENCE, |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    let report = report.await;
    bar.finish_and_clear();
    stores.close().await;
    let report = report?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", describe(&report));
    }
    Ok(if equal(&report) { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

/// Whether the read models are all that the log says.
pub fn equal(report: &Report) -> bool {
    report.found.differences == 0 && report.behind == 0
}

/// The report for people.
pub fn describe(report: &Report) -> String {
    let void: u64 = report.void.values().sum();
    let mut text = format!(
        "{} records read: {} commits accepted, {void} void; {} events on {} accounts, {} parked\n",
        report.records, report.accepted, report.events, report.accounts, report.parked
    );
    for (reason, count) in &report.void {
        text += &format!("  void: {count} x {reason}\n");
    }
    if report.behind > 0 {
        text += &format!(
            "every chain holds, but the read models are {} records BEHIND the log; is a projector running?\n",
            report.behind
        );
    }
    if equal(report) {
        text += "every chain holds, and the read models equal the log\n";
    } else if report.found.differences == 0 {
        text += "as far as they have come, they equal it\n";
    } else {
        text += &format!("{} DIFFERENCES; `saldo rebuild` makes the read models anew:\n", report.found.differences);
        text += &examples(&report.found);
    }
    text
}

/// The differences listed, a line each.
pub fn examples(found: &Differences) -> String {
    let line = |one: &Difference| format!("  {} {}: log {}, rows {}\n", one.account, one.what, one.log, one.rows);
    found.examples.iter().map(line).collect()
}
