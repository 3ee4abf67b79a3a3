//! Credit that waits is applied when an item arises: when its invoice is issued, or when it is open again.

use std::collections::HashSet;

use jiff::civil::Date;

use super::{
    AllocatedBy, AllocationLine, CreditKind, CreditNoteAllocated, Fact, Ledger, MAX_OPEN_ITEMS, OpenItem,
    PaymentAllocated, UnappliedCredit, allocation,
};
use crate::{command::Context, ids::DocumentNumber, named::named};

named!(
    /// The use of credit that waits when an item arises.
    ApplyCredit {
        /// It is applied to the item, the oldest credit first.
        OldestFirst = "oldest_first",
        /// It waits until an allocation names it.
        Leave = "leave",
    }
);

impl Default for ApplyCredit {
    fn default() -> Self {
        DEFAULT
    }
}

/// A debtor who has paid already is not asked to pay.
pub(crate) const DEFAULT: ApplyCredit = ApplyCredit::OldestFirst;

/// Lines that arising items get at most: the commit stays small, whatever waits. Credit beyond that waits on.
const MAX_LINES: usize = 1_000;

impl Ledger {
    /// Adds what follows for the items that these facts open: the credit that waits is applied to them. A line counts from `day`,
    /// from the day of the credit and from the item's issue date, whichever is the latest.
    pub(super) fn with_credit_applied(&self, mut facts: Vec<Fact>, day: Date, context: &Context<'_>) -> Vec<Fact> {
        if context.rules.apply_credit == ApplyCredit::Leave || self.credits.iter().all(|credit| credit.kept) {
            return facts;
        }
        let arisen: HashSet<(&DocumentNumber, u32)> = facts.iter().flat_map(opened).collect();
        let is_arisen = |item: &&OpenItem| arisen.contains(&(&item.invoice, item.instalment));
        // Copies only the items that the facts open, since an account may have thousands.
        let mut after = Self {
            items: self.items.iter().filter(is_arisen).cloned().collect(),
            credits: self.credits.clone(),
            ahead: self.ahead.clone(),
            ..Self::default()
        };
        facts.iter().for_each(|fact| after.evolve(fact));
        let Self { mut items, credits: waiting, ahead, .. } = after;
        let mut credits: Vec<&UnappliedCredit> = waiting.iter().filter(|credit| !credit.kept).collect();
        credits.sort_by_key(|credit| (credit.date, credit.kind, &credit.document));
        let mut room = MAX_LINES.min(MAX_OPEN_ITEMS.saturating_sub(ahead.len()));
        let mut applied = Vec::new();
        for credit in credits {
            let open = items.iter().filter(|item| item.open > 0 && item.currency == credit.currency).take(room);
            let lines = allocation::oldest_first(open, credit.remaining, day.max(credit.date));
            if lines.is_empty() {
                continue;
            }
            room -= lines.len();
            for line in &lines {
                let mut own = items.iter_mut();
                if let Some(item) = own.find(|item| item.instalment == line.instalment && item.invoice == line.invoice)
                {
                    item.open -= line.amount;
                }
            }
            let decided_on = Some(context.today());
            applied.push(credit.allocated(AllocatedBy::ItemArose, lines, decided_on));
        }
        facts.extend(applied);
        facts
    }
}

impl UnappliedCredit {
    /// The fact that the credit, or a part of it, was applied.
    pub(super) fn allocated(
        &self,
        allocated_by: AllocatedBy,
        lines: Vec<AllocationLine>,
        decided_on: Option<Date>,
    ) -> Fact {
        let (document, currency) = (self.document.clone(), self.currency);
        match self.kind {
            CreditKind::Payment => {
                PaymentAllocated { reference: document, currency, allocated_by, lines, decided_on }.into()
            }
            CreditKind::CreditNote => {
                CreditNoteAllocated { credit_note: document, currency, allocated_by, lines, decided_on }.into()
            }
        }
    }
}

/// The items that a fact opens.
fn opened(fact: &Fact) -> Vec<(&DocumentNumber, u32)> {
    match fact {
        Fact::InvoiceIssued(issued) => {
            issued.instalments.iter().map(|instalment| (&issued.number, instalment.number)).collect()
        }
        Fact::PaymentReversed(reversed) => items_of(&reversed.lines),
        Fact::PaymentDeallocated(deallocated) => items_of(&deallocated.lines),
        Fact::CreditNoteDeallocated(deallocated) => items_of(&deallocated.lines),
        _ => Vec::new(),
    }
}

fn items_of(lines: &[AllocationLine]) -> Vec<(&DocumentNumber, u32)> {
    lines.iter().map(|line| (&line.invoice, line.instalment)).collect()
}
