//! When the ladder speaks: pure, and the same for deciding, previewing and simulating.
//!
//! The level belongs to the item, the contact to the account: one contact a day, in the tone of its highest due step,
//! about every open item. An item's next step is its lowest untaken one, so no level is left out and none comes before
//! the one below it; after days missed the later ones keep their distance. Steps at or before the due date lapse when the
//! next step's day arrives.

use std::collections::BTreeSet;

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, Time},
    tz::TimeZone,
};

use crate::policy::{Policy, Step};

/// An open item on the ladder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The day it falls due.
    pub due_date: Date,
    /// How many steps, from the lowest, are behind it: taken or lapsed.
    pub taken: usize,
    /// The day its last step was taken.
    pub last_taken: Option<Date>,
}

/// A contact that the ladder brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// When.
    pub at: Timestamp,
    /// The step that speaks: the highest that is due, by its place in the policy.
    pub step: usize,
    /// Each item that takes a step with it, and which: places in the items and in the policy.
    pub takes: Vec<(usize, usize)>,
}

/// Days looked ahead for a permitted moment once something is due. A window of some weekday comes within one week, a
/// full week's budget is free after another.
const LOOK_AHEAD: usize = 21;

/// The next contact at `now` or later, if nothing else happens; `None` where nothing is left to say. `recent` are the
/// account's contacts of the last seven days. `zone` is the zone of the policy's windows.
pub fn next_contact(
    policy: &Policy,
    zone: &TimeZone,
    items: &[Item],
    recent: &[Timestamp],
    now: Timestamp,
) -> Option<Contact> {
    let mut from = now;
    for _ in 0..LOOK_AHEAD {
        let today = zone.to_datetime(from).date();
        let day = items.iter().filter_map(|item| item.due_from(policy, today)).min()?;
        let earliest = if day > today { day.to_zoned(zone.clone()).ok()?.timestamp() } else { from };
        let moment = next_permitted(policy, zone, recent, earliest)?;
        let of_moment = zone.to_datetime(moment.from).date();
        // On a later day another step may be due, and one before the due date may have lapsed.
        let takes = due_on(policy, items, of_moment);
        if let Some(step) = takes.iter().map(|(_, step)| *step).max() {
            return Some(Contact { at: moment.from, step, takes });
        }
        from = of_moment.tomorrow().ok()?.to_zoned(zone.clone()).ok()?.timestamp();
    }
    None
}

/// The items that have a step due on a day, and which: places in the items and in the policy. Tones ascend along the
/// ladder, so the highest step has the highest tone.
pub fn due_on(policy: &Policy, items: &[Item], day: Date) -> Vec<(usize, usize)> {
    let due = items.iter().enumerate().filter_map(|(index, item)| {
        let step = item.next_step(policy, day)?;
        (item.ready(policy, step)? <= day).then_some((index, step))
    });
    due.collect()
}

/// When a debtor may be contacted: from a moment up to the end of its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permitted {
    /// The first permitted moment.
    pub from: Timestamp,
    /// The end of the window it lies in, which is outside.
    pub to: Timestamp,
}

/// The first moment at `now` or later at which the account may be contacted, by hours and by budget.
pub fn next_permitted(policy: &Policy, zone: &TimeZone, recent: &[Timestamp], now: Timestamp) -> Option<Permitted> {
    let contact_days: Vec<Date> = recent.iter().map(|at| zone.to_datetime(*at).date()).collect();
    let mut day = zone.to_datetime(now).date();
    for _ in 0..LOOK_AHEAD {
        if within_budget(policy, &contact_days, day)
            && let Some(permitted) = permitted_on(policy, zone, day, now)
        {
            return Some(permitted);
        }
        day = day.tomorrow().ok()?;
    }
    None
}

/// The items after a contact on `day`.
pub fn take(items: &mut [Item], contact: &Contact, day: Date) {
    for (index, step) in &contact.takes {
        if let Some(item) = items.get_mut(*index) {
            item.taken = step + 1;
            item.last_taken = Some(day);
        }
    }
}

impl Item {
    /// Its next step on a day, lapsed ones passed over.
    fn next_step(&self, policy: &Policy, day: Date) -> Option<usize> {
        let mut next = self.taken;
        while let (Some(step), Some(above)) = (policy.steps.get(next), policy.steps.get(next + 1)) {
            if step.offset_days > 0 || self.day_of(above).is_none_or(|arrives| arrives > day) {
                break;
            }
            next += 1;
        }
        (next < policy.steps.len()).then_some(next)
    }

    /// The step's own day.
    fn day_of(&self, step: &Step) -> Option<Date> {
        self.due_date.checked_add(step.offset_days.days()).ok()
    }

    /// The day from which a step can be taken, keeping its distance from the one before.
    fn ready(&self, policy: &Policy, step: usize) -> Option<Date> {
        let day = self.day_of(policy.steps.get(step)?)?;
        let Some(last) = self.last_taken else { return Some(day) };
        Some(day.max(last.checked_add(i64::from(policy.contact.min_distance_days).days()).ok()?))
    }

    /// The first day from `from` on with a step due.
    fn due_from(&self, policy: &Policy, from: Date) -> Option<Date> {
        let mut day = from;
        loop {
            let ready = self.ready(policy, self.next_step(policy, day)?)?;
            if ready <= day {
                return Some(day);
            }
            // On that day the step may have lapsed; the next one is looked at then.
            day = ready;
        }
    }
}

fn within_budget(policy: &Policy, contact_days: &[Date], day: Date) -> bool {
    let in_week = contact_days.iter().filter(|one| **one <= day && (day - **one).get_days() < 7).count();
    !contact_days.contains(&day) && in_week < policy.contact.max_per_week as usize
}

/// The first moment of a day's windows at `now` or later.
fn permitted_on(policy: &Policy, zone: &TimeZone, day: Date, now: Timestamp) -> Option<Permitted> {
    let of_day = policy.contact.windows.iter().filter(|window| window.days.contains(&day.weekday()));
    let windows: BTreeSet<(Time, Time)> = of_day.map(|window| (window.from, window.to)).collect();
    // An hour that the clocks leave out moves forward; of an hour they repeat the first counts for both ends.
    let instant = |day: Date, time: Time| zone.to_ambiguous_timestamp(day.to_datetime(time)).compatible().ok();
    windows.into_iter().find_map(|(from, to)| {
        let end = if to == Time::midnight() { day.tomorrow().ok()? } else { day };
        let permitted = Permitted { from: instant(day, from)?.max(now), to: instant(end, to)? };
        (permitted.from < permitted.to).then_some(permitted)
    })
}
