//! Sends what a file asks for: the documents of one account one after the other, and accounts side by side.

use futures::StreamExt;
use indicatif::ProgressBar;
use saldo_api::v1;
use serde::Serialize;
use tokio::sync::Mutex;
use tonic::{Code, Response, Status};
use uuid::Uuid;

use super::{
    document::{Document, Entry},
    map::MapError,
    plan::{Outcome, Plan, Planned},
    rows::Rows,
    words,
};
use crate::{
    client::{Clients, Reached, StatusDetails, explain, patiently},
    terminal::progress,
};

/// The most request ids that are tried for one document, where each earlier answer was a refusal.
const MAX_TRIES: u32 = 64;

/// Why an import ended early. The next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The map or the file.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The rows cannot be told apart.
    #[error("file {path}: {why}")]
    Plan { path: String, why: String },
    /// Rejected rows could not be written.
    #[error("writing {path}: {why}")]
    Rejected { path: String, why: String },
    /// The service did not answer.
    #[error("line {line}: {why}; {done} of {rows} rows are dealt with, {next}")]
    Service { line: u64, why: String, done: u64, rows: usize, next: &'static str },
}

/// A payment or credit note of which a part is applied to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unapplied {
    pub line: u64,
    /// Payment or credit note.
    pub kind: &'static str,
    pub account: String,
    /// The payment's reference or the credit note's number.
    pub reference: String,
    /// The invoice that the row names; empty where it names none.
    pub invoice: String,
    /// The rest that is applied to nothing, in minor units.
    pub amount_minor: i64,
    pub currency: String,
}

/// The outcome of the rows of one document.
pub struct Done {
    pub rows: Vec<usize>,
    pub outcome: Outcome,
    pub unapplied: Option<Unapplied>,
}

pub struct Loader<'f> {
    pub rows: &'f Rows,
    pub clients: Clients,
    pub bar: ProgressBar,
    /// The newest positions of the answers.
    pub reached: Mutex<Reached>,
}

/// The answer to a document; none where its number stands with the same content.
type Answer = Option<v1::CommandResponse>;

impl Loader<'_> {
    /// Sends the plan, so many accounts side by side.
    pub async fn send(&self, plan: &Plan, in_flight: usize) -> Result<Vec<Done>, ImportError> {
        let mut accounts =
            futures::stream::iter(&plan.accounts).map(|documents| self.account(documents)).buffer_unordered(in_flight);
        let mut all = Vec::new();
        while let Some(done) = accounts.next().await {
            all.extend(done?);
        }
        Ok(all)
    }

    async fn account(&self, documents: &[Planned]) -> Result<Vec<Done>, ImportError> {
        let (mut all, mut is_open) = (Vec::with_capacity(documents.len()), false);
        for planned in documents {
            let line = planned.rows.first().map_or(0, |row| self.rows.line(*row));
            let (outcome, unapplied) = match planned.entry(self.rows) {
                Ok(entry) => self.document(&entry, line, &mut is_open).await?,
                Err(why) => (Outcome::Rejected(why), None),
            };
            self.bar.inc(planned.rows.len() as u64);
            all.push(Done { rows: planned.rows.clone(), outcome, unapplied });
        }
        Ok(all)
    }

    async fn document(
        &self,
        entry: &Entry,
        line: u64,
        is_open: &mut bool,
    ) -> Result<(Outcome, Option<Unapplied>), ImportError> {
        let asked = async {
            let mut faulty_profile = None;
            if let (false, Some(profile)) = (*is_open, &entry.profile) {
                match self.open(entry, profile).await {
                    Ok(()) => *is_open = true,
                    // An account that exists needs no profile from the file.
                    Err(status) if status.code() == Code::InvalidArgument => faulty_profile = Some(status),
                    Err(status) => return Err(status),
                }
            }
            let recorded = self.record(entry).await;
            match (faulty_profile, recorded) {
                (Some(profile), Err(unknown)) if StatusDetails::of(&unknown).reason == "ACCOUNT_UNKNOWN" => {
                    Err(profile)
                }
                (_, recorded) => recorded,
            }
        };
        match asked.await {
            Ok(None) => Ok((Outcome::recorded(self.rows, &entry.document), None)),
            Ok(Some(answer)) => {
                self.reached.lock().await.note(&answer.consistency_token);
                let outcome =
                    if answer.replayed { Outcome::recorded(self.rows, &entry.document) } else { Outcome::Added };
                let is_rejected = matches!(outcome, Outcome::Rejected(_));
                Ok((outcome, Unapplied::of(entry, line, applied(&answer)).filter(|_| !is_rejected)))
            }
            Err(status) if is_about_the_row(&status) => Ok((Outcome::Rejected(words::refusal(&status, entry)), None)),
            Err(status) => {
                let (why, done, rows) = (explain(&status), self.bar.position(), self.rows.len());
                Err(ImportError::Service { line, why, done, rows, next: words::next_step(&status) })
            }
        }
    }

    async fn record(&self, entry: &Entry) -> Result<Answer, Status> {
        let id = |attempt| entry.request_id(attempt);
        let client = || self.clients.command.clone();
        match &entry.document {
            Document::Invoice(request) => {
                let ask = |request_id| {
                    let (mut client, request) = (client(), v1::IssueInvoiceRequest { request_id, ..request.clone() });
                    async move { client.issue_invoice(request).await }
                };
                tries(id, ask).await
            }
            Document::CreditNote(request) => {
                let ask = |request_id| {
                    let (mut client, request) = (client(), v1::CreditInvoiceRequest { request_id, ..request.clone() });
                    async move { client.credit_invoice(request).await }
                };
                tries(id, ask).await
            }
            Document::Payment(request) => {
                let ask = |request_id| {
                    let (mut client, request) = (client(), v1::RecordPaymentRequest { request_id, ..request.clone() });
                    async move { client.record_payment(request).await }
                };
                tries(id, ask).await
            }
        }
    }

    /// Opens the account. It may exist, perhaps with another profile, which the import does not change.
    async fn open(&self, entry: &Entry, profile: &v1::Profile) -> Result<(), Status> {
        let ask = |request_id| {
            let (mut client, account_id) = (self.clients.command.clone(), entry.account.clone());
            let request = v1::OpenAccountRequest { request_id, account_id, profile: Some(profile.clone()) };
            async move { client.open_account(request).await }
        };
        match tries(|attempt| entry.opening_id(attempt), ask).await {
            Ok(_) => Ok(()),
            Err(status)
                if matches!(
                    StatusDetails::of(&status).reason.as_str(),
                    "ACCOUNT_ALREADY_OPEN" | "REQUEST_ID_REUSED"
                ) =>
            {
                Ok(())
            }
            Err(status) => Err(status),
        }
    }

    /// Waits for the read models, so that the next query finds the imported rows.
    pub async fn read_back(&self) -> Result<(), Status> {
        let bar = progress::spinner("waiting for the read models");
        let read = self.reached.lock().await.read_back(&self.clients).await;
        bar.finish_and_clear();
        read
    }
}

/// Sends a document under its request id. If an earlier run was refused under that id, the next id is used.
async fn tries<F>(id: impl Fn(u32) -> Uuid, ask: impl Fn(String) -> F) -> Result<Answer, Status>
where
    F: Future<Output = Result<Response<v1::CommandResponse>, Status>>,
{
    let mut last = None;
    for attempt in 0..MAX_TRIES {
        let status = match patiently(|| ask(id(attempt).to_string())).await {
            Ok(answer) => return Ok(Some(answer.into_inner())),
            Err(status) => status,
        };
        let StatusDetails { reason, details, .. } = StatusDetails::of(&status);
        let says = |key: &str| details.get(key).is_some_and(|value| value == "true");
        if says("same_content") {
            return Ok(None);
        }
        // A number that is taken stays so.
        if !says("replayed") || reason.ends_with("_TAKEN") || reason == "ACCOUNT_ALREADY_OPEN" {
            return Err(status);
        }
        last = Some(status);
    }
    Err(last.unwrap_or_else(|| Status::internal("no try was made")))
}

/// Whether the answer is about the document, and the next document may fare better.
pub fn is_about_the_row(status: &Status) -> bool {
    let of_all = matches!(StatusDetails::of(status).reason.as_str(), "FORMAT_NOT_RAISED" | "POLICY_PARKED");
    let of_one = matches!(
        status.code(),
        Code::InvalidArgument | Code::AlreadyExists | Code::NotFound | Code::FailedPrecondition | Code::OutOfRange
    );
    of_one && !of_all
}

impl Unapplied {
    /// What `applied` leaves of a payment or credit note; none where nothing is left.
    pub fn of(entry: &Entry, line: u64, applied: i64) -> Option<Self> {
        let amount = entry.document.credit()?;
        let rest = amount.minor_units.saturating_sub(applied);
        (rest > 0).then(|| Self {
            line,
            kind: entry.document.kind(),
            account: entry.account.clone(),
            reference: entry.document.number().to_owned(),
            invoice: entry.document.invoice().unwrap_or_default().to_owned(),
            amount_minor: rest,
            currency: amount.currency.clone(),
        })
    }
}

/// What an answer says was applied.
fn applied(answer: &v1::CommandResponse) -> i64 {
    answer.allocations.iter().fold(0, |sum, line| sum.saturating_add(line.amount_minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_applied_of_a_credit_note_is_told_as_that_of_a_payment_is() {
        let amount = Some(v1::Money { minor_units: 500, currency: "EUR".into() });
        let note = v1::CreditInvoiceRequest {
            credit_note_number: "C-1".into(),
            invoice_number: "F-1".into(),
            amount,
            ..Default::default()
        };
        let entry =
            Entry { account: "K".into(), document: Document::CreditNote(note), stated_total: None, profile: None };
        let rest = |applied: i64| {
            let allocations = vec![v1::AllocationLine { amount_minor: applied, ..Default::default() }];
            Unapplied::of(&entry, 2, super::applied(&v1::CommandResponse { allocations, ..Default::default() }))
        };
        let told = rest(100).expect("400 are left");
        assert_eq!(
            (told.kind, &*told.reference, &*told.invoice, told.amount_minor),
            ("credit note", "C-1", "F-1", 400)
        );
        assert_eq!(rest(500), None);
    }
}
