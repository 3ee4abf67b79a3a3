//! Payments: recorded, applied, and taken back.

use jiff::civil::Date;

use super::{
    AllocatedBy, AllocationLine, CreditKind, Currencies, Designation, Excess, Fact, Ledger, Refusal, days,
    deallocation::on_the_ladder,
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
    /// The amount of the payment.
    pub amount: Money,
    /// The day the payment counts from.
    pub value_date: Date,
    /// Free text of the remittance.
    pub remittance: Option<Sealed>,
    /// The day the payment counts from, where its value date is later.
    pub counts_from: Option<Date>,
    /// The payment is left alone until an allocation names it.
    pub kept: bool,
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
    /// The person or rule that decided the allocation.
    pub allocated_by: AllocatedBy,
    /// Where the money went; at least one.
    pub lines: Vec<AllocationLine>,
    /// The creditor's day of the decision, where an item arose or a line counts from a later day.
    pub decided_on: Option<Date>,
}

/// payment.deallocated: allocations of a payment are taken back. Its money is unapplied until an allocation names the payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentDeallocated {
    /// The payment.
    pub reference: DocumentNumber,
    /// The payment's currency.
    pub currency: Currency,
    /// From this day the money is unapplied again; a line that counts from a later day was never in effect.
    pub deallocation_date: Date,
    /// The allocations taken back; at least one.
    pub lines: Vec<AllocationLine>,
    /// Free text.
    pub reason: Option<Sealed>,
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
    /// The part that had stayed unapplied, in minor units.
    pub unapplied: i64,
    /// Free text.
    pub reason: Option<Sealed>,
    /// The day the reversal counts from, where that is not its own date.
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
        to: Option<(&[Designation], Excess)>,
        remittance: &Option<Sealed>,
    ) -> Result<Vec<Fact>, Refusal> {
        if let Some(known) = documents.payment(reference) {
            let same_content = !known.reversed
                && (known.amount, known.value_date) == (amount, value_date)
                && to.is_none_or(|(designations, excess)| known.was_designated(designations, excess));
            return Err(Refusal::PaymentReferenceTaken { reference: reference.clone(), same_content });
        }
        if !self.currencies.is_empty() && !self.currencies.contains(&amount.currency) {
            let expected = Currencies(self.currencies.clone());
            return Err(Refusal::CurrencyMismatch { expected, given: amount.currency });
        }
        let day = days::counted(value_date, today)?;
        self.room_for_credit()?;
        let recorded = PaymentRecorded {
            reference: reference.clone(),
            amount,
            value_date,
            remittance: remittance.clone(),
            counts_from: days::apart(day, value_date),
            kept: to.is_none(),
        };
        let mut facts = vec![recorded.into()];
        let Some(to) = to else { return Ok(facts) };
        let (allocated_by, lines) = self.choose(documents, to, amount.currency, amount.minor, day)?;
        if !lines.is_empty() {
            let (reference, currency) = (reference.clone(), amount.currency);
            let decided_on = self.ahead_of(&lines, today)?;
            facts.push(PaymentAllocated { reference, currency, allocated_by, lines, decided_on }.into());
        }
        Ok(facts)
    }

    pub(super) fn deallocate(
        &self,
        documents: &dyn Documents,
        reference: &DocumentNumber,
        items: &[(DocumentNumber, Option<u32>)],
        (deallocation_date, today): (Option<Date>, Date),
        reason: &Option<Sealed>,
    ) -> Result<PaymentDeallocated, Refusal> {
        let payment = standing(documents, reference)?;
        let day = days::of_credit(deallocation_date, payment.counts_from, today)?;
        let lines = self.to_take_back(documents, reference, &payment.lines, items)?;
        Ok(PaymentDeallocated {
            reference: reference.clone(),
            currency: payment.amount.currency,
            deallocation_date: day,
            lines,
            reason: reason.clone(),
        })
    }

    pub(super) fn reverse(
        &self,
        documents: &dyn Documents,
        reference: &DocumentNumber,
        (reversal_date, today): (Date, Date),
        reason: &Option<Sealed>,
    ) -> Result<PaymentReversed, Refusal> {
        let payment = standing(documents, reference)?;
        if payment.refunded {
            return Err(Refusal::PaymentRefunded { reference: reference.clone() });
        }
        if reversal_date < payment.value_date {
            return Err(Refusal::ReversalBeforePayment { value_date: payment.value_date });
        }
        let day = days::counted(reversal_date, today)?.max(payment.free_from);
        self.room_for_items(payment.lines.len())?;
        Ok(PaymentReversed {
            reference: reference.clone(),
            amount: payment.amount,
            reversal_date,
            lines: on_the_ladder(documents, payment.lines),
            unapplied: self.unapplied(CreditKind::Payment, reference).map_or(0, |credit| credit.remaining),
            reason: reason.clone(),
            counts_from: days::apart(day, reversal_date),
        })
    }

    pub(super) fn take_back(&mut self, reversed: &PaymentReversed) {
        self.credits.retain(|credit| credit.kind != CreditKind::Payment || credit.document != reversed.reference);
        self.ahead.retain(|ahead| ahead.kind != CreditKind::Payment || ahead.document != reversed.reference);
        self.restore(&reversed.lines, reversed.amount.currency, reversed.day());
    }
}

/// Whether what was designated is among what was applied.
fn applied_as(lines: &[AllocationLine], designation: &Designation) -> bool {
    let of_it = lines.iter().filter(|line| {
        line.invoice == designation.invoice && designation.instalment.is_none_or(|number| number == line.instalment)
    });
    of_it.map(|line| i128::from(line.amount)).sum::<i128>() >= i128::from(designation.amount)
}

impl Payment {
    /// Whether the payment may have been recorded with these designations. The history does not tell what did not fit, or what was
    /// taken back since.
    fn was_designated(&self, designations: &[Designation], excess: Excess) -> bool {
        if self.free_from > self.counts_from || designations.is_empty() {
            return true;
        }
        match excess {
            Excess::Refused => designations.iter().all(|one| applied_as(&self.lines, one)),
            Excess::Unapplied => {
                let named = |line: &AllocationLine| designations.iter().any(|one| one.invoice == line.invoice);
                self.lines.is_empty() || self.lines.iter().any(named)
            }
        }
    }
}

/// The payment of a reference, unless it is unknown or reversed.
pub(super) fn standing(documents: &dyn Documents, reference: &DocumentNumber) -> Result<Payment, Refusal> {
    match documents.payment(reference) {
        None => Err(Refusal::PaymentUnknown { reference: reference.clone() }),
        Some(payment) if payment.reversed => Err(Refusal::PaymentAlreadyReversed { reference: reference.clone() }),
        Some(payment) => Ok(payment),
    }
}
