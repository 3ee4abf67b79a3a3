//! Outcomes of a message: taken, refused or unknown, told late or never, and settled by a person.

use std::collections::BTreeSet;

use jiff::civil::Date;
use saldo_domain::{
    command::Command,
    dunning::{
        self, ContactAccepted, ContactDeferred, ContactUnknown, DeferredReason, Outcome, ReminderDue, UnknownReason,
        attempt::{SEND_WITHIN, unknown_after},
    },
    event::Event,
    party::Channel,
};

use crate::{
    speaking::{
        MINE, OTHERS, accepted, last, live_through, local, next, owing, put_off, refused_message, said, settle, start,
    },
    world::invoice,
};

#[test]
fn an_attempt_nobody_says_the_outcome_of_stands_as_unknown() {
    let mut world = owing(Date::constant(2026, 3, 12));
    world.now = local("2026-03-09T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    start(&mut world, 1, MINE);
    let expires = world.now + SEND_WITHIN + unknown_after(Channel::Email);
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
