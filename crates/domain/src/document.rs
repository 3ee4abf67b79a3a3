//! What must be known of a document for ever, beside the account's state: its natural key and the facts that later
//! commands rest on. Each document is a small fold of its own.

use std::collections::HashMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{
    contact::Rung,
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
        /// The highest step of the ladder that each of its instalments has taken; also of those that are settled, since a
        /// reversal can open them again.
        rungs: Vec<(u32, Rung)>,
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

impl Documents for HashMap<DocumentKey, Document> {
    fn get(&self, key: &DocumentKey) -> Option<Document> {
        HashMap::get(self, key).cloned()
    }
}

impl Document {
    /// The documents an event touches.
    pub fn touched(event: &Event) -> Vec<DocumentKey> {
        let (kind, number) = match event {
            Event::InvoiceIssued { number, .. } | Event::InvoiceVoided { number, .. } => {
                (DocumentKind::Invoice, number)
            }
            Event::InvoiceCredited { credit_note, .. } => (DocumentKind::CreditNote, credit_note),
            Event::PaymentRecorded { reference, .. }
            | Event::PaymentAllocated { reference, .. }
            | Event::PaymentReversed { reference, .. } => (DocumentKind::Payment, reference),
            _ => {
                let steps = event.took().map(|took| took.steps.as_slice()).unwrap_or_default();
                let mut invoices: Vec<&DocumentNumber> = steps.iter().map(|step| &step.invoice).collect();
                invoices.sort();
                invoices.dedup();
                let key = |number: &DocumentNumber| DocumentKey { kind: DocumentKind::Invoice, number: number.clone() };
                return invoices.into_iter().map(key).collect();
            }
        };
        vec![DocumentKey { kind, number: number.clone() }]
    }

    /// A document after an event that touches it.
    pub fn evolve(key: &DocumentKey, before: Option<Document>, event: &Event) -> Option<Document> {
        match event {
            Event::InvoiceIssued { total, issue_date, instalments, .. } => Some(Document::Invoice {
                total: *total,
                issue_date: *issue_date,
                instalments: instalments.clone(),
                voided: false,
                rungs: Vec::new(),
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
            _ => before.map(|mut document| {
                if let (Document::Invoice { rungs, .. }, Some(took)) = (&mut document, event.took()) {
                    for step in took.steps.iter().filter(|step| step.invoice == key.number) {
                        rungs.retain(|(instalment, _)| *instalment != step.instalment);
                        rungs.push((step.instalment, Rung { offset_days: step.offset_days, on: took.on }));
                    }
                }
                document
            }),
        }
    }
}
