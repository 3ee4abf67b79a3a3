//! Contacts with a debtor: a reminder falls due, is started and taken, or is withheld. The other tests about reminders speak
//! through the functions at the top.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date, tz::TimeZone};
use saldo_domain::{
    Context, Rules,
    command::Command,
    dunning::{
        self, Claim, Concerns, ContactDeferred, ContactStarted, ContactWithheld, DeferredReason, HandOverFailure,
        HandedOver, Outcome, ReminderState, Silence, Tone, WithheldReason, attempt::MAX_LISTED, preview::preview,
    },
    event::Event,
    party::{self, Channel, ContactPoint, ProfileChange},
    sealed::Sealed,
};

use crate::{
    ladder::{at, ladder, zone},
    world::{World, invoice, money, payment, reversal},
};

pub const MINE: Claim = Claim([1; 16]);
pub const OTHERS: Claim = Claim([2; 16]);

/// An account in Madrid with an address, one invoice of 100.00 due on a day, under the ladder of -3, 0, 7, 21 and 45.
pub fn owing(due: Date) -> World {
    let mut world = World::opened();
    world.rules =
        Rules { policy: Some(ladder()), languages: vec!["en".into(), "es".into()], sending: true, ..Rules::default() };
    let point = ContactPoint { channel: Channel::Email, address: Sealed(vec![7]), digest: [7; 32] };
    let change = ProfileChange { contact_points: Some(vec![point]), ..ProfileChange::default() };
    world.now = local("2026-01-01T12:00:00");
    assert_eq!(world.ask(&party::Command::AmendAccount(change)), Ok(()));
    assert_eq!(world.ask(&invoice("F-1", &[(due, 10_000)])), Ok(()));
    world
}

pub fn local(text: &str) -> Timestamp {
    at(text, &zone("Europe/Madrid"))
}

pub fn start(world: &mut World, reminder: u64, claim: Claim) -> Vec<Event> {
    let before = world.history.len();
    assert_eq!(world.ask(&dunning::Command::StartContactAttempt { reminder, claim }), Ok(()));
    world.history[before..].iter().map(|(_, event)| event.clone()).collect()
}

pub fn settle(world: &mut World, reminder: u64, attempt: u32, outcome: Outcome) -> Result<(), &'static str> {
    world.ask(&dunning::Command::RecordContactOutcome { reminder, attempt, claim: MINE, outcome })
}

pub fn accepted() -> Outcome {
    let handed = HandedOver { message_id: "m@example.com".into(), sha256: [3; 32], message: Sealed(vec![9]) };
    Outcome::Accepted { handed, reply: None }
}

pub fn failed() -> HandOverFailure {
    HandOverFailure { stage: "rcpt".into(), code: 450, reply: None }
}

/// The message was put off because of this failure.
pub fn put_off_by(failure: HandOverFailure) -> Outcome {
    Outcome::Deferred { failure, concerns: Concerns::Message }
}

pub fn put_off() -> Outcome {
    put_off_by(failed())
}

pub fn refused_message() -> Outcome {
    Outcome::Rejected { failure: failed(), concerns: Concerns::Message, handed: None }
}

/// Woken at an instant; the open reminder is sent and taken if it may be.
pub fn live(world: &mut World, now: Timestamp) {
    world.now = now;
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    let Some(open) = world.account.dunning.open.clone() else { return };
    start(world, open.number, MINE);
    if let Some(open) = world.account.dunning.open.clone()
        && let ReminderState::Started { .. } = open.state
    {
        assert_eq!(settle(world, open.number, open.attempts, accepted()), Ok(()));
    }
}

/// The reminder that is due now, started by the test.
pub fn start_mine(world: &mut World) -> ContactStarted {
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    let reminder = world.account.dunning.open.as_ref().expect("a reminder is due").number;
    match start(world, reminder, MINE).pop() {
        Some(Event::Dunning(dunning::Fact::ContactStarted(started))) => started,
        other => panic!("not started: {other:?}"),
    }
}

/// The started reminder is taken by its provider.
pub fn accept(world: &mut World) {
    let open = world.account.dunning.open.clone().expect("a started reminder");
    assert_eq!(settle(world, open.number, open.attempts, accepted()), Ok(()));
}

/// The started reminder is refused by its provider.
pub fn reject(world: &mut World) {
    let open = world.account.dunning.open.clone().expect("a started reminder");
    let refused = refused_message();
    assert_eq!(settle(world, open.number, open.attempts, refused), Ok(()));
}

pub fn next(world: &World) -> Option<Timestamp> {
    let context = Context { now: world.now, rules: &world.rules, zones: |name| TimeZone::get(name).ok() };
    saldo_domain::next_wakeup(&world.account, &context)
}

/// Lives from wake-up to wake-up, and wakes at other instants too.
pub fn live_through(world: &mut World, more: &BTreeSet<Timestamp>, until: Timestamp) {
    loop {
        let wake = next(world).into_iter().chain(waiting(world)).min();
        let other = more.range(world.now + SignedDuration::from_micros(1)..).next().copied();
        let Some(now) = wake.into_iter().chain(other).min().filter(|now| *now <= until) else { return };
        live(world, now.max(world.now));
    }
}

/// When the open reminder is due again.
fn waiting(world: &World) -> Option<Timestamp> {
    match world.account.dunning.open.as_ref()?.state {
        ReminderState::Due { from } => Some(from.unwrap_or(world.now)),
        ReminderState::Started { .. } => None,
    }
}

pub fn said(world: &World) -> Vec<String> {
    let madrid = zone("Europe/Madrid");
    let line = |(at, event): &(Timestamp, Event)| match event {
        Event::Dunning(dunning::Fact::ContactStarted(started)) => {
            Some(format!("{} {}", madrid.to_datetime(*at).strftime("%Y-%m-%d %H:%M"), started.notice.step))
        }
        _ => None,
    };
    world.history.iter().filter_map(line).collect()
}

pub fn last(world: &World) -> &Event {
    &world.history.last().expect("something happened").1
}

#[test]
fn a_reminder_falls_due_is_started_and_taken() {
    let mut world = owing(Date::constant(2026, 3, 12));
    live_through(&mut world, &BTreeSet::new(), local("2027-01-01T00:00:00"));
    let expected = [
        "2026-03-09 09:00 courtesy",
        "2026-03-12 09:00 due-today",
        "2026-03-19 09:00 first",
        "2026-04-02 09:00 second",
        "2026-04-27 09:00 formal",
    ];
    assert_eq!(said(&world), expected);
    assert_eq!(next(&world), None);
}

#[test]
fn a_started_attempt_says_all_that_its_message_is_made_of() {
    let mut world = owing(Date::constant(2026, 3, 12));
    assert_eq!(world.ask(&invoice("F-2", &[(Date::constant(2026, 5, 4), 5_000)])), Ok(()));
    world.now = local("2026-03-19T19:59:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    let events = start(&mut world, 1, MINE);
    let [Event::Dunning(dunning::Fact::ContactStarted(started))] = events.as_slice() else {
        panic!("not started: {events:?}")
    };
    assert_eq!((started.reminder, started.attempt, started.claim), (1, 1, MINE));
    assert_eq!((started.notice.tone, started.language.as_str()), (Tone::Friendly, "es"));
    let items: Vec<_> = started.items.iter().map(|item| (item.open, item.takes)).collect();
    assert_eq!(items, [(10_000, Some(7)), (5_000, None)]);
    // The window ends before the two minutes do.
    assert_eq!(started.send_before, local("2026-03-19T20:00:00"));
}

#[test]
fn of_two_senders_one_may_send() {
    let mut world = owing(Date::constant(2026, 3, 12));
    world.now = local("2026-03-09T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    assert!(
        matches!(start(&mut world, 1, OTHERS).as_slice(), [Event::Dunning(dunning::Fact::ContactStarted(started))] if started.claim == OTHERS)
    );
    assert_eq!(start(&mut world, 1, MINE), [], "used up");
    assert_eq!(settle(&mut world, 1, 1, accepted()), Err("ATTEMPT_CLOSED"), "not the holder of the claim");
    assert_eq!(world.ask(&dunning::Command::StartContactAttempt { reminder: 2, claim: MINE }), Err("REMINDER_UNKNOWN"));
}

#[test]
fn who_paid_an_instant_before_hears_nothing() {
    let mut world = owing(Date::constant(2026, 3, 12));
    world.now = local("2026-03-19T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    assert_eq!(world.ask(&payment("P-1", money(10_000, "EUR"), &[])), Ok(()));
    let events = start(&mut world, 1, MINE);
    assert!(matches!(
        events.as_slice(),
        [Event::Dunning(dunning::Fact::ContactWithheld(ContactWithheld {
            reminder: 1,
            reason: WithheldReason::Settled,
            ..
        }))]
    ));
    assert_eq!((world.account.dunning.open.as_ref(), next(&world)), (None, None));
}

#[test]
fn who_paid_a_part_hears_of_the_rest_and_a_bounced_payment_goes_on_where_the_ladder_was() {
    let mut world = owing(Date::constant(2026, 3, 12));
    live_through(&mut world, &BTreeSet::new(), local("2026-04-03T00:00:00"));
    assert_eq!(world.ask(&payment("P-1", money(10_000, "EUR"), &[])), Ok(()));
    assert_eq!(next(&world), None);
    world.now = local("2026-04-20T10:00:00");
    assert_eq!(world.ask(&reversal("P-1")), Ok(()));
    live_through(&mut world, &BTreeSet::new(), local("2027-01-01T00:00:00"));
    assert_eq!(said(&world)[3..], ["2026-04-02 09:00 second", "2026-04-27 09:00 formal"]);
}

#[test]
fn outside_the_window_a_reminder_waits_for_the_next_one() {
    let mut world = owing(Date::constant(2026, 3, 12));
    world.now = local("2026-03-12T19:59:59");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    world.now = local("2026-03-12T20:00:00");
    let until = local("2026-03-13T09:00:00");
    let events = start(&mut world, 1, MINE);
    assert!(
        matches!(events.as_slice(), [Event::Dunning(dunning::Fact::ContactDeferred(ContactDeferred { reason: DeferredReason::OutsideHours, until: at, .. }))] if *at == until)
    );
    assert_eq!(start(&mut world, 1, MINE), [], "it waits");
}

#[test]
fn while_sending_is_off_the_ladder_stands_still() {
    let mut world = owing(Date::constant(2026, 3, 12));
    live_through(&mut world, &BTreeSet::new(), local("2026-03-10T00:00:00"));
    world.rules.sending = false;
    assert_eq!(next(&world), None);
    live_through(&mut world, &BTreeSet::new(), local("2026-05-04T08:00:00"));
    world.now = local("2026-05-04T08:00:00");
    world.rules.sending = true;
    live_through(&mut world, &BTreeSet::new(), local("2027-01-01T00:00:00"));
    // Due-today has lapsed; no step after it is left out, and none comes with another.
    let expected =
        ["2026-03-09 09:00 courtesy", "2026-05-04 09:00 first", "2026-05-07 09:00 second", "2026-05-11 09:00 formal"];
    assert_eq!(said(&world), expected);
}

#[test]
fn a_reminder_that_waits_when_sending_is_switched_off_is_withheld() {
    let mut world = owing(Date::constant(2026, 3, 12));
    world.now = local("2026-03-09T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    world.rules.sending = false;
    let events = start(&mut world, 1, MINE);
    assert!(matches!(
        events.as_slice(),
        [Event::Dunning(dunning::Fact::ContactWithheld(ContactWithheld { reason: WithheldReason::SendingOff, .. }))]
    ));
    world.rules.sending = true;
    live(&mut world, local("2026-03-09T11:00:00"));
    assert_eq!(said(&world), ["2026-03-09 11:00 courtesy"]);
}

#[test]
fn o4_held_for_every_creditor_a_missing_policy_and_a_switch_are_told_apart() {
    let mut world = owing(Date::constant(2026, 3, 12));
    world.now = local("2026-03-09T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    world.rules.held = true;
    let events = start(&mut world, 1, MINE);
    let [Event::Dunning(dunning::Fact::ContactWithheld(withheld))] = &events[..] else {
        panic!("nothing else happens")
    };
    assert_eq!((withheld.reason, withheld.for_every_creditor), (WithheldReason::SendingOff, true));

    let silence = |world: &World| world.rules.speaking().err();
    assert_eq!(silence(&world), Some(Silence::Held), "whatever the switch says");
    world.rules.held = false;
    assert_eq!(silence(&world), None);
    world.rules.sending = false;
    assert_eq!(silence(&world), Some(Silence::SwitchedOff));
    world.rules.policy = None;
    assert_eq!(silence(&world), Some(Silence::NoPolicy));
    let refused = dunning::Refusal::SendingOff { why: Silence::Held };
    assert!(refused.to_string().contains("`saldo sending release --reason TEXT`"), "{refused}");
    assert_eq!(refused.details(), [("why", "held".to_owned())]);
}

#[test]
fn who_cannot_be_reached_is_withheld_step_by_step() {
    let mut world = owing(Date::constant(2026, 3, 12));
    let change = ProfileChange { contact_points: Some(Vec::new()), ..ProfileChange::default() };
    assert_eq!(world.ask(&party::Command::AmendAccount(change)), Ok(()));
    live_through(&mut world, &BTreeSet::new(), local("2027-01-01T00:00:00"));
    let withheld = |(_, event): &&(Timestamp, Event)| {
        matches!(
            event,
            Event::Dunning(dunning::Fact::ContactWithheld(ContactWithheld {
                reason: WithheldReason::NoContactPoint,
                ..
            }))
        )
    };
    assert_eq!((world.history.iter().filter(withheld).count(), said(&world).len()), (5, 0));
}

#[test]
fn a_preview_says_what_then_happens() {
    let mut world = owing(Date::constant(2026, 3, 12));
    assert_eq!(world.ask(&invoice("F-2", &[(Date::constant(2026, 3, 20), 5_000)])), Ok(()));
    let context = Context { now: world.now, rules: &world.rules, zones: |name| TimeZone::get(name).ok() };
    let madrid = zone("Europe/Madrid");
    let planned: Vec<String> = preview(&world.account, &context, 100)
        .iter()
        .map(|one| format!("{} {}", madrid.to_datetime(one.at).strftime("%Y-%m-%d %H:%M"), one.notice.step))
        .collect();
    live_through(&mut world, &BTreeSet::new(), local("2027-01-01T00:00:00"));
    assert_eq!(planned, said(&world));
}

#[test]
fn of_very_many_items_a_message_lists_a_thousand_and_sums_up_the_rest() {
    let mut world = owing(Date::constant(2026, 1, 5));
    for number in 0..40 {
        let parts: Vec<(Date, i64)> = (0..60)
            .map(|part| (Date::constant(2026, 1, 6).saturating_add((part * 2 + number % 2).days()), 100))
            .collect();
        assert_eq!(world.ask(&invoice(&format!("G-{number}"), &parts)), Ok(()));
    }
    world.now = local("2026-09-01T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    let events = start(&mut world, 1, MINE);
    let [Event::Dunning(dunning::Fact::ContactStarted(started))] = events.as_slice() else {
        panic!("not started: {events:?}")
    };
    assert_eq!(started.items.len(), MAX_LISTED);
    let [rest] = started.unlisted.as_slice() else { panic!("{:?}", started.unlisted) };
    assert_eq!((rest.items, rest.open, rest.overdue), (2_401 - 1_000, 140_100, 140_100));
    assert_eq!(settle(&mut world, 1, 1, accepted()), Ok(()));
    // Items that had no room take their step with the next contact.
    live_through(&mut world, &BTreeSet::new(), local("2026-09-12T00:00:00"));
    assert!(world.account.ledger.items.iter().all(|item| item.last_step.is_some()));
}
