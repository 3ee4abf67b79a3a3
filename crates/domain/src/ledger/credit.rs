//! Credit notes, and credit that is not applied yet.

use jiff::civil::Date;

use super::{
    AllocatedBy, AllocationLine, CreditKind, Designation, Excess, Fact, Ledger, Refusal, UnappliedCredit, allocation,
    days, invoice, same_currency,
};
use crate::{
    document::{CreditNote, Documents},
    ids::DocumentNumber,
    money::{Currency, Money},
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

/// credit_note.allocated
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditNoteAllocated {
    /// The credit note applied.
    pub credit_note: DocumentNumber,
    /// The credit note's currency.
    pub currency: Currency,
    /// The person or rule that decided the allocation.
    pub allocated_by: AllocatedBy,
    /// Where the credit went; at least one.
    pub lines: Vec<AllocationLine>,
    /// The creditor's day of the decision, where an item arose or a line counts from a later day.
    pub decided_on: Option<Date>,
}

/// credit_note.deallocated: allocations of a credit note are taken back. Its credit is unapplied until an allocation names the
/// credit note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreditNoteDeallocated {
    /// The credit note.
    pub credit_note: DocumentNumber,
    /// The credit note's currency.
    pub currency: Currency,
    /// From this day the credit is unapplied again; a line that counts from a later day was never in effect.
    pub deallocation_date: Date,
    /// The allocations taken back; at least one.
    pub lines: Vec<AllocationLine>,
    /// Free text.
    pub reason: Option<Sealed>,
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
            let same_content = (&known.invoice, known.amount, known.credit_date) == (invoice, amount, credit_date);
            return Err(Refusal::CreditNoteNumberTaken { number: credit_note.clone(), same_content });
        }
        let corrected = invoice::standing(documents, invoice)?;
        same_currency(corrected.total.currency, amount.currency)?;
        // An invoice that is not issued yet can be corrected on its issue date.
        let day = days::counted(credit_date, today.max(corrected.issue_date))?;
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

    pub(super) fn deallocate_note(
        &self,
        documents: &dyn Documents,
        credit_note: &DocumentNumber,
        items: &[(DocumentNumber, Option<u32>)],
        (deallocation_date, today): (Option<Date>, Date),
        reason: &Option<Sealed>,
    ) -> Result<CreditNoteDeallocated, Refusal> {
        let note = known(documents, credit_note)?;
        Ok(CreditNoteDeallocated {
            credit_note: credit_note.clone(),
            currency: note.amount.currency,
            deallocation_date: days::of_credit(deallocation_date, note.counts_from, today)?,
            lines: self.to_take_back(documents, credit_note, &note.lines, items)?,
            reason: reason.clone(),
        })
    }

    pub(super) fn add_credit(
        &mut self,
        kind: CreditKind,
        document: &DocumentNumber,
        amount: Money,
        date: Date,
        kept: bool,
    ) {
        let Money { currency, minor: remaining } = amount;
        self.credits.push(UnappliedCredit { kind, document: document.clone(), currency, date, remaining, kept });
        self.credits.sort_by(|a, b| (a.kind, &a.document).cmp(&(b.kind, &b.document)));
    }

    /// The rest of a payment or a credit note.
    pub(super) fn unapplied(&self, kind: CreditKind, document: &DocumentNumber) -> Option<&UnappliedCredit> {
        self.credits.iter().find(|credit| credit.kind == kind && credit.document == *document)
    }

    /// Applies what is unapplied of a payment or a credit note, from `day` on.
    pub(super) fn allocate(
        &self,
        documents: &dyn Documents,
        (kind, document): (CreditKind, &DocumentNumber),
        designations: &[Designation],
        (day, today): (Date, Date),
    ) -> Result<Vec<Fact>, Refusal> {
        let nothing = || Refusal::NothingUnapplied { reference: document.clone() };
        let credit = self.unapplied(kind, document).ok_or_else(nothing)?;
        let designations = (designations, Excess::Refused);
        let (allocated_by, lines) = self.choose(documents, designations, credit.currency, credit.remaining, day)?;
        if lines.is_empty() {
            return Err(Refusal::NothingOpen { currency: credit.currency });
        }
        let decided_on = self.ahead_of(&lines, today)?;
        Ok(vec![credit.allocated(allocated_by, lines, decided_on)])
    }

    /// Where money goes, and who decided.
    pub(super) fn choose(
        &self,
        documents: &dyn Documents,
        designations: (&[Designation], Excess),
        currency: Currency,
        available: i64,
        day: Date,
    ) -> Result<(AllocatedBy, Vec<AllocationLine>), Refusal> {
        if designations.0.is_empty() {
            let items = self.items.iter().filter(|item| item.currency == currency);
            return Ok((AllocatedBy::OldestDueFirst, allocation::oldest_first(items, available, day)));
        }
        let lines = allocation::designated(self, documents, designations, currency, available, day)?;
        Ok((AllocatedBy::Designation, lines))
    }
}

/// The credit note of a number, unless it is unknown.
pub(super) fn known(documents: &dyn Documents, credit_note: &DocumentNumber) -> Result<CreditNote, Refusal> {
    let unknown = || Refusal::CreditNoteUnknown { credit_note: credit_note.clone() };
    documents.credit_note(credit_note).ok_or_else(unknown)
}
