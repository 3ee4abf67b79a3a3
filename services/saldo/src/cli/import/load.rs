//! Sends the rows, many in flight. Each request id is a function of the row.

use std::{
    collections::HashMap,
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
    let rows = Rows::open(file, map)?;
    let mut rejected = RejectedRows::new(file, rows.header());
    let loader =
        Arc::new(Loader { clients, accounts: Mutex::default(), turns: Mutex::default(), reached: Mutex::default() });
    let mut summary = Summary::default();
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
        summary.rows += 1;
        match outcome {
            Outcome::Added => summary.added += 1,
            Outcome::Present => summary.present += 1,
            Outcome::Passed => summary.passed += 1,
            Outcome::Rejected(reason) => {
                summary.rejected += 1;
                rejected.push(row.line, reason, row.raw);
            }
        }
        bar.inc(1);
    }
    drop(outcomes);
    bar.finish_and_clear();
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
            match patiently(|| ask(request_id(kind, account, natural_key, attempt))).await {
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
fn request_id(kind: &str, account: &str, natural_key: &str, attempt: u32) -> String {
    let space = Uuid::new_v5(&Uuid::NAMESPACE_URL, NAMESPACE_URL);
    Uuid::new_v5(&space, format!("{kind}\0{account}\0{natural_key}\0{attempt}").as_bytes()).to_string()
}

/// FILE.rejected.csv, in the order of the file.
struct RejectedRows {
    path: PathBuf,
    header: Vec<String>,
    rows: Vec<(u64, String, csv::ByteRecord)>,
}

impl RejectedRows {
    fn new(file: &Path, header: &[String]) -> Self {
        let mut path = file.as_os_str().to_owned();
        path.push(".rejected.csv");
        Self { path: path.into(), header: header.to_vec(), rows: Vec::new() }
    }

    fn push(&mut self, line: u64, reason: String, raw: csv::ByteRecord) {
        self.rows.push((line, reason, raw));
    }

    /// Writes the rows, or removes what an earlier run left.
    fn write(mut self) -> Result<Option<PathBuf>, ImportError> {
        let failed = |why: String| ImportError::Rejected { path: self.path.display().to_string(), why };
        if self.rows.is_empty() {
            return match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error.to_string())),
                _ => Ok(None),
            };
        }
        self.rows.sort_by_key(|(line, ..)| *line);
        let write = || -> Result<(), csv::Error> {
            let mut writer = csv::WriterBuilder::new().flexible(true).from_path(&self.path)?;
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
