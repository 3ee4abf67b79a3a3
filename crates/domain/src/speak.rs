//! Speaking to the debtor: what falls due, whether it may be said now, and what became of it.

use std::collections::BTreeMap;

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};

use crate::{
    account::Account,
    command::Context,
    contact::{
        Claim, Closed, Contacts, Deferred, HandOver, ItemStep, LAST_LOOK, ListedItem, MAX_LISTED, REMEMBERED, Rejected,
        Reminder, Rung, SEND_WITHIN, Saying, Stage, Started, Took, UNKNOWN_AFTER, Unknown, Unlisted, Withheld,
    },
    event::Event,
    ladder::{self, Item, Permitted},
    money::Currency,
    policy::Policy,
    refusal::Refusal,
};

/// Minutes until the next try where no policy says.
const PAUSE_MINUTES: u32 = 60;

/// Minutes until the next try where a last look kept a message back.
const HELD_BACK_MINUTES: u32 = 5;

/// What the ladder is asked with.
struct Ladder<'c> {
    policy: &'c Policy,
    zone: TimeZone,
    items: Vec<Item>,
}

impl<'c> Ladder<'c> {
    /// `None` where the debtor's zone is not known any more.
    fn of(account: &Account, policy: &'c Policy, context: &Context<'_>) -> Option<Self> {
        let items = account.items.iter().map(|item| Item {
            due_date: item.due_date,
            taken: item
                .rung
                .map_or(0, |rung| policy.steps.partition_point(|step| step.offset_days <= rung.offset_days)),
            last_taken: item.rung.map(|rung| rung.on),
        });
        Some(Self { policy, zone: zone(account, policy, context)?, items: items.collect() })
    }

    fn next(&self, account: &Account, now: Timestamp) -> Option<ladder::Contact> {
        ladder::next_contact(self.policy, &self.zone, &self.items, &account.contacts.recent, now)
    }

    fn permitted(&self, account: &Account, now: Timestamp) -> Option<Permitted> {
        ladder::next_permitted(self.policy, &self.zone, &account.contacts.recent, now)
    }

    fn takes(&self, account: &Account, takes: &[(usize, usize)]) -> Vec<ItemStep> {
        let of = |(item, step): &(usize, usize)| {
            let (item, step) = (account.items.get(*item)?, self.policy.steps.get(*step)?);
            Some(ItemStep { invoice: item.invoice.clone(), instalment: item.instalment, offset_days: step.offset_days })
        };
        takes.iter().filter_map(of).collect()
    }

    fn saying(&self, step: usize) -> Option<Saying> {
        self.policy.steps.get(step).map(|step| Saying {
            step: step.name.clone(),
            tone: step.tone,
            channel: step.channel,
            template: step.template.clone(),
        })
    }
}

/// As many items as one contact has room for: those on the lowest steps first, so that none is passed over for ever.
fn bound(takes: &mut Vec<(usize, usize)>) {
    if takes.len() > MAX_LISTED {
        takes.sort_by_key(|(_, step)| *step);
        takes.truncate(MAX_LISTED);
    }
}

fn zone(account: &Account, policy: &Policy, context: &Context<'_>) -> Option<TimeZone> {
    (context.zones)(policy.contact.zone(&account.profile.as_ref()?.time_zone))
}

/// The day of an instant, in the zone of the policy's windows; in UTC where there is none.
fn day_of(account: &Account, context: &Context<'_>, at: Timestamp) -> Date {
    let policy = context.rules.policy.as_ref();
    let zone = policy.and_then(|policy| zone(account, policy, context)).unwrap_or(TimeZone::UTC);
    zone.to_datetime(at).date()
}

/// The next thing that time has brought by `context.now`.
pub fn due(account: &Account, context: &Context<'_>) -> Option<Event> {
    if let Some(open) = &account.contacts.open {
        let overdue = expiry(open).is_some_and(|at| at <= context.now);
        return overdue.then(|| Event::ContactUnknown {
            reminder: open.number,
            attempt: open.attempts,
            reason: Unknown::NoOutcome,
            handed: None,
            took: took(open),
        });
    }
    let ladder = Ladder::of(account, context.rules.speaking()?, context)?;
    let mut contact = ladder.next(account, context.now).filter(|contact| contact.at <= context.now)?;
    bound(&mut contact.takes);
    Some(Event::ReminderDue {
        reminder: account.contacts.reminders + 1,
        saying: ladder.saying(contact.takes.iter().map(|(_, step)| *step).max()?)?,
        takes: ladder.takes(account, &contact.takes),
        retry_of: None,
    })
}

/// When time will next bring something. An open reminder that waits for its sender needs no waking.
pub fn next_wakeup(account: &Account, context: &Context<'_>) -> Option<Timestamp> {
    if let Some(open) = &account.contacts.open {
        return expiry(open);
    }
    let ladder = Ladder::of(account, context.rules.speaking()?, context)?;
    Some(ladder.next(account, context.now)?.at)
}

fn expiry(open: &Reminder) -> Option<Timestamp> {
    match open.stage {
        Stage::Started { send_before, .. } => send_before.checked_add(UNKNOWN_AFTER).ok(),
        Stage::Due { .. } => None,
    }
}

/// Whether the reminder may be sent now, decided anew on the account as it stands. No events where it is used up already
/// or waits for a later moment.
pub fn start(account: &Account, reminder: u64, claim: Claim, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
    let now = context.now;
    let Some(open) = account.contacts.open.as_ref().filter(|open| open.number == reminder) else {
        let known = (1..=account.contacts.reminders).contains(&reminder);
        return if known { Ok(Vec::new()) } else { Err(Refusal::ReminderUnknown { reminder }) };
    };
    if !matches!(open.stage, Stage::Due { from } if from.is_none_or(|from| from <= now)) {
        return Ok(Vec::new());
    }
    let day = day_of(account, context, now);
    let withheld = |reason| Ok(vec![withheld(open, reason, day)]);
    let Some(policy) = context.rules.speaking() else { return withheld(Withheld::SendingOff) };
    let (Some(ladder), Some(profile)) = (Ladder::of(account, policy, context), &account.profile) else {
        return withheld(Withheld::NoContactPoint);
    };
    let mut due = ladder::due_on(policy, &ladder.items, day);
    bound(&mut due);
    let (saying, takes) = match (due.iter().map(|(_, step)| *step).max(), open.retry_of) {
        // A person asked to say the same again, about what is left of it.
        (_, Some(_)) => (Some(open.saying.clone()), still_open(account, &open.takes)),
        (Some(step), None) => (ladder.saying(step), ladder.takes(account, &due)),
        (None, None) => (None, Vec::new()),
    };
    let Some(saying) = saying.filter(|_| !takes.is_empty()) else { return withheld(Withheld::Settled) };
    let window = match ladder.permitted(account, now) {
        Some(permitted) if permitted.from <= now => permitted,
        other => return Ok(vec![wait(reminder, account, &ladder, other, now)]),
    };
    let point = profile.contact_points.iter().find(|point| point.channel == saying.channel);
    let Some(point) = point else { return withheld(Withheld::NoContactPoint) };
    let (items, unlisted) = listed(account, &takes, day);
    let own = context.rules.languages.contains(&profile.language);
    Ok(vec![Event::ContactStarted(Box::new(Started {
        reminder,
        attempt: open.attempts + 1,
        claim,
        language: if own { profile.language.clone() } else { policy.sender.language.clone() },
        name: profile.display_name.clone(),
        address: point.address.clone(),
        recipient: point.digest,
        at: now,
        day,
        send_before: now.checked_add(SEND_WITHIN).unwrap_or(now).min(window.to),
        items,
        unlisted,
        unapplied: unapplied(account),
        saying,
    }))])
}

/// The reminder waits for the next permitted moment.
fn wait(reminder: u64, account: &Account, ladder: &Ladder<'_>, permitted: Option<Permitted>, now: Timestamp) -> Event {
    let by_hours = ladder::next_permitted(ladder.policy, &ladder.zone, &[], now);
    let reason =
        if by_hours.is_some_and(|hours| hours.from <= now) { Deferred::Budget } else { Deferred::OutsideHours };
    let until = permitted.map(|permitted| permitted.from).or_else(|| account.contacts.recent.last().copied());
    let until = until.unwrap_or(now).max(now.checked_add(1.minute()).unwrap_or(now));
    Event::ContactDeferred { reminder, attempt: 0, reason, until, failed: None }
}

fn withheld(open: &Reminder, reason: Withheld, on: Date) -> Event {
    let steps = if reason.takes_steps() { open.takes.clone() } else { Vec::new() };
    Event::ContactWithheld { reminder: open.number, reason, took: Took { steps, on } }
}

/// The steps that a started reminder's items take when it is closed.
fn took(open: &Reminder) -> Took {
    let on = match open.stage {
        Stage::Started { day, .. } => day,
        // Only what was started takes its steps with its outcome.
        Stage::Due { .. } => Date::MIN,
    };
    Took { steps: open.takes.clone(), on }
}

fn still_open(account: &Account, takes: &[ItemStep]) -> Vec<ItemStep> {
    let open = |one: &&ItemStep| {
        account.items.iter().any(|item| item.invoice == one.invoice && item.instalment == one.instalment)
    };
    takes.iter().filter(open).cloned().collect()
}

/// What the message lists: all that takes a step, and of the rest as much as there is room for; and the sums of what it
/// does not.
fn listed(account: &Account, takes: &[ItemStep], day: Date) -> (Vec<ListedItem>, Vec<Unlisted>) {
    let taken: BTreeMap<_, _> = takes.iter().map(|one| ((&one.invoice, one.instalment), one.offset_days)).collect();
    let mut room = MAX_LISTED.saturating_sub(taken.len());
    let mut listed = Vec::new();
    let mut unlisted: BTreeMap<Currency, Unlisted> = BTreeMap::new();
    for item in &account.items {
        let takes = taken.get(&(&item.invoice, item.instalment)).copied();
        if takes.is_none() && room == 0 {
            let nothing = Unlisted { currency: item.currency, items: 0, open: 0, overdue: 0 };
            let sum = unlisted.entry(item.currency).or_insert(nothing);
            sum.items = sum.items.saturating_add(1);
            sum.open = sum.open.saturating_add(item.open);
            if item.due_date < day {
                sum.overdue = sum.overdue.saturating_add(item.open);
            }
            continue;
        }
        room -= usize::from(takes.is_none());
        listed.push(ListedItem {
            invoice: item.invoice.clone(),
            instalment: item.instalment,
            currency: item.currency,
            due_date: item.due_date,
            open: item.open,
            takes,
        });
    }
    (listed, unlisted.into_values().collect())
}

fn unapplied(account: &Account) -> Vec<(Currency, i64)> {
    let mut sums: BTreeMap<Currency, i64> = BTreeMap::new();
    for credit in &account.credits {
        let sum = sums.entry(credit.currency).or_default();
        *sum = sum.saturating_add(credit.remaining);
    }
    sums.into_iter().collect()
}

/// What became of an attempt. Accepted or rejected may replace unknown; nothing else may.
pub fn settle(
    account: &Account,
    (reminder, attempt, claim): (u64, u32, Claim),
    outcome: &HandOver,
    context: &Context<'_>,
) -> Result<Vec<Event>, Refusal> {
    let under_way = account.contacts.open.as_ref().filter(|open| {
        let started = matches!(open.stage, Stage::Started { claim: winner, .. } if winner == claim);
        open.number == reminder && open.attempts == attempt && started
    });
    let unknown = account
        .contacts
        .unsettled
        .as_ref()
        .is_some_and(|closed| closed.number == reminder && closed.unknown == Some((attempt, claim)));
    let closed = Err(Refusal::AttemptClosed { reminder, attempt });
    if under_way.is_none() && !unknown {
        return closed;
    }
    let day = day_of(account, context, context.now);
    let took = under_way.map_or(Took { steps: Vec::new(), on: day }, took);
    let event = match outcome {
        HandOver::Accepted { handed, reply } => {
            Event::ContactAccepted { reminder, attempt, handed: handed.clone(), reply: reply.clone(), took }
        }
        // Behind it another one is open: it would want a person who cannot do anything about it any more.
        HandOver::Rejected { .. } if under_way.is_none() && account.contacts.open.is_some() => return closed,
        HandOver::Rejected { failed, handed } => Event::ContactRejected {
            reminder,
            attempt,
            reason: Rejected::Refused,
            failed: failed.clone(),
            handed: handed.clone(),
            took,
        },
        HandOver::Unknown { .. } if under_way.is_none() => return Ok(Vec::new()),
        HandOver::Unknown { handed } => {
            Event::ContactUnknown { reminder, attempt, reason: Unknown::NoAnswer, handed: handed.clone(), took }
        }
        HandOver::Deferred(_) if under_way.is_none() => return closed,
        HandOver::Deferred(failed) => {
            let policy = context.rules.policy.as_ref();
            let pauses = policy.map_or(&[PAUSE_MINUTES; 1][..], |policy| &policy.contact.backoff_minutes);
            // What a last look kept back was never tried.
            let held_back = (failed.stage == LAST_LOOK).then_some(&HELD_BACK_MINUTES);
            match held_back.or_else(|| pauses.get(attempt.saturating_sub(1) as usize)) {
                None => Event::ContactRejected {
                    reminder,
                    attempt,
                    reason: Rejected::RetriesExhausted,
                    failed: failed.clone(),
                    handed: None,
                    took,
                },
                Some(minutes) => {
                    let until = context.now.checked_add(i64::from(*minutes).minutes()).unwrap_or(context.now);
                    let ladder = policy.and_then(|policy| Ladder::of(account, policy, context));
                    let permitted = ladder.and_then(|ladder| ladder.permitted(account, until));
                    Event::ContactDeferred {
                        reminder,
                        attempt,
                        reason: Deferred::HandOverFailed,
                        until: permitted.map_or(until, |permitted| permitted.from),
                        failed: Some(failed.clone()),
                    }
                }
            }
        }
    };
    Ok(vec![event])
}

/// A person has the newest reminder said again that reached nobody for certain.
pub fn retry(account: &Account, reminder: u64, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
    let closed = unsettled(account, reminder)?;
    if context.rules.speaking().is_none() {
        return Err(Refusal::SendingOff);
    }
    if still_open(account, &closed.takes).is_empty() {
        return Err(Refusal::NothingToSettle { reminder });
    }
    Ok(vec![Event::ReminderDue {
        reminder: account.contacts.reminders + 1,
        saying: closed.saying.clone(),
        takes: closed.takes.clone(),
        retry_of: Some(reminder),
    }])
}

/// A person decides that a reminder is not sent, or not sent again.
pub fn give_up(account: &Account, reminder: u64, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
    let day = day_of(account, context, context.now);
    let event = match account.contacts.open.as_ref().filter(|open| open.number == reminder) {
        Some(open) if matches!(open.stage, Stage::Started { .. }) => {
            return Err(Refusal::AttemptUnderWay { reminder });
        }
        Some(open) => withheld(open, Withheld::Dropped, day),
        None => {
            unsettled(account, reminder)?;
            // Its steps were taken when it was closed.
            let took = Took { steps: Vec::new(), on: day };
            Event::ContactWithheld { reminder, reason: Withheld::Dropped, took }
        }
    };
    Ok(vec![event])
}

fn unsettled(account: &Account, reminder: u64) -> Result<&Closed, Refusal> {
    if !(1..=account.contacts.reminders).contains(&reminder) {
        return Err(Refusal::ReminderUnknown { reminder });
    }
    match &account.contacts.open {
        Some(open) if open.number == reminder || open.retry_of == Some(reminder) => {
            return Err(Refusal::AttemptUnderWay { reminder });
        }
        // Its sender may still say what became of it; a person goes by what comes after it.
        Some(_) => return Err(Refusal::NothingToSettle { reminder }),
        None => {}
    }
    let closed = account.contacts.unsettled.as_ref().filter(|closed| closed.number == reminder);
    closed.ok_or(Refusal::NothingToSettle { reminder })
}

/// The account after an event of a contact.
pub fn evolve(account: &mut Account, event: &Event) {
    let contacts = &mut account.contacts;
    match event {
        Event::ReminderDue { reminder, saying, takes, retry_of } => {
            contacts.reminders = contacts.reminders.max(*reminder);
            contacts.open = Some(Reminder {
                number: *reminder,
                saying: saying.clone(),
                takes: takes.clone(),
                retry_of: *retry_of,
                attempts: 0,
                stage: Stage::Due { from: None },
            });
        }
        Event::ContactStarted(started) => {
            if let Some(open) = contacts.open.as_mut().filter(|open| open.number == started.reminder) {
                let takes = |item: &ListedItem| {
                    item.takes.map(|offset_days| ItemStep {
                        invoice: item.invoice.clone(),
                        instalment: item.instalment,
                        offset_days,
                    })
                };
                open.takes = started.items.iter().filter_map(takes).collect();
                open.saying = started.saying.clone();
                open.attempts = started.attempt;
                open.stage = Stage::Started {
                    claim: started.claim,
                    at: started.at,
                    day: started.day,
                    send_before: started.send_before,
                };
            }
        }
        Event::ContactDeferred { reminder, until, .. } => {
            if let Some(open) = contacts.open.as_mut().filter(|open| open.number == *reminder) {
                open.stage = Stage::Due { from: Some(*until) };
            }
        }
        Event::ContactWithheld { reminder, reason, .. } => {
            // Of a closed reminder it says that a person has seen to it.
            contacts.unsettled.take_if(|closed| closed.number == *reminder);
            if let Some(open) = contacts.open.take_if(|open| open.number == *reminder) {
                contacts.unsettled = (*reason == Withheld::NoContactPoint).then(|| closed(&open, None));
            }
        }
        Event::ContactAccepted { reminder, .. } => {
            contacts.unsettled.take_if(|closed| closed.number == *reminder);
            close(contacts, *reminder, None);
        }
        Event::ContactRejected { reminder, .. } => {
            if let Some(closed) = contacts.unsettled.as_mut().filter(|closed| closed.number == *reminder) {
                closed.unknown = None;
            }
            close(contacts, *reminder, Some(false));
        }
        Event::ContactUnknown { reminder, .. } => close(contacts, *reminder, Some(true)),
        _ => {}
    }
    if let Some(took) = event.took() {
        for step in &took.steps {
            let mut items = account.items.iter_mut();
            let own = items.find(|item| item.invoice == step.invoice && item.instalment == step.instalment);
            if let Some(item) = own {
                item.rung = Some(Rung { offset_days: step.offset_days, on: took.on });
            }
        }
    }
}

fn closed(open: &Reminder, unknown: Option<(u32, Claim)>) -> Closed {
    Closed { number: open.number, saying: open.saying.clone(), takes: open.takes.clone(), unknown }
}

/// Closes a started reminder; it counts as a contact unless the provider refused it. Where it reached nobody for certain,
/// `unsettled` says whether its outcome is unknown.
fn close(contacts: &mut Contacts, reminder: u64, unsettled: Option<bool>) {
    let Some(open) = contacts.open.take_if(|open| open.number == reminder) else { return };
    let Stage::Started { claim, at, .. } = open.stage else { return };
    contacts.unsettled = unsettled.map(|unknown| closed(&open, unknown.then_some((open.attempts, claim))));
    if unsettled != Some(false) {
        contacts.recent.retain(|one| at.duration_since(*one) < REMEMBERED);
        contacts.recent.push(at);
    }
}
