//! Natural keys: what must be known of a document for ever, beside the account's state.
//!
//! Each document is a small fold of its own, found by its kind and number. A new kind of document has its variants in
//! [`DocumentKind`] and [`Document`], its line in the list of look-ups, and its arms in [`Document::touched`] and
//! [`Document::evolve`]. Stores keep the keys and know none of the kinds.

use std::collections::{HashMap, HashSet};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{
    agreement::{self, HoldAmended, HoldPlaced, HoldReleased, HoldTerms},
    dunning::LastStep,
    event::Event,
    ids::DocumentNumber,
    ledger::{self, AllocationLine, CreditKind, Instalment, deallocation},
    money::Money,
    party,
};

/// Kinds of documents; each has a name space of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DocumentKind {
    /// An invoice.
    Invoice,
    /// A credit note.
    CreditNote,
    /// A payment.
    Payment,
    /// A hold.
    Hold,
    /// A refund.
    Refund,
}

/// The natural key of a document within its account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DocumentKey {
    /// The kind.
    pub kind: DocumentKind,
    /// The number, reference or id.
    pub number: DocumentNumber,
}

/// An invoice as later commands see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Sum of the instalments.
    pub total: Money,
    /// From this day the invoice is owed.
    pub issue_date: Date,
    /// At least one.
    pub instalments: Vec<Instalment>,
    /// Taken back.
    pub voided: bool,
    /// The highest step of the ladder that each instalment has taken; also of settled instalments, which a reversal can open
    /// again.
    pub last_steps: Vec<(u32, LastStep)>,
}

impl Invoice {
    /// The highest step of the ladder that an instalment has taken.
    pub fn last_step(&self, instalment: u32) -> Option<LastStep> {
        self.last_steps.iter().find(|(number, _)| *number == instalment).map(|(_, step)| *step)
    }
}

/// A credit note as later commands see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditNote {
    /// The invoice that the credit note corrects.
    pub invoice: DocumentNumber,
    /// The whole credit.
    pub amount: Money,
    /// The credit note's date.
    pub credit_date: Date,
    /// The day the credit counts from.
    pub counts_from: Date,
    /// From this day all that is unapplied is unapplied, as of a payment.
    pub free_from: Date,
    /// Where the credit went so far.
    pub lines: Vec<AllocationLine>,
}

/// A payment as later commands see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The whole payment.
    pub amount: Money,
    /// The day of the payment, as it was recorded.
    pub value_date: Date,
    /// The day the payment counts from.
    pub counts_from: Date,
    /// From this day all that is unapplied is unapplied: from the day the payment counts from, or from the newest day on which a
    /// part was taken back.
    pub free_from: Date,
    /// Where the money went so far.
    pub lines: Vec<AllocationLine>,
    /// Taken back.
    pub reversed: bool,
    /// Paid out again, in part or whole.
    pub refunded: bool,
}

/// A refund as later commands see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// The kind of the credit's document.
    pub kind: CreditKind,
    /// Payment reference or credit note number.
    pub document: DocumentNumber,
    /// The amount that was paid out.
    pub amount: Money,
    /// The day the money left.
    pub refund_date: Date,
}

/// A hold as later commands see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldDocument {
    /// The hold's terms.
    pub terms: HoldTerms,
    /// Released.
    pub released: bool,
}

/// A document as later commands see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Document {
    /// An invoice.
    Invoice(Invoice),
    /// A credit note.
    CreditNote(CreditNote),
    /// A payment.
    Payment(Payment),
    /// A hold.
    Hold(HoldDocument),
    /// A refund.
    Refund(Refund),
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

macro_rules! lookups {
    ($($kind:ident $method:ident $document:ty),+) => {
        impl dyn Documents + '_ {
            $(
                /// The document of this kind and number, if there ever was one.
                pub fn $method(&self, number: &DocumentNumber) -> Option<$document> {
                    match self.get(&key(DocumentKind::$kind, number))? {
                        Document::$kind(document) => Some(document),
                        _ => None,
                    }
                }
            )+
        }
    };
}
lookups!(
    Invoice invoice Invoice,
    CreditNote credit_note CreditNote,
    Payment payment Payment,
    Hold hold HoldDocument,
    Refund refund Refund
);

fn key(kind: DocumentKind, number: &DocumentNumber) -> DocumentKey {
    DocumentKey { kind, number: number.clone() }
}

impl Document {
    /// The documents that an event touches.
    pub fn touched(event: &Event) -> Vec<DocumentKey> {
        match event {
            Event::Party(party::Fact::AccountOpened(_) | party::Fact::AccountAmended(_)) => Vec::new(),
            Event::Ledger(ledger::Fact::CreditRefunded(fact)) => {
                let source = match fact.kind {
                    CreditKind::Payment => DocumentKind::Payment,
                    CreditKind::CreditNote => DocumentKind::CreditNote,
                };
                vec![key(DocumentKind::Refund, &fact.reference), key(source, &fact.document)]
            }
            Event::Ledger(fact) => vec![match fact {
                ledger::Fact::InvoiceIssued(fact) => key(DocumentKind::Invoice, &fact.number),
                ledger::Fact::InvoiceVoided(fact) => key(DocumentKind::Invoice, &fact.number),
                ledger::Fact::InvoiceCredited(fact) => key(DocumentKind::CreditNote, &fact.credit_note),
                ledger::Fact::PaymentRecorded(fact) => key(DocumentKind::Payment, &fact.reference),
                ledger::Fact::PaymentAllocated(fact) => key(DocumentKind::Payment, &fact.reference),
                ledger::Fact::PaymentReversed(fact) => key(DocumentKind::Payment, &fact.reference),
                ledger::Fact::PaymentDeallocated(fact) => key(DocumentKind::Payment, &fact.reference),
                ledger::Fact::CreditNoteAllocated(fact) => key(DocumentKind::CreditNote, &fact.credit_note),
                ledger::Fact::CreditNoteDeallocated(fact) => key(DocumentKind::CreditNote, &fact.credit_note),
                ledger::Fact::CreditRefunded(fact) => key(DocumentKind::Refund, &fact.reference),
            }],
            Event::Dunning(fact) => {
                let steps = fact.took().map(|took| took.steps.as_slice()).unwrap_or_default();
                let before = fact.steps_before().iter().map(|before| &before.invoice);
                let mut invoices: Vec<&DocumentNumber> = steps.iter().map(|step| &step.invoice).chain(before).collect();
                invoices.sort();
                invoices.dedup();
                invoices.into_iter().map(|number| key(DocumentKind::Invoice, number)).collect()
            }
            Event::Agreement(fact) => vec![match fact {
                agreement::Fact::HoldPlaced(HoldPlaced { hold, .. })
                | agreement::Fact::HoldAmended(HoldAmended { hold, .. })
                | agreement::Fact::HoldReleased(HoldReleased { hold, .. }) => key(DocumentKind::Hold, hold),
            }],
        }
    }

    /// A document after an event that touches it.
    pub fn evolve(key: &DocumentKey, before: Option<Document>, event: &Event) -> Option<Document> {
        match event {
            Event::Party(party::Fact::AccountOpened(_) | party::Fact::AccountAmended(_)) => before,
            Event::Ledger(fact) => Self::after_ledger(key, before, fact),
            Event::Dunning(fact) => changed(before, |document| {
                let Document::Invoice(invoice) = document else { return };
                let took = fact.took().into_iter().flat_map(|took| {
                    let last = |offset_days| Some(LastStep { offset_days, on: took.on });
                    took.steps.iter().map(move |step| (&step.invoice, step.instalment, last(step.offset_days)))
                });
                let before = fact.steps_before().iter().map(|step| (&step.invoice, step.instalment, step.last));
                for (_, instalment, last) in took.chain(before).filter(|(number, ..)| **number == key.number) {
                    invoice.last_steps.retain(|(number, _)| *number != instalment);
                    invoice.last_steps.extend(last.map(|last| (instalment, last)));
                }
            }),
            Event::Agreement(fact) => match fact {
                agreement::Fact::HoldPlaced(HoldPlaced { terms, .. })
                | agreement::Fact::HoldAmended(HoldAmended { terms, .. }) => {
                    Some(Document::Hold(HoldDocument { terms: terms.clone(), released: false }))
                }
                agreement::Fact::HoldReleased(_) => changed(before, |document| {
                    if let Document::Hold(hold) = document {
                        hold.released = true;
                    }
                }),
            },
        }
    }

    fn after_ledger(key: &DocumentKey, before: Option<Document>, fact: &ledger::Fact) -> Option<Document> {
        match fact {
            ledger::Fact::InvoiceIssued(issued) => Some(Document::Invoice(Invoice {
                total: issued.total,
                issue_date: issued.issue_date,
                instalments: issued.instalments.clone(),
                voided: false,
                last_steps: Vec::new(),
            })),
            ledger::Fact::InvoiceCredited(credited) => Some(Document::CreditNote(CreditNote {
                invoice: credited.invoice.clone(),
                amount: credited.amount,
                credit_date: credited.credit_date,
                counts_from: credited.day(),
                free_from: credited.day(),
                lines: credited.lines.clone(),
            })),
            ledger::Fact::PaymentRecorded(recorded) => Some(Document::Payment(Payment {
                amount: recorded.amount,
                value_date: recorded.value_date,
                counts_from: recorded.day(),
                free_from: recorded.day(),
                lines: Vec::new(),
                reversed: false,
                refunded: false,
            })),
            ledger::Fact::InvoiceVoided(_) => changed(before, |document| {
                if let Document::Invoice(invoice) = document {
                    invoice.voided = true;
                }
            }),
            ledger::Fact::PaymentAllocated(_)
            | ledger::Fact::CreditNoteAllocated(_)
            | ledger::Fact::PaymentDeallocated(_)
            | ledger::Fact::CreditNoteDeallocated(_) => changed(before, |document| {
                let (Some(moved), Some((lines, free_from))) = (fact.moved_credit(), document.credit()) else { return };
                match moved.back_on {
                    None => lines.extend(moved.lines.iter().cloned()),
                    Some(day) => {
                        take_back(lines, moved.lines);
                        *free_from = (*free_from).max(deallocation::free_from(moved.lines, day));
                    }
                }
            }),
            ledger::Fact::CreditRefunded(refunded) if key.kind == DocumentKind::Refund => {
                Some(Document::Refund(Refund {
                    kind: refunded.kind,
                    document: refunded.document.clone(),
                    amount: refunded.amount,
                    refund_date: refunded.refund_date,
                }))
            }
            ledger::Fact::CreditRefunded(_) => changed(before, |document| {
                if let Document::Payment(payment) = document {
                    payment.refunded = true;
                }
            }),
            ledger::Fact::PaymentReversed(_) => changed(before, |document| {
                if let Document::Payment(payment) = document {
                    payment.reversed = true;
                }
            }),
        }
    }
}

impl Document {
    /// Of a payment or a credit note: where its credit went, and the day from which on the rest is unapplied.
    fn credit(&mut self) -> Option<(&mut Vec<AllocationLine>, &mut Date)> {
        match self {
            Self::Payment(Payment { lines, free_from, .. }) | Self::CreditNote(CreditNote { lines, free_from, .. }) => {
                Some((lines, free_from))
            }
            Self::Invoice(_) | Self::Refund(_) | Self::Hold(_) => None,
        }
    }
}

/// Lines without those that were taken back.
fn take_back(lines: &mut Vec<AllocationLine>, back: &[AllocationLine]) {
    let taken: HashSet<_> = back.iter().map(|line| (&line.invoice, line.instalment)).collect();
    lines.retain(|line| !taken.contains(&(&line.invoice, line.instalment)));
}

/// The document after a change of it, where there is one.
fn changed(before: Option<Document>, change: impl FnOnce(&mut Document)) -> Option<Document> {
    before.map(|mut document| {
        change(&mut document);
        document
    })
}
