//! The report of an import, for people and for programs.

use std::{collections::BTreeMap, path::PathBuf};

use anstream::println;
use saldo_domain::money::Currency;
use serde::Serialize;

use super::{
    format::Format,
    load::{Done, Unapplied},
    plan::{Outcome, Plan},
    rows::Rows,
};

/// The most single rows that a report for people lists of each kind. `--json` and the file of rejected rows have all.
const LISTED: usize = 10;

/// The result of a file. A row is counted once.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Nothing was sent: what would be.
    pub dry_run: bool,
    pub rows: usize,
    /// Rows new in the history.
    pub added: usize,
    /// Rows recorded before, with the same content.
    pub present: usize,
    /// Rows that say what another row of this file says, and the line of that row.
    pub repeated: usize,
    pub repeats: Vec<Repeat>,
    /// Rows that the map skips, and rows of empty columns.
    pub skipped: usize,
    /// Rows that were not recorded.
    pub rejected: usize,
    pub rejections: Vec<Rejection>,
    /// Where the rejected rows are.
    pub rejected_file: Option<PathBuf>,
    /// Payments and credit notes of which a part is applied to nothing.
    pub unapplied: Vec<Unapplied>,
    /// Why it is not known whether the read models have the rows yet. The rows are in the log all the same.
    pub unread: Option<String>,
    pub seconds: f64,
}

/// A row that says what another one says.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Repeat {
    pub line: u64,
    pub of_line: u64,
}

/// A row that was not recorded.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Rejection {
    pub line: u64,
    pub reason: String,
    #[serde(skip)]
    pub row: usize,
}

impl Summary {
    /// In the order of the file, whatever the order of the answers.
    pub fn of(rows: &Rows, plan: Plan, done: Vec<Done>) -> Self {
        let mut summary = Self { rows: rows.len(), ..Self::default() };
        let mut outcomes = plan.settled;
        for Done { rows, outcome, unapplied } in done {
            summary.unapplied.extend(unapplied);
            outcomes.extend(rows.into_iter().map(|row| (row, outcome.clone())));
        }
        outcomes.sort_by_key(|(row, _)| *row);
        for (row, outcome) in outcomes {
            let line = rows.line(row);
            match outcome {
                Outcome::Added => summary.added += 1,
                Outcome::Present => summary.present += 1,
                Outcome::Skipped => summary.skipped += 1,
                Outcome::Repeated(of_line) => summary.repeats.push(Repeat { line, of_line }),
                Outcome::Rejected(reason) => summary.rejections.push(Rejection { line, reason, row }),
            }
        }
        summary.repeated = summary.repeats.len();
        summary.rejected = summary.rejections.len();
        summary.unapplied.sort_by_key(|unapplied| unapplied.line);
        summary
    }

    /// Prints the report, amounts in the format of the file.
    pub fn print(&self, format: &Format) {
        let Self { rows, seconds, added, present, repeated, skipped, rejected, .. } = self;
        let (would, added_word) = if self.dry_run { ("nothing was sent: ", "new") } else { ("", "added") };
        println!(
            "{would}{rows} rows in {seconds:.1} s: {added} {added_word}, {present} present before, {repeated} repeated in the file, \
             {skipped} skipped, {rejected} rejected"
        );
        list(&self.repeats, "repeated rows, which count once", |repeat| {
            format!("line {} says what line {} says", repeat.line, repeat.of_line)
        });
        list(&self.unapplied, &self.unapplied_in_all(format), |one| {
            let amount = written(format, one.amount_minor, &one.currency);
            let Unapplied { line, kind, account, reference, invoice, .. } = one;
            let of = if invoice.is_empty() { String::new() } else { format!(", for invoice {invoice}") };
            format!("line {line}: {amount} of {kind} {reference} of account {account}{of}")
        });
        list(&self.rejections, "rejected rows", |rejection| format!("line {}: {}", rejection.line, rejection.reason));
        if let Some(why) = &self.unread {
            println!("the rows are recorded; it is not known whether the read models have them yet: {why}");
        }
        if let Some(path) = &self.rejected_file {
            println!("correct the rejected rows in {} and import that file with the same map", path.display());
        }
    }

    fn unapplied_in_all(&self, format: &Format) -> String {
        let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
        for one in &self.unapplied {
            let sum = sums.entry(&one.currency).or_default();
            *sum = sum.saturating_add(one.amount_minor);
        }
        let sums: Vec<String> = sums.iter().map(|(currency, minor)| written(format, *minor, currency)).collect();
        format!("payments and credit notes that are not applied whole, {} stay unapplied", sums.join(" and "))
    }
}

/// An amount as the file would write it, with its currency.
fn written(format: &Format, minor: i64, currency: &str) -> String {
    let amount = Currency::new(currency).map_or_else(|_| minor.to_string(), |known| format.write(minor, known));
    format!("{amount} {currency}")
}

fn list<T>(all: &[T], heading: &str, line: impl Fn(&T) -> String) {
    if all.is_empty() {
        return;
    }
    println!("{heading} ({}):", all.len());
    all.iter().take(LISTED).for_each(|one| println!("  {}", line(one)));
    if let Some(more) = all.len().checked_sub(LISTED).filter(|more| *more > 0) {
        println!("  and {more} more");
    }
}
