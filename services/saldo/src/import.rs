//! `saldo import`: a CSV file through the gRPC command service, many requests in flight. Run again it adds nothing; run
//! after a kill it completes, since every request id is a function of the row.

mod load;
mod map;
mod rows;

use std::{path::PathBuf, process::ExitCode};

use anstream::println;
use clap::{Args, Subcommand};

pub use load::{ImportError, Kind, Outcome, Summary, run};
pub use map::{Map, MapError};

use crate::client::Target;

/// What to import.
#[derive(Debug, Clone, Subcommand)]
pub enum Import {
    /// Load invoices, opening missing accounts from the map's defaults.
    ///
    /// Exit code 0: every row stands in the log; 3: some were rejected, and stand in FILE.rejected.csv.
    #[command(
        after_help = "Examples:\n  saldo import invoices receivables.csv --map docs/maps/receivables-invoices.toml\n  saldo import invoices receivables.csv --map docs/maps/receivables-invoices.toml --in-flight 32 --json"
    )]
    Invoices(ImportArgs),
    /// Load payments, each applied as the map designates.
    ///
    /// Their accounts and invoices must be there. Exit code 0: every row stands in the log; 3: some were rejected, and stand
    /// in FILE.rejected.csv.
    #[command(
        after_help = "Example:\n  saldo import payments receivables.csv --map docs/maps/receivables-payments.toml"
    )]
    Payments(ImportArgs),
}

/// The file and how to read it.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The CSV file. Rows that cannot be taken go to FILE.rejected.csv with line and reason.
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
    /// Where and as whom.
    #[command(flatten)]
    pub target: Target,
}

/// Exit code of an import that rejected rows.
const SOME_REJECTED: u8 = 3;

/// Runs one import and says what became of the file.
pub(crate) async fn command(import: Import) -> crate::Outcome {
    let (kind, args) = match import {
        Import::Invoices(args) => (Kind::Invoices, args),
        Import::Payments(args) => (Kind::Payments, args),
    };
    let map = Map::read(&args.map)?;
    let clients = args.target.connect().await?;
    let bar = indicatif::ProgressBar::new(0);
    let summary = run(kind, &args.file, map, args.in_flight.into(), clients, bar).await?;
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!(
            "{} rows in {:.1} s: {} added, {} present before, {} passed over, {} rejected",
            summary.rows, summary.seconds, summary.added, summary.present, summary.passed, summary.rejected
        );
        if let Some(why) = &summary.unread {
            println!("it stands in the log; whether the read models have it yet could not be seen: {why}");
        }
        if let Some(path) = &summary.rejected_file {
            println!("rejected rows, with line and reason: {}", path.display());
        }
    }
    Ok(if summary.rejected == 0 { ExitCode::SUCCESS } else { ExitCode::from(SOME_REJECTED) })
}
