//! The reference: what was open on a day, written from the meaning of the facts and from nothing else.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use saldo_domain::{
    event::Event,
    ids::DocumentNumber,
    ledger::{AllocationLine, CreditKind, Fact},
    money::Currency,
};

/// An item or a credit.
pub type Key = (&'static str, String, u32);
/// The open amounts: the currency, an item's due date, and minor units.
pub type View = BTreeMap<Key, (Currency, Option<Date>, i64)>;

/// An item or a credit changes from a day on. The change is known from an instant on.
pub struct Change {
    pub day: Date,
    pub known_at: Timestamp,
    pub key: Key,
    pub of: (Currency, Option<Date>),
    pub amount: i64,
}

/// Every change that the facts of a life say, written from the meaning of the facts.
pub fn changes(commits: &[(Timestamp, Vec<Event>)]) -> Vec<Change> {
    let mut changes = Vec::new();
    for (known_at, events) in commits {
        let mut change = |day: Date, key: Key, of: (Currency, Option<Date>), amount: i64| {
            changes.push(Change { day, known_at: *known_at, key, of, amount });
        };
        for event in events {
            let Event::Ledger(fact) = event else { continue };
            let credit = |kind: CreditKind, document: &DocumentNumber| (kind.name(), document.to_string(), 0);
            let of_lines = |change: &mut dyn FnMut(Date, Key, (Currency, Option<Date>), i64),
                            kind,
                            document,
                            currency,
                            lines: &[AllocationLine],
                            taken_back: Option<Date>| {
                for line in lines {
                    let sign = if taken_back.is_some() { 1 } else { -1 };
                    let day = taken_back.map_or(line.effective_date, |from| from.max(line.effective_date));
                    let item = ("invoice", line.invoice.to_string(), line.instalment);
                    change(day, item, (currency, Some(line.due_date)), sign * line.amount);
                    change(day, credit(kind, document), (currency, None), -sign * line.amount);
                }
            };
            match fact {
                Fact::InvoiceIssued(fact) => {
                    for part in &fact.instalments {
                        let item = ("invoice", fact.number.to_string(), part.number);
                        change(fact.issue_date, item, (fact.total.currency, Some(part.due_date)), part.amount);
                    }
                }
                Fact::InvoiceVoided(fact) => {
                    for part in &fact.instalments {
                        let item = ("invoice", fact.number.to_string(), part.number);
                        change(fact.day(), item, (fact.currency, Some(part.due_date)), -part.amount);
                    }
                }
                Fact::InvoiceCredited(fact) => {
                    let (kind, money) = (CreditKind::CreditNote, fact.amount);
                    change(fact.day(), credit(kind, &fact.credit_note), (money.currency, None), -money.minor);
                    of_lines(&mut change, kind, &fact.credit_note, money.currency, &fact.lines, None);
                }
                Fact::PaymentRecorded(fact) => {
                    let key = credit(CreditKind::Payment, &fact.reference);
                    change(fact.day(), key, (fact.amount.currency, None), -fact.amount.minor);
                }
                Fact::PaymentAllocated(fact) => {
                    of_lines(&mut change, CreditKind::Payment, &fact.reference, fact.currency, &fact.lines, None);
                }
                Fact::CreditNoteAllocated(fact) => {
                    of_lines(&mut change, CreditKind::CreditNote, &fact.credit_note, fact.currency, &fact.lines, None);
                }
                Fact::PaymentDeallocated(fact) => {
                    let from = Some(fact.deallocation_date);
                    of_lines(&mut change, CreditKind::Payment, &fact.reference, fact.currency, &fact.lines, from);
                }
                Fact::CreditNoteDeallocated(fact) => {
                    let (kind, from) = (CreditKind::CreditNote, Some(fact.deallocation_date));
                    of_lines(&mut change, kind, &fact.credit_note, fact.currency, &fact.lines, from);
                }
                Fact::CreditRefunded(fact) => {
                    let money = fact.amount;
                    change(fact.day(), credit(fact.kind, &fact.document), (money.currency, None), money.minor);
                }
                Fact::PaymentReversed(fact) => {
                    let (kind, money) = (CreditKind::Payment, fact.amount);
                    of_lines(&mut change, kind, &fact.reference, money.currency, &fact.lines, Some(fact.day()));
                    change(fact.day(), credit(kind, &fact.reference), (money.currency, None), money.minor);
                }
            }
        }
    }
    changes
}

/// The open amounts of a day, as known at an instant.
pub fn view(changes: &[Change], day: Date, known_at: Option<Timestamp>) -> View {
    let mut view = View::new();
    for change in changes {
        if change.day <= day && known_at.is_none_or(|at| change.known_at <= at) {
            let (currency, due_date) = change.of;
            view.entry(change.key.clone()).or_insert((currency, due_date, 0)).2 += change.amount;
        }
    }
    view.retain(|_, (_, _, open)| *open != 0);
    view
}

/// not_due, d1_30, d31_60, d61_90, d91_plus, unapplied, by currency.
pub fn aged(view: &View, day: Date) -> BTreeMap<String, [i64; 6]> {
    let mut figures: BTreeMap<String, [i64; 6]> = BTreeMap::new();
    for (currency, due_date, open) in view.values() {
        let bucket = due_date.map_or(5, |due| match due.until(day).map_or(0, |span| span.get_days()) {
            ..=0 => 0,
            1..=30 => 1,
            31..=60 => 2,
            61..=90 => 3,
            _ => 4,
        });
        figures.entry(currency.to_string()).or_default()[bucket] += open;
    }
    figures.retain(|_, figures| *figures != [0; 6]);
    figures
}
