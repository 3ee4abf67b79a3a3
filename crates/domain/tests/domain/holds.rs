//! Holds: what is on hold is not chased, and what was not said because of a hold stands in the history.

use std::collections::BTreeSet;

use jiff::{civil::Date, tz::TimeZone};
use proptest::prelude::*;
use saldo_domain::{
    Context,
    agreement::{self, Fact, HoldChange, HoldReason, HoldScope, HoldTerms, hold::MAX_HOLDS},
    command::Command,
    dunning::{self, ContactWithheld, Tone, WithheldReason, preview::preview},
    event::Event,
    money::Currency,
};

use crate::{
    speaking::{MINE, live_through, local, next, owing, said, start, start_mine},
    world::{World, invoice, money, number, payment},
};

fn terms(from: Option<Date>, until: Option<Date>) -> HoldTerms {
    HoldTerms { scope: HoldScope::Account, from, until, reason: HoldReason::Complaint }
}

fn of_invoices(invoices: &[&str]) -> HoldTerms {
    HoldTerms { scope: HoldScope::Invoices(invoices.iter().map(|no| number(no)).collect()), ..terms(None, None) }
}

fn place(hold: &str, terms: HoldTerms) -> agreement::Command {
    agreement::Command::PlaceHold { hold: number(hold), terms, note: None }
}

fn release(hold: &str) -> agreement::Command {
    agreement::Command::ReleaseHold { hold: number(hold), note: None }
}

fn amend(hold: &str, change: HoldChange) -> agreement::Command {
    agreement::Command::AmendHold { hold: number(hold), change, note: None }
}

fn march(day: i8) -> Date {
    Date::constant(2026, 3, day)
}

/// The reminders that a hold kept back, and the hold.
fn held(world: &World) -> Vec<(u64, String)> {
    let line = |event: &Event| match event {
        Event::Dunning(dunning::Fact::ContactWithheld(ContactWithheld { reminder, reason, hold, took, .. })) => {
            assert_eq!(*reason == WithheldReason::Held, hold.is_some());
            let hold = hold.as_ref()?;
            assert!(took.steps.is_empty(), "a step that is held back is not taken");
            Some((*reminder, hold.to_string()))
        }
        _ => None,
    };
    world.history.iter().filter_map(|(_, event)| line(event)).collect()
}

fn year_end() -> jiff::Timestamp {
    local("2027-01-01T00:00:00")
}

#[test]
fn what_is_on_hold_is_not_chased_and_goes_on_afterwards_without_a_burst() {
    let mut world = owing(march(12));
    world.ask(&place("H-1", terms(Some(march(10)), Some(Date::constant(2026, 4, 15))))).expect("placed");
    live_through(&mut world, &BTreeSet::new(), year_end());
    let expected = [
        "2026-03-09 09:00 courtesy",
        // due-today has lapsed, first was due on 03-19 and second on 04-02.
        "2026-04-16 09:00 first",
        "2026-04-20 09:00 second",
        "2026-04-27 09:00 formal",
    ];
    assert_eq!(said(&world), expected);
    let told = [(2, "H-1".to_owned()), (3, "H-1".to_owned())];
    assert_eq!(
        held(&world),
        told,
        "the steps that came due meanwhile are told once: due-today, and first when that lapsed"
    );
}

#[test]
fn dunning_goes_on_when_no_hold_is_left() {
    let mut world = owing(march(12));
    world.ask(&place("H-1", terms(None, Some(march(25))))).expect("placed");
    world.ask(&place("H-2", terms(Some(march(20)), None))).expect("placed");
    live_through(&mut world, &BTreeSet::new(), local("2026-05-04T12:00:00"));
    assert_eq!(said(&world), Vec::<String>::new());
    world.now = local("2026-05-04T12:00:00");
    world.ask(&release("H-2")).expect("released");
    live_through(&mut world, &BTreeSet::new(), local("2026-05-04T13:00:00"));
    assert_eq!(said(&world), ["2026-05-04 12:00 first"], "the lowest step not taken, on the same day");
    assert_eq!(world.ask(&release("H-2")), Err("HOLD_RELEASED"));
    assert_eq!(world.ask(&release("H-9")), Err("HOLD_UNKNOWN"));
}

#[test]
fn a_hold_of_chosen_invoices_leaves_the_others_chased_and_unmentioned() {
    let mut world = owing(march(12));
    world.ask(&invoice("F-2", &[(march(12), 5_000)])).expect("issued");
    world.ask(&place("H-1", of_invoices(&["F-2"]))).expect("placed");
    world.now = local("2026-03-19T10:00:00");
    let started = start_mine(&mut world);
    let listed: Vec<String> = started.items.iter().map(|item| item.invoice.to_string()).collect();
    assert_eq!(listed, ["F-1"]);
    assert!(started.unlisted.is_empty());
    assert_eq!(held(&world), [(1, "H-1".to_owned())]);
}

#[test]
fn a_reminder_that_waits_is_withheld_when_all_it_is_about_is_put_on_hold() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    world.ask(&Command::AdvanceTime).expect("due");
    world.ask(&place("H-1", terms(None, None))).expect("placed");
    assert_eq!(next(&world), Some(world.now), "the account wants to be woken at once");
    world.ask(&Command::AdvanceTime).expect("withheld");
    assert_eq!((held(&world), world.account.dunning.open.is_some()), (vec![(1, "H-1".to_owned())], false));
    world.ask(&Command::AdvanceTime).expect("nothing more");
    assert_eq!(held(&world).len(), 1);
}

#[test]
fn each_step_that_comes_due_on_hold_is_told_once_and_again_under_other_holds() {
    let mut world = owing(march(12));
    world.ask(&place("H-1", terms(None, None))).expect("placed");
    live_through(&mut world, &BTreeSet::new(), year_end());
    let steps = |world: &World| -> Vec<String> {
        let due = |event: &Event| match event {
            Event::Dunning(dunning::Fact::ReminderDue(due)) => Some(due.notice.step.clone()),
            _ => None,
        };
        world.history.iter().filter_map(|(_, event)| due(event)).collect()
    };
    // Courtesy and due-today lapse; first waits, and no step above it is next.
    assert_eq!((steps(&world), held(&world).len()), (["courtesy", "due-today", "first"].map(String::from).to_vec(), 3));
    world.now = year_end();
    world.ask(&place("H-2", terms(None, None))).expect("placed");
    live_through(&mut world, &BTreeSet::new(), local("2027-06-01T00:00:00"));
    assert_eq!(steps(&world)[3..], ["first"], "under other holds it is told anew");
    assert_eq!(said(&world), Vec::<String>::new());
}

#[test]
fn a_preview_names_the_hold_of_each_step_that_is_kept_back_and_goes_on_after_it() {
    for until in [None, Some(Date::constant(2026, 4, 15))] {
        let mut world = owing(march(12));
        world.ask(&place("H-1", terms(None, until))).expect("placed");
        let context = Context { now: world.now, rules: &world.rules, zones: |name| TimeZone::get(name).ok() };
        let planned = preview(&world.account, &context, 100);
        let held_back: Vec<String> =
            planned.iter().filter_map(|planned| Some(planned.hold.as_ref()?.to_string())).collect();
        let sent: Vec<&str> =
            planned.iter().filter(|one| one.withheld.is_none()).map(|one| one.notice.step.as_str()).collect();
        live_through(&mut world, &BTreeSet::new(), year_end());
        assert_eq!(held_back, held(&world).into_iter().map(|(_, hold)| hold).collect::<Vec<_>>());
        assert_eq!(held_back.len(), 3);
        let said = said(&world);
        assert_eq!(sent, said.iter().filter_map(|line| line.split(' ').next_back()).collect::<Vec<_>>());
    }
}

#[test]
fn a_reminder_that_a_person_had_said_again_is_theirs_again_when_a_hold_keeps_it_back() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    start_mine(&mut world);
    crate::speaking::reject(&mut world);
    world.now = local("2026-03-20T10:00:00");
    let retry = dunning::Command::RetryContact { reminder: 1, note: None };
    world.ask(&retry).expect("due again");
    assert_eq!(world.account.dunning.needs_person(), None, "it is on its way");
    world.ask(&place("H-1", terms(None, None))).expect("placed");
    world.ask(&Command::AdvanceTime).expect("withheld");
    assert_eq!(held(&world), [(2, "H-1".to_owned())]);
    assert_eq!(world.account.dunning.needs_person(), Some(1), "nobody was reached, and nobody has seen to it");
    assert_eq!(world.ask(&retry), Err("ON_HOLD"));
    world.ask(&release("H-1")).expect("released");
    world.ask(&retry).expect("due again");

    world.rules.sending = false;
    start(&mut world, 3, MINE);
    assert_eq!(world.account.dunning.needs_person(), Some(1), "nor was anybody reached while sending was off");
    world.rules.sending = true;
    world.ask(&dunning::Command::DropContact { reminder: 1, note: None }).expect("dropped");
    assert_eq!(world.account.dunning.needs_person(), None);
}

#[test]
fn a_hold_placed_on_a_message_under_way_does_not_soften_what_it_says() {
    let mut world = owing(march(2));
    live_through(&mut world, &BTreeSet::new(), local("2026-03-20T00:00:00"));
    world.now = local("2026-03-23T10:00:00");
    assert_eq!(start_mine(&mut world).notice.tone, Tone::Firm);
    world.ask(&place("H-1", terms(None, None))).expect("placed");
    // This one was not listed, so it hears nothing of the message.
    world.ask(&invoice("F-2", &[(march(2), 5_000)])).expect("issued");
    crate::speaking::accept(&mut world);
    let heard: Vec<_> =
        world.account.ledger.items.iter().map(|item| (item.invoice.as_str(), item.tone_heard)).collect();
    assert_eq!(heard, [("F-1", Some(Tone::Firm)), ("F-2", None)]);
    world.ask(&release("H-1")).expect("released");
    world.now = local("2026-03-26T10:00:00");
    let started = start_mine(&mut world);
    assert_eq!((started.notice.step.as_str(), started.notice.tone), ("second", Tone::Firm), "F-2 takes its first step");
}

#[test]
fn a_message_said_again_is_as_firm_as_what_was_heard() {
    let mut world = owing(march(2));
    live_through(&mut world, &BTreeSet::new(), local("2026-03-24T00:00:00"));
    world.ask(&place("H-1", of_invoices(&["F-1"]))).expect("placed");
    world.ask(&invoice("F-2", &[(march(18), 5_000)])).expect("issued");
    world.now = local("2026-03-26T10:00:00");
    assert_eq!(start_mine(&mut world).notice.tone, Tone::Friendly, "F-1 has heard a firm word, and is not listed");
    crate::speaking::reject(&mut world);
    let rejected = world.account.dunning.needs_person().expect("rejected");
    world.ask(&release("H-1")).expect("released");
    world.now = local("2026-03-27T10:00:00");
    world.ask(&dunning::Command::RetryContact { reminder: rejected, note: None }).expect("due again");
    let started = start_mine(&mut world);
    assert_eq!((started.items.len(), started.notice.tone), (2, Tone::Firm), "now F-1 is listed");
}

#[test]
fn a_hold_entered_after_the_fact_rewrites_nothing_and_brings_no_burst() {
    let mut world = owing(march(1));
    world.now = local("2026-03-09T10:00:00");
    assert_eq!(start_mine(&mut world).notice.step, "first");
    crate::speaking::accept(&mut world);
    let before = world.history.clone();
    world.now = local("2026-03-12T10:00:00");
    world.ask(&place("H-1", terms(Some(march(5)), Some(march(10))))).expect("placed");
    assert_eq!(world.history[..before.len()], before[..], "the reminder of the 9th stays in the history");
    live_through(&mut world, &BTreeSet::new(), year_end());
    assert_eq!(said(&world)[1..], ["2026-03-23 09:00 second", "2026-04-15 09:00 formal"]);
}

#[test]
fn an_amended_hold_covers_what_its_new_terms_say() {
    let mut world = owing(march(12));
    world.ask(&place("H-1", terms(Some(march(1)), Some(march(20))))).expect("placed");
    let until = |day| HoldChange { until: Some(day), ..HoldChange::default() };
    assert_eq!(world.ask(&amend("H-1", until(Some(Date::constant(2026, 2, 1))))), Err("HOLD_ENDS_BEFORE_START"));
    world.ask(&amend("H-1", until(Some(march(26))))).expect("amended");
    assert!(matches!(
        &world.history.last().expect("a fact").1,
        Event::Agreement(Fact::HoldAmended(amended)) if amended.terms.from == Some(march(1))
    ));
    live_through(&mut world, &BTreeSet::new(), local("2026-03-28T00:00:00"));
    assert_eq!(said(&world), ["2026-03-27 09:00 first"]);
}

#[test]
fn what_a_hold_cannot_be_is_refused() {
    let mut world = owing(march(12));
    assert_eq!(world.ask(&place("H-1", of_invoices(&["F-9"]))), Err("INVOICE_UNKNOWN"));
    world.ask(&place("H-1", terms(None, None))).expect("placed");
    assert_eq!(world.ask(&place("H-1", terms(None, None))), Err("HOLD_ID_TAKEN"));
    for more in 1..MAX_HOLDS {
        world.ask(&place(&format!("M-{more}"), terms(None, None))).expect("placed");
    }
    assert_eq!(world.ask(&place("H-2", terms(None, None))), Err("TOO_MANY_HOLDS"));
    world.ask(&release("M-1")).expect("released");
    assert_eq!(world.ask(&place("M-1", terms(None, None))), Err("HOLD_ID_TAKEN"), "an id is used once for ever");
}

#[test]
fn what_is_on_hold_hears_nothing_of_a_message_about_the_others() {
    let mut world = owing(march(2));
    world.ask(&invoice("F-2", &[(march(2), 5_000)])).expect("issued");
    world.ask(&place("H-1", of_invoices(&["F-2"]))).expect("placed");
    live_through(&mut world, &BTreeSet::new(), local("2026-05-01T00:00:00"));
    assert_eq!(said(&world).last().map(String::as_str), Some("2026-04-16 09:00 formal"), "of F-1 alone");
    world.ask(&payment("P-1", money(10_000, "EUR"), &[("F-1", 10_000)])).expect("paid");
    world.now = local("2026-05-04T10:00:00");
    world.ask(&release("H-1")).expect("released");
    assert_eq!(start_mine(&mut world).notice.step, "first", "the first word about F-2 is no formal demand");
}

#[test]
fn a_person_cannot_have_said_again_what_is_on_hold() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    start_mine(&mut world);
    crate::speaking::reject(&mut world);
    world.ask(&place("H-1", terms(None, None))).expect("placed");
    assert_eq!(world.ask(&dunning::Command::RetryContact { reminder: 1, note: None }), Err("ON_HOLD"));
}

proptest! {
    /// Random holds: nothing is said of an item on a day on which it is on hold, each item goes on afterwards, and the balance
    /// does not change.
    #[test]
    fn nobody_is_chased_on_hold_and_nothing_is_forgotten(
        holds in prop::collection::vec((0..90i64, 0..40i64, prop::bool::ANY), 0..6),
        paid in 0..9_000i64,
    ) {
        let mut world = owing(march(12));
        let eur = Currency::new("EUR").expect("EUR");
        if paid > 0 {
            world.now = local("2026-01-15T12:00:00");
            world.ask(&payment("P-1", money(paid, "EUR"), &[])).expect("paid");
        }
        let balance = world.account.ledger.balance(eur);
        let first = march(1);
        let mut covered: Vec<(Date, Date)> = Vec::new();
        for (index, (from, days, whole)) in holds.iter().enumerate() {
            let from = first.checked_add(jiff::Span::new().days(*from)).expect("a day");
            let until = from.checked_add(jiff::Span::new().days(*days)).expect("a day");
            let scope = if *whole { HoldScope::Account } else { HoldScope::Invoices(vec![number("F-1")]) };
            let terms = HoldTerms { scope, ..terms(Some(from), Some(until)) };
            world.ask(&place(&format!("H-{index}"), terms)).expect("placed");
            covered.push((from, until));
        }
        live_through(&mut world, &BTreeSet::new(), year_end());
        prop_assert_eq!(world.account.ledger.balance(eur), balance);
        for line in said(&world) {
            let day: Date = line[..10].parse().expect("a day");
            prop_assert!(!covered.iter().any(|(from, until)| (*from..=*until).contains(&day)), "{} on hold", line);
        }
        prop_assert!(said(&world).last().is_some_and(|last| last.ends_with("formal")), "the ladder comes to its end");
    }
}
