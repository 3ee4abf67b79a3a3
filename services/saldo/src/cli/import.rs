//! `saldo import`: a CSV file through the gRPC command service, with many requests in flight. Every request id is a function of
//! the row, so a second run adds nothing, and a run after a crash completes the first.

mod lines;
mod load;
mod map;
mod rows;

use std::{path::PathBuf, process::ExitCode};

use anstream::println;
use clap::Args;

use self::{
    load::{Kind, run},
    map::Map,
};
use super::Run;
use crate::{Outcome, client::Target};

/// Load a CSV file through the gRPC command service.
///
/// A second run of the same file adds nothing. A run after a crash completes the first. Needs a token with the role writer.
#[derive(clap::Parser)]
#[command(name = "import")]
pub enum Import {
    /// Load invoices, and open missing accounts with the map's defaults.
    ///
    /// Exit code 0: every row is recorded; 3: some rows were rejected and written to FILE.rejected.csv.
    #[command(
        after_help = "Examples:\n  saldo import invoices receivables.csv --map docs/maps/receivables-invoices.toml\n  saldo import invoices receivables.csv --map docs/maps/receivables-invoices.toml --in-flight 32 --json"
    )]
    Invoices(ImportArgs),
    /// Load payments, and apply each of them as the map says.
    ///
    /// Accounts and invoices must exist, unless the map says what a missing account is opened with. Exit code 0: every row is
    /// recorded; 3: some rows were rejected and written to FILE.rejected.csv.
    #[command(
        after_help = "Example:\n  saldo import payments receivables.csv --map docs/maps/receivables-payments.toml"
    )]
    Payments(ImportArgs),
}

#[derive(Args)]
pub struct ImportArgs {
    /// The CSV file. Rejected rows go to FILE.rejected.csv, with line and reason.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The map from columns to fields (TOML); docs/import.md describes it.
    #[arg(long, value_name = "MAP.toml")]
    pub map: PathBuf,
    /// Requests in flight.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub in_flight: u16,
    /// Print the summary as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub target: Target,
}

/// Exit code of an import that rejected rows.
const SOME_REJECTED: u8 = 3;

impl Run for Import {
    async fn run(self) -> Outcome {
        let (kind, args) = match self {
            Import::Invoices(args) => (Kind::Invoices, args),
            Import::Payments(args) => (Kind::Payments, args),
        };
        load::remove_rejected(&args.file)?;
        let map = Map::read(&args.map)?;
        let clients = args.target.connect().await?;
        let bar = indicatif::ProgressBar::new(0);
        let summary = run(kind, &args.file, map, args.in_flight.into(), clients, bar).await?;
        if args.json {
            println!("{}", serde_json::to_string(&summary)?);
        } else {
            println!(
                "{} rows in {:.1} s: {} added, {} present before, {} repeated in the file, {} skipped, {} rejected",
                summary.rows,
                summary.seconds,
                summary.added,
                summary.present,
                summary.repeated,
                summary.passed,
                summary.rejected
            );
            if let Some(why) = &summary.unread {
                println!("the rows are recorded; it is not known whether the read models have them yet: {why}");
            }
            if let Some(path) = &summary.rejected_file {
                println!("rejected rows, with line and reason: {}", path.display());
            }
        }
        Ok(if summary.rejected == 0 { ExitCode::SUCCESS } else { ExitCode::from(SOME_REJECTED) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_that_ends_at_once_leaves_no_rejected_rows_of_an_earlier_run() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, rejected) = (dir.path().join("a.csv"), dir.path().join("a.csv.rejected.csv"));
        std::fs::write(&rejected, "line,reason\n").expect("written");
        let target = Target::new("http://127.0.0.1:1".to_owned(), String::new());
        let args = ImportArgs { file, map: dir.path().join("none.toml"), in_flight: 1, json: false, target };
        assert!(Import::Invoices(args).run().await.is_err());
        assert!(!rejected.exists());
    }
}
