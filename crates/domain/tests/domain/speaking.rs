//! What is said to a debtor: from a reminder that falls due to what became of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date, tz::TimeZone};
use proptest::prelude::*;
use saldo_domain::{
    Context, Rules,
    command::Command,
    dunning::{
        self, Claim, Concerns, ContactAccepted, ContactDeferred, ContactRejected, ContactStarted, ContactUnknown,
        ContactWithheld, DeferredReason, HandOverFailure, HandedOver, Outcome, RejectedReason, ReminderDue,
        ReminderState, Tone, UnknownReason, WithheldReason,
        attempt::{LAST_LOOK, MAX_LISTED, MAX_TOO_LATE, SEND_WITHIN, UNKNOWN_AFTER},
        preview::preview,
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
const OTHERS: Claim = Claim([2; 16]);

/// An account in Madrid with an address, one invoice of 100.00 due on a day, under the ladder of -3, 0, 7, 21 and 45.
pub fn owing(due: Date) -> World {
    let mut world = World::opened();
    world.rules = Rules { policy: Some(ladder()), languages: vec!["en".into(), "es".into()], sending: true };
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

fn start(world: &mut World, reminder: u64, claim: Claim) -> Vec<Event> {
    let before = world.history.len();
    assert_eq!(world.ask(&dunning::Command::StartContactAttempt { reminder, claim }), Ok(()));
    world.history[before..].iter().map(|(_, event)| event.clone()).collect()
}

fn settle(world: &mut World, reminder: u64, attempt: u32, outcome: Outcome) -> Result<(), &'static str> {
    world.ask(&dunning::Command::RecordContactOutcome { reminder, attempt, claim: MINE, outcome })
}

fn accepted() -> Outcome {
    let handed = HandedOver { message_id: "m@example.com".into(), sha256: [3; 32], message: Sealed(vec![9]) };
    Outcome::Accepted { handed, reply: None }
}

fn failed() -> HandOverFailure {
    HandOverFailure { stage: "rcpt".into(), code: 450, reply: None }
}

fn put_off() -> Outcome {
    Outcome::Deferred { failure: failed(), concerns: Concerns::Message }
}

fn refused_message() -> Outcome {
    Outcome::Rejected { failure: failed(), concerns: Concerns::Message, handed: None }
}

/// Woken at an instant; the open reminder is sent and taken if it may be.
fn live(world: &mut World, now: Timestamp) {
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

fn last(world: &World) -> &Event {
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
fn a_temporary_failure_is_tried_again_by_the_policys_backoff_and_then_given_up() {
    let mut world = owing(Date::constant(2026, 3, 12));
    world.rules.policy.as_mut().expect("policy").contact.backoff_minutes = vec![15, 60];
    world.now = local("2026-03-09T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    for (attempt, minutes) in [(1, 15), (2, 60)] {
        start(&mut world, 1, MINE);
        assert_eq!(settle(&mut world, 1, attempt, put_off()), Ok(()));
        let expected = world.now + SignedDuration::from_mins(minutes);
        assert!(
            matches!(last(&world), Event::Dunning(dunning::Fact::ContactDeferred(ContactDeferred { until, .. })) if *until == expected)
        );
        world.now = expected;
    }
    start(&mut world, 1, MINE);
    assert_eq!(settle(&mut world, 1, 3, put_off()), Ok(()));
    assert!(matches!(
        last(&world),
        Event::Dunning(dunning::Fact::ContactRejected(ContactRejected {
            reason: RejectedReason::RetriesExhausted,
            ..
        }))
    ));
    // The ladder goes on.
    assert_eq!(next(&world), Some(local("2026-03-12T09:00:00")));
}

#[test]
fn an_attempt_nobody_says_the_outcome_of_stands_as_unknown() {
    let mut world = owing(Date::constant(2026, 3, 12));
    world.now = local("2026-03-09T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    start(&mut world, 1, MINE);
    let expires = world.now + SEND_WITHIN + UNKNOWN_AFTER;
    assert_eq!(next(&world), Some(expires));
    world.now = expires;
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    assert!(matches!(
        last(&world),
        Event::Dunning(dunning::Fact::ContactUnknown(ContactUnknown { reason: UnknownReason::NoOutcome, .. }))
    ));
    assert_eq!(start(&mut world, 1, OTHERS), [], "never sent again by itself");
    // Accepted may replace unknown; nothing else may, and once only.
    assert_eq!(settle(&mut world, 1, 1, put_off()), Err("ATTEMPT_CLOSED"));
    assert_eq!(settle(&mut world, 1, 1, accepted()), Ok(()));
    assert_eq!(settle(&mut world, 1, 1, accepted()), Err("ATTEMPT_CLOSED"));
    assert_eq!(world.account.dunning.recent.len(), 1, "one contact, counted once");
}

#[test]
fn what_was_accepted_is_taken_although_it_is_told_after_the_next_reminder_fell_due() {
    let mut world = owing(Date::constant(2026, 3, 12));
    assert_eq!(world.ask(&invoice("F-2", &[(Date::constant(2026, 3, 13), 5_000)])), Ok(()));
    world.now = local("2026-03-09T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    start(&mut world, 1, MINE);
    world.now = local("2026-03-10T09:00:00");
    // Time comes first: the attempt stands as unknown, and F-2 falls due. Nobody could have a rejected one said again.
    let rejected = refused_message();
    assert_eq!(settle(&mut world, 1, 1, rejected), Err("ATTEMPT_CLOSED"));
    assert_eq!(world.account.dunning.needs_person(), None);
    assert_eq!(settle(&mut world, 1, 1, accepted()), Ok(()));
    let names: Vec<_> = world.history.iter().rev().take(3).map(|(_, event)| event.clone()).collect();
    assert!(
        matches!(
            names.as_slice(),
            [
                Event::Dunning(dunning::Fact::ContactAccepted(ContactAccepted { reminder: 1, .. })),
                Event::Dunning(dunning::Fact::ReminderDue(ReminderDue { reminder: 2, .. })),
                Event::Dunning(dunning::Fact::ContactUnknown(ContactUnknown { reminder: 1, .. }))
            ]
        ),
        "{names:?}"
    );
    assert_eq!(world.account.dunning.unsettled, None);
    assert_eq!(world.account.dunning.open.as_ref().map(|open| open.number), Some(2));
    assert_eq!(settle(&mut world, 1, 1, accepted()), Err("ATTEMPT_CLOSED"));
}

#[test]
fn while_a_later_reminder_is_open_no_person_has_the_one_before_it_said_again() {
    let mut world = owing(Date::constant(2026, 3, 12));
    assert_eq!(world.ask(&invoice("F-2", &[(Date::constant(2026, 3, 13), 5_000)])), Ok(()));
    world.now = local("2026-03-09T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    start(&mut world, 1, MINE);
    world.now = local("2026-03-10T09:00:00");
    assert_eq!(world.ask(&dunning::Command::RetryContact { reminder: 1, note: None }), Err("NOTHING_TO_SETTLE"));
    assert_eq!(world.ask(&dunning::Command::DropContact { reminder: 1, note: None }), Err("NOTHING_TO_SETTLE"));
    assert_eq!(world.account.dunning.open.as_ref().map(|open| open.number), Some(2));
}

#[test]
fn a_person_may_have_the_unknown_said_again_or_drop_it() {
    let mut world = owing(Date::constant(2026, 3, 12));
    world.now = local("2026-03-09T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    start(&mut world, 1, MINE);
    assert_eq!(world.ask(&dunning::Command::RetryContact { reminder: 1, note: None }), Err("ATTEMPT_UNDER_WAY"));
    assert_eq!(settle(&mut world, 1, 1, Outcome::Unknown { handed: None }), Ok(()));
    let mut dropped = world.clone();
    assert_eq!(dropped.ask(&dunning::Command::DropContact { reminder: 1, note: None }), Ok(()));
    assert_eq!(dropped.ask(&dunning::Command::RetryContact { reminder: 1, note: None }), Err("NOTHING_TO_SETTLE"));
    assert_eq!(world.ask(&dunning::Command::RetryContact { reminder: 1, note: None }), Ok(()));
    // The first may have arrived: again not today, which the person is told at once, and with the same words.
    let tomorrow = local("2026-03-10T09:00:00");
    assert!(matches!(
        last(&world),
        Event::Dunning(dunning::Fact::ContactDeferred(ContactDeferred { reason: DeferredReason::Budget, until, .. })) if *until == tomorrow
    ));
    live_through(&mut world, &BTreeSet::new(), local("2026-03-11T00:00:00"));
    assert_eq!(said(&world), ["2026-03-09 09:00 courtesy", "2026-03-10 09:00 courtesy"]);
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
    // What had no room takes its step with the next contact.
    live_through(&mut world, &BTreeSet::new(), local("2026-09-12T00:00:00"));
    assert!(world.account.ledger.items.iter().all(|item| item.last_step.is_some()));
}

#[test]
fn what_a_last_look_kept_back_uses_up_no_retry() {
    let mut world = owing(Date::constant(2026, 3, 12));
    world.rules.policy.as_mut().expect("policy").contact.backoff_minutes = Vec::new();
    world.now = local("2026-03-09T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    start(&mut world, 1, MINE);
    let held_back = HandOverFailure { stage: LAST_LOOK.into(), code: 0, reply: None };
    assert_eq!(settle(&mut world, 1, 1, Outcome::Deferred { failure: held_back, concerns: Concerns::Message }), Ok(()));
    assert!(matches!(last(&world), Event::Dunning(dunning::Fact::ContactDeferred(ContactDeferred { .. }))));
}

/// A reminder that is due at 09:00 on a Monday, with the policy's pauses in minutes.
fn due_with_pauses(pauses: &[u32]) -> World {
    let mut world = owing(Date::constant(2026, 3, 12));
    world.rules.policy.as_mut().expect("policy").contact.backoff_minutes = pauses.to_vec();
    world.now = local("2026-03-09T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    world
}

fn too_slow() -> HandOverFailure {
    HandOverFailure { stage: LAST_LOOK.into(), code: 0, reply: None }
}

/// One more attempt that is not handed over. Minutes until the reminder is due again, when it is tried again; `None` where
/// it was given up.
fn not_handed_over(world: &mut World, failure: HandOverFailure) -> Option<i64> {
    start(world, 1, MINE);
    let attempt = world.account.dunning.open.as_ref().expect("an open reminder").attempts;
    assert_eq!(settle(world, 1, attempt, Outcome::Deferred { failure, concerns: Concerns::Message }), Ok(()));
    match last(world) {
        Event::Dunning(dunning::Fact::ContactDeferred(ContactDeferred { until, .. })) => {
            let until = *until;
            let minutes = until.duration_since(world.now).as_mins();
            world.now = until;
            Some(minutes)
        }
        Event::Dunning(dunning::Fact::ContactRejected(rejected)) => {
            assert_eq!(rejected.reason, RejectedReason::RetriesExhausted);
            None
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_policys_pauses_follow_the_hand_overs_that_failed_and_not_the_attempts() {
    let mut world = due_with_pauses(&[15, 60]);
    let failures = [too_slow(), failed(), too_slow(), failed(), failed()];
    let pauses = failures.map(|failure| not_handed_over(&mut world, failure));
    assert_eq!(pauses, [Some(5), Some(15), Some(5), Some(60), None]);
}

#[test]
fn a_server_that_is_always_too_slow_is_not_asked_for_ever() {
    let mut world = due_with_pauses(&[15, 60]);
    let pauses: Vec<_> = std::iter::from_fn(|| not_handed_over(&mut world, too_slow())).take(100).collect();
    let expected: Vec<i64> = std::iter::repeat_n(5, MAX_TOO_LATE as usize).chain([15, 60]).collect();
    assert_eq!(pauses, expected);
    assert_eq!(world.account.dunning.needs_person(), Some(1), "a person sees to it");
}

#[test]
fn a_reminder_that_waits_for_its_hours_uses_up_no_retry() {
    let mut world = due_with_pauses(&[15]);
    world.now = local("2026-03-09T20:30:00");
    start(&mut world, 1, MINE);
    world.now = local("2026-03-10T09:00:00");
    assert_eq!(not_handed_over(&mut world, failed()), Some(15));
    assert_eq!(not_handed_over(&mut world, failed()), None);
}

/// What happens to the account while time passes.
#[derive(Debug, Clone)]
enum Turn {
    Wake,
    Pay(i64),
    Reverse(usize),
    Invoice(i64, i64),
    Fails,
    TooSlow,
    Dies,
}

fn turns() -> impl Strategy<Value = Vec<(i64, Turn)>> {
    let turn = prop_oneof![
        6 => Just(Turn::Wake),
        2 => (1..6_000i64).prop_map(Turn::Pay),
        1 => (0..4usize).prop_map(Turn::Reverse),
        2 => (-10..40i64, 1..9_000i64).prop_map(|(due, minor)| Turn::Invoice(due, minor)),
        2 => Just(Turn::Fails),
        1 => Just(Turn::TooSlow),
        1 => Just(Turn::Dies),
    ];
    prop::collection::vec((1..5_000i64, turn), 1..60)
}

/// An item that has heard the second reminder, which is firm, and another whose courtesy note comes next.
fn overdue_and_coming_due() -> World {
    let mut world = owing(Date::constant(2026, 3, 2));
    live_through(&mut world, &BTreeSet::new(), local("2026-03-24T00:00:00"));
    assert_eq!(said(&world).last().map(String::as_str), Some("2026-03-23 09:00 second"));
    assert_eq!(world.ask(&invoice("F-2", &[(Date::constant(2026, 4, 2), 5_000)])), Ok(()));
    world
}

#[test]
fn a_message_is_no_firmer_than_what_was_heard() {
    let mut world = owing(Date::constant(2026, 3, 2));
    live_through(&mut world, &BTreeSet::new(), local("2026-03-24T00:00:00"));
    world.now = local("2026-04-16T10:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    let formal = world.account.dunning.open.as_ref().expect("the formal demand is due").number;
    assert_eq!(world.ask(&dunning::Command::DropContact { reminder: formal, note: None }), Ok(()));
    assert_eq!(world.ask(&invoice("F-2", &[(Date::constant(2026, 4, 20), 5_000)])), Ok(()));
    world.now = local("2026-04-17T10:00:00");
    assert_eq!(
        start_mine(&mut world).notice.step,
        "second",
        "the demand that a person dropped is not sent in its place"
    );
}

#[test]
fn a_message_that_lists_overdue_items_is_never_milder_than_the_newest_that_listed_them() {
    let mut world = overdue_and_coming_due();
    world.now = local("2026-03-30T10:00:00");
    let started = start_mine(&mut world);
    assert_eq!((started.notice.step.as_str(), started.notice.tone), ("second", Tone::Firm));
    let takes: Vec<_> = started.items.iter().map(|item| (item.invoice.to_string(), item.takes)).collect();
    assert_eq!(
        takes,
        [("F-1".to_owned(), None), ("F-2".to_owned(), Some(-3))],
        "the courtesy step is taken all the same"
    );

    let mut paid = overdue_and_coming_due();
    assert_eq!(paid.ask(&payment("P-1", money(10_000, "EUR"), &[("F-1", 10_000)])), Ok(()));
    paid.now = local("2026-03-30T10:00:00");
    assert_eq!(start_mine(&mut paid).notice.step, "courtesy", "nothing overdue is listed any more");

    let mut soft = overdue_and_coming_due();
    soft.rules.policy.as_mut().expect("a policy").contact.may_soften = true;
    soft.now = local("2026-03-30T10:00:00");
    assert_eq!(start_mine(&mut soft).notice.step, "courtesy", "the policy says so");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Called often, twice, or by two schedulers: the same contacts fall due.
    #[test]
    fn however_time_is_advanced_the_same_contacts_fall_due(
        due in prop::collection::vec(0..120i64, 1..5),
        more in prop::collection::btree_set(0..400_000i64, 0..60),
    ) {
        let mut world = owing(Date::constant(2026, 3, 12));
        for (index, days) in due.iter().enumerate() {
            let day = Date::constant(2026, 1, 10).saturating_add(days.days());
            prop_assert_eq!(world.ask(&invoice(&format!("G-{index}"), &[(day, 1_000)])), Ok(()));
        }
        let (mut once, mut often) = (world.clone(), world.clone());
        let more: BTreeSet<Timestamp> =
            more.iter().map(|minutes| world.now + SignedDuration::from_mins(*minutes)).collect();
        let until = local("2027-01-01T00:00:00");
        live_through(&mut once, &BTreeSet::new(), until);
        live_through(&mut often, &more, until);
        prop_assert_eq!(said(&once), said(&often));
    }

    /// Whatever happens: never two contacts a day, never outside the window, never a level before the one below it, never
    /// about nothing, and no started attempt without its outcome in the end.
    #[test]
    fn whatever_happens_nobody_is_chased_wrongly(turns in turns()) {
        let mut world = owing(Date::constant(2026, 1, 20));
        let mut paid = 0;
        let mut issued = 1;
        for (minutes, turn) in turns {
            world.now += SignedDuration::from_mins(minutes);
            let now = world.now;
            match turn {
                Turn::Wake => live(&mut world, now),
                Turn::Pay(minor) => {
                    paid += 1;
                    let _ = world.ask(&payment(&format!("P-{paid}"), money(minor, "EUR"), &[]));
                }
                Turn::Reverse(of) => {
                    let _ = world.ask(&reversal(&format!("P-{of}")));
                }
                Turn::Invoice(due, minor) => {
                    issued += 1;
                    let day = now.to_zoned(TimeZone::UTC).date().saturating_add(due.days()).max(Date::constant(2026, 1, 2));
                    let _ = world.ask(&invoice(&format!("F-{issued}"), &[(day, minor)]));
                }
                Turn::Fails | Turn::TooSlow | Turn::Dies => {
                    prop_assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
                    let Some(open) = world.account.dunning.open.clone() else { continue };
                    start(&mut world, open.number, MINE);
                    let started = world.account.dunning.open.clone();
                    let under_way = started.filter(|open| matches!(open.state, ReminderState::Started { .. }));
                    let failure = match turn {
                        Turn::Fails => Some(failed()),
                        Turn::TooSlow => Some(too_slow()),
                        _ => None,
                    };
                    if let (Some(open), Some(failure)) = (under_way, failure) {
                        let outcome = Outcome::Deferred { failure, concerns: Concerns::Message };
                        prop_assert_eq!(settle(&mut world, open.number, open.attempts, outcome), Ok(()));
                    }
                }
            }
        }
        let until = world.now + SignedDuration::from_hours(24 * 800);
        live_through(&mut world, &BTreeSet::new(), until);

        let policy = ladder();
        let madrid = zone("Europe/Madrid");
        let mut days = BTreeMap::new();
        let mut rungs: BTreeMap<(String, u32), i32> = BTreeMap::new();
        let mut under_way = None;
        for (at, event) in &world.history {
            match event {
                Event::Dunning(dunning::Fact::ContactStarted(started)) => {
                    prop_assert!(under_way.is_none());
                    under_way = Some((started.reminder, started.attempt, started.day, started.items.clone()));
                    let local = madrid.to_datetime(*at);
                    let open = policy.contact.windows.iter().any(|window| {
                        window.days.contains(&local.date().weekday()) && window.from <= local.time() && local.time() < window.to
                    });
                    prop_assert!(open, "{local} is outside the window");
                    prop_assert!(!started.items.is_empty() && started.items.iter().all(|item| item.open > 0));
                    for item in &started.items {
                        let Some(offset) = item.takes else { continue };
                        let key = (item.invoice.to_string(), item.instalment);
                        let below = policy.steps.iter().filter(|step| step.offset_days < offset && step.offset_days > 0);
                        let highest_below = below.map(|step| step.offset_days).max();
                        let stood = rungs.get(&key).copied();
                        prop_assert!(highest_below.is_none_or(|below| stood.is_some_and(|stood| stood >= below)), "{key:?} takes {offset} from {stood:?}");
                        prop_assert!(stood.is_none_or(|stood| stood < offset), "{key:?} takes {offset} twice");
                    }
                }
                Event::Dunning(dunning::Fact::ContactAccepted(ContactAccepted { reminder, attempt, .. })) | Event::Dunning(dunning::Fact::ContactUnknown(ContactUnknown { reminder, attempt, .. })) => {
                    let (of, number, day, items) = under_way.take().expect("started before");
                    prop_assert_eq!((of, number), (*reminder, *attempt));
                    *days.entry(day).or_insert(0) += 1;
                    for item in items {
                        if let Some(offset) = item.takes {
                            rungs.insert((item.invoice.to_string(), item.instalment), offset);
                        }
                    }
                }
                Event::Dunning(dunning::Fact::ContactRejected(ContactRejected { took, .. })) => {
                    prop_assert!(under_way.take().is_some() && took.steps.is_empty(), "it reached nobody");
                }
                Event::Dunning(dunning::Fact::ContactDeferred(ContactDeferred { attempt, .. })) if *attempt > 0 => {
                    under_way = None;
                }
                _ => {}
            }
        }
        prop_assert!(under_way.is_none(), "an attempt without outcome");
        prop_assert!(days.values().all(|count| *count == 1), "{days:?}");
    }
}
