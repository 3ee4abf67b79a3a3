//! Where money goes: as the debtor designates, or else to the oldest due first.

use std::{cmp::Ordering, collections::HashMap};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{CreditKind, Ledger, MAX_SETTLED_TONES, OpenItem, Refusal, invoice, same_currency};
use crate::{
    document::Documents,
    dunning::{LastStep, Tone},
    ids::DocumentNumber,
    money::Currency,
};

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
    /// From this day the item is smaller: the day that the allocation counts from, or the invoice's issue date where it is
    /// later. An allocation that comes with its payment or credit note counts from the day of that document. A later allocation
    /// counts from the day of its decision.
    pub effective_date: Date,
    /// The invoice's issue date.
    pub issue_date: Date,
    /// Where the instalment goes on with the ladder. Only lines of a payment that is taken back have it.
    pub last_step: Option<LastStep>,
}

/// The person or rule that decided where a payment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AllocatedBy {
    /// The request named the items.
    Designation,
    /// The request named none: the oldest due date first.
    OldestDueFirst,
    /// An item arose, and credit waited.
    ItemArose,
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

/// The rule for a designated amount that its invoice has no room for: less is open, or the invoice is in another currency,
/// voided or unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// The whole command is refused.
    Refused,
    /// The amount that fits is applied, and the rest stays unapplied.
    Unapplied,
}

/// Oldest due first; then the earlier issued, then by number and instalment, so that the order is total.
pub fn order(a: &OpenItem, b: &OpenItem) -> Ordering {
    (a.due_date, a.issue_date, &a.invoice, a.instalment).cmp(&(b.due_date, b.issue_date, &b.invoice, b.instalment))
}

/// Applies up to `amount` to `items` in their order, from `day` on, and not before an item's issue date.
pub fn oldest_first<'i>(items: impl Iterator<Item = &'i OpenItem>, mut amount: i64, day: Date) -> Vec<AllocationLine> {
    let mut lines = Vec::new();
    for item in items {
        if amount <= 0 {
            break;
        }
        let applied = amount.min(item.open);
        amount -= applied;
        lines.push(line(item, applied, day));
    }
    lines
}

/// Applies what the debtor designated: all of it, or what fits where the excess may stay unapplied.
pub fn designated(
    ledger: &Ledger,
    documents: &dyn Documents,
    (designations, excess): (&[Designation], Excess),
    currency: Currency,
    available: i64,
    day: Date,
) -> Result<Vec<AllocationLine>, Refusal> {
    let asked: i128 = designations.iter().map(|designation| i128::from(designation.amount)).sum();
    if asked > i128::from(available) {
        return Err(Refusal::OverAllocation {
            invoice: None,
            currency,
            asked_minor: asked,
            available_minor: available.into(),
        });
    }
    let mut items_of: HashMap<&DocumentNumber, Vec<OpenItem>> = HashMap::new();
    for item in &ledger.items {
        items_of.entry(&item.invoice).or_default().push(item.clone());
    }
    let mut lines: Vec<AllocationLine> = Vec::new();
    let mut line_of: HashMap<(DocumentNumber, u32), usize> = HashMap::new();
    for designation in designations {
        let fits = invoice::standing(documents, &designation.invoice)
            .and_then(|invoice| same_currency(invoice.total.currency, currency));
        match (fits, excess) {
            (Ok(()), _) => {}
            (Err(_), Excess::Unapplied) => continue,
            (Err(refusal), Excess::Refused) => return Err(refusal),
        }
        let items = items_of.entry(&designation.invoice).or_default();
        let chosen = |item: &&mut OpenItem| {
            item.open > 0 && designation.instalment.is_none_or(|instalment| instalment == item.instalment)
        };
        let open: i128 = items.iter_mut().filter(chosen).map(|item| i128::from(item.open)).sum();
        if open == 0 && excess == Excess::Refused {
            return Err(Refusal::ItemNotOpen {
                invoice: designation.invoice.clone(),
                instalment: designation.instalment,
            });
        }
        if i128::from(designation.amount) > open && excess == Excess::Refused {
            return Err(Refusal::OverAllocation {
                invoice: Some(designation.invoice.clone()),
                currency,
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
                lines.push(line(item, 0, day));
                lines.len() - 1
            });
            if let Some(line) = lines.get_mut(*place) {
                line.amount += applied;
            }
        }
    }
    Ok(lines)
}

fn line(item: &OpenItem, amount: i64, day: Date) -> AllocationLine {
    AllocationLine {
        invoice: item.invoice.clone(),
        instalment: item.instalment,
        due_date: item.due_date,
        amount,
        effective_date: day.max(item.open_from),
        issue_date: item.issue_date,
        last_step: None,
    }
}

/// The tone that an item has heard, where a message about it must not be milder. Every message is friendly at least.
fn heard(item: &OpenItem) -> Option<(DocumentNumber, u32, Tone)> {
    let tone = item.tone_heard.filter(|tone| *tone > Tone::Friendly)?;
    Some((item.invoice.clone(), item.instalment, tone))
}

impl Ledger {
    /// Applies what a later command, or an item that arose, decided. The credit was named, so it is no longer kept.
    pub(super) fn apply_as_decided(
        &mut self,
        (kind, document): (CreditKind, &DocumentNumber),
        currency: Currency,
        lines: &[AllocationLine],
        decided_on: Option<Date>,
    ) {
        let credit = self.credits.iter_mut().find(|credit| credit.kind == kind && credit.document == *document);
        if let Some(credit) = credit {
            credit.kept = false;
        }
        self.apply(kind, document, lines);
        if let Some(day) = decided_on {
            self.note_ahead((kind, document), currency, lines, day);
        }
    }

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
        let settled: Vec<_> = self.items.iter().filter(|item| item.open <= 0).filter_map(heard).collect();
        self.settled_tones.extend(settled);
        self.settled_tones.drain(..self.settled_tones.len().saturating_sub(MAX_SETTLED_TONES));
        self.items.retain(|item| item.open > 0);
        self.credits.retain(|credit| credit.remaining > 0);
    }

    /// Gives back to the items what lines had applied, from a day on; what was settled is open again. A line that counts from a
    /// later day is given back on that day.
    pub(super) fn restore(&mut self, lines: &[AllocationLine], currency: Currency, from: Date) {
        let mut place = self.places(lines);
        let Self { items, settled_tones, .. } = self;
        let heard: HashMap<_, _> =
            settled_tones.iter().map(|(invoice, part, tone)| ((invoice, *part), *tone)).collect();
        for line in lines {
            let next = items.len();
            let at = *place.entry((&line.invoice, line.instalment)).or_insert(next);
            let open_from = line.effective_date.max(from);
            match items.get_mut(at) {
                Some(item) => {
                    item.open = item.open.saturating_add(line.amount);
                    item.open_from = item.open_from.max(open_from);
                }
                None => items.push(OpenItem {
                    invoice: line.invoice.clone(),
                    instalment: line.instalment,
                    currency,
                    issue_date: line.issue_date,
                    due_date: line.due_date,
                    open_from,
                    open: line.amount,
                    last_step: line.last_step,
                    tried: None,
                    tone_heard: heard.get(&(&line.invoice, line.instalment)).copied(),
                    held_back: None,
                }),
            }
        }
        items.sort_by(order);
        settled_tones.retain(|(invoice, part, _)| !place.contains_key(&(invoice, *part)));
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
