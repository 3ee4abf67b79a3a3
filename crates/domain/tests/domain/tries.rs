//! A hand-over that fails for the moment is tried again by the policy's pauses.

use jiff::{SignedDuration, civil::Date};
use saldo_domain::{
    command::Command,
    dunning::{
        self, ContactDeferred, ContactRejected, HandOverFailure, Outcome, RejectedReason,
        attempt::{LAST_LOOK, MAX_TOO_LATE},
    },
    event::Event,
};

use crate::{
    speaking::{MINE, failed, last, local, next, owing, settle, start},
    world::World,
};

#[test]
fn a_temporary_failure_is_tried_again_by_the_policys_backoff_and_then_given_up() {
    let mut world = owing(Date::constant(2026, 3, 12));
    world.rules.policy.as_mut().expect("policy").contact.backoff_minutes = vec![15, 60];
    world.now = local("2026-03-09T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    for (attempt, minutes) in [(1, 15), (2, 60)] {
        start(&mut world, 1, MINE);
        assert_eq!(settle(&mut world, 1, attempt, Outcome::Deferred(failed())), Ok(()));
        let expected = world.now + SignedDuration::from_mins(minutes);
        assert!(
            matches!(last(&world), Event::Dunning(dunning::Fact::ContactDeferred(ContactDeferred { until, .. })) if *until == expected)
        );
        world.now = expected;
    }
    start(&mut world, 1, MINE);
    assert_eq!(settle(&mut world, 1, 3, Outcome::Deferred(failed())), Ok(()));
    assert!(matches!(
        last(&world),
        Event::Dunning(dunning::Fact::ContactRejected(ContactRejected {
            reason: RejectedReason::RetriesExhausted,
            ..
        }))
    ));
    // Its step counts as taken, and the ladder goes on.
    assert_eq!(next(&world), Some(local("2026-03-12T09:00:00")));
}

#[test]
fn what_a_last_look_kept_back_uses_up_no_retry() {
    let mut world = owing(Date::constant(2026, 3, 12));
    world.rules.policy.as_mut().expect("policy").contact.backoff_minutes = Vec::new();
    world.now = local("2026-03-09T09:00:00");
    assert_eq!(world.ask(&Command::AdvanceTime), Ok(()));
    start(&mut world, 1, MINE);
    let held_back = HandOverFailure { stage: LAST_LOOK.into(), code: 0, reply: None };
    assert_eq!(settle(&mut world, 1, 1, Outcome::Deferred(held_back)), Ok(()));
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

pub fn too_slow() -> HandOverFailure {
    HandOverFailure { stage: LAST_LOOK.into(), code: 0, reply: None }
}

/// One more attempt that is not handed over. Minutes until the reminder is due again, when it is tried again; `None` where
/// it was given up.
fn not_handed_over(world: &mut World, failure: HandOverFailure) -> Option<i64> {
    start(world, 1, MINE);
    let attempt = world.account.dunning.open.as_ref().expect("an open reminder").attempts;
    assert_eq!(settle(world, 1, attempt, Outcome::Deferred(failure)), Ok(()));
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
