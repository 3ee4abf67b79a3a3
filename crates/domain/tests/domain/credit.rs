//! Credit: whatever it came from, it is applied or can be applied, and who owes nothing is not chased.

use std::collections::BTreeSet;

use jiff::civil::Date;
use proptest::prelude::*;
use saldo_domain::{
    dunning::{self, ContactWithheld, WithheldReason},
    event::Event,
    ledger::{self, ApplyCredit, CreditKind, Designation, Excess},
    money::Currency,
};

use crate::{
    speaking::{live_through, local, next, owing, reject, said, start_mine},
    standing::impossible,
    world::{World, credit_note, day, designated, invoice, issued_on, money, number, payment, reversal},
};

fn allocate(reference: &str) -> ledger::Command {
    ledger::Command::AllocatePayment { reference: number(reference), designations: vec![], allocation_date: None }
}

fn allocate_note(note: &str) -> ledger::Command {
    ledger::Command::AllocateCreditNote { credit_note: number(note), designations: vec![], allocation_date: None }
}

fn deallocate(reference: &str, items: &[(&str, Option<u32>)]) -> ledger::Command {
    ledger::Command::DeallocatePayment {
        reference: number(reference),
        items: items.iter().map(|(invoice, instalment)| (number(invoice), *instalment)).collect(),
        deallocation_date: None,
        reason: None,
    }
}

fn deallocate_note(note: &str, items: &[(&str, Option<u32>)]) -> ledger::Command {
    ledger::Command::DeallocateCreditNote {
        credit_note: number(note),
        items: items.iter().map(|(invoice, instalment)| (number(invoice), *instalment)).collect(),
        deallocation_date: None,
        reason: None,
    }
}

fn refund(reference: &str, kind: CreditKind, document: &str, minor: i64) -> ledger::Command {
    ledger::Command::RefundCredit {
        reference: number(reference),
        kind,
        document: number(document),
        amount: money(minor, "EUR"),
        refund_date: day(20),
        reason: None,
    }
}

/// A payment that is left alone until an allocation names it.
fn kept(reference: &str, minor: i64) -> ledger::Command {
    match payment(reference, money(minor, "EUR"), &[]) {
        ledger::Command::RecordPayment { reference, amount, value_date, designations, excess, remittance, .. } => {
            ledger::Command::RecordPayment {
                reference,
                amount,
                value_date,
                designations,
                excess,
                keep_unapplied: true,
                remittance,
            }
        }
        other => other,
    }
}

fn leaving() -> World {
    let mut world = World::opened();
    world.rules.apply_credit = ApplyCredit::Leave;
    world
}

fn march(day: i8) -> Date {
    Date::constant(2026, 3, day)
}

#[test]
fn u1_a_payment_that_came_before_its_invoice_is_applied_when_the_invoice_is_issued() {
    let mut world = World::opened();
    world.ask(&payment("P-1", money(100_000, "EUR"), &[])).expect("paid before anything is owed");
    world.ask(&invoice("F-1", &[(day(20), 30_000), (day(30), 20_000)])).expect("issued");
    assert_eq!((world.open(), world.unapplied()), (vec![], 50_000));
    world.ask(&invoice("F-2", &[(day(25), 70_000)])).expect("issued");
    assert_eq!((world.open(), world.unapplied()), (vec![20_000], 0));
    world.ask(&reversal("P-1")).expect("reversed");
    assert_eq!(world.open(), [30_000, 70_000, 20_000], "all that it had settled is open again");
}

#[test]
fn u1_the_oldest_credit_is_applied_first_whatever_it_came_from() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(20), 500)])).expect("issued");
    world.ask(&payment("P-1", money(500, "EUR"), &[])).expect("paid on the 15th");
    world.ask(&credit_note("A-1", "F-1", 300)).expect("credited on the 10th");
    world.ask(&payment("P-2", money(200, "EUR"), &[])).expect("paid on the 15th");
    world.ask(&invoice("F-2", &[(day(25), 400)])).expect("issued");
    let left: Vec<_> =
        world.account.ledger.credits.iter().map(|one| (one.document.to_string(), one.remaining)).collect();
    assert_eq!((world.open(), left), (vec![], vec![("P-2".to_owned(), 100)]));
}

#[test]
fn u1_the_credit_of_a_credit_note_is_applied_when_a_reversal_opens_the_item_again() {
    let mut world = owing(march(12));
    world.now = local("2026-01-25T12:00:00");
    world.ask(&payment("P-1", money(10_000, "EUR"), &[])).expect("paid");
    world.ask(&credit_note("A-1", "F-1", 10_000)).expect("credited although it is paid");
    world.ask(&reversal("P-1")).expect("reversed");
    assert_eq!((world.open(), world.unapplied()), (vec![], 0));
    live_through(&mut world, &BTreeSet::new(), local("2026-06-01T12:00:00"));
    assert_eq!(said(&world), Vec::<String>::new());
}

#[test]
fn u1_credit_is_left_where_the_settings_say_so_and_applied_when_it_is_named() {
    let mut world = leaving();
    world.ask(&invoice("F-1", &[(day(20), 500)])).expect("issued");
    world.ask(&payment("P-1", money(500, "EUR"), &[])).expect("paid");
    world.ask(&credit_note("A-1", "F-1", 300)).expect("credited");
    world.ask(&invoice("F-2", &[(day(25), 200)])).expect("issued");
    assert_eq!((world.open(), world.unapplied()), (vec![200], 300));
    world.ask(&allocate_note("A-1")).expect("applied");
    assert_eq!((world.open(), world.unapplied()), (vec![], 100));
    assert_eq!(world.ask(&allocate_note("A-1")), Err("NOTHING_OPEN"));
    assert_eq!(world.ask(&allocate_note("A-9")), Err("CREDIT_NOTE_UNKNOWN"));
}

#[test]
fn u1_a_payment_that_is_kept_unapplied_waits_until_it_is_named() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(20), 500)])).expect("issued");
    world.ask(&kept("P-1", 800)).expect("kept");
    world.ask(&invoice("F-2", &[(day(25), 100)])).expect("issued");
    assert_eq!((world.open(), world.unapplied()), (vec![500, 100], 800));
    world.ask(&allocate("P-1")).expect("named");
    assert_eq!((world.open(), world.unapplied()), (vec![], 200));
    world.ask(&invoice("F-3", &[(day(25), 50)])).expect("issued");
    assert_eq!(
        (world.open(), world.unapplied()),
        (vec![], 150),
        "once it was named, the rest is credit like any other"
    );
}

#[test]
fn u1_an_allocation_can_be_taken_back_whole_or_by_item() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(10), 300), (day(20), 300)])).expect("issued");
    world.ask(&invoice("F-2", &[(day(25), 300)])).expect("issued");
    world.ask(&payment("P-1", money(1_000, "EUR"), &[])).expect("paid");
    assert_eq!(world.ask(&deallocate("P-1", &[("F-9", None)])), Err("ALLOCATION_UNKNOWN"));
    assert_eq!(world.ask(&deallocate("P-1", &[("F-1", Some(3))])), Err("ALLOCATION_UNKNOWN"));
    world.ask(&deallocate("P-1", &[("F-1", Some(2)), ("F-2", None)])).expect("by item");
    assert_eq!((world.open(), world.unapplied()), (vec![300, 300], 700), "not applied again by itself");
    world.ask(&deallocate("P-1", &[])).expect("the rest");
    assert_eq!((world.open(), world.unapplied()), (vec![300, 300, 300], 1_000));
    assert_eq!(world.ask(&deallocate("P-1", &[])), Err("NOTHING_ALLOCATED"));
    let to = vec![Designation { invoice: number("F-2"), instalment: None, amount: 300 }];
    let elsewhere =
        ledger::Command::AllocatePayment { reference: number("P-1"), designations: to, allocation_date: None };
    world.ask(&elsewhere).expect("where a person says");
    assert_eq!((world.open(), world.unapplied()), (vec![300, 300], 700));
    world.ask(&reversal("P-1")).expect("reversed");
    assert_eq!((world.open(), world.unapplied()), (vec![300, 300, 300], 0));
}

#[test]
fn u1_an_allocation_of_a_credit_note_can_be_taken_back_and_applied_elsewhere() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(10), 300), (day(20), 300)])).expect("issued");
    world.ask(&credit_note("A-1", "F-1", 700)).expect("credited");
    world.ask(&invoice("F-2", &[(day(25), 300)])).expect("issued");
    assert_eq!((world.open(), world.unapplied()), (vec![200], 0), "600 of it for F-1, and 100 for F-2");
    assert_eq!(world.ask(&deallocate_note("A-9", &[])), Err("CREDIT_NOTE_UNKNOWN"));
    assert_eq!(world.ask(&deallocate_note("A-1", &[("F-1", Some(3))])), Err("ALLOCATION_UNKNOWN"));
    world.ask(&deallocate_note("A-1", &[("F-1", Some(2)), ("F-2", None)])).expect("by item");
    assert_eq!((world.open(), world.unapplied()), (vec![300, 300], 400), "not applied again by itself");
    let too_early = ledger::Command::AllocateCreditNote {
        credit_note: number("A-1"),
        designations: vec![],
        allocation_date: Some(day(31)),
    };
    assert_eq!(world.ask(&too_early), Err("BEFORE_CREDIT"), "until the 1st of February it was elsewhere");
    world.ask(&deallocate_note("A-1", &[])).expect("the rest");
    assert_eq!((world.open(), world.unapplied()), (vec![300, 300, 300], 700));
    assert_eq!(world.ask(&deallocate_note("A-1", &[])), Err("NOTHING_ALLOCATED"));
    let early = world.ask(&refund("R-1", CreditKind::CreditNote, "A-1", 100));
    assert_eq!(early, Err("BEFORE_CREDIT"), "and so on the 20th of January");
    world.ask(&allocate_note("A-1")).expect("oldest first");
    assert_eq!((world.open(), world.unapplied()), (vec![200], 0));
    assert_eq!(impossible(&world), Vec::<String>::new());
}

#[test]
fn u1_an_invoice_is_voided_once_the_allocation_of_its_credit_note_is_taken_back() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(10), 300)])).expect("issued");
    world.ask(&credit_note("A-1", "F-1", 100)).expect("credited");
    let void = ledger::Command::VoidInvoice { number: number("F-1"), void_date: day(20), reason: None };
    assert_eq!(world.ask(&void), Err("INVOICE_HAS_ALLOCATIONS"));
    world.ask(&deallocate_note("A-1", &[])).expect("taken back");
    world.ask(&void).expect("voided");
    assert_eq!((world.open(), world.unapplied()), (vec![], 100));
    assert_eq!(impossible(&world), Vec::<String>::new());
}

#[test]
fn u1_other_credit_that_waits_is_applied_to_what_a_credit_note_no_longer_settles() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(10), 300)])).expect("issued");
    world.ask(&credit_note("A-1", "F-1", 300)).expect("credited");
    world.ask(&payment("P-1", money(200, "EUR"), &[])).expect("paid although nothing is open");
    world.ask(&deallocate_note("A-1", &[])).expect("taken back");
    assert_eq!((world.open(), world.unapplied()), (vec![100], 300), "the payment is applied, the credit note waits");
}

#[test]
fn u1_an_item_that_a_deallocation_opens_goes_on_with_the_step_it_had() {
    let mut world = owing(march(12));
    live_through(&mut world, &BTreeSet::new(), local("2026-03-21T00:00:00"));
    assert_eq!(said(&world).len(), 3, "courtesy, due-today and first: {:?}", said(&world));
    world.ask(&payment("P-1", money(10_000, "EUR"), &[])).expect("paid");
    world.ask(&kept("P-2", 1)).expect("kept");
    world.now = local("2026-03-26T12:00:00");
    world.ask(&refund("R-1", CreditKind::Payment, "P-2", 1)).expect("refunded");
    world.ask(&deallocate("P-1", &[])).expect("it was another debtor's");
    live_through(&mut world, &BTreeSet::new(), local("2026-12-01T00:00:00"));
    assert_eq!(said(&world).len(), 3, "the money still stands in the debtor's favour");
    world.now = local("2026-12-01T12:00:00");
    world.ask(&reversal("P-1")).expect("the bank takes it back");
    live_through(&mut world, &BTreeSet::new(), local("2026-12-31T00:00:00"));
    let steps: Vec<String> = said(&world)[3..].iter().map(|line| line[17..].to_owned()).collect();
    assert_eq!(steps, ["second", "formal"]);
}

#[test]
fn u1_credit_is_refunded_once_and_never_beyond_what_is_unapplied() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(20), 500)])).expect("issued");
    world.ask(&payment("P-1", money(800, "EUR"), &[])).expect("paid");
    world.ask(&credit_note("A-1", "F-1", 100)).expect("credited");
    let eur = Currency::new("EUR").expect("EUR");
    assert_eq!(world.account.ledger.balance(eur), -400);
    assert_eq!(world.ask(&refund("R-1", CreditKind::Payment, "P-1", 301)), Err("REFUND_EXCEEDS_CREDIT"));
    assert_eq!(world.ask(&refund("R-1", CreditKind::CreditNote, "A-9", 1)), Err("CREDIT_NOTE_UNKNOWN"));
    world.ask(&refund("R-1", CreditKind::Payment, "P-1", 300)).expect("refunded");
    assert_eq!(world.ask(&refund("R-1", CreditKind::Payment, "P-1", 300)), Err("REFUND_REFERENCE_TAKEN"));
    world.ask(&refund("R-2", CreditKind::CreditNote, "A-1", 100)).expect("refunded");
    assert_eq!((world.account.ledger.balance(eur), world.unapplied()), (0, 0));
    assert_eq!(world.ask(&refund("R-3", CreditKind::CreditNote, "A-1", 1)), Err("NOTHING_UNAPPLIED"));
    assert_eq!(world.ask(&reversal("P-1")), Err("PAYMENT_REFUNDED"));
}

#[test]
fn u1_who_owes_nothing_is_not_chased() {
    let mut world = owing(march(12));
    world.rules.apply_credit = ApplyCredit::Leave;
    world.now = local("2026-01-20T12:00:00");
    world.ask(&kept("P-1", 10_000)).expect("kept");
    assert_eq!(next(&world), None, "the balance is nil");
    live_through(&mut world, &BTreeSet::new(), local("2026-06-01T00:00:00"));
    assert_eq!(said(&world), Vec::<String>::new());
    world.now = local("2026-06-01T12:00:00");
    world.ask(&issued_on("F-2", Date::constant(2026, 6, 1), &[(Date::constant(2026, 6, 20), 100)])).expect("issued");
    let started = start_mine(&mut world);
    let listed: Vec<String> = started.items.iter().map(|item| item.invoice.to_string()).collect();
    assert_eq!(listed, ["F-1", "F-2"], "now 1.00 is owed");
    assert_eq!(started.unapplied.iter().map(|(_, minor)| *minor).collect::<Vec<_>>(), [10_000]);
}

#[test]
fn u1_a_reminder_that_waits_is_withheld_when_credit_covers_what_it_is_about() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    world.ask(&saldo_domain::command::Command::AdvanceTime).expect("due");
    world.ask(&kept("P-1", 10_500)).expect("kept");
    let start = dunning::Command::StartContactAttempt { reminder: 1, claim: dunning::Claim([1; 16]) };
    world.ask(&start).expect("asked");
    let eur = Currency::new("EUR").expect("EUR");
    match world.history.last() {
        Some((_, Event::Dunning(dunning::Fact::ContactWithheld(ContactWithheld { reason, took, balances, .. })))) => {
            assert_eq!((*reason, balances.as_slice()), (WithheldReason::NothingOwed, &[(eur, -500)][..]));
            assert!(took.steps.is_empty(), "no step is taken by it");
        }
        other => panic!("not withheld: {other:?}"),
    }
    assert_eq!(next(&world), None);
}

#[test]
fn u1_nobody_has_a_reminder_said_again_about_what_credit_covers() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    start_mine(&mut world);
    reject(&mut world);
    world.ask(&kept("P-1", 10_000)).expect("kept");
    assert_eq!(world.ask(&dunning::Command::RetryContact { reminder: 1, note: None }), Err("NOTHING_OWED"));
}

#[test]
fn u1_credit_in_one_currency_covers_nothing_in_another() {
    let mut world = owing(march(12));
    let dollars = ledger::Command::IssueInvoice {
        number: number("F-2"),
        total: money(500, "USD"),
        issue_date: day(1),
        instalments: ledger::invoice::schedule(money(500, "USD"), day(1), Some(march(12)), &[]).expect("a schedule"),
        description: None,
    };
    world.ask(&dollars).expect("issued");
    world.now = local("2026-01-20T12:00:00");
    world.ask(&kept("P-1", 10_000)).expect("kept");
    world.now = local("2026-03-19T10:00:00");
    let started = start_mine(&mut world);
    let listed: Vec<String> = started.items.iter().map(|item| item.invoice.to_string()).collect();
    assert_eq!((listed, started.unapplied), (vec!["F-2".to_owned()], vec![]), "nothing is said of the euros");
}

#[test]
fn u1_what_is_applied_before_an_invoice_is_issued_stands_in_the_debtors_favour_until_then() {
    let mut world = owing(march(12));
    let issued = Date::constant(2026, 4, 1);
    world.ask(&issued_on("F-2", issued, &[(Date::constant(2026, 4, 2), 10_000)])).expect("issued ahead");
    world.now = local("2026-01-20T12:00:00");
    world.ask(&designated("P-1", money(10_000, "EUR"), &[("F-2", 10_000)], Excess::Refused)).expect("paid ahead");
    live_through(&mut world, &BTreeSet::new(), local("2026-04-01T00:00:00"));
    assert_eq!(said(&world), Vec::<String>::new(), "the balance is nil until F-2 is issued");
    live_through(&mut world, &BTreeSet::new(), local("2026-04-02T00:00:00"));
    assert_eq!(said(&world), ["2026-04-01 09:00 first"], "then F-1 is owed");
}

#[derive(Debug, Clone)]
enum Turn {
    Invoice(i64, i64),
    Pay(i64, bool),
    Reverse(u32),
    Deallocate(u32),
    Allocate(u32),
    Credit(u32, i64),
    DeallocateNote(u32),
    AllocateNote(u32),
}

fn turns() -> impl Strategy<Value = Vec<(i64, Turn)>> {
    let turn = prop_oneof![
        3 => (-20..40i64, 1..9_000i64).prop_map(|(due, minor)| Turn::Invoice(due, minor)),
        3 => (1..20_000i64, prop::bool::ANY).prop_map(|(minor, kept)| Turn::Pay(minor, kept)),
        1 => (1..6u32).prop_map(Turn::Reverse),
        1 => (1..6u32).prop_map(Turn::Deallocate),
        1 => (1..6u32).prop_map(Turn::Allocate),
        1 => (1..6u32, 1..9_000i64).prop_map(|(of, minor)| Turn::Credit(of, minor)),
        1 => (1..6u32).prop_map(Turn::DeallocateNote),
        1 => (1..6u32).prop_map(Turn::AllocateNote),
    ];
    prop::collection::vec((1..30 * 24i64, turn), 1..30)
}

proptest! {
    /// Payments, kept payments, reversals and credit notes in random order: each message asks for more than the amounts in the
    /// debtor's favour, and states all of those.
    #[test]
    fn u1_whatever_happens_nobody_is_chased_for_nothing(leave in prop::bool::ANY, turns in turns()) {
        let mut world = owing(Date::constant(2026, 2, 20));
        world.rules.apply_credit = if leave { ApplyCredit::Leave } else { ApplyCredit::OldestFirst };
        world.now = local("2026-01-25T12:00:00");
        for (index, (hours, turn)) in (1..).zip(turns) {
            let until = world.now + jiff::SignedDuration::from_hours(hours);
            live_through(&mut world, &BTreeSet::new(), until);
            world.now = until;
            let today = until.to_zoned(jiff::tz::TimeZone::UTC).date();
            let _ = match turn {
                Turn::Invoice(due, minor) => {
                    let due = today.saturating_add(jiff::Span::new().days(due)).max(day(1));
                    world.ask(&invoice(&format!("G-{index}"), &[(due, minor)]))
                }
                Turn::Pay(minor, true) => world.ask(&kept(&format!("P-{index}"), minor)),
                Turn::Pay(minor, false) => world.ask(&payment(&format!("P-{index}"), money(minor, "EUR"), &[])),
                Turn::Reverse(of) => world.ask(&reversal(&format!("P-{of}"))),
                Turn::Deallocate(of) => world.ask(&deallocate(&format!("P-{of}"), &[])),
                Turn::Allocate(of) => world.ask(&allocate(&format!("P-{of}"))),
                Turn::DeallocateNote(of) => world.ask(&deallocate_note(&format!("A-{of}"), &[])),
                Turn::AllocateNote(of) => world.ask(&allocate_note(&format!("A-{of}"))),
                Turn::Credit(of, minor) => world.ask(&credit_note(&format!("A-{index}"), &format!("G-{of}"), minor)),
            };
        }
        let until = world.now + jiff::SignedDuration::from_hours(24 * 300);
        live_through(&mut world, &BTreeSet::new(), until);
        for (_, event) in &world.history {
            if let Event::Dunning(dunning::Fact::ContactStarted(started)) = event {
                let open: i64 = started.items.iter().map(|item| item.open).sum();
                let credit: i64 = started.unapplied.iter().map(|(_, minor)| minor).sum();
                prop_assert!(open > credit, "{open} is open and {credit} stands in the debtor's favour");
            }
        }
        let eur = Currency::new("EUR").expect("EUR");
        let ended = world.account.ledger.items.iter().all(|item| item.last_step.is_some_and(|last| last.offset_days == 45));
        prop_assert!(ended || world.account.ledger.balance(eur) <= 0, "what is owed is chased to the end");
        prop_assert_eq!(impossible(&world), Vec::<String>::new());
    }
}
