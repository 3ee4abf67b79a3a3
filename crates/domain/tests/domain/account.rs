//! The account, as the field speaks of it: given what happened, when something is asked, then this follows.

use jiff::civil::Date;
use saldo_domain::{
    ledger::{self, Excess, invoice::schedule},
    money::{Currency, InvalidDecimal, format_minor, parse_decimal},
    party::{self, Channel, ContactPoint, ProfileChange},
    sealed::Sealed,
};

use crate::world::{
    World, as_if_never_settled, credit_note, day, designated, invoice, money, number, payment, reversal,
};

fn void(invoice: &str) -> ledger::Command {
    ledger::Command::VoidInvoice { number: number(invoice), void_date: day(10), reason: None }
}

#[test]
fn a_payment_goes_to_the_oldest_instalment_first() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(10), 3_000), (day(20), 5_000), (day(30), 2_000)])).expect("issued");
    world.ask(&payment("P-1", money(4_000, "EUR"), &[])).expect("paid");
    assert_eq!(world.open(), [4_000, 2_000], "100 as 30, 50, 20, paid 40");

    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(10), 6_000), (day(20), 10_000), (day(30), 4_000)])).expect("issued");
    world.ask(&payment("P-1", money(4_000, "EUR"), &[])).expect("paid");
    assert_eq!(world.open(), [2_000, 10_000, 4_000], "200 as 60, 100, 40, paid 40");
}

#[test]
fn the_debtors_designation_goes_before_age() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(10), 1_000)])).expect("issued");
    world.ask(&invoice("F-2", &[(day(20), 1_000)])).expect("issued");
    world.ask(&payment("P-1", money(1_500, "EUR"), &[("F-2", 1_000)])).expect("paid");
    assert_eq!((world.open(), world.unapplied()), (vec![1_000], 500), "what is not designated stays unapplied");
    world
        .ask(&ledger::Command::AllocatePayment {
            reference: number("P-1"),
            designations: vec![],
            allocation_date: None,
        })
        .expect("applied");
    assert_eq!((world.open(), world.unapplied()), (vec![500], 0));
    let again =
        ledger::Command::AllocatePayment { reference: number("P-1"), designations: vec![], allocation_date: None };
    assert_eq!(world.ask(&again), Err("NOTHING_UNAPPLIED"));
}

#[test]
fn a_reversal_restores_what_the_payment_had_settled() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(10), 1_000), (day(20), 1_000)])).expect("issued");
    let before = world.account.clone();
    world.ask(&payment("P-1", money(2_500, "EUR"), &[])).expect("paid");
    assert_eq!((world.open(), world.unapplied()), (vec![], 500));
    world.ask(&reversal("P-1")).expect("reversed");
    assert_eq!(as_if_never_settled(&world.account), before);
    assert_eq!(world.ask(&reversal("P-1")), Err("PAYMENT_ALREADY_REVERSED"));
}

#[test]
fn a_credit_note_above_the_open_amount_leaves_credit() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(10), 1_000)])).expect("issued");
    world.ask(&payment("P-1", money(800, "EUR"), &[])).expect("paid");
    world.ask(&credit_note("A-1", "F-1", 500)).expect("credited");
    assert_eq!((world.open(), world.unapplied()), (vec![], 300));
    assert_eq!(world.ask(&credit_note("A-1", "F-1", 500)), Err("CREDIT_NOTE_NUMBER_TAKEN"));
    assert_eq!(world.ask(&credit_note("A-2", "F-9", 500)), Err("INVOICE_UNKNOWN"));
}

#[test]
fn an_invoice_is_voided_only_while_nothing_is_applied() {
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(10), 1_000)])).expect("issued");
    world.ask(&payment("P-1", money(1, "EUR"), &[])).expect("paid");
    assert_eq!(world.ask(&void("F-1")), Err("INVOICE_HAS_ALLOCATIONS"));
    world.ask(&reversal("P-1")).expect("reversed");
    world.ask(&void("F-1")).expect("voided");
    assert_eq!(world.ask(&void("F-1")), Err("INVOICE_VOIDED"));
    assert_eq!(world.ask(&payment("P-2", money(1, "EUR"), &[("F-1", 1)])), Err("INVOICE_VOIDED"));
    assert_eq!(world.ask(&invoice("F-1", &[(day(10), 1_000)])), Err("INVOICE_NUMBER_TAKEN"), "its number stays taken");
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut world = World::default();
    assert_eq!(world.ask(&invoice("F-1", &[(day(10), 1_000)])), Err("ACCOUNT_UNKNOWN"));
    let mut world = World::opened();
    world.ask(&invoice("F-1", &[(day(10), 1_000)])).expect("issued");
    assert_eq!(world.ask(&payment("P-1", money(2_000, "EUR"), &[("F-1", 1_001)])), Err("OVER_ALLOCATION"));
    assert_eq!(world.ask(&payment("P-1", money(500, "EUR"), &[("F-1", 501)])), Err("OVER_ALLOCATION"));
    assert_eq!(world.ask(&payment("P-1", money(500, "EUR"), &[("F-1", 300), ("F-1", 300)])), Err("OVER_ALLOCATION"));
    assert_eq!(world.ask(&payment("P-1", money(500, "USD"), &[])), Err("CURRENCY_MISMATCH"));
    assert_eq!(world.ask(&payment("P-1", money(500, "EUR"), &[("F-9", 1)])), Err("INVOICE_UNKNOWN"));
    assert_eq!(world.ask(&reversal("P-9")), Err("PAYMENT_UNKNOWN"));
    world.ask(&payment("P-1", money(1_000, "EUR"), &[])).expect("paid");
    assert_eq!(world.ask(&payment("P-1", money(1_000, "EUR"), &[])), Err("PAYMENT_REFERENCE_TAKEN"));
    assert_eq!(world.ask(&payment("P-2", money(1, "EUR"), &[("F-1", 1)])), Err("ITEM_NOT_OPEN"));
}

#[test]
fn u3_what_does_not_fit_a_designation_stays_unapplied_where_the_command_says_so() {
    let keep = |reference: &str, minor: i64, to: &[(&str, i64)]| {
        designated(reference, money(minor, "EUR"), to, Excess::Unapplied)
    };
    let mut world = World::opened();
    world.ask(&invoice("S-1", &[(day(10), 100)])).expect("issued");
    world.ask(&invoice("S-2", &[(day(20), 700)])).expect("issued");
    world.ask(&keep("P-1", 500, &[("S-1", 500)])).expect("1.00 is applied");
    assert_eq!((world.open(), world.unapplied()), (vec![700], 400), "and 4.00 waits: S-2 was not designated");
    world.ask(&keep("P-2", 300, &[("S-1", 100), ("S-9", 200)])).expect("settled and unknown");
    assert_eq!((world.open(), world.unapplied()), (vec![700], 700));
    world.ask(&void("S-2")).expect("voided");
    world.ask(&keep("P-3", 200, &[("S-2", 200)])).expect("voided");
    assert_eq!((world.open(), world.unapplied()), (vec![], 900));
    assert_eq!(world.ask(&keep("P-4", 100, &[("S-9", 101)])), Err("OVER_ALLOCATION"), "more than was paid");
    let again = world.decide(&keep("P-1", 500, &[("S-1", 500)]));
    assert!(again.is_err_and(|refusal| refusal.details().contains(&("same_content", "true".to_owned()))));
}

#[test]
fn a_schedule_names_every_fault() {
    let faults = |due, parts: &[(Date, i64)]| {
        let faults = schedule(money(1_000, "EUR"), day(5), due, parts).expect_err("faulty");
        faults.into_iter().map(|fault| fault.field).collect::<Vec<_>>()
    };
    assert_eq!(faults(None, &[]), ["due_date"]);
    assert_eq!(faults(Some(day(4)), &[]), ["due_date"]);
    assert_eq!(faults(Some(day(9)), &[(day(9), 1_000)]), ["due_date"]);
    assert_eq!(faults(None, &[(day(9), 400), (day(9), 600)]), ["instalments[1].due_date"]);
    assert_eq!(faults(None, &[(day(9), 0), (day(10), 999)]), ["instalments[0].amount_minor", "instalments"]);
}

#[test]
fn decimals_are_read_as_the_currency_writes_them() {
    let eur = Currency::new("EUR").expect("EUR");
    let read = |text: &str| parse_decimal(text, ',', Some('.'), eur);
    assert_eq!(read("1.234,5"), Ok(123_450));
    assert_eq!(read("-0,05"), Ok(-5));
    assert_eq!(read("7"), Ok(700));
    assert_eq!(read("1,234"), Err(InvalidDecimal::TooManyDecimals { decimals: 2, currency: eur }));
    for text in ["", "-", ",", "1.23,4", "1e5", "١", "1 000", "--1", "1,2,3"] {
        assert_eq!(read(text), Err(InvalidDecimal::NotANumber), "{text:?}");
    }
    assert_eq!(read("99999999999999999999"), Err(InvalidDecimal::TooLarge));
    let jpy = Currency::new("JPY").expect("JPY");
    assert_eq!(parse_decimal("1234", '.', None, jpy), Ok(1_234));
    assert_eq!(format_minor(-5, eur), "-0.05");
    assert_eq!(format_minor(1_234, jpy), "1234");
    assert!(Currency::new("XAU").is_err() && Currency::new("eur").is_err());
}

/// The shortest of thirty folds of a payment and its reversal, over as many items as lines.
fn fold_of(lines: u32) -> std::time::Duration {
    let mut world = World::opened();
    for block in 0..lines / 100 {
        let parts: Vec<(Date, i64)> =
            (0..100).map(|n| (day(2).saturating_add(jiff::Span::new().days(n)), 10)).collect();
        world.ask(&invoice(&format!("F-{block}"), &parts)).expect("issued");
    }
    let before = world.account.clone();
    world.ask(&payment("P-1", money(i64::from(lines) * 10, "EUR"), &[])).expect("paid");
    world.ask(&reversal("P-1")).expect("reversed");
    let facts: Vec<_> = world.history.iter().rev().take(3).map(|(_, event)| event.clone()).rev().collect();
    let run = || {
        let mut account = before.clone();
        let began = std::time::Instant::now();
        facts.iter().for_each(|fact| saldo_domain::evolve(&mut account, fact));
        let took = began.elapsed();
        assert!(as_if_never_settled(&account) == before);
        took
    };
    (0..30).map(|_| run()).min().expect("thirty runs")
}

#[test]
fn a_payment_of_ten_times_the_lines_costs_the_fold_about_ten_times_as_much() {
    // Few enough that other processes seldom interrupt a fold.
    let (few, many) = (fold_of(300), fold_of(3_000));
    assert!(many < few * 40, "{few:?} for 300 lines, {many:?} for 3,000: a quadratic fold takes 100 times as long");
}

#[test]
fn contact_points_that_somebody_changed_meanwhile_are_not_overwritten() {
    let mut world = World::opened();
    let point =
        |number: u8| ContactPoint { channel: Channel::Email, address: Sealed(vec![number]), digest: [number; 32] };
    let amend = |seen: &[u8], points: &[u8]| party::Command::AmendAccountAsSeen {
        change: ProfileChange {
            contact_points: Some(points.iter().map(|number| point(*number)).collect()),
            ..ProfileChange::default()
        },
        seen: seen.iter().map(|number| [*number; 32]).collect(),
    };
    assert_eq!(world.ask(&amend(&[], &[1])), Ok(()));
    assert_eq!(world.ask(&amend(&[], &[2])), Err("CONTACT_POINTS_CHANGED"));
    assert_eq!(world.ask(&amend(&[1], &[1, 2])), Ok(()));
    assert_eq!(world.ask(&amend(&[2, 1], &[3])), Err("CONTACT_POINTS_CHANGED"), "their order counts");
    let profile = world.account.party.profile.expect("open");
    assert_eq!(profile.contact_points, [point(1), point(2)]);
}
