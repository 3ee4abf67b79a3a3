//! Refunds: unapplied credit that was paid out to the debtor.

use jiff::civil::Date;

use super::{CreditKind, Fact, Ledger, Refusal, credit, days, payment, same_currency};
use crate::{
    document::{Documents, Refund},
    ids::DocumentNumber,
    money::Money,
    sealed::Sealed,
};

/// credit.refunded
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditRefunded {
    /// The refund's reference.
    pub reference: DocumentNumber,
    /// The kind of the credit's document.
    pub kind: CreditKind,
    /// Payment reference or credit note number.
    pub document: DocumentNumber,
    /// The amount that was paid out.
    pub amount: Money,
    /// The day the money left.
    pub refund_date: Date,
    /// Free text.
    pub reason: Option<Sealed>,
    /// The day the refund counts from, where it is dated later.
    pub counts_from: Option<Date>,
}

impl CreditRefunded {
    /// The day the refund counts from.
    pub fn day(&self) -> Date {
        self.counts_from.unwrap_or(self.refund_date)
    }
}

impl Ledger {
    pub(super) fn refund(
        &self,
        documents: &dyn Documents,
        reference: &DocumentNumber,
        (kind, document): (CreditKind, &DocumentNumber),
        amount: Money,
        (refund_date, today): (Date, Date),
        reason: &Option<Sealed>,
    ) -> Result<Vec<Fact>, Refusal> {
        let asked = Refund { kind, document: document.clone(), amount, refund_date };
        if let Some(known) = documents.refund(reference) {
            return Err(Refusal::RefundReferenceTaken { reference: reference.clone(), same_content: known == asked });
        }
        let credit_date = match kind {
            CreditKind::Payment => payment::standing(documents, document)?.free_from,
            CreditKind::CreditNote => credit::known(documents, document)?.free_from,
        };
        let day = days::of_credit(Some(refund_date), credit_date, today)?;
        let nothing = || Refusal::NothingUnapplied { reference: document.clone() };
        let left = self.unapplied(kind, document).ok_or_else(nothing)?;
        same_currency(left.currency, amount.currency)?;
        if amount.minor > left.remaining {
            return Err(Refusal::RefundExceedsCredit { asked: amount, available_minor: left.remaining });
        }
        let refunded = CreditRefunded {
            reference: reference.clone(),
            kind,
            document: document.clone(),
            amount,
            refund_date,
            reason: reason.clone(),
            counts_from: days::apart(day, refund_date),
        };
        Ok(vec![refunded.into()])
    }

    /// Takes what was paid out from a credit.
    pub(super) fn pay_out(&mut self, kind: CreditKind, document: &DocumentNumber, amount: i64) {
        let credit = self.credits.iter_mut().find(|credit| credit.kind == kind && credit.document == *document);
        if let Some(credit) = credit {
            credit.remaining = credit.remaining.saturating_sub(amount);
        }
        self.credits.retain(|credit| credit.remaining > 0);
    }
}
