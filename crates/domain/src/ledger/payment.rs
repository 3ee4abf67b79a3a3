//! Payments: recorded, applied, and taken back.

use jiff::civil::Date;

use super::{
    AllocatedBy, AllocationLine, CreditKind, Currencies, Designation, Excess, Fact, Ledger, Refusal, allocation, days,
};
use crate::{
    document::{Documents, Payment},
    ids::DocumentNumber,
    money::{Currency, Money},
    sealed::Sealed,
};

/// payment.recorded
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRecorded {
    /// The payment's reference.
    pub reference: DocumentNumber,
    /// What was paid.
    pub amount: Money,
    /// The day the payment counts from.
    pub value_date: Date,
    /// Free text of the remittance.
    pub remittance: Option<Sealed>,
    /// The day the payment counts from, where its value date is later.
    pub counts_from: Option<Date>,
}

impl PaymentRecorded {
    /// The day the payment counts from.
    pub fn day(&self) -> Date {
        self.counts_from.unwrap_or(self.value_date)
    }
}

/// payment.allocated
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentAllocated {
    /// The payment applied.
    pub reference: DocumentNumber,
    /// The payment's currency.
    pub currency: Currency,
    /// Who decided.
    pub allocated_by: AllocatedBy,
    /// Where the money went; at least one.
    pub lines: Vec<AllocationLine>,
}

/// payment.reversed
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentReversed {
    /// The payment taken back.
    pub reference: DocumentNumber,
    /// The whole payment.
    pub amount: Money,
    /// From this day the payment no longer counts.
    pub reversal_date: Date,
    /// The allocations taken back.
    pub lines: Vec<AllocationLine>,
    /// What had stayed unapplied, in minor units.
    pub unapplied: i64,
    /// Free text.
    pub reason: Option<Sealed>,
    /// The day the reversal counts from, where it is dated later.
    pub counts_from: Option<Date>,
}

impl PaymentReversed {
    /// The day the reversal counts from.
    pub fn day(&self) -> Date {
        self.counts_from.unwrap_or(self.reversal_date)
    }
}

impl Ledger {
    pub(super) fn pay(
        &self,
        documents: &dyn Documents,
        reference: &DocumentNumber,
        amount: Money,
        (value_date, today): (Date, Date),
        (designations, excess): (&[Designation], Excess),
        remittance: &Option<Sealed>,
    ) -> Result<Vec<Fact>, Refusal> {
        if let Some(known) = documents.payment(reference) {
            let same_content = !known.reversed
                && (known.amount, known.value_date) == (amount, value_date)
                && (excess == Excess::Unapplied || designations.iter().all(|one| applied_as(&known.lines, one)));
            return Err(Refusal::PaymentReferenceTaken { reference: reference.clone(), same_content });
        }
        if !self.currencies.is_empty() && !self.currencies.contains(&amount.currency) {
            let expected = Currencies(self.currencies.clone());
            return Err(Refusal::CurrencyMismatch { expected, given: amount.currency });
        }
        let day = days::counted(value_date, today)?;
        self.room_for_credit()?;
        let (allocated_by, lines) =
            self.choose(documents, (designations, excess), amount.currency, amount.minor, day)?;
        let recorded = PaymentRecorded {
            reference: reference.clone(),
            amount,
            value_date,
            remittance: remittance.clone(),
            counts_from: days::apart(day, value_date),
        };
        let mut facts = vec![recorded.into()];
        if !lines.is_empty() {
            let reference = reference.clone();
            facts.push(PaymentAllocated { reference, currency: amount.currency, allocated_by, lines }.into());
        }
        Ok(facts)
    }

    pub(super) fn allocate(
        &self,
        documents: &dyn Documents,
        reference: &DocumentNumber,
        designations: &[Designation],
        (allocation_date, today): (Option<Date>, Date),
    ) -> Result<Vec<Fact>, Refusal> {
        let payment = standing(documents, reference)?;
        let day = match allocation_date {
            Some(day) if day < payment.counts_from => {
                return Err(Refusal::AllocationBeforePayment { value_date: payment.counts_from });
            }
            Some(day) => days::counted(day, today)?,
            None => today,
        };
        let available = self.unapplied(reference);
        if available == 0 {
            return Err(Refusal::NothingUnapplied { reference: reference.clone() });
        }
        let currency = payment.amount.currency;
        let designations = (designations, Excess::Refused);
        let (allocated_by, lines) =
            self.choose(documents, designations, currency, available, day.max(payment.counts_from))?;
        if lines.is_empty() {
            return Err(Refusal::NothingOpen { currency });
        }
        Ok(vec![PaymentAllocated { reference: reference.clone(), currency, allocated_by, lines }.into()])
    }

    pub(super) fn reverse(
        &self,
        documents: &dyn Documents,
        reference: &DocumentNumber,
        (reversal_date, today): (Date, Date),
        reason: &Option<Sealed>,
    ) -> Result<Vec<Fact>, Refusal> {
        let payment = standing(documents, reference)?;
        if reversal_date < payment.value_date {
            return Err(Refusal::ReversalBeforePayment { value_date: payment.value_date });
        }
        let day = days::counted(reversal_date, today)?;
        self.room_for_items(payment.lines.len())?;
        let lines = payment.lines.into_iter().map(|line| {
            let invoice = documents.invoice(&line.invoice);
            AllocationLine { last_step: invoice.and_then(|invoice| invoice.last_step(line.instalment)), ..line }
        });
        let reversed = PaymentReversed {
            reference: reference.clone(),
            amount: payment.amount,
            reversal_date,
            lines: lines.collect(),
            unapplied: self.unapplied(reference),
            reason: reason.clone(),
            counts_from: days::apart(day, reversal_date),
        };
        Ok(vec![reversed.into()])
    }

    /// Where money goes, and who decided.
    fn choose(
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

    pub(super) fn take_back(&mut self, reversed: &PaymentReversed) {
        self.credits.retain(|credit| credit.kind != CreditKind::Payment || credit.document != reversed.reference);
        self.restore(&reversed.lines, reversed.amount.currency);
    }
}

/// Whether what was designated is among what was applied.
fn applied_as(lines: &[AllocationLine], designation: &Designation) -> bool {
    let of_it = lines.iter().filter(|line| {
        line.invoice == designation.invoice && designation.instalment.is_none_or(|number| number == line.instalment)
    });
    of_it.map(|line| i128::from(line.amount)).sum::<i128>() >= i128::from(designation.amount)
}

/// The payment of a reference, unless it is unknown or reversed.
fn standing(documents: &dyn Documents, reference: &DocumentNumber) -> Result<Payment, Refusal> {
    match documents.payment(reference) {
        None => Err(Refusal::PaymentUnknown { reference: reference.clone() }),
        Some(payment) if payment.reversed => Err(Refusal::PaymentAlreadyReversed { reference: reference.clone() }),
        Some(payment) => Ok(payment),
    }
}
