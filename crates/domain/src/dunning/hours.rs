//! When a debtor may be contacted: the policy's windows, and how often is often enough.

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, DateTime, Time},
    tz::{Offset, TimeZone},
};

use super::policy::Policy;

/// Days looked ahead for a permitted moment. A window of some weekday comes within one week, a full week's budget is free after
/// another, and a third makes up for a window that a change of the clocks leaves out.
const LOOK_AHEAD_DAYS: usize = 21;

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
    let windows = policy.contact.windows.iter().filter(|window| window.days.contains(&day.weekday()));
    let stretches = windows.flat_map(|window| {
        let end = if window.to == Time::midnight() { day.tomorrow() } else { Ok(day) };
        end.map_or_else(|_| Vec::new(), |end| shown(zone, day.to_datetime(window.from), end.to_datetime(window.to)))
    });
    let permitted = stretches.map(|stretch| Permitted { from: stretch.from.max(now), ..stretch });
    permitted.filter(|stretch| stretch.from < stretch.to).min_by_key(|stretch| stretch.from)
}

/// The first moment at which the clocks show a day, or a later day where they leave this one out.
pub(super) fn start_of(day: Date, zone: &TimeZone) -> Option<Timestamp> {
    let (from, to) = (day.to_datetime(Time::midnight()), day.checked_add(2.days()).ok()?.to_datetime(Time::midnight()));
    shown(zone, from, to).iter().map(|stretch| stretch.from).min()
}

/// The stretches in which the clocks of a zone show a time from `from` on and before `to`, a day or two later.
///
/// Clocks that are changed leave times out, or show them twice. So the times are looked for under each offset that the zone
/// has around these days: none are found where all were left out, and two stretches where the clocks were put back between.
fn shown(zone: &TimeZone, from: DateTime, to: DateTime) -> Vec<Permitted> {
    // An offset is less than 26 hours, so the stretches lie between these two whatever the zone.
    let utc = |time: Result<DateTime, jiff::Error>| Offset::UTC.to_timestamp(time?);
    let (Ok(first), Ok(last)) = (utc(from.checked_sub(2.days())), utc(to.checked_add(2.days()))) else {
        return Vec::new();
    };
    let mut offsets = vec![(zone.to_offset(first), first)];
    let changes = zone.following(first).take_while(|change| change.timestamp() < last);
    offsets.extend(changes.map(|change| (change.offset(), change.timestamp())));
    let ends = offsets.iter().skip(1).map(|(_, begins)| *begins).chain([last]);
    let stretch = |((offset, begins), ends): (&(Offset, Timestamp), Timestamp)| {
        let (from, to) = (offset.to_timestamp(from).ok()?.max(*begins), offset.to_timestamp(to).ok()?.min(ends));
        (from < to).then_some(Permitted { from, to })
    };
    offsets.iter().zip(ends).filter_map(stretch).collect()
}
