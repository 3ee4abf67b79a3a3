//! Commands as clients ask them: every kind that moves money, holds, and what a person does about a reminder.

use prost::Message;
use saldo::client::Clients;
use saldo_api::v1;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

/// The longest one try may take: longer than the service itself waits.
pub const TRY: std::time::Duration = std::time::Duration::from_secs(17);

/// One command.
#[derive(Debug, Clone)]
pub enum Command {
    /// A debtor appears.
    Open(v1::OpenAccountRequest),
    /// An invoice.
    Issue(v1::IssueInvoiceRequest),
    /// A credit note.
    Credit(v1::CreditInvoiceRequest),
    /// An invoice taken back.
    Void(v1::VoidInvoiceRequest),
    /// A payment.
    Pay(v1::RecordPaymentRequest),
    /// Applies the rest of a payment.
    Allocate(v1::AllocatePaymentRequest),
    /// The allocations of a payment are taken back.
    Deallocate(v1::DeallocatePaymentRequest),
    /// The unapplied rest of a payment is paid out.
    Refund(v1::RefundCreditRequest),
    /// A payment that bounced.
    Reverse(v1::ReversePaymentRequest),
    /// Dunning stops for a while.
    Hold(v1::PlaceHoldRequest),
    /// A hold gets other terms.
    Amend(v1::AmendHoldRequest),
    /// A hold ends.
    Release(v1::ReleaseHoldRequest),
    /// A person has a reminder said again.
    Retry(v1::RetryContactRequest),
    /// A person is done with a reminder.
    Drop(v1::DropContactRequest),
}

macro_rules! each {
    ($command:expr, $request:ident => $then:expr) => {
        match $command {
            Command::Open($request) => $then,
            Command::Issue($request) => $then,
            Command::Credit($request) => $then,
            Command::Void($request) => $then,
            Command::Pay($request) => $then,
            Command::Allocate($request) => $then,
            Command::Deallocate($request) => $then,
            Command::Refund($request) => $then,
            Command::Reverse($request) => $then,
            Command::Hold($request) => $then,
            Command::Amend($request) => $then,
            Command::Release($request) => $then,
            Command::Retry($request) => $then,
            Command::Drop($request) => $then,
        }
    };
}

impl Command {
    /// The RPC's name.
    pub fn method(&self) -> &'static str {
        match self {
            Command::Open(_) => "OpenAccount",
            Command::Issue(_) => "IssueInvoice",
            Command::Credit(_) => "CreditInvoice",
            Command::Void(_) => "VoidInvoice",
            Command::Pay(_) => "RecordPayment",
            Command::Allocate(_) => "AllocatePayment",
            Command::Deallocate(_) => "DeallocatePayment",
            Command::Refund(_) => "RefundCredit",
            Command::Reverse(_) => "ReversePayment",
            Command::Hold(_) => "PlaceHold",
            Command::Amend(_) => "AmendHold",
            Command::Release(_) => "ReleaseHold",
            Command::Retry(_) => "RetryContact",
            Command::Drop(_) => "DropContact",
        }
    }

    /// Its request id.
    pub fn request_id(&self) -> &str {
        each!(self, request => &request.request_id)
    }

    /// Its account.
    pub fn account(&self) -> &str {
        each!(self, request => &request.account_id)
    }

    /// SHA-256 of what the log must hold of it: the request without its id and without what is personal.
    pub fn digest(&self) -> String {
        let mut bare = self.clone();
        each!(&mut bare, request => request.request_id.clear());
        if let Command::Open(v1::OpenAccountRequest { profile: Some(profile), .. }) = &mut bare {
            profile.display_name.clear();
            profile.contact_points.iter_mut().for_each(|point| point.address.clear());
        }
        let bytes = each!(&bare, request => request.encode_to_vec());
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Its document and the money it moves, for readers of the journal.
    pub fn content(&self) -> Value {
        let money = |amount: &Option<v1::Money>| {
            let amount = amount.clone().unwrap_or_default();
            (amount.minor_units, amount.currency)
        };
        let (document, invoice, (minor, currency)) = match self {
            Command::Open(_) => return json!({}),
            Command::Issue(request) => (&request.number, None, money(&request.total)),
            Command::Credit(request) => {
                (&request.credit_note_number, Some(&request.invoice_number), money(&request.amount))
            }
            Command::Pay(request) => (&request.reference, None, money(&request.amount)),
            Command::Refund(request) => (&request.reference, None, money(&request.amount)),
            Command::Retry(v1::RetryContactRequest { reminder, .. })
            | Command::Drop(v1::DropContactRequest { reminder, .. }) => return json!({ "document": reminder }),
            Command::Void(v1::VoidInvoiceRequest { invoice_number: document, .. })
            | Command::Allocate(v1::AllocatePaymentRequest { reference: document, .. })
            | Command::Deallocate(v1::DeallocatePaymentRequest { reference: document, .. })
            | Command::Reverse(v1::ReversePaymentRequest { reference: document, .. })
            | Command::Hold(v1::PlaceHoldRequest { hold_id: document, .. })
            | Command::Amend(v1::AmendHoldRequest { hold_id: document, .. })
            | Command::Release(v1::ReleaseHoldRequest { hold_id: document, .. }) => {
                return json!({ "document": document });
            }
        };
        json!({ "document": document, "invoice": invoice, "minor": minor, "currency": currency })
    }

    /// One try.
    pub async fn send(&self, clients: &Clients) -> Result<v1::CommandResponse, Status> {
        fn timed<T: Clone>(message: &T) -> Request<T> {
            let mut request = Request::new(message.clone());
            request.set_timeout(TRY);
            request
        }
        let mut client = clients.command.clone();
        let sent = async {
            match self {
                Command::Open(request) => client.open_account(timed(request)).await,
                Command::Issue(request) => client.issue_invoice(timed(request)).await,
                Command::Credit(request) => client.credit_invoice(timed(request)).await,
                Command::Void(request) => client.void_invoice(timed(request)).await,
                Command::Pay(request) => client.record_payment(timed(request)).await,
                Command::Allocate(request) => client.allocate_payment(timed(request)).await,
                Command::Deallocate(request) => client.deallocate_payment(timed(request)).await,
                Command::Refund(request) => client.refund_credit(timed(request)).await,
                Command::Reverse(request) => client.reverse_payment(timed(request)).await,
                Command::Hold(request) => client.place_hold(timed(request)).await,
                Command::Amend(request) => client.amend_hold(timed(request)).await,
                Command::Release(request) => client.release_hold(timed(request)).await,
                Command::Retry(request) => client.retry_contact(timed(request)).await,
                Command::Drop(request) => client.drop_contact(timed(request)).await,
            }
        };
        match tokio::time::timeout(TRY, sent).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        }
    }
}
