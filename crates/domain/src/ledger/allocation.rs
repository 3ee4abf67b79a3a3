//! Where money goes: as the debtor designates, or else to the oldest due first.

use std::{cmp::Ordering, collections::HashMap};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{CreditKind, Ledger, OpenItem, Refusal, invoice, same_currency};
use crate::{document::Documents, dunning::LastStep, ids::DocumentNumber, money::Currency};

/// Part of a payment or credit applied to one instalment. The line holds all that its reversal needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationLine {
    /// The invoice applied to.
    pub invoice: DocumentNumber,
    /// The instalment applied to.
    pub instalment: u32,
    /// The instalment's due date.
    pub due_date: Date,
    /// Minor units; positive.
    pub amount: i64,
    /// The later of the value date and the invoice's issue date: from this day the item is smaller.
    pub effective_date: Date,
    /// The invoice's issue date.
    pub issue_date: Date,
    /// Where the instalment goes on with the ladder. Only lines of a payment that is taken back have it.
    pub last_step: Option<LastStep>,
}

/// Who decided where a payment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AllocatedBy {
    /// The request named the items.
    Designation,
    /// The request named none: the oldest due date first.
    OldestDueFirst,
}

/// The debtor's designation of what a payment settles (in Spain: Codigo Civil 1172).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Designation {
    /// The invoice to settle.
    pub invoice: DocumentNumber,
    /// One instalment of the invoice; absent: its open instalments, oldest first.
    pub instalment: Option<u32>,
    /// Minor units; positive.
    pub amount: i64,
}

/// Oldest due first; then the earlier issued, then by number and instalment, so that the order is total.
pub fn order(a: &OpenItem, b: &OpenItem) -> Ordering {
    (a.due_date, a.issue_date, &a.invoice, a.instalment).cmp(&(b.due_date, b.issue_date, &b.invoice, b.instalment))
}

/// Applies up to `amount` to `items` in their order. A line takes effect on the later of `value_date` and issue date.
pub fn oldest_first<'i>(
    items: impl Iterator<Item = &'i OpenItem>,
    mut amount: i64,
    value_date: Date,
) -> Vec<AllocationLine> {
    let mut lines = Vec::new();
    for item in items {
        if amount <= 0 {
            break;
        }
        let applied = amount.min(item.open);
        amount -= applied;
        lines.push(line(item, applied, value_date));
    }
    lines
}

/// Applies what the debtor designated, all of it or nothing.
pub fn designated(
    ledger: &Ledger,
    documents: &dyn Documents,
    designations: &[Designation],
    currency: Currency,
    available: i64,
    value_date: Date,
) -> Result<Vec<AllocationLine>, Refusal> {
    let asked: i128 = designations.iter().map(|designation| i128::from(designation.amount)).sum();
    if asked > i128::from(available) {
        return Err(Refusal::OverAllocation { invoice: None, asked_minor: asked, available_minor: available.into() });
    }
    let mut items_of: HashMap<&DocumentNumber, Vec<OpenItem>> = HashMap::new();
    for item in &ledger.items {
        items_of.entry(&item.invoice).or_default().push(item.clone());
    }
    let mut lines: Vec<AllocationLine> = Vec::new();
    let mut line_of: HashMap<(DocumentNumber, u32), usize> = HashMap::new();
    for designation in designations {
        let invoice = invoice::standing(documents, &designation.invoice)?;
        same_currency(invoice.total.currency, currency)?;
        let items = items_of.entry(&designation.invoice).or_default();
        let chosen = |item: &&mut OpenItem| {
            item.open > 0 && designation.instalment.is_none_or(|instalment| instalment == item.instalment)
        };
        let open: i128 = items.iter_mut().filter(chosen).map(|item| i128::from(item.open)).sum();
        if open == 0 {
            return Err(Refusal::ItemNotOpen {
                invoice: designation.invoice.clone(),
                instalment: designation.instalment,
            });
        }
        if i128::from(designation.amount) > open {
            return Err(Refusal::OverAllocation {
                invoice: Some(designation.invoice.clone()),
                asked_minor: designation.amount.into(),
                available_minor: open,
            });
        }
        let mut left = designation.amount;
        for item in items.iter_mut().filter(chosen) {
            let applied = left.min(item.open);
            if applied == 0 {
                break;
            }
            (left, item.open) = (left - applied, item.open - applied);
            let place = line_of.entry((item.invoice.clone(), item.instalment)).or_insert_with(|| {
                lines.push(line(item, 0, value_date));
                lines.len() - 1
            });
            if let Some(line) = lines.get_mut(*place) {
                line.amount += applied;
            }
        }
    }
    Ok(lines)
}

fn line(item: &OpenItem, amount: i64, value_date: Date) -> AllocationLine {
    AllocationLine {
        invoice: item.invoice.clone(),
        instalment: item.instalment,
        due_date: item.due_date,
        amount,
        effective_date: value_date.max(item.issue_date),
        issue_date: item.issue_date,
        last_step: None,
    }
}

impl Ledger {
    /// Takes a document's credit, and what its lines apply of it to the items.
    pub(super) fn apply(&mut self, kind: CreditKind, document: &DocumentNumber, lines: &[AllocationLine]) {
        let credit = self.credits.iter_mut().find(|credit| credit.kind == kind && credit.document == *document);
        if let Some(credit) = credit {
            let applied = lines.iter().fold(0i64, |sum, line| sum.saturating_add(line.amount));
            credit.remaining = credit.remaining.saturating_sub(applied);
        }
        let place = self.places(lines);
        for line in lines {
            if let Some(item) = place.get(&(&line.invoice, line.instalment)).and_then(|at| self.items.get_mut(*at)) {
                item.open = item.open.saturating_sub(line.amount);
            }
        }
        self.items.retain(|item| item.open > 0);
        self.credits.retain(|credit| credit.remaining > 0);
    }

    /// Gives back to the items what lines had applied; what was settled is open again.
    pub(super) fn restore(&mut self, lines: &[AllocationLine], currency: Currency) {
        let mut place = self.places(lines);
        for line in lines {
            let next = self.items.len();
            let at = *place.entry((&line.invoice, line.instalment)).or_insert(next);
            match self.items.get_mut(at) {
                Some(item) => item.open = item.open.saturating_add(line.amount),
                None => self.items.push(OpenItem {
                    invoice: line.invoice.clone(),
                    instalment: line.instalment,
                    currency,
                    issue_date: line.issue_date,
                    due_date: line.due_date,
                    open: line.amount,
                    last_step: line.last_step,
                    tried: None,
                    tone_heard: None,
                    held_back: false,
                }),
            }
        }
        self.items.sort_by(order);
    }

    /// Where the items of some lines stand: one pass, so that many lines on many items stay cheap.
    fn places<'l>(&self, lines: &'l [AllocationLine]) -> HashMap<(&'l DocumentNumber, u32), usize> {
        let wanted: HashMap<(&DocumentNumber, u32), &'l DocumentNumber> =
            lines.iter().map(|line| ((&line.invoice, line.instalment), &line.invoice)).collect();
        let found = self.items.iter().enumerate().filter_map(|(at, item)| {
            let number = wanted.get(&(&item.invoice, item.instalment))?;
            Some(((*number, item.instalment), at))
        });
        found.collect()
    }
}
