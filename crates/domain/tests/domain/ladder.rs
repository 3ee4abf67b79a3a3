//! When the ladder speaks, by example and whatever happens.

use std::collections::BTreeSet;

use jiff::{
    SignedDuration, Timestamp, ToSpan,
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};
use proptest::prelude::*;
use saldo_domain::dunning::{
    ladder::{Contact, Item, next_contact, take},
    policy::{Policy, Tone, Window},
};

use crate::policy::{sound, step};

pub const ALL_DAYS: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

pub fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).expect("a zone")
}

pub fn at(text: &str, zone: &TimeZone) -> Timestamp {
    text.parse::<jiff::civil::DateTime>().expect("a time").to_zoned(zone.clone()).expect("an instant").timestamp()
}

pub fn fresh(due: Date) -> Item {
    Item { due_date: due, from: Date::MIN, taken: 0, last_taken: None, tried: None, held: [].into() }
}

/// Steps at -3, 0, 7, 21 and 45 days, on working days from 9 to 20.
pub fn ladder() -> Policy {
    let mut policy = sound();
    policy.steps = vec![
        step("courtesy", -3, Tone::Friendly),
        step("due-today", 0, Tone::Friendly),
        step("first", 7, Tone::Friendly),
        step("second", 21, Tone::Firm),
        step("formal", 45, Tone::Formal),
    ];
    policy.contact.windows = vec![Window {
        days: ALL_DAYS[..5].to_vec(),
        from: Time::constant(9, 0, 0, 0),
        to: Time::constant(20, 0, 0, 0),
    }];
    policy
}

/// The contact that is due and permitted at this very moment.
fn due_now(policy: &Policy, zone: &TimeZone, items: &[Item], recent: &[Timestamp], now: Timestamp) -> Option<Contact> {
    next_contact(policy, zone, items, recent, now).filter(|contact| contact.at == now)
}

/// An account over time.
pub struct World {
    policy: Policy,
    zone: TimeZone,
    items: Vec<Item>,
    contacts: Vec<Contact>,
}

impl World {
    pub fn new(policy: Policy, zone: TimeZone, items: Vec<Item>) -> Self {
        Self { policy, zone, items, contacts: Vec::new() }
    }

    fn recent(&self, now: Timestamp) -> Vec<Timestamp> {
        let week = SignedDuration::from_hours(8 * 24);
        self.contacts.iter().map(|contact| contact.at).filter(|at| now.duration_since(*at) < week).collect()
    }

    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        next_contact(&self.policy, &self.zone, &self.items, &self.recent(now), now).map(|contact| contact.at)
    }

    /// Lets time pass, as AdvanceTime does.
    fn advance(&mut self, now: Timestamp) {
        if let Some(contact) = due_now(&self.policy, &self.zone, &self.items, &self.recent(now), now) {
            take(&mut self.items, &contact, self.zone.to_datetime(now).date());
            self.contacts.push(contact);
        }
    }

    /// Woken each time it asked to be, and at the instants of `more` too.
    pub fn live(&mut self, from: Timestamp, more: &BTreeSet<Timestamp>) {
        let mut now = from;
        while let Some(next) = self.next(now) {
            more.range(now..next).for_each(|at| self.advance(*at));
            self.advance(next);
            now = next + SignedDuration::from_secs(1);
        }
    }

    pub fn told(&self) -> Vec<String> {
        let line = |contact: &Contact| {
            let step = &self.policy.steps[contact.step].name;
            format!("{} {step}", self.zone.to_datetime(contact.at).strftime("%Y-%m-%d %H:%M"))
        };
        self.contacts.iter().map(line).collect()
    }
}

#[test]
fn a_debtor_hears_each_step_once_on_its_day() {
    let madrid = zone("Europe/Madrid");
    let mut world = World::new(ladder(), madrid.clone(), vec![fresh(Date::constant(2026, 3, 12))]);
    world.live(at("2026-03-01T12:00:00", &madrid), &BTreeSet::new());
    let expected = [
        "2026-03-09 09:00 courtesy",
        "2026-03-12 09:00 due-today",
        "2026-03-19 09:00 first",
        "2026-04-02 09:00 second",
        // The 26th is a Sunday.
        "2026-04-27 09:00 formal",
    ];
    assert_eq!(world.told(), expected);
}

#[test]
fn who_was_not_woken_for_weeks_begins_at_the_first_step_and_keeps_the_distance() {
    let madrid = zone("Europe/Madrid");
    let mut world = World::new(ladder(), madrid.clone(), vec![fresh(Date::constant(2026, 1, 5))]);
    world.live(at("2026-03-02T18:30:00", &madrid), &BTreeSet::new());
    // Courtesy and due-today have lapsed. Two a week at most, three days apart.
    assert_eq!(world.told(), ["2026-03-02 18:30 first", "2026-03-05 09:00 second", "2026-03-09 09:00 formal"]);
}

#[test]
fn ten_invoices_are_one_message_in_the_highest_tone() {
    let madrid = zone("Europe/Madrid");
    let due = [Date::constant(2026, 1, 5), Date::constant(2026, 2, 27), Date::constant(2026, 3, 20)];
    let mut items: Vec<Item> = due.into_iter().map(fresh).collect();
    items[0].taken = 3;
    let now = at("2026-03-09T10:00:00", &madrid);
    let contact = due_now(&ladder(), &madrid, &items, &[], now).expect("due now");
    // The oldest takes its second reminder, the next its first; the third has nothing due yet.
    assert_eq!((contact.step, contact.takes), (3, vec![(0, 3), (1, 2)]));
}

#[test]
fn at_both_ends_of_daylight_saving_time_the_window_is_where_the_clock_says() {
    let madrid = zone("Europe/Madrid");
    let mut policy = ladder();
    policy.contact.windows =
        vec![Window { days: ALL_DAYS.to_vec(), from: Time::constant(2, 0, 0, 0), to: Time::constant(4, 0, 0, 0) }];
    // On 29 March the clocks leave out 2:00, and on 25 October they show it twice.
    for (due, expected) in
        [(Date::constant(2026, 3, 29), "2026-03-29T01:00:00Z"), (Date::constant(2026, 10, 25), "2026-10-25T00:00:00Z")]
    {
        let item = Item { due_date: due, from: Date::MIN, taken: 1, last_taken: None, tried: None, held: [].into() };
        let before = due.to_datetime(Time::midnight()).to_zoned(madrid.clone()).expect("midnight").timestamp();
        let contact = next_contact(&policy, &madrid, &[item], &[], before).expect("a contact");
        assert_eq!(contact.at, expected.parse::<Timestamp>().expect("an instant"));
    }
}

#[test]
fn a_window_that_began_before_ends_before() {
    let new_york = zone("America/New_York");
    let item = [fresh(Date::constant(2026, 3, 2))];
    let evening = at("2026-03-02T20:00:00", &new_york);
    let contact = next_contact(&ladder(), &new_york, &item, &[], evening).expect("a contact");
    assert_eq!(contact.at, at("2026-03-03T09:00:00", &new_york), "the end of a window is outside");
}

fn policies() -> impl Strategy<Value = Policy> {
    let windows = (proptest::sample::subsequence(ALL_DAYS.to_vec(), 1..=7), 0i8..22, 1i8..=2);
    let steps = (-20i32..5, proptest::collection::vec(1i32..30, 1..6));
    (windows, steps, 0u32..10, 1u32..4).prop_map(|((days, from, hours), (first, gaps), min_distance, per_week)| {
        let mut policy = sound();
        policy.contact.windows =
            vec![Window { days, from: Time::constant(from, 30, 0, 0), to: Time::constant(from + hours, 0, 0, 0) }];
        policy.contact.min_distance_days = min_distance;
        policy.contact.max_per_week = per_week;
        policy.steps.clear();
        let mut offset = first;
        for (index, gap) in gaps.into_iter().enumerate() {
            policy.steps.push(step(&format!("s{index}"), offset, Tone::Friendly));
            offset += gap.max(i32::try_from(min_distance).expect("small"));
        }
        policy
    })
}

#[test]
fn however_many_holds_begin_before_a_permitted_moment_the_ladder_goes_on_after_them() {
    let mut policy = ladder();
    policy.contact.windows[0].days = vec![Weekday::Sunday];
    let madrid = zone("Europe/Madrid");
    // Each of these Sundays is on hold, and each Monday is free.
    let sunday = |week: i64| Date::constant(2026, 3, 22).checked_add((week * 7).days()).expect("a day");
    let held: Vec<_> = (0..60).map(|week| (sunday(week), sunday(week))).collect();
    let items = [Item { held: held.into(), ..fresh(Date::constant(2026, 3, 12)) }];
    let now = at("2026-03-17T12:00:00", &madrid);
    let contact = next_contact(&policy, &madrid, &items, &[], now).expect("a contact");
    assert_eq!(madrid.to_datetime(contact.at).date(), sunday(60));
}

fn zones() -> impl Strategy<Value = TimeZone> {
    proptest::sample::select(vec!["Europe/Madrid", "America/New_York", "Asia/Kolkata", "Pacific/Auckland", "UTC"])
        .prop_map(zone)
}

fn start() -> Timestamp {
    "2026-02-20T00:00:00Z".parse().expect("an instant")
}

proptest! {
    /// Often, late, twice, from two schedulers: whenever it is woken, no rule is broken.
    #[test]
    fn no_rule_is_broken_however_time_advances(
        policy in policies(),
        zone in zones(),
        due in proptest::collection::vec(0i64..60, 1..6),
        wakes in proptest::collection::vec(0i64..200 * 24 * 60, 0..400),
    ) {
        let first = Date::constant(2026, 2, 20);
        let items = due.iter().map(|days| fresh(first + days.days())).collect();
        let mut world = World::new(policy, zone, items);
        let mut taken: Vec<Vec<(usize, Date)>> = vec![Vec::new(); due.len()];
        let mut wakes = wakes;
        wakes.sort_unstable();
        for minutes in wakes {
            let now = start() + SignedDuration::from_mins(minutes);
            for _ in 0..2 {
                let before = world.contacts.len();
                world.advance(now);
                for contact in &world.contacts[before..] {
                    let day = world.zone.to_datetime(now).date();
                    contact.takes.iter().for_each(|(item, step)| taken[*item].push((*step, day)));
                }
            }
        }
        let local: Vec<_> = world.contacts.iter().map(|contact| world.zone.to_datetime(contact.at)).collect();
        for pair in local.windows(2) {
            prop_assert!(pair[0].date() < pair[1].date(), "two on {}", pair[1].date());
        }
        let per_week = world.policy.contact.max_per_week as usize;
        for pair in local.windows(per_week + 1) {
            prop_assert!((pair[per_week].date() - pair[0].date()).get_days() >= 7, "too many in a week");
        }
        let window = &world.policy.contact.windows[0];
        for moment in &local {
            prop_assert!(window.days.contains(&moment.date().weekday()), "{moment}");
            prop_assert!(window.from <= moment.time() && moment.time() < window.to, "{moment}");
        }
        for steps in &taken {
            for pair in steps.windows(2) {
                let ((lower, before), (higher, day)) = (pair[0], pair[1]);
                let between = &world.policy.steps[lower + 1..higher];
                prop_assert!(lower < higher && between.iter().all(|step| step.offset_days <= 0), "{steps:?}");
                let distance = i64::from(world.policy.contact.min_distance_days);
                prop_assert!(i64::from((day - before).get_days()) >= distance, "{steps:?}");
            }
            if let Some((lowest, _)) = steps.first() {
                prop_assert!(world.policy.steps[..*lowest].iter().all(|step| step.offset_days <= 0), "{steps:?}");
            }
        }
    }

    /// Woken when it asked to be, more wake-ups change nothing.
    #[test]
    fn the_same_contacts_fall_due_however_often_it_is_woken(
        policy in policies(),
        zone in zones(),
        due in proptest::collection::vec(0i64..60, 1..6),
        more in proptest::collection::btree_set(0i64..200 * 24 * 60, 0..200),
    ) {
        let first = Date::constant(2026, 2, 20);
        let items: Vec<Item> = due.iter().map(|days| fresh(first + days.days())).collect();
        let more = more.into_iter().map(|minutes| start() + SignedDuration::from_mins(minutes)).collect();
        let mut alone = World::new(policy.clone(), zone.clone(), items.clone());
        alone.live(start(), &BTreeSet::new());
        let mut busy = World::new(policy, zone, items);
        busy.live(start(), &more);
        prop_assert_eq!(&alone.contacts, &busy.contacts);
        // Everything was said that there was to say.
        let last = alone.policy.steps.len();
        prop_assert!(alone.items.iter().all(|item| item.taken == last || alone.policy.steps[item.taken].offset_days <= 0));
    }
}
