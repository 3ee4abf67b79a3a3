//! What must be known of a document for ever, beside the account's state: its natural key and the facts that later
//! commands rest on. Each document is a small fold of its own; an event touches at most one.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{
    event::{AllocationLine, Event, Instalment},
    ids::DocumentNumber,
    money::Money,
};

/// Document types have separate name spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DocumentKind {
    /// An invoice.
    Invoice,
    /// A credit note.
    CreditNote,
    /// A payment.
    Payment,
}

/// The natural key of a document within its account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DocumentKey {
    /// Its type.
    pub kind: DocumentKind,
    /// Its number or reference.
    pub number: DocumentNumber,
}

/// A document as later commands see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Document {
    /// An invoice.
    Invoice {
        /// Its total.
        total: Money,
        /// Its date.
        issue_date: Date,
        /// Its instalments.
        instalments: Vec<Instalment>,
        /// Taken back.
        voided: bool,
    },
    /// A credit note.
    CreditNote {
        /// The invoice it corrects.
        invoice: DocumentNumber,
        /// All of it.
        amount: Money,
        /// Its date.
        credit_date: Date,
    },
    /// A payment.
    Payment {
        /// All of it.
        amount: Money,
        /// The day it counts from.
        value_date: Date,
        /// Where it went so far.
        lines: Vec<AllocationLine>,
        /// Taken back.
        reversed: bool,
    },
}

/// Looks documents of one account up.
pub trait Documents {
    /// The document with this key, if there ever was one.
    fn get(&self, key: &DocumentKey) -> Option<Document>;
}

impl Document {
    /// The document an event touches.
    pub fn touched(event: &Event) -> Option<DocumentKey> {
        let (kind, number) = match event {
            Event::InvoiceIssued { number, .. } | Event::InvoiceVoided { number, .. } => {
                (DocumentKind::Invoice, number)
            }
            Event::InvoiceCredited { credit_note, .. } => (DocumentKind::CreditNote, credit_note),
            Event::PaymentRecorded { reference, .. }
            | Event::PaymentAllocated { reference, .. }
            | Event::PaymentReversed { reference, .. } => (DocumentKind::Payment, reference),
            Event::AccountOpened(_) | Event::AccountAmended(_) => return None,
        };
        Some(DocumentKey { kind, number: number.clone() })
    }

    /// The document after an event that touches it.
    pub fn evolve(before: Option<Document>, event: &Event) -> Option<Document> {
        match event {
            Event::InvoiceIssued { total, issue_date, instalments, .. } => Some(Document::Invoice {
                total: *total,
                issue_date: *issue_date,
                instalments: instalments.clone(),
                voided: false,
            }),
            Event::InvoiceCredited { invoice, amount, credit_date, .. } => {
                Some(Document::CreditNote { invoice: invoice.clone(), amount: *amount, credit_date: *credit_date })
            }
            Event::PaymentRecorded { amount, value_date, .. } => {
                Some(Document::Payment { amount: *amount, value_date: *value_date, lines: Vec::new(), reversed: false })
            }
            Event::InvoiceVoided { .. } => before.map(|mut document| {
                if let Document::Invoice { voided, .. } = &mut document {
                    *voided = true;
                }
                document
            }),
            Event::PaymentAllocated { lines: new, .. } => before.map(|mut document| {
                if let Document::Payment { lines, .. } = &mut document {
                    lines.extend(new.iter().cloned());
                }
                document
            }),
            Event::PaymentReversed { .. } => before.map(|mut document| {
                if let Document::Payment { reversed, .. } = &mut document {
                    *reversed = true;
                }
                document
            }),
            Event::AccountOpened(_) | Event::AccountAmended(_) => before,
        }
    }
}
