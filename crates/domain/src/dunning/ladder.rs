//! When the ladder speaks. Deciding, previewing and simulating use the same functions.
//!
//! The level belongs to the item, the contact to the account: one contact a day, in the tone of its highest due step,
//! about every open item. An item's next step is its lowest untaken step, so no level is left out and none comes before
//! the level below it. After days missed the later steps keep their distance. A step at or before the due date lapses on the
//! day of the next step.

use std::collections::HashMap;

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    hours::{next_permitted, start_of},
    policy::{Policy, Step},
};
use crate::{agreement::Stretches, ids::DocumentNumber, ledger::OpenItem};

/// The highest step that an item has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastStep {
    /// The step's days after the due date, which tell the step apart in any version of a policy.
    pub offset_days: i32,
    /// The day the step was taken, in the zone of the policy's windows.
    pub on: Date,
}

/// An item and the step it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemStep {
    /// The item's invoice.
    pub invoice: DocumentNumber,
    /// The item's instalment.
    pub instalment: u32,
    /// The step's days after the due date.
    pub offset_days: i32,
}

/// Steps that items took on a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepsTaken {
    /// Each item and its step.
    pub steps: Vec<ItemStep>,
    /// The day, in the zone of the policy's windows.
    pub on: Date,
}

/// An open item on the ladder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The day the item falls due.
    pub due_date: Date,
    /// The first day on which the item may be spoken of.
    pub from: Date,
    /// How many steps, from the lowest, are behind the item: taken or lapsed.
    pub taken: usize,
    /// The day its last step was taken.
    pub last_taken: Option<Date>,
    /// The days on which the item is on hold.
    pub held: Stretches,
}

/// A contact that the ladder brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// When.
    pub at: Timestamp,
    /// The step that speaks: the highest step that is due, as an index of the policy's steps.
    pub step: usize,
    /// Each item that takes a step, and the step: indexes of the items and of the policy's steps.
    pub takes: Vec<(usize, usize)>,
}

/// The next contact at `now` or later, if nothing else happens; `None` where nothing is left to say. `recent` holds the
/// account's contacts of the last seven days. `zone` is the zone of the policy's windows.
pub fn next_contact(
    policy: &Policy,
    zone: &TimeZone,
    items: &[Item],
    recent: &[Timestamp],
    now: Timestamp,
) -> Option<Contact> {
    let mut from = now;
    // A round without a contact goes on the day after. Such rounds come to an end, since each meets the beginning of another
    // hold, or the lapse of another step.
    loop {
        let today = zone.to_datetime(from).date();
        let day = items.iter().filter_map(|item| item.due_from(policy, today)).min()?;
        let earliest = if day > today { start_of(day, zone)? } else { from };
        let moment = next_permitted(policy, zone, recent, earliest)?;
        let of_moment = zone.to_datetime(moment.from).date();
        // On a later day another step may be due, and one before the due date may have lapsed.
        let takes = due_on(policy, items, of_moment);
        if let Some(step) = takes.iter().map(|(_, step)| *step).max() {
            return Some(Contact { at: moment.from, step, takes });
        }
        from = start_of(of_moment.tomorrow().ok()?, zone)?;
    }
}

/// The items that have a step due on a day, and the step: indexes of the items and of the policy's steps. Tones ascend along
/// the ladder, so the highest step has the highest tone.
pub fn due_on(policy: &Policy, items: &[Item], day: Date) -> Vec<(usize, usize)> {
    let due = items.iter().enumerate().filter_map(|(index, item)| {
        let step = item.next_step(policy, day)?;
        (item.ready(policy, step)? <= day && !item.is_held(day)).then_some((index, step))
    });
    due.collect()
}

/// Changes each open item that some steps name; one pass over the items, however many the steps are.
pub(super) fn for_each(items: &mut [OpenItem], steps: &[ItemStep], change: impl Fn(&mut OpenItem, &ItemStep)) {
    let by_item: HashMap<_, _> = steps.iter().map(|step| ((&step.invoice, step.instalment), step)).collect();
    for item in items {
        if let Some(step) = by_item.get(&(&item.invoice, item.instalment)) {
            change(item, step);
        }
    }
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
    pub(super) fn is_held(&self, day: Date) -> bool {
        self.held_until(day).is_some()
    }

    /// The last day of the stretch on hold that a day lies in.
    fn held_until(&self, day: Date) -> Option<Date> {
        let (from, until) = self.held.get(self.held.partition_point(|(_, until)| *until < day))?;
        (*from <= day).then_some(*until)
    }

    /// The first day from `day` on that no hold covers.
    fn free_from(&self, day: Date) -> Option<Date> {
        self.held_until(day).map_or(Some(day), |until| until.tomorrow().ok())
    }

    /// The item's next step on a day; lapsed steps are passed over.
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

    /// The day from which a step can be taken: not before the item may be spoken of, keeping its distance from the step before.
    fn ready(&self, policy: &Policy, step: usize) -> Option<Date> {
        let day = self.day_of(policy.steps.get(step)?)?.max(self.from);
        let Some(last) = self.last_taken else { return Some(day) };
        Some(day.max(last.checked_add(i64::from(policy.contact.min_distance_days).days()).ok()?))
    }

    /// The first day from `from` on with a step due.
    fn due_from(&self, policy: &Policy, from: Date) -> Option<Date> {
        let mut day = from;
        loop {
            let ready = self.ready(policy, self.next_step(policy, day)?)?;
            let free = self.free_from(day.max(ready))?;
            if free == day {
                return Some(day);
            }
            // On that day the step may have lapsed, and the next one is looked at.
            day = free;
        }
    }
}
