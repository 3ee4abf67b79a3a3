//! A document of an account, made of one row or of several, and the ids that follow from its content.

use prost::Message;
use saldo_api::v1;
use uuid::Uuid;

/// The name space of the importer's ids is the UUIDv5 of this URL.
const NAMESPACE_URL: &[u8] = b"https://saldo.invalid/import/2";

/// A document of an account.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub account: String,
    pub document: Document,
    /// The total of the whole invoice by the file itself, in minor units, where a row is an instalment.
    pub stated_total: Option<i64>,
    /// With which the account is opened, if it is missing.
    pub profile: Option<v1::Profile>,
}

/// The request without its id.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    Invoice(v1::IssueInvoiceRequest),
    CreditNote(v1::CreditInvoiceRequest),
    Payment(v1::RecordPaymentRequest),
}

impl Document {
    /// The kind, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Document::Invoice(_) => "invoice",
            Document::CreditNote(_) => "credit note",
            Document::Payment(_) => "payment",
        }
    }

    /// Its number or reference.
    pub fn number(&self) -> &str {
        match self {
            Document::Invoice(invoice) => &invoice.number,
            Document::CreditNote(note) => &note.credit_note_number,
            Document::Payment(payment) => &payment.reference,
        }
    }

    /// The invoice that it settles or corrects.
    pub fn invoice(&self) -> Option<&str> {
        match self {
            Document::Invoice(_) => None,
            Document::CreditNote(note) => Some(&note.invoice_number),
            Document::Payment(payment) => {
                payment.allocations.first().map(|designated| designated.invoice_number.as_str())
            }
        }
    }

    /// Equal for equal documents.
    pub fn content(&self) -> Uuid {
        let bytes = match self {
            Document::Invoice(invoice) => invoice.encode_to_vec(),
            Document::CreditNote(note) => note.encode_to_vec(),
            Document::Payment(payment) => payment.encode_to_vec(),
        };
        id(&[self.kind().as_bytes(), &bytes])
    }
}

impl Entry {
    /// Equal for documents with one number.
    pub fn key(&self) -> Uuid {
        key(self.document.kind(), &self.account, self.document.number())
    }

    /// The request id of a try. Another content asks under another id, so that a row that was refused can be corrected.
    pub fn request_id(&self, attempt: u32) -> Uuid {
        id(&[self.key().as_bytes(), self.document.content().as_bytes(), &attempt.to_be_bytes()])
    }

    /// The request id under which the account is opened.
    pub fn opening_id(&self, attempt: u32) -> Uuid {
        id(&[key("account", &self.account, &self.account).as_bytes(), &attempt.to_be_bytes()])
    }

    /// In one line, for people.
    pub fn name(&self) -> String {
        format!("{} {} of account {}", self.document.kind(), self.document.number(), self.account)
    }
}

/// Equal for documents of one kind, account and number.
pub fn key(kind: &str, account: &str, number: &str) -> Uuid {
    id(&[kind.as_bytes(), account.as_bytes(), number.as_bytes()])
}

fn id(parts: &[&[u8]]) -> Uuid {
    let space = Uuid::new_v5(&Uuid::NAMESPACE_URL, NAMESPACE_URL);
    let framed = parts.iter().flat_map(|part| [&(part.len() as u64).to_be_bytes()[..], part].concat());
    Uuid::new_v5(&space, &framed.collect::<Vec<u8>>())
}
