//! Sends the rows, many in flight. Each request id is a function of the row.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use saldo_api::v1;
use serde::Serialize;
use tokio::sync::{Mutex, OnceCell};
use tonic::Status;
use uuid::Uuid;

use super::{
    map::{Map, MapError},
    rows::{Row, RowRequest, Rows},
};
use crate::{
    client::{Clients, Reached, StatusDetails, explain, is_transient, patiently},
    terminal::progress,
};

/// The most request ids that are tried for one row, where each earlier answer was a refusal.
const MAX_TRIES: u32 = 64;
/// The name space of the importer's request ids is the UUIDv5 of this URL.
const NAMESPACE_URL: &[u8] = b"https://saldo.invalid/import/1";

/// The result of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// New in the history.
    Added,
    /// Recorded before, with the same content.
    Present,
    /// Skipped by the map.
    Passed,
    /// Not recorded, with the reason.
    Rejected(String),
}

/// The result of a file.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Summary {
    /// Rows read.
    pub rows: u64,
    /// Rows new in the history.
    pub added: u64,
    /// Rows recorded before with the same content.
    pub present: u64,
    /// Rows with the number and the content of another row of this file. The other row counts as added or present.
    pub repeated: u64,
    /// Rows that the map skips.
    pub passed: u64,
    /// Rows that were not recorded.
    pub rejected: u64,
    /// Where the rejected rows are.
    pub rejected_file: Option<PathBuf>,
    /// Why it is not known whether the read models have the rows yet. The rows are in the log all the same.
    pub unread: Option<String>,
    pub seconds: f64,
}

/// Why an import ended early. The next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The map or the file.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The map is for the other kind of file.
    #[error("the map has no [{0}] section; is it the map for another kind of file?")]
    OtherKind(&'static str),
    /// The file cannot be read on.
    #[error("reading the file: {0}")]
    Csv(#[from] csv::Error),
    /// Rejected rows could not be written.
    #[error("writing {path}: {why}")]
    Rejected { path: String, why: String },
    /// The service did not answer.
    #[error("line {line}: {why}; run the same command again to go on")]
    Service {
        /// The row's line.
        line: u64,
        why: String,
    },
}

/// The kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Invoices,
    Payments,
}

struct Loader {
    clients: Clients,
    /// Accounts that are known to exist, or are being opened.
    accounts: Mutex<HashMap<String, Arc<OnceCell<()>>>>,
    /// Payments that name no invoice are applied in the file's order: one at a time for each account.
    turns: Mutex<HashMap<String, Arc<Mutex<()>>>>,
    /// The newest positions of the answers.
    reached: Mutex<Reached>,
}

pub async fn run(
    kind: Kind,
    file: &Path,
    map: Map,
    in_flight: usize,
    clients: Clients,
    bar: ProgressBar,
) -> Result<Summary, ImportError> {
    match kind {
        Kind::Invoices if map.invoice.is_none() => return Err(ImportError::OtherKind("invoice")),
        Kind::Payments if map.payment.is_none() => return Err(ImportError::OtherKind("payment")),
        _ => {}
    }
    let map = match kind {
        Kind::Invoices => Map { payment: None, ..map },
        Kind::Payments => Map { invoice: None, ..map },
    };
    let started = Instant::now();
    bar.set_length(Rows::open(file, map.clone())?.count() as u64);
    bar.set_style(style());
    let delimiter = map.format.delimiter;
    let rows = Rows::open(file, map)?;
    let mut rejected = RejectedRows::new(file, rows.header(), delimiter);
    let loader =
        Arc::new(Loader { clients, accounts: Mutex::default(), turns: Mutex::default(), reached: Mutex::default() });
    let mut counts = Counts::default();
    let mut outcomes = futures::stream::iter(rows)
        .map(|row| {
            let loader = loader.clone();
            async move {
                let row = row?;
                let outcome = loader.take(&row).await?;
                Ok::<_, ImportError>((row, outcome))
            }
        })
        .buffer_unordered(in_flight);
    while let Some(done) = outcomes.next().await {
        let (row, outcome) = done?;
        counts.count(row.request.as_ref().ok().and_then(|(request, _)| number_of(request)), &outcome);
        if let Outcome::Rejected(reason) = outcome {
            rejected.push(row.line, reason, row.raw);
        }
        bar.inc(1);
    }
    drop(outcomes);
    bar.finish_and_clear();
    let mut summary = counts.summary;
    summary.rejected_file = rejected.write()?;
    summary.unread = loader.read_back().await.err().map(|status| explain(&status));
    summary.seconds = started.elapsed().as_secs_f64();
    Ok(summary)
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {pos}/{len} rows  {per_sec}  {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Loader {
    async fn take(&self, row: &Row) -> Result<Outcome, ImportError> {
        let (request, profile) = match &row.request {
            Ok(read) => read,
            Err(why) => return Ok(Outcome::Rejected(why.clone())),
        };
        let asked = match request {
            RowRequest::Skip => return Ok(Outcome::Passed),
            RowRequest::Invoice(request) => self.issue(request, profile.as_ref()).await,
            RowRequest::Payment(request) => self.pay(request, profile.as_ref()).await,
        };
        match asked {
            Ok(outcome) => Ok(outcome),
            Err(status)
                if is_transient(&status)
                    || status.code() == tonic::Code::Unauthenticated
                    || status.code() == tonic::Code::PermissionDenied =>
            {
                Err(ImportError::Service { line: row.line, why: explain(&status) })
            }
            Err(status) => Ok(Outcome::Rejected(explain(&status))),
        }
    }

    async fn issue(&self, request: &v1::IssueInvoiceRequest, profile: Option<&v1::Profile>) -> Result<Outcome, Status> {
        self.open(&request.account_id, profile).await?;
        self.tries("invoice", &request.account_id, &request.number, |request_id| {
            let (mut client, request) =
                (self.clients.command.clone(), v1::IssueInvoiceRequest { request_id, ..request.clone() });
            async move { client.issue_invoice(request).await.map(tonic::Response::into_inner) }
        })
        .await
    }

    async fn pay(&self, request: &v1::RecordPaymentRequest, profile: Option<&v1::Profile>) -> Result<Outcome, Status> {
        self.open(&request.account_id, profile).await?;
        let turn = self.turns.lock().await.entry(request.account_id.clone()).or_default().clone();
        let _turn = if request.allocations.is_empty() { Some(turn.lock().await) } else { None };
        self.tries("payment", &request.account_id, &request.reference, |request_id| {
            let (mut client, request) =
                (self.clients.command.clone(), v1::RecordPaymentRequest { request_id, ..request.clone() });
            async move { client.record_payment(request).await.map(tonic::Response::into_inner) }
        })
        .await
    }

    /// Opens the account once, before its first document.
    async fn open(&self, account_id: &str, profile: Option<&v1::Profile>) -> Result<(), Status> {
        let Some(profile) = profile else { return Ok(()) };
        let cell = self.accounts.lock().await.entry(account_id.to_owned()).or_default().clone();
        cell.get_or_try_init(|| async {
            let opened = self.tries("account", account_id, account_id, |request_id| {
                let mut client = self.clients.command.clone();
                let request = v1::OpenAccountRequest {
                    request_id,
                    account_id: account_id.to_owned(),
                    profile: Some(profile.clone()),
                };
                async move { client.open_account(request).await.map(tonic::Response::into_inner) }
            });
            match opened.await {
                Ok(_) => Ok(()),
                // The account exists, perhaps with another profile; the import does not change it.
                Err(status) if is_known(&status) => Ok(()),
                Err(status) => Err(status),
            }
        })
        .await
        .map(|_| ())
    }

    /// Sends the row under its request id. If an earlier run was refused under that id, the next id is used.
    async fn tries<F>(
        &self,
        kind: &str,
        account: &str,
        natural_key: &str,
        ask: impl Fn(String) -> F,
    ) -> Result<Outcome, Status>
    where
        F: Future<Output = Result<v1::CommandResponse, Status>>,
    {
        let mut last = None;
        for attempt in 0..MAX_TRIES {
            match patiently(|| ask(request_id(kind, account, natural_key, attempt).to_string())).await {
                Ok(answer) => {
                    self.reached.lock().await.note(&answer.consistency_token);
                    return Ok(if answer.replayed { Outcome::Present } else { Outcome::Added });
                }
                Err(status) => {
                    let error = StatusDetails::of(&status);
                    if error.details.get("same_content").is_some_and(|same| same == "true") {
                        return Ok(Outcome::Present);
                    }
                    if error.reason == "REQUEST_ID_REUSED" {
                        return Ok(Outcome::Rejected(format!(
                            "{kind} {natural_key} of account {account} was imported before with other content"
                        )));
                    }
                    if error.details.get("replayed").is_none_or(|replayed| replayed != "true") {
                        return Err(status);
                    }
                    last = Some(status);
                }
            }
        }
        Err(last.unwrap_or_else(|| Status::unknown("no try was made")))
    }

    /// Waits for the read models, so that the next query finds the imported rows.
    async fn read_back(&self) -> Result<(), Status> {
        let bar = progress::spinner("waiting for the read models");
        let read = self.reached.lock().await.read_back(&self.clients).await;
        bar.finish_and_clear();
        read
    }
}

fn is_known(status: &Status) -> bool {
    matches!(StatusDetails::of(status).reason.as_str(), "ACCOUNT_ALREADY_OPEN" | "REQUEST_ID_REUSED")
}

/// UUIDv5 of kind, account, natural key and try.
fn request_id(kind: &str, account: &str, natural_key: &str, attempt: u32) -> Uuid {
    let space = Uuid::new_v5(&Uuid::NAMESPACE_URL, NAMESPACE_URL);
    Uuid::new_v5(&space, format!("{kind}\0{account}\0{natural_key}\0{attempt}").as_bytes())
}

/// Equal for rows with the same number: the first request id.
fn number_of(request: &RowRequest) -> Option<Uuid> {
    match request {
        RowRequest::Invoice(request) => Some(request_id("invoice", &request.account_id, &request.number, 0)),
        RowRequest::Payment(request) => Some(request_id("payment", &request.account_id, &request.reference, 0)),
        RowRequest::Skip => None,
    }
}

#[derive(Default)]
struct Counts {
    summary: Summary,
    /// The numbers so far, and whether a row added it. 16 bytes a row.
    numbers: HashMap<Uuid, bool>,
}

impl Counts {
    /// Rows with one number are answered in any order, so the row that was added need not be the first.
    fn count(&mut self, number: Option<Uuid>, outcome: &Outcome) {
        let summary = &mut self.summary;
        summary.rows += 1;
        let added = match outcome {
            Outcome::Added => true,
            Outcome::Present => false,
            Outcome::Passed => return summary.passed += 1,
            Outcome::Rejected(_) => return summary.rejected += 1,
        };
        match number.map(|number| self.numbers.entry(number)) {
            Some(Entry::Occupied(mut before)) => {
                summary.repeated += 1;
                if added && !before.insert(true) {
                    summary.present -= 1;
                    summary.added += 1;
                }
                return;
            }
            Some(Entry::Vacant(first)) => _ = first.insert(added),
            None => {}
        }
        match added {
            true => summary.added += 1,
            false => summary.present += 1,
        }
    }
}

/// Removes the rejected rows of an earlier run, so that a run that ends early does not leave them for its own.
pub fn remove_rejected(file: &Path) -> Result<(), ImportError> {
    let path = rejected_path(file);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ImportError::Rejected { path: path.display().to_string(), why: error.to_string() })
        }
        _ => Ok(()),
    }
}

fn rejected_path(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".rejected.csv");
    path.into()
}

/// FILE.rejected.csv, in the order of the file and with its delimiter: the same map reads both.
struct RejectedRows {
    path: PathBuf,
    header: Vec<String>,
    delimiter: u8,
    rows: Vec<(u64, String, csv::ByteRecord)>,
}

impl RejectedRows {
    fn new(file: &Path, header: &[String], delimiter: char) -> Self {
        Self { path: rejected_path(file), header: header.to_vec(), delimiter: delimiter as u8, rows: Vec::new() }
    }

    fn push(&mut self, line: u64, reason: String, raw: csv::ByteRecord) {
        self.rows.push((line, reason, raw));
    }

    fn write(mut self) -> Result<Option<PathBuf>, ImportError> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let failed = |why: String| ImportError::Rejected { path: self.path.display().to_string(), why };
        self.rows.sort_by_key(|(line, ..)| *line);
        let write = || -> Result<(), csv::Error> {
            let mut writer =
                csv::WriterBuilder::new().flexible(true).delimiter(self.delimiter).from_path(&self.path)?;
            let names = self.header.iter().map(String::as_bytes);
            writer.write_record([&b"line"[..], b"reason"].into_iter().chain(names))?;
            for (line, reason, raw) in &self.rows {
                let line = line.to_string();
                writer.write_record([line.as_bytes(), reason.as_bytes()].into_iter().chain(raw.iter()))?;
            }
            writer.flush()?;
            Ok(())
        };
        write().map_err(|error| failed(error.to_string()))?;
        Ok(Some(self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_rows_can_be_corrected_and_imported_with_the_same_map() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a.csv");
        let map = Map::parse(
            "[format]\ndate='%F'\ncurrency='EUR'\ndelimiter=';'\n[account]\nid='{a}'\n\
             [payment]\nreference='{n}'\namount='{x}'\nvalue_date='{d}'",
        )
        .expect("valid");
        std::fs::write(&file, "a;n;x;d\nA;1;wrong, very;2026-01-01\n").expect("written");
        let mut rows = Rows::open(&file, map.clone()).expect("a header");
        let mut rejected = RejectedRows::new(&file, rows.header(), map.format.delimiter);
        let row = rows.next().expect("one row").expect("read");
        rejected.push(row.line, row.request.expect_err("no amount"), row.raw);
        let path = rejected.write().expect("written").expect("one row");
        let corrected = std::fs::read_to_string(&path).expect("read").replace("wrong, very", "1.00");
        std::fs::write(&path, corrected).expect("written");
        let mut again = Rows::open(&path, map).expect("a header");
        assert!(again.next().expect("one row").expect("read").request.is_ok());
    }

    #[test]
    fn repeats_within_the_file_are_not_present_before() {
        let number = Some(request_id("invoice", "A", "1", 0));
        for (outcomes, added, present) in [
            ([Outcome::Added, Outcome::Present], 1, 0),
            ([Outcome::Present, Outcome::Added], 1, 0),
            ([Outcome::Present, Outcome::Present], 0, 1),
        ] {
            let mut counts = Counts::default();
            outcomes.iter().for_each(|outcome| counts.count(number, outcome));
            let Summary { rows, added: a, present: p, repeated, .. } = counts.summary;
            assert_eq!((rows, a, p, repeated), (2, added, present, 1), "{outcomes:?}");
        }
    }
}
