//! Reminders: when one falls due, and how a person has one said again or dropped.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{
    Fact, Refusal,
    attempt::{
        Claim, ContactWithheld, HandOverFailure, LAST_LOOK, MAX_LISTED, MAX_TOO_LATE, MessageStamp, StepBefore,
        WithheldReason,
    },
    hours::{Permitted, next_permitted},
    ladder::{self, Contact, Item, ItemStep, LastStep, StepsTaken},
    policy::{Policy, Step, Tone},
    start::{not_now, still_open, still_owed, usable},
};
use crate::{
    account::Account,
    command::Context,
    ids::DocumentNumber,
    ledger::{OpenItem, Owed},
    party::Channel,
    refusal::Detail,
    sealed::Sealed,
};

/// How a step speaks: the form of the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The step's name.
    pub step: String,
    /// The step's tone.
    pub tone: Tone,
    /// The channel.
    pub channel: Channel,
    /// The template's name.
    pub template: String,
}

/// Where an open reminder stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReminderState {
    /// The reminder may be started.
    Due {
        /// Not before this instant, where the reminder was deferred.
        from: Option<Timestamp>,
    },
    /// The reminder is on its way, or was when its sender died.
    Started {
        /// Whoever holds this claim may send.
        claim: Claim,
        /// When the attempt was started.
        at: Timestamp,
        /// The day of the start, in the zone of the policy's windows.
        day: Date,
        /// Not a byte of the message leaves from this instant on.
        send_before: Timestamp,
        /// The items that the message lists as overdue: they hear its tone.
        overdue: Vec<(DocumentNumber, u32)>,
        /// Keyed digest of the address.
        recipient: [u8; 32],
        /// The message.
        stamp: Option<MessageStamp>,
    },
}

/// The account's open reminder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reminder {
    /// Its number on the account, from 1.
    pub number: u64,
    /// How it speaks.
    pub notice: Notice,
    /// The items that take a step with it.
    pub takes: Vec<ItemStep>,
    /// The reminder that a person asked to say again with this one.
    pub retry_of: Option<u64>,
    /// The first reminder of those that say the same again. After a message that certainly reached nobody this one is the first.
    pub first: u64,
    /// The message of the reminders that this one says again, where the debtor may have it.
    pub stamp: Option<MessageStamp>,
    /// Attempts started so far.
    pub attempts: u32,
    /// Attempts whose hand-over failed for the moment. The policy's pauses are counted by these, and not by all attempts.
    pub failures: u32,
    /// Attempts whose message was too late to leave, and that used up no retry; [`MAX_TOO_LATE`] at most.
    pub too_late: u32,
    /// Where it stands.
    pub state: ReminderState,
}

impl Reminder {
    /// Keyed digest of the address that the message is under way to.
    pub(super) fn recipient(&self) -> Option<[u8; 32]> {
        match self.state {
            ReminderState::Started { recipient, .. } => Some(recipient),
            ReminderState::Due { .. } => None,
        }
    }

    /// Whether a hand-over that did not happen uses up a retry. A message that was too late to leave uses up none, unless this
    /// happens again and again.
    pub(super) fn uses_up_a_retry(&self, failure: &HandOverFailure) -> bool {
        failure.stage != LAST_LOOK || self.too_late >= MAX_TOO_LATE
    }
}

/// A reminder that was closed without reaching anybody for certain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsettled {
    /// The reminder's number.
    pub reminder: u64,
    /// The first reminder of those that say the same again.
    pub first: u64,
    /// How it spoke.
    pub notice: Notice,
    /// The items that it was about, and their steps.
    pub takes: Vec<ItemStep>,
    /// The message said last that the debtor may have.
    pub stamp: Option<MessageStamp>,
    /// The steps are not taken yet, so dropping the reminder takes them.
    pub wants_steps: bool,
    /// The attempt whose outcome stands as unknown.
    pub unknown: Option<UnknownAttempt>,
}

/// An attempt whose outcome stands as unknown. A late rejection takes back what the account counts of it until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownAttempt {
    /// Its number on the reminder.
    pub attempt: u32,
    /// Whoever holds this claim may still say the outcome.
    pub claim: Claim,
    /// Keyed digest of the address.
    pub recipient: [u8; 32],
    /// When it was started.
    pub at: Timestamp,
    /// The day of the start, in the zone of the policy's windows.
    pub day: Date,
    /// A person had the reminder say another one again.
    pub is_retry: bool,
    /// The items that took a step or heard the tone, as they were before.
    pub before: Vec<ItemBefore>,
}

/// An item as it was before a message whose outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemBefore {
    /// Its invoice.
    pub invoice: DocumentNumber,
    /// Its instalment.
    pub instalment: u32,
    /// The highest step that it had taken.
    pub last_step: Option<LastStep>,
    /// The highest rung that reminders about its next step had used up.
    pub tried: Option<LastStep>,
    /// The firmest tone that it had heard.
    pub tone_heard: Option<Tone>,
}

/// The items that the started reminder is about or speaks of as overdue, as they are.
pub(super) fn items_before(account: &Account) -> Vec<ItemBefore> {
    let Some(open) = &account.dunning.open else { return Vec::new() };
    let ReminderState::Started { overdue, .. } = &open.state else { return Vec::new() };
    let takes = open.takes.iter().map(|step| (&step.invoice, step.instalment));
    let about: HashSet<_> = overdue.iter().map(|(invoice, instalment)| (invoice, *instalment)).chain(takes).collect();
    let items = account.ledger.items.iter().filter(|item| about.contains(&(&item.invoice, item.instalment)));
    let before = |item: &OpenItem| ItemBefore {
        invoice: item.invoice.clone(),
        instalment: item.instalment,
        last_step: item.last_step,
        tried: item.tried,
        tone_heard: item.tone_heard,
    };
    items.map(before).collect()
}

impl UnknownAttempt {
    /// The step before the one that each of these items took.
    pub(super) fn steps_before(&self, takes: &[ItemStep]) -> Vec<StepBefore> {
        let before: HashMap<_, _> =
            self.before.iter().map(|item| ((&item.invoice, item.instalment), item.last_step)).collect();
        let of = |step: &ItemStep| {
            let last = *before.get(&(&step.invoice, step.instalment))?;
            Some(StepBefore { invoice: step.invoice.clone(), instalment: step.instalment, last })
        };
        takes.iter().filter_map(of).collect()
    }

    /// Items as they were before the message.
    pub(super) fn take_back(&self, items: &mut [OpenItem]) {
        let before: HashMap<_, _> = self.before.iter().map(|item| ((&item.invoice, item.instalment), item)).collect();
        for item in items {
            if let Some(before) = before.get(&(&item.invoice, item.instalment)) {
                (item.last_step, item.tried) = (before.last_step, before.tried);
                item.tone_heard = before.tone_heard;
            }
        }
    }
}

/// How a reminder ended that nobody need see to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Closing {
    /// A provider has its message.
    Sent,
    /// A person dropped it.
    Dropped,
    /// Nothing was sent, for this reason.
    Withheld(WithheldReason),
}

/// Why a reminder can be neither retried nor dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nothing {
    /// The reminder ended otherwise.
    Closed(Closing),
    /// A newer reminder has taken its place.
    Superseded(u64),
    /// Everything that the reminder was about is settled.
    Settled,
}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(Closing::Sent) => f.write_str("it was sent"),
            Self::Closed(Closing::Dropped) => f.write_str("it was dropped already"),
            Self::Closed(Closing::Withheld(reason)) => write!(f, "nothing was sent for it ({})", reason.name()),
            Self::Superseded(newest) => write!(f, "reminder {newest} has taken its place"),
            Self::Settled => f.write_str("nothing that it was about is open any more"),
        }
    }
}

impl Detail for Nothing {
    fn detail(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// reminder.due
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReminderDue {
    /// The reminder's number on the account, from 1.
    pub reminder: u64,
    /// How it will speak, as far as is known now.
    pub notice: Notice,
    /// The items whose step is due.
    pub takes: Vec<ItemStep>,
    /// The reminder that a person asked to say again.
    pub retry_of: Option<u64>,
    /// Why the person asked.
    pub note: Option<Sealed>,
}

/// The account's items on the policy's ladder.
pub(super) struct Schedule<'c> {
    pub policy: &'c Policy,
    pub zone: TimeZone,
    pub items: Vec<Item>,
    /// A currency in which nothing is owed is not chased.
    pub owed: Owed,
}

impl<'c> Schedule<'c> {
    /// `None` where the debtor's zone is not known any more.
    pub fn of(account: &Account, policy: &'c Policy, context: &Context<'_>) -> Option<Self> {
        let owed = account.ledger.owed();
        let taken = |item: &OpenItem| {
            let last = |last: LastStep| policy.steps.partition_point(|step| step.offset_days <= last.offset_days);
            item.last_step.map_or(0, last)
        };
        let mut held = account.agreement.held_days();
        let items = account.ledger.items.iter().map(|item| Item {
            due_date: item.due_date,
            from: owed.from(item.currency).map_or(item.issue_date, |from| from.max(item.issue_date)),
            // Where nothing is owed there is nothing left to say.
            taken: if owed.from(item.currency).is_some() { taken(item) } else { policy.steps.len() },
            last_taken: item.last_step.map(|last| last.on),
            tried: item
                .tried
                .map(|tried| (policy.steps.partition_point(|step| step.offset_days <= tried.offset_days), tried.on)),
            held: held.of(&item.invoice),
        });
        Some(Self { policy, zone: zone(account, policy, context)?, items: items.collect(), owed })
    }

    fn next(&self, account: &Account, now: Timestamp) -> Option<Contact> {
        ladder::next_contact(self.policy, &self.zone, &self.items, &account.dunning.recent, now)
    }

    /// The next steps that come due while their items are on hold, and that the history does not tell yet.
    fn next_held(&self, account: &Account, now: Timestamp) -> Option<Contact> {
        let all = self.policy.steps.len();
        let items = self.items.iter().zip(&account.ledger.items).map(|(item, open)| {
            let told = if item.held.is_empty() { all } else { self.told(item, open.held_back) };
            Item { taken: told, held: [].into(), ..*item }
        });
        let (items, owed) = (items.collect(), self.owed.clone());
        let as_if_free = Schedule { policy: self.policy, zone: self.zone.clone(), items, owed };
        if as_if_free.items.iter().all(|item| item.taken == all) {
            return None;
        }
        let mut contact = as_if_free.next(account, now)?;
        let day = self.zone.to_datetime(contact.at).date();
        contact.takes.retain(|(item, _)| self.items.get(*item).is_some_and(|item| item.is_held(day)));
        contact.step = contact.takes.iter().map(|(_, step)| *step).max()?;
        Some(contact)
    }

    /// How many steps, from the lowest, are behind an item or told of, where the history tells that the step at this offset was
    /// held back. A step after the due date never lapses: while it is held back, no step above it is next.
    fn told(&self, item: &Item, held_back: Option<i32>) -> usize {
        let steps = &self.policy.steps;
        let told = held_back.map_or(0, |offset| steps.partition_point(|step| step.offset_days <= offset));
        if told > item.taken && held_back.is_some_and(|offset| offset > 0) { steps.len() } else { told.max(item.taken) }
    }

    /// The open items that a message of a day may list: issued, not on hold, and in a currency in which something is owed.
    pub fn spoken_of<'a>(&'a self, account: &'a Account, day: Date) -> impl Iterator<Item = &'a OpenItem> {
        let spoken_of = move |(item, open): (&'a Item, &'a OpenItem)| {
            let spoken_of = open.issue_date <= day && !item.is_held(day) && self.owed.on(open.currency, day);
            spoken_of.then_some(open)
        };
        self.items.iter().zip(&account.ledger.items).filter_map(spoken_of)
    }

    pub fn permitted(&self, account: &Account, now: Timestamp) -> Option<Permitted> {
        next_permitted(self.policy, &self.zone, &account.dunning.recent, now)
    }

    /// Whether the policy's hours alone permit a contact at `now`.
    pub fn within_hours(&self, now: Timestamp) -> bool {
        next_permitted(self.policy, &self.zone, &[], now).is_some_and(|hours| hours.from <= now)
    }

    /// What is due on a day, at most as much as one contact has room for.
    pub fn due_on(&self, day: Date) -> Vec<(usize, usize)> {
        let mut due = ladder::due_on(self.policy, &self.items, day);
        bound(&mut due);
        due
    }

    pub fn takes(&self, account: &Account, takes: &[(usize, usize)]) -> Vec<ItemStep> {
        let of = |(item, step): &(usize, usize)| {
            let (item, step) = (account.ledger.items.get(*item)?, self.policy.steps.get(*step)?);
            Some(ItemStep { invoice: item.invoice.clone(), instalment: item.instalment, offset_days: step.offset_days })
        };
        takes.iter().filter_map(of).collect()
    }

    /// The rungs that a reminder about these steps uses up on a day without reaching anybody.
    pub fn tried(&self, account: &Account, takes: &[ItemStep], day: Date) -> StepsTaken {
        let items: HashMap<_, _> =
            account.ledger.items.iter().map(|item| (&item.invoice, item.instalment)).zip(&self.items).collect();
        let of = |step: &ItemStep| {
            let rung = items.get(&(&step.invoice, step.instalment))?.rung(self.policy, day);
            let rung = rung.and_then(|rung| self.policy.steps.get(rung)).map(|rung| rung.offset_days);
            let offset_days = rung.map_or(step.offset_days, |rung| rung.max(step.offset_days));
            Some(ItemStep { offset_days, ..step.clone() })
        };
        StepsTaken { steps: takes.iter().filter_map(of).collect(), on: day }
    }

    /// How a message speaks that takes these steps: as the highest of them, or as firmly as was heard.
    pub fn notice(&self, account: &Account, takes: &[(usize, usize)], day: Date) -> Option<Notice> {
        let step = takes.iter().map(|(_, step)| *step).max()?;
        Some(self.as_heard(account, notice(self.policy.steps.get(step)?), day))
    }

    /// How a message speaks whose own form is this. Where the message lists overdue items that have heard a firmer tone, it
    /// speaks as firmly, unless the policy lets it soften.
    pub fn as_heard(&self, account: &Account, own: Notice, day: Date) -> Notice {
        let overdue = || self.spoken_of(account, day).filter(|item| item.due_date < day);
        let heard = overdue().filter_map(|item| item.tone_heard).max().unwrap_or(own.tone);
        if heard <= own.tone || self.policy.contact.may_soften {
            return own;
        }
        let reached = overdue().filter_map(|item| item.last_step).map(|last| last.offset_days).max();
        // As firmly as was heard, and no more: a step that is behind its item may have reached nobody.
        let tone = self.policy.steps.iter().map(|step| step.tone).filter(|tone| *tone >= heard).min().unwrap_or(heard);
        let firm = || self.policy.steps.iter().filter(|step| step.tone == tone);
        let as_before = firm().rfind(|step| reached.is_some_and(|reached| step.offset_days <= reached));
        as_before.or_else(|| firm().next()).map_or(own, notice)
    }
}

fn notice(step: &Step) -> Notice {
    Notice { step: step.name.clone(), tone: step.tone, channel: step.channel, template: step.template.clone() }
}

/// As many items as one contact has room for: those on the lowest steps first, so that none is passed over for ever.
fn bound(takes: &mut Vec<(usize, usize)>) {
    if takes.len() > MAX_LISTED {
        takes.sort_by_key(|(_, step)| *step);
        takes.truncate(MAX_LISTED);
    }
}

fn zone(account: &Account, policy: &Policy, context: &Context<'_>) -> Option<TimeZone> {
    (context.zones)(policy.contact.zone(&account.party.profile.as_ref()?.time_zone))
}

/// The debtor's day of an instant: in the zone of the policy's windows; before a policy is published, in the debtor's own.
pub(crate) fn day_of(account: &Account, context: &Context<'_>, at: Timestamp) -> Date {
    let policy = context.rules.policy.as_ref();
    let zone = match policy {
        Some(policy) => zone(account, policy, context),
        None => account.party.profile.as_ref().and_then(|profile| (context.zones)(&profile.time_zone)),
    };
    zone.unwrap_or(TimeZone::UTC).to_datetime(at).date()
}

/// What the ladder brings next: a contact, or steps that holds keep from being taken.
///
/// Steps that come due while their items are on hold make a reminder too, which is withheld at once: the history tells what
/// was not said, and because of which hold. Each such step is told once.
fn next<'c>(account: &Account, context: &Context<'c>) -> Option<(Schedule<'c>, Contact)> {
    let schedule = Schedule::of(account, context.rules.speaking().ok()?, context)?;
    let contact = schedule.next(account, context.now);
    let held = schedule.next_held(account, context.now);
    let earliest = match (contact, held) {
        (Some(contact), Some(held)) => Some(if held.at <= contact.at { held } else { contact }),
        (contact, held) => contact.or(held),
    };
    Some((schedule, earliest?))
}

/// The reminder that has fallen due by `context.now`.
pub(super) fn due(account: &Account, context: &Context<'_>) -> Option<Fact> {
    let (schedule, mut contact) = next(account, context).filter(|(_, contact)| contact.at <= context.now)?;
    bound(&mut contact.takes);
    let day = schedule.zone.to_datetime(contact.at).date();
    let due = ReminderDue {
        reminder: account.dunning.reminders + 1,
        notice: schedule.notice(account, &contact.takes, day)?,
        takes: schedule.takes(account, &contact.takes),
        retry_of: None,
        note: None,
    };
    Some(due.into())
}

/// When the next reminder falls due, if nothing else happens.
pub(super) fn next_due(account: &Account, context: &Context<'_>) -> Option<Timestamp> {
    next(account, context).map(|(_, contact)| contact.at)
}

/// A person has the newest reminder said again that reached nobody for certain, or whose outcome is unknown.
///
/// A retry that has to wait is deferred at once, so that the person hears when it goes out.
pub(super) fn retry(
    account: &Account,
    reminder: u64,
    note: &Option<Sealed>,
    context: &Context<'_>,
) -> Result<Vec<Fact>, Refusal> {
    let unsettled = unsettled(account, reminder)?;
    let policy = context.rules.speaking().map_err(|why| Refusal::SendingOff { why })?;
    let open = still_open(account, &unsettled.takes);
    if open.is_empty() {
        return Err(Refusal::NothingToSettle { reminder, why: Nothing::Settled });
    }
    let day = day_of(account, context, context.now);
    if let Some(hold) = held_by(account, &open, day) {
        return Err(Refusal::OnHold { reminder, hold: hold.clone() });
    }
    if still_owed(account, open, day).is_empty() {
        return Err(Refusal::NothingOwed { reminder });
    }
    let due = ReminderDue {
        reminder: account.dunning.reminders + 1,
        notice: unsettled.notice.clone(),
        takes: unsettled.takes.clone(),
        retry_of: Some(reminder),
        note: note.clone(),
    };
    let schedule = Schedule::of(account, policy, context);
    if let (Some(schedule), Some(profile)) = (&schedule, &account.party.profile) {
        let channel = schedule.as_heard(account, due.notice.clone(), day).channel;
        if usable(account, profile, channel).is_none() {
            return Err(Refusal::NoContactPoint { reminder });
        }
    }
    let deferred = schedule.and_then(|schedule| not_now(account, &schedule, due.reminder, context.now).err());
    Ok([Some(due.into()), deferred.map(Into::into)].into_iter().flatten().collect())
}

/// A person decides that a reminder is not sent, or not sent again.
/// The ladder goes on, so the reminder's steps are taken.
pub(super) fn drop(
    account: &Account,
    reminder: u64,
    note: &Option<Sealed>,
    context: &Context<'_>,
) -> Result<Vec<Fact>, Refusal> {
    let day = day_of(account, context, context.now);
    let fact = match account.dunning.open.as_ref().filter(|open| open.number == reminder) {
        Some(open) if matches!(open.state, ReminderState::Started { .. }) => {
            return Err(Refusal::AttemptUnderWay { reminder });
        }
        Some(open) => {
            let took = StepsTaken { steps: still_open(account, &open.takes), on: day };
            ContactWithheld { took, ..ContactWithheld::of(open.number, WithheldReason::Dropped, day) }
        }
        None => {
            let unsettled = unsettled(account, reminder)?;
            let steps = if unsettled.wants_steps { still_open(account, &unsettled.takes) } else { Vec::new() };
            let took = StepsTaken { steps, on: day };
            ContactWithheld { took, ..ContactWithheld::of(reminder, WithheldReason::Dropped, day) }
        }
    };
    Ok(vec![ContactWithheld { note: note.clone(), ..fact }.into()])
}

fn unsettled(account: &Account, reminder: u64) -> Result<&Unsettled, Refusal> {
    if !(1..=account.dunning.reminders).contains(&reminder) {
        return Err(Refusal::ReminderUnknown { reminder });
    }
    match &account.dunning.open {
        Some(open) if open.number == reminder || open.retry_of == Some(reminder) => {
            return Err(Refusal::AttemptUnderWay { reminder });
        }
        // The older reminder's sender may still say its outcome; a person goes by the newer reminder.
        Some(open) => return Err(Refusal::NothingToSettle { reminder, why: Nothing::Superseded(open.number) }),
        None => {}
    }
    let unsettled = account.dunning.unsettled.as_ref().filter(|unsettled| unsettled.reminder == reminder);
    unsettled.ok_or_else(|| {
        let closed = account.dunning.closed.filter(|(closed, _)| *closed == reminder);
        let why = closed.map_or(Nothing::Superseded(account.dunning.reminders), |(_, how)| Nothing::Closed(how));
        Refusal::NothingToSettle { reminder, why }
    })
}

/// The hold that keeps all of these items from being chased on a day, or all of them that something is owed for. `None` where
/// one of them may be chased, and where nothing is owed for those that are free of holds and those that are not.
pub(super) fn held_by<'a>(account: &'a Account, items: &[ItemStep], day: Date) -> Option<&'a DocumentNumber> {
    let holding = |items: &[ItemStep]| {
        let mut holds = items.iter().map(|item| account.agreement.holding(&item.invoice, day));
        let first = holds.next()??;
        holds.all(|hold| hold.is_some()).then_some(&first.hold)
    };
    holding(items).or_else(|| holding(&still_owed(account, items.to_vec(), day)))
}
