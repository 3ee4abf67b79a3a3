//! What holds of reminders whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date, tz::TimeZone};
use proptest::prelude::*;
use saldo_domain::{
    command::Command,
    dunning::{self, ContactAccepted, ContactDeferred, ContactRejected, ContactUnknown, Outcome, ReminderState},
    event::Event,
};

use crate::{
    ladder::{ladder, zone},
    speaking::{MINE, failed, live, live_through, local, owing, said, settle, start},
    tries::too_slow,
    world::{invoice, money, payment, reversal},
};

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
                        let outcome = Outcome::Deferred(failure);
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
                Event::Dunning(dunning::Fact::ContactRejected(ContactRejected { .. })) => {
                    let (_, _, _, items) = under_way.take().expect("started before");
                    for item in items {
                        if let Some(offset) = item.takes {
                            rungs.insert((item.invoice.to_string(), item.instalment), offset);
                        }
                    }
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
