//! The balance of a day: items from their issue date on, less all credit.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{AllocationLine, CreditKind, Ledger, MAX_OPEN_ITEMS, Refusal};
use crate::{ids::DocumentNumber, money::Currency};

/// Credit that was applied to an item before the item is issued. Until then it is unapplied, as in every ageing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedAhead {
    /// The kind of the credit's document.
    pub kind: CreditKind,
    /// Payment reference or credit note number.
    pub document: DocumentNumber,
    /// The item's invoice.
    pub invoice: DocumentNumber,
    /// The item's instalment.
    pub instalment: u32,
    /// The currency of both.
    pub currency: Currency,
    /// Minor units; positive.
    pub amount: i64,
    /// The invoice's issue date.
    pub from: Date,
}

/// From which day on the balance of each currency is above nil, if nothing else happens. A currency that stays at nil or less is
/// absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owed(BTreeMap<Currency, Date>);

impl Owed {
    /// The first day on which something is owed.
    pub fn from(&self, currency: Currency) -> Option<Date> {
        self.0.get(&currency).copied()
    }

    /// Whether something is owed on a day.
    pub fn on(&self, currency: Currency, day: Date) -> bool {
        self.from(currency).is_some_and(|from| from <= day)
    }
}

impl Ledger {
    /// When something is owed. All credit counts today, so that a balance only grows: with each item that is issued.
    pub fn owed(&self) -> Owed {
        let mut balances: BTreeMap<Currency, i128> = BTreeMap::new();
        let mut issued: BTreeMap<(Date, Currency), i128> = BTreeMap::new();
        for credit in &self.credits {
            *balances.entry(credit.currency).or_default() -= i128::from(credit.remaining);
        }
        for ahead in &self.ahead {
            *balances.entry(ahead.currency).or_default() -= i128::from(ahead.amount);
            *issued.entry((ahead.from, ahead.currency)).or_default() += i128::from(ahead.amount);
        }
        for item in &self.items {
            *issued.entry((item.issue_date, item.currency)).or_default() += i128::from(item.open);
        }
        let mut owed = Owed::default();
        for ((day, currency), amount) in issued {
            let balance = balances.entry(currency).or_default();
            *balance += amount;
            if *balance > 0 {
                owed.0.entry(currency).or_insert(day);
            }
        }
        owed
    }

    /// The amounts in the debtor's favour on a day, by currency in minor units.
    pub fn unapplied_on(&self, day: Date) -> BTreeMap<Currency, i64> {
        let credits = self.credits.iter().map(|credit| (credit.currency, credit.remaining));
        let ahead = self.ahead.iter().filter(|ahead| ahead.from > day).map(|ahead| (ahead.currency, ahead.amount));
        let mut sums: BTreeMap<Currency, i64> = BTreeMap::new();
        for (currency, amount) in credits.chain(ahead) {
            let sum = sums.entry(currency).or_default();
            *sum = sum.saturating_add(amount);
        }
        sums
    }

    /// The balance of each currency in which something is open, on a day, where it is nil or less: nothing of it is chased.
    pub fn nothing_owed_on(&self, day: Date) -> BTreeMap<Currency, i64> {
        let unapplied = self.unapplied_on(day);
        let mut balances: BTreeMap<Currency, i64> = BTreeMap::new();
        for item in self.items.iter().filter(|item| item.issue_date <= day) {
            let balance = balances
                .entry(item.currency)
                .or_insert_with(|| unapplied.get(&item.currency).map_or(0, |credit| -credit));
            *balance = balance.saturating_add(item.open);
        }
        balances.retain(|_, balance| *balance <= 0);
        balances
    }

    /// Remembers which lines of an allocation count from a later day than that of its decision.
    pub(super) fn note_ahead(
        &mut self,
        (kind, document): (CreditKind, &DocumentNumber),
        currency: Currency,
        lines: &[AllocationLine],
        decided_on: Date,
    ) {
        self.ahead.retain(|ahead| ahead.from > decided_on);
        self.ahead.extend(lines.iter().filter(|line| line.effective_date > decided_on).map(|line| AppliedAhead {
            kind,
            document: document.clone(),
            invoice: line.invoice.clone(),
            instalment: line.instalment,
            currency,
            amount: line.amount,
            from: line.effective_date,
        }));
    }

    /// The day of the decision, where some line counts from a later day.
    pub(super) fn ahead_of(&self, lines: &[AllocationLine], today: Date) -> Result<Option<Date>, Refusal> {
        let ahead = lines.iter().filter(|line| line.effective_date > today).count();
        match ahead {
            0 => Ok(None),
            ahead if self.ahead.len().saturating_add(ahead) > MAX_OPEN_ITEMS => Err(Refusal::TooManyOpenItems),
            _ => Ok(Some(today)),
        }
    }
}
