//! When a debtor may be contacted: the policy's windows, and how often is often enough.

use std::collections::BTreeSet;

use jiff::{
    Timestamp,
    civil::{Date, Time},
    tz::TimeZone,
};

use super::{ladder::LOOK_AHEAD_DAYS, policy::Policy};

/// A window in which a debtor may be contacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permitted {
    /// The first permitted moment.
    pub from: Timestamp,
    /// The end of the window, which is outside.
    pub to: Timestamp,
}

/// The first moment at `now` or later at which the account may be contacted, by hours and by budget.
pub fn next_permitted(policy: &Policy, zone: &TimeZone, recent: &[Timestamp], now: Timestamp) -> Option<Permitted> {
    let contact_days: Vec<Date> = recent.iter().map(|at| zone.to_datetime(*at).date()).collect();
    let mut day = zone.to_datetime(now).date();
    for _ in 0..LOOK_AHEAD_DAYS {
        if within_budget(policy, &contact_days, day)
            && let Some(permitted) = permitted_on(policy, zone, day, now)
        {
            return Some(permitted);
        }
        day = day.tomorrow().ok()?;
    }
    None
}

fn within_budget(policy: &Policy, contact_days: &[Date], day: Date) -> bool {
    let in_week = contact_days.iter().filter(|one| **one <= day && (day - **one).get_days() < 7).count();
    !contact_days.contains(&day) && in_week < policy.contact.max_per_week as usize
}

/// The first moment of a day's windows at `now` or later.
fn permitted_on(policy: &Policy, zone: &TimeZone, day: Date, now: Timestamp) -> Option<Permitted> {
    let of_day = policy.contact.windows.iter().filter(|window| window.days.contains(&day.weekday()));
    let windows: BTreeSet<(Time, Time)> = of_day.map(|window| (window.from, window.to)).collect();
    // An hour that the clocks leave out moves forward; of an hour that they repeat the first counts for both ends.
    let instant = |day: Date, time: Time| zone.to_ambiguous_timestamp(day.to_datetime(time)).compatible().ok();
    windows.into_iter().find_map(|(from, to)| {
        let end = if to == Time::midnight() { day.tomorrow().ok()? } else { day };
        let permitted = Permitted { from: instant(day, from)?.max(now), to: instant(end, to)? };
        (permitted.from < permitted.to).then_some(permitted)
    })
}
