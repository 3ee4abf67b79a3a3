//! `saldo import`: a CSV file through the gRPC command service. The whole file is read and planned first, and then sent: accounts
//! side by side, and the documents of one account in the order of the file. Every request id is a function of the row, so a second
//! run adds no document, and a run after a crash completes the first.

mod document;
mod dry_run;
mod format;
mod formula;
mod load;
mod map;
mod plan;
mod records;
mod rejected;
mod report;
mod row;
mod rows;
mod template;
mod text;
mod words;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anstream::println;
use clap::Args;
use encoding_rs::Encoding;
use tokio::sync::Mutex;

#[cfg(test)]
pub use self::text::Text;
use self::{
    format::Format,
    load::{ImportError, Loader},
    map::Kind,
    plan::Plan,
    report::Summary,
};
pub use self::{map::Map, rows::Rows};
use super::Run;
use crate::{
    Outcome,
    client::{Reached, Target, explain},
    terminal::progress,
};

/// Load a CSV file through the gRPC command service.
///
/// A second run of the same file adds no document. A row that is refused is refused and noted each time. A run after a crash
/// completes the first. Needs a token with the role writer; --dry-run needs the role reader.
#[derive(clap::Parser)]
#[command(name = "import")]
pub enum Import {
    /// Load invoices, and open missing accounts with the map's defaults.
    ///
    /// The map may say that a row is an instalment, and that an amount below zero is a credit note. The exit code is 3
    /// if rows were rejected, and they stand in FILE.rejected.csv.
    #[command(
        after_help = "Examples:\n  saldo import invoices receivables.csv --map docs/maps/receivables-invoices.toml --dry-run\n  saldo import invoices receivables.csv --map docs/maps/receivables-invoices.toml\n  saldo import invoices export.csv --map docs/maps/instalments.toml --encoding windows-1252 --json"
    )]
    Invoices(ImportArgs),
    /// Load credit notes against invoices.
    ///
    /// Their invoices must exist. The exit code is 3 if rows were rejected, and they stand in FILE.rejected.csv.
    #[command(after_help = "Example:\n  saldo import credit-notes credits.csv --map docs/maps/credit-notes.toml")]
    CreditNotes(ImportArgs),
    /// Load payments, and apply each of them as the map says.
    ///
    /// A payment may exceed what is open of its invoice: the rest stays unapplied, and the report says so. Accounts must exist,
    /// unless the map has a section [account.open]. The exit code is 3 if rows were rejected, and they stand in FILE.rejected.csv.
    #[command(
        after_help = "Example:\n  saldo import payments receivables.csv --map docs/maps/receivables-payments.toml"
    )]
    Payments(ImportArgs),
}

#[derive(Args)]
pub struct ImportArgs {
    /// The CSV file. Rejected rows go to FILE.rejected.csv, with their line and the reason.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The map from columns to fields (TOML); docs/import.md describes it.
    #[arg(long, value_name = "MAP.toml")]
    pub map: PathBuf,
    /// The file's encoding, such as windows-1252. Absent: as the map or a byte order mark says, or else UTF-8.
    #[arg(long, value_name = "NAME", value_parser = text::encoding)]
    pub encoding: Option<&'static Encoding>,
    /// Say what would be added and what rejected, and send nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Accounts that are loaded side by side. The result does not depend on it.
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
            Import::CreditNotes(args) => (Kind::CreditNotes, args),
            Import::Payments(args) => (Kind::Payments, args),
        };
        let (summary, format) = run(kind, &args).await?;
        if args.json {
            println!("{}", serde_json::to_string(&summary)?);
        } else {
            summary.print(&format);
        }
        Ok(if summary.rejected == 0 { ExitCode::SUCCESS } else { ExitCode::from(SOME_REJECTED) })
    }
}

async fn run(kind: Kind, args: &ImportArgs) -> Result<(Summary, Format), crate::Failure> {
    let started = Instant::now();
    let map = Map::read(&args.map)?;
    let clients = args.target.connect().await?;
    let rows = Rows::open(&args.file, args.encoding, map, kind)?;
    let path = args.file.display().to_string();
    let plan = Plan::of(&rows).map_err(|why| ImportError::Plan { path, why })?;
    let bar = progress::records(if args.dry_run { "comparing" } else { "importing" });
    bar.set_length(rows.len() as u64);
    bar.set_position(plan.settled.len() as u64);
    let mut summary;
    if args.dry_run {
        let done = dry_run::compare(&rows, &plan, args.in_flight.into(), &clients, &bar).await?;
        bar.finish_and_clear();
        summary = Summary { dry_run: true, ..Summary::of(&rows, plan, done) };
    } else {
        rejected::set_aside(&args.file)?;
        let loader = Loader { rows: &rows, clients, bar, reached: Mutex::new(Reached::default()) };
        let done = loader.send(&plan, args.in_flight.into()).await?;
        loader.bar.finish_and_clear();
        summary = Summary::of(&rows, plan, done);
        let reasons = summary.rejections.iter().map(|rejection| (rejection.row, rejection.reason.as_str()));
        summary.rejected_file = rejected::write(&args.file, &rows, &reasons.collect::<Vec<_>>())?;
        summary.unread = loader.read_back().await.err().map(|status| explain(&status));
    }
    summary.seconds = started.elapsed().as_secs_f64();
    Ok((summary, rows.map().format.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_that_sends_nothing_leaves_the_rejected_rows_of_an_earlier_run() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, rejected) = (dir.path().join("a.csv"), dir.path().join("a.csv.rejected.csv"));
        let target = Target::new("http://127.0.0.1:1".to_owned(), String::new());
        std::fs::write(&rejected, "saldo_line,saldo_reason\n").expect("written");
        for dry_run in [true, false] {
            let (file, map, target) = (file.clone(), dir.path().join("none.toml"), target.clone());
            let args = ImportArgs { file, map, encoding: None, dry_run, in_flight: 1, json: false, target };
            assert!(Import::Invoices(args).run().await.is_err());
            assert!(rejected.exists(), "somebody may have corrected them");
        }
    }
}
