//! Credit that a fact moves: from a payment or a credit note to instalments, or back.

use jiff::civil::Date;

use super::{AllocationLine, CreditKind, Fact};
use crate::{ids::DocumentNumber, money::Currency};

/// The credit of one document that a fact applied, or took back.
#[derive(Debug, Clone, Copy)]
pub struct MovedCredit<'f> {
    /// The kind of the document.
    pub kind: CreditKind,
    /// Payment reference or credit note number.
    pub document: &'f DocumentNumber,
    /// The document's currency.
    pub currency: Currency,
    /// The allocations that were made or taken back.
    pub lines: &'f [AllocationLine],
    /// Where they were taken back: the day that the fact counts from.
    pub back_on: Option<Date>,
}

impl<'f> MovedCredit<'f> {
    /// Each allocation, with the minor units that went to the instalment (negative where they came back) and the day that this
    /// counts from. A line that was taken back counts from the fact's day, and not before the day on which it took effect.
    pub fn parts(self) -> impl Iterator<Item = (&'f AllocationLine, i64, Date)> {
        self.lines.iter().map(move |line| match self.back_on {
            None => (line, line.amount, line.effective_date),
            Some(day) => (line, -line.amount, line.effective_date.max(day)),
        })
    }
}

impl Fact {
    /// The credit that the fact moves.
    pub fn moved_credit(&self) -> Option<MovedCredit<'_>> {
        use CreditKind::{CreditNote, Payment};
        let (kind, document, currency, lines, back_on) = match self {
            Self::InvoiceCredited(fact) => (CreditNote, &fact.credit_note, fact.amount.currency, &fact.lines, None),
            Self::PaymentAllocated(fact) => (Payment, &fact.reference, fact.currency, &fact.lines, None),
            Self::CreditNoteAllocated(fact) => (CreditNote, &fact.credit_note, fact.currency, &fact.lines, None),
            Self::PaymentDeallocated(fact) => {
                (Payment, &fact.reference, fact.currency, &fact.lines, Some(fact.deallocation_date))
            }
            Self::CreditNoteDeallocated(fact) => {
                (CreditNote, &fact.credit_note, fact.currency, &fact.lines, Some(fact.deallocation_date))
            }
            Self::PaymentReversed(fact) => {
                (Payment, &fact.reference, fact.amount.currency, &fact.lines, Some(fact.day()))
            }
            Self::InvoiceIssued(_) | Self::InvoiceVoided(_) | Self::PaymentRecorded(_) | Self::CreditRefunded(_) => {
                return None;
            }
        };
        Some(MovedCredit { kind, document, currency, lines, back_on })
    }
}
