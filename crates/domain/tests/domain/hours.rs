//! The permitted hours on days on which the clocks are changed.

use std::collections::BTreeSet;

use jiff::{
    SignedDuration, Timestamp, ToSpan,
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};
use proptest::prelude::*;
use saldo_domain::dunning::{
    hours::next_permitted,
    policy::{Policy, Tone, Window},
};

use crate::{
    ladder::{ALL_DAYS, World, at, fresh, zone},
    policy::{sound, step},
};

fn window(days: &[Weekday], from: (i8, i8), to: (i8, i8)) -> Window {
    let time = |(hour, minute)| Time::constant(hour, minute, 0, 0);
    Window { days: days.to_vec(), from: time(from), to: time(to) }
}

fn within(window: Window) -> Policy {
    let mut policy = sound();
    policy.contact.windows = vec![window];
    policy.steps = vec![step("first", 7, Tone::Friendly)];
    policy
}

/// When a step is planned whose day is `day`, as the clocks of the zone show it.
fn planned(window: Window, name: &str, day: Date) -> Vec<String> {
    let zone = zone(name);
    let due = day.checked_sub(7.days()).expect("a day");
    let mut world = World::new(within(window), zone.clone(), vec![fresh(due)]);
    world.live(at(&format!("{due}T12:00:00"), &zone), &BTreeSet::new());
    world.told()
}

#[test]
fn u8_a_window_of_which_the_clocks_leave_out_a_part_opens_with_the_rest() {
    let (day, night) = (Date::constant(2026, 3, 29), window(&ALL_DAYS, (2, 30), (3, 30)));
    assert_eq!(planned(night, "Europe/Berlin", day), ["2026-03-29 03:00 first"]);
    let sundays = window(&[Weekday::Sunday], (2, 30), (3, 30));
    assert_eq!(planned(sundays, "Europe/Berlin", day), ["2026-03-29 03:00 first"]);
    let until_then = window(&ALL_DAYS, (1, 30), (2, 30));
    assert_eq!(planned(until_then, "Europe/Berlin", day), ["2026-03-29 01:30 first"]);
    let santiago = window(&ALL_DAYS, (0, 30), (1, 30));
    assert_eq!(planned(santiago, "America/Santiago", Date::constant(2026, 9, 6)), ["2026-09-06 01:00 first"]);
}

#[test]
fn u8_a_window_that_the_clocks_leave_out_whole_waits_for_the_next_one() {
    let (day, swallowed) = (Date::constant(2026, 3, 29), ((2, 15), (2, 45)));
    let daily = window(&ALL_DAYS, swallowed.0, swallowed.1);
    assert_eq!(planned(daily, "Europe/Berlin", day), ["2026-03-30 02:15 first"]);
    let sundays = window(&[Weekday::Sunday], swallowed.0, swallowed.1);
    assert_eq!(planned(sundays, "Europe/Berlin", day), ["2026-04-05 02:15 first"]);
    let santiago = window(&ALL_DAYS, (0, 0), (0, 45));
    assert_eq!(planned(santiago, "America/Santiago", Date::constant(2026, 9, 6)), ["2026-09-07 00:00 first"]);
}

#[test]
fn u8_a_window_ends_where_the_clocks_are_put_back_out_of_it() {
    let berlin = zone("Europe/Berlin");
    let policy = within(window(&ALL_DAYS, (2, 30), (3, 30)));
    let night = at("2026-10-25T00:00:00", &berlin);
    let first = next_permitted(&policy, &berlin, &[], night).expect("permitted");
    // At 03:00 summer time the clocks show 02:00 again, which is outside. From 02:30 on the window is open once more.
    let again = next_permitted(&policy, &berlin, &[], first.to).expect("permitted");
    let instants = [first.from, first.to, again.from, again.to].map(|instant| instant.to_string());
    let expected = ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"];
    assert_eq!(instants, expected);
    assert_eq!(
        planned(window(&ALL_DAYS, (2, 30), (3, 30)), "Europe/Berlin", Date::constant(2026, 10, 25)),
        ["2026-10-25 02:30 first"],
        "a step is planned once, although the hour comes twice"
    );
}

#[test]
fn u8_a_day_that_the_clocks_leave_out_is_followed_by_the_next() {
    let daytime = window(&ALL_DAYS, (9, 0), (17, 0));
    assert_eq!(planned(daytime, "Pacific/Apia", Date::constant(2011, 12, 30)), ["2011-12-31 09:00 first"]);
}

/// Zones that change their clocks at night, at midnight, by half an hour and by two hours, and one that never does.
const ZONES: [&str; 10] = [
    "Europe/Berlin",
    "America/Santiago",
    "America/Havana",
    "America/New_York",
    "America/Nuuk",
    "Atlantic/Azores",
    "Antarctica/Troll",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Asia/Kolkata",
];

fn is_inside(policy: &Policy, zone: &TimeZone, instant: Timestamp) -> bool {
    let local = zone.to_datetime(instant);
    policy.contact.windows.iter().any(|window| {
        let ends = window.to == Time::midnight() || local.time() < window.to;
        window.days.contains(&local.date().weekday()) && window.from <= local.time() && ends
    })
}

fn windows() -> impl Strategy<Value = Window> {
    let days = proptest::sample::subsequence(ALL_DAYS.to_vec(), 1..=7);
    (days, 0..94i64, 2..24i64).prop_map(|(days, from, quarters)| {
        let time = |quarter: i64| Time::midnight().wrapping_add((quarter * 15).minutes());
        Window { days, from: time(from), to: time((from + quarters).min(96)) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A planned contact lies inside a window and not before the instant asked about. Every earlier minute lies outside.
    #[test]
    fn u8_whatever_the_clocks_do_the_first_minute_inside_the_window_is_planned(
        zone in proptest::sample::select(&ZONES[..]).prop_map(zone),
        windows in proptest::collection::vec(windows(), 1..3),
        change in 0..4usize,
        minutes in -3 * 24 * 60..24 * 60i64,
    ) {
        let mut policy = sound();
        policy.contact.windows = windows;
        let year: Timestamp = "2026-01-01T00:00:00Z".parse().expect("an instant");
        let changes = zone.following(year).map(|change| change.timestamp());
        let now = changes.take(4).nth(change).unwrap_or(year) + SignedDuration::from_mins(minutes);
        let minute = |after: i64| now + SignedDuration::from_mins(after);
        let expected = (0..15 * 24 * 60).map(minute).find(|instant| is_inside(&policy, &zone, *instant));
        let permitted = next_permitted(&policy, &zone, &[], now);
        prop_assert_eq!(permitted.map(|permitted| permitted.from), expected);
        if let Some(permitted) = permitted {
            let length = permitted.to.duration_since(permitted.from).as_mins();
            let outside = (0..length)
                .map(|after| permitted.from + SignedDuration::from_mins(after))
                .find(|instant| !is_inside(&policy, &zone, *instant));
            prop_assert_eq!(outside, None, "a window ends where its time does");
        }
    }
}
