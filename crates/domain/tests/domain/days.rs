//! Days: what is dated ahead, what is decided later, and what is not issued yet.

use std::collections::BTreeSet;

use jiff::civil::Date;
use saldo_domain::{
    event::Event,
    ledger::{self, Designation, Fact},
};

use crate::{
    speaking::{live_through, local, owing, said, start_mine},
    world::{World, at, day, invoice, issued_on, money, number, payment},
};

/// In Chicago it is the evening of the third when UTC has the fourth already.
fn chicago() -> World {
    let mut world = World::opened();
    world.rules.time_zone = "America/Chicago".into();
    world.now = at("2026-01-04T01:30");
    world
}

fn paid_on(reference: &str, minor: i64, value_date: Date) -> ledger::Command {
    match payment(reference, money(minor, "EUR"), &[]) {
        ledger::Command::RecordPayment {
            reference, amount, designations, excess, keep_unapplied, remittance, ..
        } => ledger::Command::RecordPayment {
            reference,
            amount,
            value_date,
            designations,
            excess,
            keep_unapplied,
            remittance,
        },
        other => other,
    }
}

fn reversed_on(reference: &str, reversal_date: Date) -> ledger::Command {
    ledger::Command::ReversePayment { reference: number(reference), reversal_date, reason: None }
}

fn allocated_on(reference: &str, to: &[(&str, i64)], allocation_date: Option<Date>) -> ledger::Command {
    let designation =
        |(invoice, amount): &(&str, i64)| Designation { invoice: number(invoice), instalment: None, amount: *amount };
    let designations = to.iter().map(designation).collect();
    ledger::Command::AllocatePayment { reference: number(reference), designations, allocation_date }
}

/// The days from which the newest allocation counts.
fn effective(world: &World) -> Vec<Date> {
    let lines = world.history.iter().rev().find_map(|(_, event)| match event {
        Event::Ledger(Fact::PaymentAllocated(allocated)) => Some(&allocated.lines),
        _ => None,
    });
    lines.expect("an allocation").iter().map(|line| line.effective_date).collect()
}

#[test]
fn u2_a_day_beyond_tomorrow_is_refused_for_payments_credits_voids_and_reversals() {
    let mut world = chicago();
    world.ask(&invoice("F-1", &[(day(31), 1_000)])).expect("issued");
    world.ask(&invoice("F-2", &[(day(31), 1_000)])).expect("issued");
    let credited_on = |day| ledger::Command::CreditInvoice {
        credit_note: number("A-1"),
        invoice: number("F-1"),
        amount: money(10, "EUR"),
        credit_date: day,
        reason: None,
    };
    let voided_on = |day| ledger::Command::VoidInvoice { number: number("F-2"), void_date: day, reason: None };
    // The creditor's day is the third; by UTC the fifth would be tomorrow.
    for late in [day(5), Date::constant(2027, 1, 3)] {
        assert_eq!(world.ask(&paid_on("P-1", 100, late)), Err("DATE_IN_FUTURE"), "{late}");
        assert_eq!(world.ask(&credited_on(late)), Err("DATE_IN_FUTURE"), "{late}");
        assert_eq!(world.ask(&voided_on(late)), Err("DATE_IN_FUTURE"), "{late}");
    }
    world.ask(&paid_on("P-1", 100, day(4))).expect("a bank in the east");
    assert_eq!(world.ask(&reversed_on("P-1", day(5))), Err("DATE_IN_FUTURE"));
    world.ask(&reversed_on("P-1", day(4))).expect("reversed");
    world.ask(&credited_on(day(4))).expect("credited");
    world.ask(&voided_on(day(4))).expect("voided");
    let counts_from = |(_, event): &(_, Event)| match event {
        Event::Ledger(Fact::PaymentRecorded(fact)) => Some(fact.day()),
        Event::Ledger(Fact::PaymentReversed(fact)) => Some(fact.day()),
        Event::Ledger(Fact::InvoiceCredited(fact)) => Some(fact.day()),
        Event::Ledger(Fact::InvoiceVoided(fact)) => Some(fact.day()),
        _ => None,
    };
    let days: Vec<Date> = world.history.iter().filter_map(counts_from).collect();
    assert_eq!(days, [day(3); 4], "what is dated ahead counts from the creditor's day");
}

#[test]
fn u2_no_item_is_spoken_of_before_its_issue_date() {
    let mut world = owing(Date::constant(2026, 3, 12));
    let issued = Date::constant(2026, 3, 20);
    world.ask(&issued_on("F-2", issued, &[(Date::constant(2026, 3, 22), 5_000)])).expect("issued ahead");
    world.now = local("2026-03-19T10:00:00");
    let started = start_mine(&mut world);
    let listed: Vec<String> = started.items.iter().map(|item| item.invoice.to_string()).collect();
    assert_eq!(listed, ["F-1"], "F-2 is not issued yet");

    let mut alone = owing(Date::constant(2026, 12, 1));
    alone.ask(&issued_on("F-2", issued, &[(Date::constant(2026, 3, 22), 5_000)])).expect("issued ahead");
    live_through(&mut alone, &BTreeSet::new(), local("2026-03-21T00:00:00"));
    assert_eq!(said(&alone), ["2026-03-20 09:00 courtesy"], "its step at -3 days waits for the issue date");
}

#[test]
fn u2_an_invoice_of_a_mistyped_year_is_voided_on_its_issue_date() {
    let mut world = chicago();
    let issued = Date::constant(2027, 1, 1);
    world.ask(&issued_on("F-1", issued, &[(issued, 1_000)])).expect("issued");
    let voided_on = |void_date| ledger::Command::VoidInvoice { number: number("F-1"), void_date, reason: None };
    assert_eq!(world.ask(&voided_on(day(3))), Err("VOID_BEFORE_ISSUE"));
    assert_eq!(world.ask(&voided_on(Date::constant(2027, 1, 3))), Err("DATE_IN_FUTURE"));
    world.ask(&voided_on(issued)).expect("never owed");
    assert_eq!(world.open(), [0; 0]);
}

#[test]
fn u12_a_later_allocation_counts_from_the_day_it_was_decided() {
    let mut world = World::opened();
    world.rules.apply_credit = ledger::ApplyCredit::Leave;
    world.now = at("2026-02-10T12:00");
    world.ask(&paid_on("P-1", 100, Date::constant(2026, 2, 10))).expect("nothing is open yet");
    world.now = at("2026-05-12T12:00");
    world.ask(&invoice("F-1", &[(Date::constant(2026, 3, 15), 5_000)])).expect("issued");
    world.ask(&allocated_on("P-1", &[("F-1", 40)], None)).expect("allocated");
    assert_eq!(effective(&world), [Date::constant(2026, 5, 12)]);
    let before = allocated_on("P-1", &[("F-1", 40)], Some(Date::constant(2026, 2, 9)));
    assert_eq!(world.ask(&before), Err("BEFORE_CREDIT"));
    let ahead = allocated_on("P-1", &[("F-1", 40)], Some(Date::constant(2026, 5, 14)));
    assert_eq!(world.ask(&ahead), Err("DATE_IN_FUTURE"));
    world.ask(&allocated_on("P-1", &[("F-1", 40)], Some(Date::constant(2026, 4, 1)))).expect("an explicit day");
    assert_eq!(effective(&world), [Date::constant(2026, 4, 1)]);
    world.ask(&paid_on("P-2", 100, Date::constant(2026, 4, 20))).expect("paid");
    assert_eq!(
        effective(&world),
        [Date::constant(2026, 4, 20)],
        "what comes with its payment counts from the value date"
    );
}

#[test]
fn a_currency_mismatch_names_every_currency_of_the_account_and_amounts_have_their_decimals() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(10), 1_000)])).expect("issued");
    let dollars = ledger::Command::IssueInvoice {
        number: number("F-2"),
        total: money(500, "USD"),
        issue_date: day(1),
        instalments: ledger::invoice::schedule(money(500, "USD"), day(1), Some(day(10)), &[]).expect("a schedule"),
        description: None,
    };
    world.ask(&dollars).expect("issued");
    let said = |command| world.decide(&command).expect_err("refused").to_string();
    let expected = "the amount is in GBP, the account's documents are in EUR, USD";
    assert_eq!(said(payment("P-1", money(500, "GBP"), &[])), expected);
    let expected = "10.01 EUR is designated, but invoice F-1 has only 10.00 EUR";
    assert_eq!(said(payment("P-1", money(2_000, "EUR"), &[("F-1", 1_001)])), expected);
}
