//! Reminders that a person has said again, and the task that stays until somebody has seen to it.

use std::collections::BTreeSet;

use jiff::civil::Date;
use saldo_domain::{
    agreement::{self, HoldReason, HoldScope, HoldTerms},
    command::Command,
    dunning::{self, Outcome},
    ledger::{self, Excess},
};

use crate::{
    speaking::{MINE, accepted, live_through, local, owing, reject, said, settle, start, start_mine},
    world::{World, day, invoice, money, number, payment},
};

fn march(day: i8) -> Date {
    Date::constant(2026, 3, day)
}

fn retry(world: &mut World, reminder: u64) -> Result<(), &'static str> {
    world.ask(&dunning::Command::RetryContact { reminder, note: None })
}

fn hold(world: &mut World, invoice: &str) {
    let scope = HoldScope::Invoices(vec![number(invoice)]);
    let terms = HoldTerms { scope, from: None, until: None, reason: HoldReason::Complaint };
    assert_eq!(world.ask(&agreement::Command::PlaceHold { hold: number("H-1"), terms, note: None }), Ok(()));
}

/// Credit covers the invoice in dollars, which stays open.
fn cover_the_dollars(world: &mut World) {
    let kept = ledger::Command::RecordPayment {
        reference: number("P-1"),
        amount: money(500, "USD"),
        value_date: day(15),
        designations: vec![],
        excess: Excess::Refused,
        keep_unapplied: true,
        remittance: None,
    };
    assert_eq!(world.ask(&kept), Ok(()));
}

/// A reminder about F-1 in euros and F-2 in dollars that certainly reached nobody.
fn rejected_in_two_currencies() -> World {
    let mut world = owing(march(12));
    let total = money(500, "USD");
    let instalments = ledger::invoice::schedule(total, day(1), Some(march(12)), &[]).expect("a schedule");
    let dollars = ledger::Command::IssueInvoice {
        number: number("F-2"),
        total,
        issue_date: day(1),
        instalments,
        description: None,
    };
    assert_eq!(world.ask(&dollars), Ok(()));
    world.now = local("2026-03-19T10:00:00");
    assert_eq!(start_mine(&mut world).items.len(), 2);
    reject(&mut world);
    world
}

/// The started reminder may or may not have reached the debtor.
fn unknown(world: &mut World) {
    let open = world.account.dunning.open.clone().expect("a started reminder");
    assert_eq!(settle(world, open.number, open.attempts, Outcome::Unknown { handed: None }), Ok(()));
}

#[test]
fn a_retry_of_what_is_on_hold_or_covered_by_credit_is_refused() {
    let mut world = rejected_in_two_currencies();
    cover_the_dollars(&mut world);
    hold(&mut world, "F-1");
    assert_eq!(retry(&mut world, 1), Err("ON_HOLD"));
    assert_eq!(world.account.dunning.needs_person(), Some(1));
}

#[test]
fn a_retry_whose_items_come_on_hold_or_are_covered_is_the_persons_task_again() {
    let mut world = rejected_in_two_currencies();
    assert_eq!(retry(&mut world, 1), Ok(()));
    cover_the_dollars(&mut world);
    hold(&mut world, "F-1");
    world.now = local("2026-03-20T10:00:00");
    let mut started = world.clone();
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    assert_eq!(world.account.dunning.needs_person(), Some(1));
    start(&mut started, 2, MINE);
    assert_eq!(started.account.dunning.needs_person(), Some(1));
}

#[test]
fn a_retry_is_not_sent_when_the_first_message_turns_out_to_have_been_sent() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    start_mine(&mut world);
    world.now = local("2026-03-19T10:18:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()), "the outcome is unknown");
    assert_eq!(retry(&mut world, 1), Ok(()));
    assert_eq!(settle(&mut world, 1, 1, accepted()), Ok(()), "the sender says that the message went out");
    live_through(&mut world, &BTreeSet::new(), local("2026-03-21T00:00:00"));
    assert_eq!(said(&world).len(), 1, "{:?}", said(&world));
}

#[test]
fn a_dropped_reminder_takes_no_step_of_what_is_settled() {
    let mut world = owing(march(12));
    assert_eq!(world.ask(&invoice("F-2", &[(march(12), 500)])), Ok(()));
    world.now = local("2026-03-19T10:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    assert_eq!(world.ask(&payment("P-1", money(500, "EUR"), &[("F-2", 500)])), Ok(()));
    assert_eq!(world.ask(&dunning::Command::DropContact { reminder: 1, note: None }), Ok(()));
    let bounced = ledger::Command::ReversePayment { reference: number("P-1"), reversal_date: march(19), reason: None };
    assert_eq!(world.ask(&bounced), Ok(()));
    let steps: Vec<_> = world.account.ledger.items.iter().map(|item| item.last_step.is_some()).collect();
    assert_eq!(steps, [true, false]);
}

#[test]
fn a_settled_reminder_about_another_item_leaves_the_task_of_the_one_before_it() {
    let mut world = owing(march(12));
    assert_eq!(world.ask(&invoice("F-2", &[(march(16), 500)])), Ok(()));
    world.now = local("2026-03-19T10:00:00");
    start_mine(&mut world);
    unknown(&mut world);
    world.now = local("2026-03-23T10:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    let open = world.account.dunning.open.clone().expect("the first reminder of F-2");
    assert_eq!((open.takes.len(), open.retry_of), (1, None));
    assert_eq!(world.ask(&payment("P-1", money(500, "EUR"), &[("F-2", 500)])), Ok(()));
    start(&mut world, open.number, MINE);
    assert_eq!(world.account.dunning.needs_person(), Some(1), "nobody has seen to F-1");
}
