//! Allocations taken back: the items are open again, and the credit is unapplied and kept, since a person goes on with it.

use std::collections::HashSet;

use jiff::civil::Date;

use super::{AllocationLine, CreditKind, Ledger, Refusal};
use crate::{
    document::Documents,
    ids::DocumentNumber,
    money::{Currency, Money},
};

impl Ledger {
    /// The lines of a document that settle these items, or all of them where none is named.
    pub(super) fn to_take_back(
        &self,
        documents: &dyn Documents,
        document: &DocumentNumber,
        applied: &[AllocationLine],
        items: &[(DocumentNumber, Option<u32>)],
    ) -> Result<Vec<AllocationLine>, Refusal> {
        if applied.is_empty() {
            return Err(Refusal::NothingAllocated { reference: document.clone() });
        }
        let names: HashSet<_> = applied.iter().flat_map(named_by).collect();
        if let Some((invoice, instalment)) = items.iter().find(|(no, part)| !names.contains(&(no, *part))) {
            let (document, invoice) = (document.clone(), invoice.clone());
            return Err(Refusal::AllocationUnknown { document, invoice, instalment: *instalment });
        }
        let named: HashSet<_> = items.iter().map(|(invoice, instalment)| (invoice, *instalment)).collect();
        let taken = |line: &&AllocationLine| named.is_empty() || named_by(line).iter().any(|name| named.contains(name));
        let lines: Vec<AllocationLine> = applied.iter().filter(taken).cloned().collect();
        self.room_for_items(lines.len())?;
        self.room_for_credit()?;
        Ok(on_the_ladder(documents, lines))
    }

    /// The credit of the lines is unapplied again from a day on, and kept.
    pub(super) fn unapply(
        &mut self,
        (kind, document): (CreditKind, &DocumentNumber),
        currency: Currency,
        lines: &[AllocationLine],
        day: Date,
    ) {
        let minor = lines.iter().fold(0i64, |sum, line| sum.saturating_add(line.amount));
        let free_from = free_from(lines, day);
        match self.credits.iter_mut().find(|credit| credit.kind == kind && credit.document == *document) {
            Some(credit) => {
                credit.remaining = credit.remaining.saturating_add(minor);
                credit.date = credit.date.max(free_from);
                credit.kept = true;
            }
            None => self.add_credit(kind, document, Money { minor, currency }, free_from, true),
        }
        let taken: HashSet<_> = lines.iter().map(|line| (&line.invoice, line.instalment)).collect();
        self.ahead.retain(|ahead| {
            let is_of_it = ahead.kind == kind && ahead.document == *document;
            !(is_of_it && taken.contains(&(&ahead.invoice, ahead.instalment)))
        });
        self.restore(lines, currency, day);
    }
}

/// From this day all that lines had applied is unapplied, where they are taken back on `day`.
pub(crate) fn free_from(lines: &[AllocationLine], day: Date) -> Date {
    lines.iter().map(|line| line.effective_date).fold(day, Date::max)
}

/// The lines, with the step of the ladder that each instalment goes on with.
pub(super) fn on_the_ladder(documents: &dyn Documents, lines: Vec<AllocationLine>) -> Vec<AllocationLine> {
    let on_ladder = |line: AllocationLine| {
        let invoice = documents.invoice(&line.invoice);
        AllocationLine { last_step: invoice.and_then(|invoice| invoice.last_step(line.instalment)), ..line }
    };
    lines.into_iter().map(on_ladder).collect()
}

/// The names by which a line can be chosen: its invoice, or its instalment alone.
fn named_by(line: &AllocationLine) -> [(&DocumentNumber, Option<u32>); 2] {
    [(&line.invoice, None), (&line.invoice, Some(line.instalment))]
}
