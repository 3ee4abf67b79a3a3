//! A reminder that reached nobody takes no step. It comes again when that can help, and not for ever.

use std::collections::BTreeSet;

use jiff::{Timestamp, civil::Date};
use saldo_domain::{
    command::Command,
    dunning::{
        self, Concerns, ContactDeferred, ContactRejected, ContactWithheld, DeferredReason, HandOverFailure, HandedOver,
        Outcome, RejectedReason, WithheldReason,
        attempt::{LAST_LOOK, SEND_WITHIN, unknown_after},
    },
    event::Event,
    party::{self, Channel, ContactPoint, ProfileChange},
    sealed::Sealed,
};

use crate::{
    speaking::{MINE, accept, live_through, local, next, owing, refused_message, said, start_mine},
    world::{World, money, payment, reversal},
};

const BAD: u8 = 7;
const GOOD: u8 = 8;

fn march(day: i8) -> Date {
    Date::constant(2026, 3, day)
}

fn nothing() -> BTreeSet<Timestamp> {
    BTreeSet::new()
}

/// The account is reached at these addresses.
fn reached_at(world: &mut World, addresses: &[u8]) {
    let point = |byte: &u8| ContactPoint { channel: Channel::Email, address: Sealed(vec![*byte]), digest: [*byte; 32] };
    let contact_points = Some(addresses.iter().map(point).collect());
    let change = ProfileChange { contact_points, ..ProfileChange::default() };
    assert_eq!(world.ask(&party::Command::AmendAccount(change)), Ok(()));
}

fn failure(stage: &str, code: u32) -> HandOverFailure {
    HandOverFailure { stage: stage.into(), code, reply: None }
}

/// Says what became of the attempt that is under way.
fn ends(world: &mut World, outcome: Outcome) {
    let open = world.account.dunning.open.clone().expect("a started reminder");
    let (reminder, attempt) = (open.number, open.attempts);
    let record = dunning::Command::RecordContactOutcome { reminder, attempt, claim: MINE, outcome };
    assert_eq!(world.ask(&record), Ok(()));
}

fn route_down() -> Outcome {
    Outcome::Deferred { failure: failure("connect", 0), concerns: Concerns::Route }
}

fn no_such_user() -> Outcome {
    Outcome::Rejected { failure: failure("rcpt", 550), concerns: Concerns::Recipient, handed: None }
}

fn unknown() -> Outcome {
    Outcome::Unknown { handed: None }
}

fn last(world: &World) -> &dunning::Fact {
    match &world.history.last().expect("something happened").1 {
        Event::Dunning(fact) => fact,
        other => panic!("{other:?}"),
    }
}

fn until(world: &World) -> Timestamp {
    match last(world) {
        dunning::Fact::ContactDeferred(ContactDeferred { until, .. }) => *until,
        other => panic!("not deferred: {other:?}"),
    }
}

fn rejections(world: &World) -> Vec<RejectedReason> {
    let reason = |event: &Event| match event {
        Event::Dunning(dunning::Fact::ContactRejected(ContactRejected { reason, took, .. })) => {
            assert!(took.steps.is_empty(), "a step that reached nobody is not taken");
            Some(*reason)
        }
        _ => None,
    };
    world.history.iter().filter_map(|(_, event)| reason(event)).collect()
}

/// Lives on, and every attempt to an address in `bad` is refused.
fn live_with_bad(world: &mut World, bad: &[u8], end: Timestamp) {
    while let Some(now) = next(world).filter(|now| *now <= end) {
        world.now = world.now.max(now);
        assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
        let Some(open) = world.account.dunning.open.clone() else { continue };
        let start = dunning::Command::StartContactAttempt { reminder: open.number, claim: MINE };
        assert_eq!(world.ask(&start), Ok(()));
        match last(world).clone() {
            dunning::Fact::ContactStarted(started) if bad.contains(&started.recipient[0]) => {
                ends(world, no_such_user())
            }
            dunning::Fact::ContactStarted(_) => accept(world),
            dunning::Fact::ContactDeferred(deferred) => world.now = deferred.until,
            _ => {}
        }
    }
}

#[test]
fn u5_a_server_that_is_down_costs_no_step() {
    let mut world = owing(march(12));
    world.rules.policy.as_mut().expect("a policy").contact.backoff_minutes = vec![15];
    world.now = local("2026-03-19T18:00:00");
    for _ in 0..200 {
        start_mine(&mut world);
        ends(&mut world, route_down());
        let again = until(&world);
        assert!(matches!(
            last(&world),
            dunning::Fact::ContactDeferred(ContactDeferred { reason: DeferredReason::HandOverFailed, route: true, .. })
        ));
        world.now = again;
    }
    assert_eq!(rejections(&world), []);
    // It is back on the second day: the first mail that the debtor ever gets is the friendly one, and one alone.
    assert_eq!(start_mine(&mut world).notice.step, "first");
    accept(&mut world);
    assert!(world.now > local("2026-03-20T09:00:00") && next(&world) > Some(local("2026-03-22T09:00:00")));
    // A retry is used up only by what concerns the message.
    let mut world = owing(march(12));
    world.rules.policy.as_mut().expect("a policy").contact.backoff_minutes = vec![15];
    world.now = local("2026-03-19T10:00:00");
    for outcome in
        [route_down(), Outcome::Deferred { failure: failure("rcpt", 451), concerns: Concerns::Message }, route_down()]
    {
        start_mine(&mut world);
        ends(&mut world, outcome);
        world.now = until(&world);
    }
}

#[test]
fn u5_after_an_outage_nothing_goes_out_outside_the_hours_and_the_balance_is_asked_again() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T19:59:30");
    start_mine(&mut world);
    ends(&mut world, route_down());
    assert_eq!(until(&world), local("2026-03-20T09:00:00"));
    assert_eq!(world.ask(&payment("P-1", money(10_000, "EUR"), &[])), Ok(()));
    world.now = local("2026-03-20T09:00:00");
    assert_eq!(world.ask(&dunning::Command::StartContactAttempt { reminder: 1, claim: MINE }), Ok(()));
    assert!(matches!(
        last(&world),
        dunning::Fact::ContactWithheld(ContactWithheld { reason: WithheldReason::Settled, .. })
    ));
}

#[test]
fn a_window_that_closes_before_the_message_leaves_reads_outside_hours() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T19:59:30");
    start_mine(&mut world);
    world.now = local("2026-03-19T20:00:01");
    ends(&mut world, Outcome::Deferred { failure: failure(LAST_LOOK, 0), concerns: Concerns::Message });
    let expected = local("2026-03-20T09:00:00");
    assert!(
        matches!(last(&world), dunning::Fact::ContactDeferred(ContactDeferred { reason: DeferredReason::OutsideHours, until, failure: None, .. }) if *until == expected)
    );
}

#[test]
fn u14_without_an_address_no_step_is_taken_and_all_are_said_once_there_is_one() {
    let mut world = owing(march(12));
    reached_at(&mut world, &[]);
    live_through(&mut world, &nothing(), local("2026-05-04T08:00:00"));
    assert_eq!((said(&world).len(), next(&world)), (0, None), "the ladder has run to its end, and nothing was said");
    assert!(world.account.ledger.items.iter().all(|item| item.last_step.is_none()));
    world.now = local("2026-05-04T08:00:00");
    reached_at(&mut world, &[GOOD]);
    live_through(&mut world, &nothing(), local("2027-01-01T00:00:00"));
    let expected = ["2026-05-04 09:00 first", "2026-05-07 09:00 second", "2026-05-11 09:00 formal"];
    assert_eq!(said(&world), expected, "the lowest step first, and no burst");
}

#[test]
fn u14_a_refused_address_comes_again_on_the_days_of_the_next_steps_and_not_for_ever() {
    let mut world = owing(march(12));
    live_with_bad(&mut world, &[BAD], local("2027-01-01T00:00:00"));
    let expected = [
        "2026-03-09 09:00 courtesy",
        "2026-03-12 09:00 due-today",
        "2026-03-19 09:00 first",
        "2026-04-02 09:00 first",
        "2026-04-27 09:00 first",
    ];
    assert_eq!(said(&world), expected, "the friendly reminder stays the next one");
    assert_eq!(rejections(&world), [RejectedReason::AddressRefused; 5]);
    assert_eq!((next(&world), world.account.dunning.needs_person()), (None, Some(5)));
    // The same addresses written once more help nobody.
    reached_at(&mut world, &[BAD]);
    assert_eq!(next(&world), None);
    reached_at(&mut world, &[BAD, GOOD]);
    live_with_bad(&mut world, &[BAD], local("2027-01-01T00:00:00"));
    let expected = ["2026-04-27 09:00 first", "2026-04-30 09:00 second", "2026-05-04 09:00 formal"];
    assert_eq!(said(&world)[5..], expected);
    assert_eq!(rejections(&world).len(), 5, "the refused address is left alone");
}

#[test]
fn u14_a_ladder_that_begins_late_does_not_try_a_refused_address_for_ever() {
    let mut world = owing(Date::constant(2026, 1, 2));
    world.now = local("2026-06-01T08:00:00");
    live_with_bad(&mut world, &[BAD], local("2027-01-01T00:00:00"));
    assert_eq!(said(&world), ["2026-06-01 09:00 first", "2026-06-04 09:00 first", "2026-06-08 09:00 first"]);
    assert_eq!(next(&world), None);
}

#[test]
fn u14_of_several_addresses_the_first_that_was_not_refused_is_used() {
    let mut world = owing(march(12));
    reached_at(&mut world, &[BAD, GOOD]);
    world.now = local("2026-03-19T10:00:00");
    assert_eq!(start_mine(&mut world).recipient, [BAD; 32]);
    ends(&mut world, no_such_user());
    assert_eq!(world.ask(&dunning::Command::RetryContact { reminder: 1, note: None }), Ok(()));
    assert_eq!(start_mine(&mut world).recipient, [GOOD; 32]);
    accept(&mut world);
    let took = world.account.ledger.items[0].last_step.expect("the step is taken now");
    assert_eq!(took.offset_days, 7);
}

#[test]
fn u14_a_retry_that_fails_too_leaves_the_ladder_as_it_was() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    start_mine(&mut world);
    ends(&mut world, no_such_user());
    let before = next(&world);
    for reminder in 1..4 {
        assert_eq!(world.ask(&dunning::Command::RetryContact { reminder, note: None }), Ok(()));
        start_mine(&mut world);
        ends(&mut world, no_such_user());
        assert_eq!(next(&world), before);
    }
    assert_eq!(before, Some(local("2026-04-02T09:00:00")));
}

#[test]
fn u14_a_refused_reminder_that_is_dropped_takes_its_step() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    start_mine(&mut world);
    ends(&mut world, no_such_user());
    assert_eq!(world.ask(&dunning::Command::DropContact { reminder: 1, note: None }), Ok(()));
    live_through(&mut world, &nothing(), local("2026-04-03T00:00:00"));
    assert_eq!(said(&world)[1..], ["2026-04-02 09:00 second"]);
}

#[test]
fn a_rejection_of_an_older_release_took_its_steps_and_still_does() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    let started = start_mine(&mut world);
    let step = dunning::ItemStep { invoice: started.items[0].invoice.clone(), instalment: 1, offset_days: 7 };
    let rejected = ContactRejected {
        reminder: 1,
        attempt: 1,
        reason: RejectedReason::Refused,
        failure: failure("rcpt", 550),
        handed: None,
        took: dunning::StepsTaken { steps: vec![step], on: march(19) },
        tried: None,
        steps_before: Vec::new(),
    };
    saldo_domain::evolve(&mut world.account, &rejected.into());
    assert_eq!(next(&world), Some(local("2026-04-02T09:00:00")));
    live_through(&mut world, &nothing(), local("2026-04-03T00:00:00"));
    assert_eq!(said(&world)[1..], ["2026-04-02 09:00 second"]);
}

#[test]
fn u15_what_is_unchanged_is_said_again_as_the_same_message() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    let first = start_mine(&mut world).stamp.expect("a stamp");
    assert!(first.id.ends_with("@example.com"), "{}", first.id);
    ends(&mut world, unknown());
    assert_eq!(world.ask(&dunning::Command::RetryContact { reminder: 1, note: None }), Ok(()));
    let mut paid = world.clone();
    world.now = local("2026-03-20T09:00:00");
    assert_eq!(start_mine(&mut world).stamp, Some(first.clone()), "the same id, date and day");
    // And again, however often it is said again.
    ends(&mut world, unknown());
    assert_eq!(world.ask(&dunning::Command::RetryContact { reminder: 2, note: None }), Ok(()));
    world.now = local("2026-03-26T09:00:00");
    assert_eq!(start_mine(&mut world).stamp, Some(first.clone()));

    assert_eq!(paid.ask(&payment("P-1", money(2_500, "EUR"), &[])), Ok(()));
    paid.now = local("2026-03-20T09:00:00");
    let other = start_mine(&mut paid).stamp.expect("a stamp");
    assert!(other.id != first.id && other.at == paid.now, "of another balance it is another message");
}

#[test]
fn the_next_reminder_is_another_message() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    let first = start_mine(&mut world).stamp.expect("a stamp");
    accept(&mut world);
    world.now = local("2026-04-02T10:00:00");
    assert_ne!(start_mine(&mut world).stamp.expect("a stamp").id, first.id);
}

#[test]
fn what_cannot_be_retried_or_dropped_is_said_with_its_reason() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    start_mine(&mut world);
    accept(&mut world);
    let why = |world: &World, reminder| {
        let mut world = world.clone();
        let refused = world.refusal(&dunning::Command::RetryContact { reminder, note: None });
        refused.expect("refused").to_string()
    };
    assert_eq!(why(&world, 1), "reminder 1 can be neither retried nor dropped: it was sent");
    world.now = local("2026-04-02T10:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    assert_eq!(why(&world, 1), "reminder 1 can be neither retried nor dropped: reminder 2 has taken its place");
    assert_eq!(world.ask(&dunning::Command::DropContact { reminder: 2, note: None }), Ok(()));
    assert_eq!(why(&world, 2), "reminder 2 can be neither retried nor dropped: it was dropped already");
}

#[test]
fn a_reason_is_kept_with_a_retry_and_with_a_drop() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    start_mine(&mut world);
    let handed = HandedOver { message_id: "m".into(), sha256: [1; 32], message: Sealed(vec![1]) };
    ends(&mut world, Outcome::Unknown { handed: Some(handed) });
    let note = Some(Sealed(vec![5]));
    let mut dropped = world.clone();
    assert_eq!(dropped.ask(&dunning::Command::DropContact { reminder: 1, note: note.clone() }), Ok(()));
    assert!(matches!(last(&dropped), dunning::Fact::ContactWithheld(withheld) if withheld.note == note));
    assert_eq!(world.ask(&dunning::Command::RetryContact { reminder: 1, note: note.clone() }), Ok(()));
    let due = world.history.iter().rev().find_map(|(_, event)| match event {
        Event::Dunning(dunning::Fact::ReminderDue(due)) => Some(due.clone()),
        _ => None,
    });
    assert_eq!(due.expect("due").note, note);
}

/// A person has a reminder said again at another time, and the retry is started.
fn said_again(world: &mut World, reminder: u64, now: &str) -> dunning::MessageStamp {
    world.now = local(now);
    assert_eq!(world.ask(&dunning::Command::RetryContact { reminder, note: None }), Ok(()));
    start_mine(world).stamp.expect("a stamp")
}

#[test]
fn what_certainly_reached_nobody_is_written_anew() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    let first = start_mine(&mut world).stamp.expect("a stamp");
    ends(&mut world, refused_message());
    let again = said_again(&mut world, 1, "2026-04-01T10:00:00");
    assert_eq!((again.day, again.at), (Date::constant(2026, 4, 1), world.now));
    assert_ne!(again.id, first.id, "another date is another message");
}

#[test]
fn what_may_have_arrived_keeps_its_date_although_a_retry_between_was_refused() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    let first = start_mine(&mut world).stamp.expect("a stamp");
    ends(&mut world, unknown());
    assert_eq!(said_again(&mut world, 1, "2026-03-20T10:00:00"), first);
    ends(&mut world, refused_message());
    assert_eq!(said_again(&mut world, 2, "2026-03-23T10:00:00"), first);
}

#[test]
fn of_another_payment_text_it_is_another_message() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    let first = start_mine(&mut world).stamp.expect("a stamp");
    ends(&mut world, unknown());
    world.rules.policy.as_mut().expect("a policy").sender.payment = "another IBAN".into();
    assert_ne!(said_again(&mut world, 1, "2026-03-20T10:00:00").id, first.id);
}

#[test]
fn u15_of_other_words_it_is_another_message() {
    let mut world = owing(march(12));
    let words = |digest: u8| [(("first".to_owned(), "es".to_owned()), [digest; 32])].into();
    world.rules.words = words(1);
    world.now = local("2026-03-19T10:00:00");
    let first = start_mine(&mut world).stamp.expect("a stamp");
    ends(&mut world, unknown());
    assert_eq!(said_again(&mut world.clone(), 1, "2026-03-20T10:00:00"), first);
    world.rules.words = words(2);
    let other = said_again(&mut world, 1, "2026-03-20T10:00:00");
    assert!(other.id != first.id && other.at == world.now, "{other:?}");
}

#[test]
fn a_telephone_number_makes_no_refused_e_mail_address_good() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    start_mine(&mut world);
    ends(&mut world, no_such_user());
    let before = next(&world);
    let point = |channel, byte| ContactPoint { channel, address: Sealed(vec![byte]), digest: [byte; 32] };
    let contact_points = Some(vec![point(Channel::Email, BAD), point(Channel::Phone, 9)]);
    let change = ProfileChange { contact_points, ..ProfileChange::default() };
    assert_eq!(world.ask(&party::Command::AmendAccount(change)), Ok(()));
    assert_eq!(next(&world), before);
}

/// Two lives until the same refusal: told in time, and told after the outcome stood as unknown.
fn refused_in_time_and_late(world: &World, outcome: Outcome) -> [World; 2] {
    let mut in_time = world.clone();
    start_mine(&mut in_time);
    let open = in_time.account.dunning.open.clone().expect("a started reminder");
    let refused =
        dunning::Command::RecordContactOutcome { reminder: open.number, attempt: open.attempts, claim: MINE, outcome };
    let mut late = in_time.clone();
    assert_eq!(in_time.ask(&refused), Ok(()));
    late.now = world.now + SEND_WITHIN + unknown_after(Channel::Email);
    assert_eq!(late.ask(&Command::AdvanceTime), Ok(()));
    assert!(matches!(last(&late), dunning::Fact::ContactUnknown(_)));
    assert_eq!(late.ask(&refused), Ok(()));
    in_time.now = late.now;
    [in_time, late]
}

#[test]
fn u14_a_refusal_that_is_told_late_takes_no_step_and_leaves_the_account_as_one_told_in_time() {
    for outcome in [no_such_user(), refused_message()] {
        let mut world = owing(march(12));
        // The second and third time of a step that was tried before.
        for (now, again) in [
            ("2026-03-19T10:00:00", Some("2026-04-02T09:00:00")),
            ("2026-04-02T09:00:00", Some("2026-04-27T09:00:00")),
            ("2026-04-27T09:00:00", None),
        ] {
            world.now = local(now);
            let [in_time, late] = refused_in_time_and_late(&world, outcome.clone());
            assert_eq!(late.account, in_time.account);
            assert_eq!(rejections(&late), rejections(&in_time));
            assert_eq!(next(&late), again.map(local));
            world = late;
        }
        assert_eq!(said(&world), ["2026-03-19 10:00 first", "2026-04-02 09:00 first", "2026-04-27 09:00 first"]);
        reached_at(&mut world, &[GOOD]);
        assert_eq!(start_mine(&mut world).notice.step, "first", "a new address helps");
    }
}

#[test]
fn u14_a_retry_that_is_refused_late_leaves_the_step_that_may_have_been_heard() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    start_mine(&mut world);
    ends(&mut world, unknown());
    let before = world.account.ledger.items.clone();
    world.now = local("2026-03-20T10:00:00");
    assert_eq!(world.ask(&dunning::Command::RetryContact { reminder: 1, note: None }), Ok(()));
    let [in_time, late] = refused_in_time_and_late(&world, refused_message());
    assert_eq!((&late.account, &late.account.ledger.items), (&in_time.account, &before));
    assert_eq!(next(&late), Some(local("2026-04-02T09:00:00")), "the ladder goes on with the next step");
}

#[test]
fn u14_a_step_that_was_given_back_stays_so_when_a_payment_bounces() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    let [_, mut late] = refused_in_time_and_late(&world, refused_message());
    assert_eq!(late.ask(&payment("P-1", money(10_000, "EUR"), &[])), Ok(()));
    assert_eq!(late.ask(&reversal("P-1")), Ok(()));
    assert_eq!(late.account.ledger.items[0].last_step, None);
}

#[test]
fn u5_a_refusal_of_an_older_release_that_came_late_left_the_step_taken_and_still_does() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    let [_, mut late] = refused_in_time_and_late(&world, refused_message());
    let dunning::Fact::ContactRejected(rejected) = last(&late).clone() else { panic!("not rejected") };
    let old = ContactRejected { tried: None, steps_before: Vec::new(), ..rejected };
    let mut account = saldo_domain::account::Account::default();
    late.history.pop();
    late.history.iter().for_each(|(_, event)| saldo_domain::evolve(&mut account, event));
    saldo_domain::evolve(&mut account, &old.into());
    assert_eq!(account.ledger.items[0].last_step.map(|last| last.offset_days), Some(7));
    assert_eq!(account.dunning.recent.len(), 1);
}

#[test]
fn an_address_that_is_refused_late_is_remembered() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    start_mine(&mut world);
    world.now = local("2026-03-19T10:18:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()), "the outcome is unknown");
    let late = dunning::Command::RecordContactOutcome { reminder: 1, attempt: 1, claim: MINE, outcome: no_such_user() };
    assert_eq!(world.ask(&late), Ok(()));
    assert_eq!(world.account.dunning.refused, [[BAD; 32]]);
}

#[test]
fn a_retry_that_fails_puts_off_no_step_of_the_ladder() {
    let mut world = owing(march(12));
    world.now = local("2026-03-19T10:00:00");
    start_mine(&mut world);
    ends(&mut world, refused_message());
    let before = next(&world);
    said_again(&mut world, 1, "2026-04-01T10:00:00");
    ends(&mut world, refused_message());
    assert_eq!(next(&world), before);
}

#[test]
fn a_retry_needs_an_address_on_the_channel_of_its_reminder() {
    let mut world = owing(march(12));
    reached_at(&mut world, &[]);
    live_through(&mut world, &nothing(), local("2026-03-10T00:00:00"));
    let retry = dunning::Command::RetryContact { reminder: 1, note: None };
    assert_eq!(world.ask(&retry), Err("NO_CONTACT_POINT"));
    assert_eq!(world.account.dunning.needs_person(), Some(1), "it stays the person's task");
    reached_at(&mut world, &[GOOD]);
    live_through(&mut world, &nothing(), local("2026-03-10T00:00:00"));
    assert_eq!(said(&world), ["2026-03-09 09:00 courtesy"], "with an address the ladder says it");
}
