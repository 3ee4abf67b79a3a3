//! Holds: no dunning between two days, of the whole account or of chosen invoices, for a reason.
//!
//! Holds stack: an item is chased again on the first day that no hold covers. A hold changes neither balance nor ageing.

use std::{collections::HashMap, rc::Rc};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{Agreement, Fact, Refusal};
use crate::{
    document::{self, Documents},
    ids::DocumentNumber,
    ledger,
    named::named,
    refusal,
    sealed::Sealed,
};

/// Holds that one account can have at once; the limit bounds decisions and states.
pub const MAX_HOLDS: usize = 100;
/// Invoices that one hold can name; a hold of more is a hold of the account.
pub const MAX_HELD_INVOICES: usize = 1_000;

named!(
    /// Why an account or invoice is on hold.
    HoldReason {
        /// The debtor asked for time.
        DebtorRequest = "debtor_request",
        /// The debtor complained, and the complaint is being looked into.
        Complaint = "complaint",
        /// Goods or services are not delivered yet, or not as ordered.
        Delivery = "delivery",
        /// The debtor is in hardship: illness, loss of income, a disaster.
        Hardship = "hardship",
        /// The debtor has died.
        Deceased = "deceased",
        /// The debtor is insolvent, or has filed for it.
        Insolvency = "insolvency",
        /// A lawyer or a court has the case.
        Legal = "legal",
        /// The creditor checks something of its own first.
        Internal = "internal",
        /// Another reason; the note says which.
        Other = "other",
    }
);

/// The scope of a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldScope {
    /// Everything that is or falls open.
    Account,
    /// These invoices, sorted and each once; at least one.
    Invoices(Vec<DocumentNumber>),
}

/// The terms of a hold. Days are the debtor's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldTerms {
    /// The scope.
    pub scope: HoldScope,
    /// The first day; `None`: from the beginning. It may lie in the past.
    pub from: Option<Date>,
    /// The last day; `None`: until the hold is released.
    pub until: Option<Date>,
    /// Why.
    pub reason: HoldReason,
}

impl HoldTerms {
    /// Whether the hold covers an invoice on a day.
    pub fn covers(&self, invoice: &DocumentNumber, day: Date) -> bool {
        self.from.is_none_or(|from| from <= day) && self.until.is_none_or(|until| day <= until) && self.names(invoice)
    }

    fn names(&self, invoice: &DocumentNumber) -> bool {
        match &self.scope {
            HoldScope::Account => true,
            HoldScope::Invoices(invoices) => invoices.binary_search(invoice).is_ok(),
        }
    }
}

/// A hold that is not released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The creditor's id of the hold.
    pub hold: DocumentNumber,
    /// Its terms.
    pub terms: HoldTerms,
}

impl Hold {
    /// Whether the last day is over, in any zone: the day is the debtor's, whose zone can change.
    pub(super) fn is_over(&self, today: Date) -> bool {
        self.terms.until.is_some_and(|until| until.tomorrow().is_ok_and(|next| next < today))
    }
}

/// Terms of a hold to replace; absent ones stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HoldChange {
    /// The scope.
    pub scope: Option<HoldScope>,
    /// The first day; `Some(None)`: from the beginning.
    pub from: Option<Option<Date>>,
    /// The last day; `Some(None)`: until the hold is released.
    pub until: Option<Option<Date>>,
    /// Why.
    pub reason: Option<HoldReason>,
}

/// hold.placed
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldPlaced {
    /// The creditor's id of the hold.
    pub hold: DocumentNumber,
    /// Its terms.
    pub terms: HoldTerms,
    /// The debtor's day on which the hold was placed.
    pub placed_on: Date,
    /// Free text.
    pub note: Option<Sealed>,
}

/// hold.amended
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldAmended {
    /// The hold.
    pub hold: DocumentNumber,
    /// All of its terms from now on.
    pub terms: HoldTerms,
    /// The debtor's day on which the terms were changed.
    pub amended_on: Date,
    /// Free text.
    pub note: Option<Sealed>,
}

/// hold.released
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldReleased {
    /// The hold.
    pub hold: DocumentNumber,
    /// Its terms until now, so that a reader needs no other fact.
    pub terms: HoldTerms,
    /// The debtor's day on which the hold was released.
    pub released_on: Date,
    /// Free text.
    pub note: Option<Sealed>,
}

impl Agreement {
    pub(super) fn place(
        &self,
        documents: &dyn Documents,
        hold: &DocumentNumber,
        terms: &HoldTerms,
        note: &Option<Sealed>,
        today: Date,
    ) -> Result<Vec<Fact>, refusal::Refusal> {
        if let Some(known) = documents.hold(hold) {
            let same_content = !known.released && known.terms == *terms;
            return Err(Refusal::HoldIdTaken { hold: hold.clone(), same_content }.into());
        }
        check(documents, terms)?;
        self.room(today)?;
        let (hold, terms, note) = (hold.clone(), terms.clone(), note.clone());
        Ok(vec![HoldPlaced { hold, terms, placed_on: today, note }.into()])
    }

    pub(super) fn amend(
        &self,
        documents: &dyn Documents,
        hold: &DocumentNumber,
        change: &HoldChange,
        note: &Option<Sealed>,
        today: Date,
    ) -> Result<Vec<Fact>, refusal::Refusal> {
        let before = standing(documents, hold)?.terms;
        let terms = HoldTerms {
            scope: change.scope.clone().unwrap_or(before.scope),
            from: change.from.unwrap_or(before.from),
            until: change.until.unwrap_or(before.until),
            reason: change.reason.unwrap_or(before.reason),
        };
        check(documents, &terms)?;
        // A hold whose last day was over may have left the state, and comes back with its new last day.
        if self.find(hold).is_none() {
            self.room(today)?;
        }
        Ok(vec![HoldAmended { hold: hold.clone(), terms, amended_on: today, note: note.clone() }.into()])
    }

    pub(super) fn release(
        &self,
        documents: &dyn Documents,
        hold: &DocumentNumber,
        note: &Option<Sealed>,
        today: Date,
    ) -> Result<Vec<Fact>, refusal::Refusal> {
        let terms = standing(documents, hold)?.terms;
        Ok(vec![HoldReleased { hold: hold.clone(), terms, released_on: today, note: note.clone() }.into()])
    }

    /// Fails where the account has as many holds already as it can have at once.
    fn room(&self, today: Date) -> Result<(), Refusal> {
        let current = self.holds.iter().filter(|one| one.terms.until.is_none_or(|until| until >= today)).count();
        if current < MAX_HOLDS { Ok(()) } else { Err(Refusal::TooManyHolds) }
    }

    /// The hold that covers an invoice on a day: of several, the one that ends last.
    pub fn holding(&self, invoice: &DocumentNumber, day: Date) -> Option<&Hold> {
        let covering = self.holds.iter().filter(|hold| hold.terms.covers(invoice, day));
        covering.max_by_key(|hold| hold.terms.until.unwrap_or(Date::MAX))
    }

    /// The days on which the holds cover invoices.
    pub fn held_days(&self) -> HeldDays<'_> {
        let mut of_account = Vec::new();
        let mut of_invoices: HashMap<&DocumentNumber, OfInvoice> = HashMap::new();
        for HoldTerms { scope, from, until, .. } in self.holds.iter().map(|hold| &hold.terms) {
            let days = (from.unwrap_or(Date::MIN), until.unwrap_or(Date::MAX));
            match scope {
                HoldScope::Account => of_account.push(days),
                HoldScope::Invoices(invoices) => {
                    invoices.iter().for_each(|invoice| of_invoices.entry(invoice).or_default().named.push(days));
                }
            }
        }
        HeldDays { any_invoice: joined(of_account.clone()), of_account, of_invoices }
    }
}

/// Stretches of days, both ends included: in order and apart from each other.
pub type Stretches = Rc<[(Date, Date)]>;

/// The days on which an account's holds cover its invoices. They are looked up once for all items, since an account can have
/// thousands of items and a hundred holds of a thousand invoices each.
pub struct HeldDays<'a> {
    of_account: Vec<(Date, Date)>,
    of_invoices: HashMap<&'a DocumentNumber, OfInvoice>,
    /// The stretches of an invoice that no hold names.
    any_invoice: Stretches,
}

/// The days of an invoice that holds name.
#[derive(Default)]
struct OfInvoice {
    /// The first and last day of each hold that names the invoice.
    named: Vec<(Date, Date)>,
    /// The stretches of all holds that cover the invoice, once somebody has asked for them.
    all: Option<Stretches>,
}

impl HeldDays<'_> {
    /// The days on which an invoice is on hold.
    pub fn of(&mut self, invoice: &DocumentNumber) -> Stretches {
        let Some(OfInvoice { named, all }) = self.of_invoices.get_mut(invoice) else {
            return Rc::clone(&self.any_invoice);
        };
        Rc::clone(all.get_or_insert_with(|| joined(self.of_account.iter().chain(&*named).copied().collect())))
    }
}

fn joined(mut days: Vec<(Date, Date)>) -> Stretches {
    days.sort_unstable();
    days.dedup_by(|(from, until), (_, before)| {
        let follows = before.tomorrow().map_or(true, |next| *from <= next);
        if follows {
            *before = (*before).max(*until);
        }
        follows
    });
    days.into()
}

fn check(documents: &dyn Documents, terms: &HoldTerms) -> Result<(), refusal::Refusal> {
    if let (Some(from), Some(until)) = (terms.from, terms.until)
        && until < from
    {
        return Err(Refusal::HoldEndsBeforeStart { from, until }.into());
    }
    if let HoldScope::Invoices(invoices) = &terms.scope {
        let unknown = invoices.iter().find(|invoice| documents.invoice(invoice).is_none());
        if let Some(invoice) = unknown {
            return Err(ledger::Refusal::InvoiceUnknown { invoice: invoice.clone() }.into());
        }
    }
    Ok(())
}

/// The hold of an id, unless it is unknown or released.
fn standing(documents: &dyn Documents, hold: &DocumentNumber) -> Result<document::HoldDocument, refusal::Refusal> {
    match documents.hold(hold) {
        None => Err(Refusal::HoldUnknown { hold: hold.clone() }.into()),
        Some(known) if known.released => Err(Refusal::HoldAlreadyReleased { hold: hold.clone() }.into()),
        Some(known) => Ok(known),
    }
}
