//! Credit notes, and credit that is not applied yet.

use jiff::civil::Date;

use super::{
    AllocationLine, CreditKind, Fact, Ledger, Refusal, UnappliedCredit, allocation, days, invoice, same_currency,
};
use crate::{
    document::{CreditNote, Documents},
    ids::DocumentNumber,
    money::Money,
    sealed::Sealed,
};

/// invoice.credited
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceCredited {
    /// The credit note's number.
    pub credit_note: DocumentNumber,
    /// The invoice that the credit note corrects.
    pub invoice: DocumentNumber,
    /// The whole credit; what the lines do not take stays unapplied.
    pub amount: Money,
    /// The credit note's date.
    pub credit_date: Date,
    /// Where the credit went.
    pub lines: Vec<AllocationLine>,
    /// Free text.
    pub reason: Option<Sealed>,
    /// The day the credit counts from, where it is dated later.
    pub counts_from: Option<Date>,
}

impl InvoiceCredited {
    /// The day the credit counts from.
    pub fn day(&self) -> Date {
        self.counts_from.unwrap_or(self.credit_date)
    }
}

impl Ledger {
    pub(super) fn credit(
        &self,
        documents: &dyn Documents,
        credit_note: &DocumentNumber,
        invoice: &DocumentNumber,
        amount: Money,
        (credit_date, today): (Date, Date),
        reason: &Option<Sealed>,
    ) -> Result<Vec<Fact>, Refusal> {
        if let Some(known) = documents.credit_note(credit_note) {
            let same_content = known == CreditNote { invoice: invoice.clone(), amount, credit_date };
            return Err(Refusal::CreditNoteNumberTaken { number: credit_note.clone(), same_content });
        }
        let corrected = invoice::standing(documents, invoice)?;
        same_currency(corrected.total.currency, amount.currency)?;
        let day = days::counted(credit_date, today)?;
        if day < corrected.issue_date {
            return Err(Refusal::CreditBeforeInvoice { issue_date: corrected.issue_date });
        }
        self.room_for_credit()?;
        let items = self.items.iter().filter(|item| item.invoice == *invoice);
        let credited = InvoiceCredited {
            credit_note: credit_note.clone(),
            invoice: invoice.clone(),
            amount,
            credit_date,
            lines: allocation::oldest_first(items, amount.minor, day),
            reason: reason.clone(),
            counts_from: days::apart(day, credit_date),
        };
        Ok(vec![credited.into()])
    }

    pub(super) fn add_credit(&mut self, kind: CreditKind, document: &DocumentNumber, amount: Money) {
        let Money { currency, minor: remaining } = amount;
        self.credits.push(UnappliedCredit { kind, document: document.clone(), currency, remaining });
        self.credits.sort_by(|a, b| (a.kind, &a.document).cmp(&(b.kind, &b.document)));
    }

    /// What is left of a payment, in minor units.
    pub(super) fn unapplied(&self, reference: &DocumentNumber) -> i64 {
        let mut own =
            self.credits.iter().filter(|credit| credit.kind == CreditKind::Payment && credit.document == *reference);
        own.next().map_or(0, |credit| credit.remaining)
    }
}
