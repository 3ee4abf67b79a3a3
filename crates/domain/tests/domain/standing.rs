//! The open amounts of each day: no invoice is ever below nil and no credit above, however late something was taken back.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use saldo_domain::{
    event::Event,
    ledger::{self, AllocationLine, CreditKind, Designation, Excess, Fact},
};

use crate::world::{World, at, day, designated, invoice, issued_on, money, number, payment};

/// Kind, document and instalment.
type Item = (&'static str, String, u32);

/// The changes of each fact, with the day from which each counts.
fn changes(world: &World) -> Vec<(Date, Item, i64)> {
    let mut all = Vec::new();
    let kind = |kind: CreditKind| if kind == CreditKind::Payment { "payment" } else { "credit_note" };
    for (_, event) in &world.history {
        let Event::Ledger(fact) = event else { continue };
        let mut lines = |kind: &'static str, document: String, lines: &[AllocationLine], back: Option<Date>| {
            for line in lines {
                let sign = if back.is_some() { 1 } else { -1 };
                let day = back.map_or(line.effective_date, |from| from.max(line.effective_date));
                all.push((day, ("invoice", line.invoice.to_string(), line.instalment), sign * line.amount));
                all.push((day, (kind, document.clone(), 0), -sign * line.amount));
            }
        };
        match fact {
            Fact::InvoiceIssued(issued) => {
                for part in &issued.instalments {
                    all.push((issued.issue_date, ("invoice", issued.number.to_string(), part.number), part.amount));
                }
            }
            Fact::InvoiceVoided(voided) => {
                for part in &voided.instalments {
                    all.push((voided.day(), ("invoice", voided.number.to_string(), part.number), -part.amount));
                }
            }
            Fact::InvoiceCredited(credited) => {
                lines("credit_note", credited.credit_note.to_string(), &credited.lines, None);
                let item = ("credit_note", credited.credit_note.to_string(), 0);
                all.push((credited.day(), item, -credited.amount.minor));
            }
            Fact::PaymentRecorded(paid) => {
                all.push((paid.day(), ("payment", paid.reference.to_string(), 0), -paid.amount.minor));
            }
            Fact::PaymentAllocated(allocated) => {
                lines("payment", allocated.reference.to_string(), &allocated.lines, None);
            }
            Fact::CreditNoteAllocated(allocated) => {
                lines("credit_note", allocated.credit_note.to_string(), &allocated.lines, None);
            }
            Fact::PaymentDeallocated(back) => {
                lines("payment", back.reference.to_string(), &back.lines, Some(back.deallocation_date));
            }
            Fact::CreditNoteDeallocated(back) => {
                lines("credit_note", back.credit_note.to_string(), &back.lines, Some(back.deallocation_date));
            }
            Fact::CreditRefunded(refund) => {
                all.push((refund.day(), (kind(refund.kind), refund.document.to_string(), 0), refund.amount.minor));
            }
            Fact::PaymentReversed(reversed) => {
                lines("payment", reversed.reference.to_string(), &reversed.lines, Some(reversed.day()));
                all.push((reversed.day(), ("payment", reversed.reference.to_string(), 0), reversed.amount.minor));
            }
        }
    }
    all
}

/// Days on which an invoice is below nil, or a credit above.
pub fn impossible(world: &World) -> Vec<String> {
    let all = changes(world);
    let days: BTreeSet<Date> = all.iter().map(|(day, ..)| *day).collect();
    let mut found = Vec::new();
    for today in days {
        let mut sums: BTreeMap<&Item, i64> = BTreeMap::new();
        for (_, item, amount) in all.iter().filter(|(day, ..)| *day <= today) {
            *sums.entry(item).or_default() += amount;
        }
        for (item, sum) in sums {
            if (item.0 == "invoice" && sum < 0) || (item.0 != "invoice" && sum > 0) {
                found.push(format!("{today}: {} {} stands at {sum}", item.0, item.1));
            }
        }
    }
    found
}

fn allocated_on(reference: &str, to: &str, amount: i64, on: Option<Date>) -> ledger::Command {
    let designations = vec![Designation { invoice: number(to), instalment: None, amount }];
    ledger::Command::AllocatePayment { reference: number(reference), designations, allocation_date: on }
}

fn deallocated(reference: &str) -> ledger::Command {
    ledger::Command::DeallocatePayment {
        reference: number(reference),
        items: vec![],
        deallocation_date: None,
        reason: None,
    }
}

fn reversed_on(reference: &str, reversal_date: Date) -> ledger::Command {
    ledger::Command::ReversePayment { reference: number(reference), reversal_date, reason: None }
}

fn credited_on(invoice: &str, minor: i64, credit_date: Date) -> ledger::Command {
    ledger::Command::CreditInvoice {
        credit_note: number("A-1"),
        invoice: number(invoice),
        amount: money(minor, "EUR"),
        credit_date,
        reason: None,
    }
}

fn nothing_impossible(world: &World) {
    assert_eq!(impossible(world), Vec::<String>::new());
}

/// F-1 of 10.00 was paid on 2026-01-15, and the allocation was taken back on 2026-02-10.
fn taken_back() -> World {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(31), 1_000)])).expect("issued");
    world.ask(&payment("P-1", money(1_000, "EUR"), &[])).expect("paid");
    world.now = at("2026-02-10T12:00");
    world.ask(&deallocated("P-1")).expect("taken back");
    nothing_impossible(&world);
    world
}

#[test]
fn what_was_taken_back_is_used_again_from_that_day_on() {
    let mut world = taken_back();
    world.ask(&invoice("F-2", &[(day(31), 1_000)])).expect("issued");
    assert_eq!(world.ask(&allocated_on("P-1", "F-2", 1_000, Some(day(20)))), Err("BEFORE_CREDIT"));
    let refund = ledger::Command::RefundCredit {
        reference: number("R-1"),
        kind: CreditKind::Payment,
        document: number("P-1"),
        amount: money(500, "EUR"),
        refund_date: day(20),
        reason: None,
    };
    assert_eq!(world.ask(&refund), Err("BEFORE_CREDIT"));
    assert_eq!(world.ask(&allocated_on("P-1", "F-2", 500, None)), Ok(()));
    nothing_impossible(&world);
}

#[test]
fn a_payment_is_reversed_from_the_day_on_which_a_part_was_taken_back() {
    let mut world = taken_back();
    assert_eq!(world.ask(&reversed_on("P-1", day(20))), Ok(()));
    nothing_impossible(&world);
}

#[test]
fn credit_that_was_taken_back_is_applied_by_itself_from_that_day_on() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(31), 1_000)])).expect("issued");
    world.ask(&payment("P-1", money(1_200, "EUR"), &[])).expect("paid, 2.00 too much");
    world.now = at("2026-02-10T12:00");
    world.ask(&deallocated("P-1")).expect("taken back");
    world.ask(&allocated_on("P-1", "F-1", 100, None)).expect("1.00 of it was right");
    world.ask(&invoice("F-2", &[(day(31), 1_000)])).expect("issued");
    nothing_impossible(&world);
}

#[test]
fn an_invoice_is_void_from_the_day_on_which_it_was_open_again() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(31), 1_000)])).expect("issued");
    world.ask(&payment("P-1", money(1_000, "EUR"), &[])).expect("paid");
    let void = ledger::Command::VoidInvoice { number: number("F-1"), void_date: day(1), reason: None };
    world.now = at("2026-02-10T12:00");
    assert_eq!(world.ask(&void), Err("INVOICE_HAS_ALLOCATIONS"));
    world.ask(&deallocated("P-1")).expect("as the refusal says");
    assert_eq!(world.ask(&void), Ok(()));
    nothing_impossible(&world);
}

#[test]
fn an_item_is_paid_and_credited_again_from_the_day_on_which_it_was_open_again() {
    let mut world = taken_back();
    assert_eq!(world.ask(&credited_on("F-1", 400, day(20))), Ok(()));
    assert_eq!(world.ask(&designated("P-2", money(600, "EUR"), &[("F-1", 600)], Excess::Refused)), Ok(()));
    nothing_impossible(&world);
}

#[test]
fn an_invoice_of_tomorrow_is_credited_on_its_day() {
    let mut world = World::opened();
    let tomorrow = Date::constant(2026, 2, 2);
    world.ask(&issued_on("F-1", tomorrow, &[(Date::constant(2026, 2, 20), 1_000)])).expect("issued");
    assert_eq!(world.ask(&credited_on("F-1", 100, tomorrow)), Ok(()));
    nothing_impossible(&world);
}

#[test]
fn a_reversal_never_counts_before_its_payment() {
    let mut world = World::opened();
    world.rules.time_zone = "Pacific/Auckland".into();
    // The 2nd in Auckland.
    world.now = at("2026-02-01T12:00");
    let second = Date::constant(2026, 2, 2);
    let mut paid = payment("P-1", money(1_000, "EUR"), &[]);
    if let ledger::Command::RecordPayment { value_date, .. } = &mut paid {
        *value_date = second;
    }
    world.ask(&paid).expect("paid");
    world.rules.time_zone = "UTC".into();
    assert_eq!(world.ask(&reversed_on("P-1", second)), Ok(()));
    nothing_impossible(&world);
}

/// Whether a payment that is recorded again is said to have the same content.
fn is_same(world: &mut World, again: &ledger::Command) -> bool {
    world.refusal(again).expect("its reference is taken").to_string().contains("same content")
}

#[test]
fn a_payment_for_another_invoice_is_another_payment() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(31), 1_000)])).expect("issued");
    world.ask(&invoice("F-2", &[(day(31), 1_000)])).expect("issued");
    let to = |invoice| designated("P-1", money(1_000, "EUR"), &[(invoice, 1_000)], Excess::Unapplied);
    world.ask(&to("F-1")).expect("paid");
    assert!(is_same(&mut world, &to("F-1")));
    assert!(!is_same(&mut world, &to("F-2")));
}

#[test]
fn a_payment_that_was_taken_back_is_the_same_payment() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(31), 1_000)])).expect("issued");
    let paid = designated("P-1", money(1_000, "EUR"), &[("F-1", 1_000)], Excess::Refused);
    world.ask(&paid).expect("paid");
    world.ask(&deallocated("P-1")).expect("taken back");
    assert!(is_same(&mut world, &paid));
}
