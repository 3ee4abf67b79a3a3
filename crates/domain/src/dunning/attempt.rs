//! Attempts: whether a reminder may be sent now, and what became of the hand-over.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date};
use serde::{Deserialize, Serialize};

use super::{
    Dunning, Fact, Refusal,
    ladder::{ItemStep, StepsTaken},
    policy::Tone,
    reminder::{Notice, Reminder, ReminderDue, ReminderState, Schedule, Unsettled, day_of, held_by},
};
use crate::{account::Account, command::Context, ids::DocumentNumber, money::Currency, named::named, sealed::Sealed};

/// How long after its start an attempt may be handed over at most.
pub const SEND_WITHIN: SignedDuration = SignedDuration::from_mins(2);
/// How long after `send_before` an attempt without an outcome stands as unknown: longer than a hand-over that began in
/// time can take until it is answered (RFC 5321, 4.5.3.2.6, asks for 10 minutes after the message).
pub const UNKNOWN_AFTER: SignedDuration = SignedDuration::from_mins(11);
/// Items that one contact lists, and that take a step with it, at most: a message stays readable, and its commits small
/// whatever is open. What is beyond is summed up, and takes its step with the next contact.
pub const MAX_LISTED: usize = 1_000;
/// The stage of a hand-over that a last look at the clock kept from happening.
pub const LAST_LOOK: &str = "last-look";
/// How often the message of one reminder may be too late to leave without using up a retry. A server that is too slow more
/// often than this fails as one that refuses does, so it is not asked for ever.
pub const MAX_TOO_LATE: u32 = 3;
/// How long a contact counts against a week's budget, in any zone.
pub const REMEMBERED: SignedDuration = SignedDuration::from_hours(8 * 24);

/// Drawn at random for each try to start an attempt and kept in memory only: whoever holds the one that won may send.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim(pub [u8; 16]);

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claim")
    }
}

/// Minutes until the next try where no policy says.
const PAUSE_MINUTES: u32 = 60;

/// Minutes until the next try of a message that was too late to leave.
const TOO_LATE_MINUTES: u32 = 5;

/// An open item as a message lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedItem {
    /// Its invoice.
    pub invoice: DocumentNumber,
    /// Its instalment.
    pub instalment: u32,
    /// Its currency.
    pub currency: Currency,
    /// The day it falls due.
    pub due_date: Date,
    /// What is left, in minor units.
    pub open: i64,
    /// The step that it takes with this message, by its days after the due date; absent where it is only listed.
    pub takes: Option<i32>,
}

/// Open items of one currency that a message does not list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlistedItems {
    /// Their currency.
    pub currency: Currency,
    /// How many.
    pub items: u32,
    /// What is left of them, in minor units.
    pub open: i64,
    /// What of it is past due.
    pub overdue: i64,
}

/// contact.started: the account allows the contact. The fact holds all that the message is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactStarted {
    /// The reminder.
    pub reminder: u64,
    /// Its number on the reminder, from 1.
    pub attempt: u32,
    /// The claim that won.
    pub claim: Claim,
    /// How it speaks.
    pub notice: Notice,
    /// The language of the template, ISO 639-1.
    pub language: String,
    /// The debtor's name, as the account has it.
    pub name: Sealed,
    /// The address, as the account has it.
    pub address: Sealed,
    /// Keyed digest of the address.
    pub recipient: [u8; 32],
    /// When.
    pub at: Timestamp,
    /// The day of it, in the zone of the policy's windows.
    pub day: Date,
    /// Not a byte of it leaves from this instant on.
    pub send_before: Timestamp,
    /// What is open, oldest due first; all that takes a step, and of the rest as much as is listed.
    pub items: Vec<ListedItem>,
    /// What else is open.
    pub unlisted: Vec<UnlistedItems>,
    /// What is not applied yet, by currency in minor units: the rest of the balance, re-checked at this moment.
    pub unapplied: Vec<(Currency, i64)>,
}

/// What was handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOver {
    /// The Message-ID, or what the channel has in its place.
    pub message_id: String,
    /// SHA-256 of the exact bytes.
    pub sha256: [u8; 32],
    /// The exact bytes.
    pub message: Sealed,
}

/// Where and how a hand-over failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOverFailure {
    /// Where in the conversation with the provider, by its name.
    pub stage: String,
    /// The provider's number for it (SMTP: the reply code); 0 where it gave none.
    pub code: u32,
    /// The provider's words, which may repeat an address.
    pub reply: Option<Sealed>,
}

/// What became of one hand-over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The provider has it.
    Accepted {
        /// What it has.
        handed: HandedOver,
        /// Its words.
        reply: Option<Sealed>,
    },
    /// The provider will not have it.
    Rejected {
        /// Where and how.
        failure: HandOverFailure,
        /// What was handed over, where it came to that.
        handed: Option<HandedOver>,
    },
    /// Certainly not handed over; another try may do better.
    Deferred(HandOverFailure),
    /// It may or may not have been taken.
    Unknown {
        /// What was on its way.
        handed: Option<HandedOver>,
    },
}

/// contact.withheld
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactWithheld {
    /// The reminder.
    pub reminder: u64,
    /// Why.
    pub reason: WithheldReason,
    /// The steps that are behind their items all the same.
    pub took: StepsTaken,
    /// The hold that kept the message back.
    pub hold: Option<DocumentNumber>,
}

/// contact.deferred
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactDeferred {
    /// The reminder.
    pub reminder: u64,
    /// The attempt that failed; 0 where none was started.
    pub attempt: u32,
    /// Why.
    pub reason: DeferredReason,
    /// From this instant the reminder is due again.
    pub until: Timestamp,
    /// Where and how the hand-over failed.
    pub failure: Option<HandOverFailure>,
}

/// contact.accepted
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactAccepted {
    /// The reminder.
    pub reminder: u64,
    /// The attempt.
    pub attempt: u32,
    /// What the provider has.
    pub handed: HandedOver,
    /// The provider's words.
    pub reply: Option<Sealed>,
    /// The steps that its items took; none where they took them when the outcome was unknown.
    pub took: StepsTaken,
}

/// contact.rejected
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactRejected {
    /// The reminder.
    pub reminder: u64,
    /// The attempt.
    pub attempt: u32,
    /// Why.
    pub reason: RejectedReason,
    /// Where and how.
    pub failure: HandOverFailure,
    /// What was handed over, where it came to that.
    pub handed: Option<HandedOver>,
    /// The steps that its items took; none where they took them when the outcome was unknown.
    pub took: StepsTaken,
}

/// contact.unknown
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactUnknown {
    /// The reminder.
    pub reminder: u64,
    /// The attempt.
    pub attempt: u32,
    /// Why.
    pub reason: UnknownReason,
    /// What was on its way, where it is known.
    pub handed: Option<HandedOver>,
    /// The steps that its items took.
    pub took: StepsTaken,
}

named!(
    /// Why nothing was sent for a reminder.
    WithheldReason {
        /// Nothing of what it was about is open and due any more.
        Settled = "settled",
        /// The creditor has switched sending off, or has no policy.
        SendingOff = "sending_off",
        /// The debtor cannot be reached on the step's channel.
        NoContactPoint = "no_contact_point",
        /// A person decided so.
        Dropped = "dropped",
        /// What the reminder is about is on hold.
        Held = "held",
    }
);

named!(
    /// Why a reminder waits.
    DeferredReason {
        /// The debtor may not be contacted at this hour.
        OutsideHours = "outside_hours",
        /// The debtor was contacted often enough.
        Budget = "budget",
        /// The hand-over failed for the moment.
        HandOverFailed = "hand_over_failed",
    }
);

named!(
    /// Why a reminder was given up.
    RejectedReason {
        /// The provider refused it for good.
        Refused = "refused",
        /// The policy's last retry failed.
        RetriesExhausted = "retries_exhausted",
    }
);

named!(
    /// Why an outcome stands as unknown.
    UnknownReason {
        /// The provider did not answer after the message had begun.
        NoAnswer = "no_answer",
        /// Nobody recorded an outcome in time: the sender died, or was cut off.
        NoOutcome = "no_outcome",
    }
);

impl WithheldReason {
    /// Whether the reminder's steps are behind its items all the same, so that the ladder goes on.
    pub fn takes_steps(self) -> bool {
        matches!(self, WithheldReason::NoContactPoint | WithheldReason::Dropped)
    }
}

/// When an attempt without an outcome stands as unknown; `None` while none is under way.
pub(super) fn expiry(open: &Reminder) -> Option<Timestamp> {
    match open.state {
        ReminderState::Started { send_before, .. } => send_before.checked_add(UNKNOWN_AFTER).ok(),
        ReminderState::Due { .. } => None,
    }
}

/// The outcome of an attempt that nobody told in time.
pub(super) fn expired(open: &Reminder, now: Timestamp) -> Option<Fact> {
    expiry(open).filter(|at| *at <= now)?;
    let unknown = ContactUnknown {
        reminder: open.number,
        attempt: open.attempts,
        reason: UnknownReason::NoOutcome,
        handed: None,
        took: took(open),
    };
    Some(unknown.into())
}

/// A reminder that waits is withheld as soon as all that it is about is on hold.
pub(super) fn held(account: &Account, open: &Reminder, context: &Context<'_>) -> Option<Fact> {
    if matches!(open.state, ReminderState::Started { .. }) || account.agreement.holds.is_empty() {
        return None;
    }
    let day = day_of(account, context, context.now);
    let hold = held_by(account, &still_open(account, &open.takes), day)?;
    let withheld = ContactWithheld::of(open, WithheldReason::Held, day);
    Some(ContactWithheld { hold: Some(hold.clone()), ..withheld }.into())
}

/// Whether the reminder may be sent now, decided anew on the account as it stands. No facts where the reminder is used up
/// already or waits for a later moment.
pub(super) fn start(
    account: &Account,
    reminder: u64,
    claim: Claim,
    context: &Context<'_>,
) -> Result<Vec<Fact>, Refusal> {
    let now = context.now;
    let Some(open) = account.dunning.open.as_ref().filter(|open| open.number == reminder) else {
        let known = (1..=account.dunning.reminders).contains(&reminder);
        return if known { Ok(Vec::new()) } else { Err(Refusal::ReminderUnknown { reminder }) };
    };
    if !matches!(open.state, ReminderState::Due { from } if from.is_none_or(|from| from <= now)) {
        return Ok(Vec::new());
    }
    let day = day_of(account, context, now);
    let withheld = |reason| Ok(vec![ContactWithheld::of(open, reason, day).into()]);
    let Some(policy) = context.rules.speaking() else { return withheld(WithheldReason::SendingOff) };
    let (Some(schedule), Some(profile)) = (Schedule::of(account, policy, context), &account.party.profile) else {
        return withheld(WithheldReason::NoContactPoint);
    };
    let (notice, takes) = if open.retry_of.is_some() {
        // A person asked to say the same again, about what is left of it.
        let free = |step: &ItemStep| account.agreement.holding(&step.invoice, day).is_none();
        (Some(open.notice.clone()), still_open(account, &open.takes).into_iter().filter(free).collect())
    } else {
        let due = schedule.due_on(day);
        (schedule.notice(account, &due, day), schedule.takes(account, &due))
    };
    let Some(notice) = notice.filter(|_| !takes.is_empty()) else { return withheld(WithheldReason::Settled) };
    let permitted = schedule.permitted(account, now);
    let Some(window) = permitted.filter(|permitted| permitted.from <= now) else {
        let reason = if schedule.within_hours(now) { DeferredReason::Budget } else { DeferredReason::OutsideHours };
        let until = permitted.map(|permitted| permitted.from).or_else(|| account.dunning.recent.last().copied());
        let until = until.unwrap_or(now).max(now.checked_add(1.minute()).unwrap_or(now));
        return Ok(vec![ContactDeferred { reminder, attempt: 0, reason, until, failure: None }.into()]);
    };
    let point = profile.contact_points.iter().find(|point| point.channel == notice.channel);
    let Some(point) = point else { return withheld(WithheldReason::NoContactPoint) };
    let (items, unlisted) = listed(account, &takes, day);
    let own = context.rules.languages.contains(&profile.language);
    let started = ContactStarted {
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
        notice,
    };
    Ok(vec![started.into()])
}

impl ContactWithheld {
    /// Nothing is sent for an open reminder.
    pub(super) fn of(open: &Reminder, reason: WithheldReason, on: Date) -> Self {
        let steps = if reason.takes_steps() { open.takes.clone() } else { Vec::new() };
        Self { reminder: open.number, reason, took: StepsTaken { steps, on }, hold: None }
    }
}

/// The steps that a started reminder's items take when it is closed.
fn took(open: &Reminder) -> StepsTaken {
    let on = match open.state {
        ReminderState::Started { day, .. } => day,
        // Only a started reminder takes its steps with its outcome.
        ReminderState::Due { .. } => Date::MIN,
    };
    StepsTaken { steps: open.takes.clone(), on }
}

/// The steps whose items are still open.
pub(super) fn still_open(account: &Account, takes: &[ItemStep]) -> Vec<ItemStep> {
    let open: HashSet<_> = account.ledger.items.iter().map(|item| (&item.invoice, item.instalment)).collect();
    takes.iter().filter(|step| open.contains(&(&step.invoice, step.instalment))).cloned().collect()
}

/// What the message lists: all that takes a step, and of the rest as much as there is room for; and the sums of what the
/// message does not list. What is on hold is in neither.
fn listed(account: &Account, takes: &[ItemStep], day: Date) -> (Vec<ListedItem>, Vec<UnlistedItems>) {
    let taken: BTreeMap<_, _> = takes.iter().map(|one| ((&one.invoice, one.instalment), one.offset_days)).collect();
    let mut room = MAX_LISTED.saturating_sub(taken.len());
    let mut listed = Vec::new();
    let mut unlisted: BTreeMap<Currency, UnlistedItems> = BTreeMap::new();
    for item in account.ledger.items.iter().filter(|item| account.agreement.holding(&item.invoice, day).is_none()) {
        let takes = taken.get(&(&item.invoice, item.instalment)).copied();
        if takes.is_none() && room == 0 {
            let nothing = UnlistedItems { currency: item.currency, items: 0, open: 0, overdue: 0 };
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
    for credit in &account.ledger.credits {
        let sum = sums.entry(credit.currency).or_default();
        *sum = sum.saturating_add(credit.remaining);
    }
    sums.into_iter().collect()
}

/// What became of an attempt. Accepted or rejected may replace unknown; nothing else may.
pub(super) fn record_outcome(
    account: &Account,
    (reminder, attempt, claim): (u64, u32, Claim),
    outcome: &Outcome,
    context: &Context<'_>,
) -> Result<Vec<Fact>, Refusal> {
    let under_way = account.dunning.open.as_ref().filter(|open| {
        let started = matches!(open.state, ReminderState::Started { claim: winner, .. } if winner == claim);
        open.number == reminder && open.attempts == attempt && started
    });
    let unknown = account
        .dunning
        .unsettled
        .as_ref()
        .is_some_and(|unsettled| unsettled.reminder == reminder && unsettled.unknown == Some((attempt, claim)));
    let closed = Err(Refusal::AttemptClosed { reminder, attempt });
    if under_way.is_none() && !unknown {
        return closed;
    }
    let day = day_of(account, context, context.now);
    let took = under_way.map_or(StepsTaken { steps: Vec::new(), on: day }, took);
    let fact = match outcome {
        Outcome::Accepted { handed, reply } => {
            ContactAccepted { reminder, attempt, handed: handed.clone(), reply: reply.clone(), took }.into()
        }
        // Behind the newer open reminder nobody could do anything about this one any more.
        Outcome::Rejected { .. } if under_way.is_none() && account.dunning.open.is_some() => return closed,
        Outcome::Rejected { failure, handed } => {
            let (failure, handed) = (failure.clone(), handed.clone());
            ContactRejected { reminder, attempt, reason: RejectedReason::Refused, failure, handed, took }.into()
        }
        Outcome::Unknown { .. } if under_way.is_none() => return Ok(Vec::new()),
        Outcome::Unknown { handed } => {
            let reason = UnknownReason::NoAnswer;
            ContactUnknown { reminder, attempt, reason, handed: handed.clone(), took }.into()
        }
        Outcome::Deferred(failure) => {
            let Some(open) = under_way else { return closed };
            let policy = context.rules.policy.as_ref();
            let pauses = policy.map_or(&[PAUSE_MINUTES; 1][..], |policy| &policy.contact.backoff_minutes);
            let pause = match open.uses_up_a_retry(failure) {
                true => pauses.get(open.failures as usize),
                false => Some(&TOO_LATE_MINUTES),
            };
            match pause {
                None => {
                    let (reason, failure) = (RejectedReason::RetriesExhausted, failure.clone());
                    ContactRejected { reminder, attempt, reason, failure, handed: None, took }.into()
                }
                Some(minutes) => {
                    let until = context.now.checked_add(i64::from(*minutes).minutes()).unwrap_or(context.now);
                    let schedule = policy.and_then(|policy| Schedule::of(account, policy, context));
                    let permitted = schedule.and_then(|schedule| schedule.permitted(account, until));
                    let until = permitted.map_or(until, |permitted| permitted.from);
                    let reason = DeferredReason::HandOverFailed;
                    ContactDeferred { reminder, attempt, reason, until, failure: Some(failure.clone()) }.into()
                }
            }
        }
    };
    Ok(vec![fact])
}

impl Dunning {
    /// Folds a fact. Where a message was sent, or may have been: its tone, and its day.
    pub(super) fn fold(&mut self, fact: &Fact) -> Option<(Tone, Date)> {
        match fact {
            Fact::ReminderDue(ReminderDue { reminder, notice, takes, retry_of }) => {
                self.reminders = self.reminders.max(*reminder);
                self.open = Some(Reminder {
                    number: *reminder,
                    notice: notice.clone(),
                    takes: takes.clone(),
                    retry_of: *retry_of,
                    attempts: 0,
                    failures: 0,
                    too_late: 0,
                    state: ReminderState::Due { from: None },
                });
            }
            Fact::ContactStarted(started) => {
                if let Some(open) = self.open_reminder(started.reminder) {
                    let takes = |item: &ListedItem| {
                        item.takes.map(|offset_days| ItemStep {
                            invoice: item.invoice.clone(),
                            instalment: item.instalment,
                            offset_days,
                        })
                    };
                    open.takes = started.items.iter().filter_map(takes).collect();
                    open.notice = started.notice.clone();
                    open.attempts = started.attempt;
                    open.state = ReminderState::Started {
                        claim: started.claim,
                        at: started.at,
                        day: started.day,
                        send_before: started.send_before,
                    };
                }
            }
            Fact::ContactDeferred(ContactDeferred { reminder, until, failure, .. }) => {
                if let Some(open) = self.open_reminder(*reminder) {
                    match failure {
                        Some(failure) if open.uses_up_a_retry(failure) => open.failures += 1,
                        Some(_) => open.too_late += 1,
                        None => {}
                    }
                    open.state = ReminderState::Due { from: Some(*until) };
                }
            }
            Fact::ContactWithheld(ContactWithheld { reminder, reason, .. }) => {
                // Of a closed reminder the fact says that a person has seen to it.
                self.unsettled.take_if(|unsettled| unsettled.reminder == *reminder);
                if let Some(open) = self.open.take_if(|open| open.number == *reminder) {
                    self.unsettled = (*reason == WithheldReason::NoContactPoint).then(|| unsettled(&open, None));
                }
            }
            Fact::ContactAccepted(ContactAccepted { reminder, .. }) => {
                self.unsettled.take_if(|unsettled| unsettled.reminder == *reminder);
                return self.close(*reminder, |_, _| None, true);
            }
            Fact::ContactRejected(ContactRejected { reminder, .. }) => {
                if let Some(unsettled) = self.unsettled.as_mut().filter(|unsettled| unsettled.reminder == *reminder) {
                    unsettled.unknown = None;
                }
                return self.close(*reminder, |open, _| Some(unsettled(open, None)), false);
            }
            Fact::ContactUnknown(ContactUnknown { reminder, .. }) => {
                let unknown = |open: &Reminder, claim| Some(unsettled(open, Some((open.attempts, claim))));
                return self.close(*reminder, unknown, true);
            }
        }
        None
    }

    fn open_reminder(&mut self, reminder: u64) -> Option<&mut Reminder> {
        self.open.as_mut().filter(|open| open.number == reminder)
    }

    /// Closes a started reminder. Where the message was sent, or may have been, it counts as a contact.
    fn close(
        &mut self,
        reminder: u64,
        unsettled: impl Fn(&Reminder, Claim) -> Option<Unsettled>,
        counts: bool,
    ) -> Option<(Tone, Date)> {
        let open = self.open.take_if(|open| open.number == reminder)?;
        let ReminderState::Started { claim, at, day, .. } = open.state else { return None };
        self.unsettled = unsettled(&open, claim);
        if !counts {
            return None;
        }
        self.recent.retain(|one| at.duration_since(*one) < REMEMBERED);
        self.recent.push(at);
        Some((open.notice.tone, day))
    }
}

fn unsettled(open: &Reminder, unknown: Option<(u32, Claim)>) -> Unsettled {
    Unsettled { reminder: open.number, notice: open.notice.clone(), takes: open.takes.clone(), unknown }
}
