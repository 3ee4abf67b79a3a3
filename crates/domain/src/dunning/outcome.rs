//! The outcome of an attempt: what its sender says, and what time says in its place.

use jiff::{Timestamp, ToSpan, civil::Date};

use super::{
    Fact, Refusal,
    attempt::{
        Claim, Concerns, ContactAccepted, ContactDeferred, ContactRejected, ContactUnknown, DeferredReason,
        HandOverFailure, HandedOver, LAST_LOOK, Outcome, RejectedReason, StepBefore, UnknownReason, unknown_after,
    },
    ladder::{ItemStep, StepsTaken},
    reminder::{Reminder, ReminderState, Schedule, UnknownAttempt, Unsettled, day_of},
    start::still_open,
};
use crate::{account::Account, command::Context};

/// Minutes until the next try where no policy says.
const PAUSE_MINUTES: u32 = 60;

/// Minutes until the next try of a message that was too late to leave.
const TOO_LATE_MINUTES: u32 = 5;

/// Minutes until the next try after a failure of the route. Senders wait for the route themselves; this pause bounds what a
/// route costs that fails again and again.
const ROUTE_MINUTES: u32 = 1;

/// When an attempt without an outcome stands as unknown; `None` while none is under way.
pub(super) fn expiry(open: &Reminder) -> Option<Timestamp> {
    match open.state {
        ReminderState::Started { send_before, .. } => send_before.checked_add(unknown_after(open.notice.channel)).ok(),
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

/// The steps that a started reminder's items take when it is closed.
fn took(open: &Reminder) -> StepsTaken {
    let on = match open.state {
        ReminderState::Started { day, .. } => day,
        // Only a started reminder takes its steps with its outcome.
        ReminderState::Due { .. } => Date::MIN,
    };
    StepsTaken { steps: open.takes.clone(), on }
}

/// What became of an attempt. Accepted or rejected may replace unknown; nothing else may.
pub(super) fn record(
    account: &Account,
    (reminder, attempt, claim): (u64, u32, Claim),
    outcome: &Outcome,
    context: &Context<'_>,
) -> Result<Vec<Fact>, Refusal> {
    let under_way = account.dunning.open.as_ref().filter(|open| {
        let started = matches!(open.state, ReminderState::Started { claim: winner, .. } if winner == claim);
        open.number == reminder && open.attempts == attempt && started
    });
    let unsettled = account.dunning.unsettled.as_ref().filter(|unsettled| unsettled.reminder == reminder);
    let unknown = unsettled
        .and_then(|unsettled| Some((unsettled, unsettled.unknown.as_ref()?)))
        .filter(|(_, unknown)| (unknown.attempt, unknown.claim) == (attempt, claim));
    let closed = Err(Refusal::AttemptClosed { reminder, attempt });
    if under_way.is_none() && unknown.is_none() {
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
        Outcome::Rejected { failure, concerns, handed } => {
            let address = *concerns == Concerns::Recipient;
            let reason = if address { RejectedReason::AddressRefused } else { RejectedReason::Refused };
            match (under_way, unknown) {
                (Some(open), _) => rejected(account, open, reason, failure, handed.clone(), context).into(),
                (None, Some((unsettled, unknown))) => {
                    let (failure, handed) = (failure.clone(), handed.clone());
                    let (tried, steps_before) = refuted(account, unsettled, unknown, context);
                    let tried = Some(tried);
                    ContactRejected { reminder, attempt, reason, failure, handed, took, tried, steps_before }.into()
                }
                (None, None) => return closed,
            }
        }
        Outcome::Unknown { .. } if under_way.is_none() => return Ok(Vec::new()),
        Outcome::Unknown { handed } => {
            let reason = UnknownReason::NoAnswer;
            ContactUnknown { reminder, attempt, reason, handed: handed.clone(), took }.into()
        }
        Outcome::Deferred { failure, concerns } => match under_way {
            Some(open) => deferred(account, open, failure, *concerns, context),
            None => return closed,
        },
    };
    Ok(vec![fact])
}

/// The reminder is due again, or given up after the policy's last pause.
fn deferred(
    account: &Account,
    open: &Reminder,
    failure: &HandOverFailure,
    concerns: Concerns,
    context: &Context<'_>,
) -> Fact {
    let (reminder, attempt, now) = (open.number, open.attempts, context.now);
    let policy = context.rules.policy.as_ref();
    let schedule = policy.and_then(|policy| Schedule::of(account, policy, context));
    let in_minutes = |minutes: u32| {
        let until = now.checked_add(i64::from(minutes).minutes()).unwrap_or(now);
        let permitted = schedule.as_ref().and_then(|schedule| schedule.permitted(account, until));
        permitted.map_or(until, |permitted| permitted.from)
    };
    let closed = schedule.as_ref().is_some_and(|schedule| !schedule.within_hours(now));
    if failure.stage == LAST_LOOK && closed {
        // The window closed before the message could leave. Nothing has failed.
        let (reason, until) = (DeferredReason::OutsideHours, in_minutes(0));
        return ContactDeferred { reminder, attempt, reason, until, failure: None, route: false }.into();
    }
    let pauses = policy.map_or(&[PAUSE_MINUTES; 1][..], |policy| &policy.contact.backoff_minutes);
    let route = concerns == Concerns::Route;
    let pause = match (route, open.uses_up_a_retry(failure)) {
        (true, _) => Some(ROUTE_MINUTES),
        (false, true) => pauses.get(open.failures as usize).copied(),
        (false, false) => Some(TOO_LATE_MINUTES),
    };
    match pause {
        None => rejected(account, open, RejectedReason::RetriesExhausted, failure, None, context).into(),
        Some(minutes) => {
            let (reason, until) = (DeferredReason::HandOverFailed, in_minutes(minutes));
            ContactDeferred { reminder, attempt, reason, until, failure: Some(failure.clone()), route }.into()
        }
    }
}

/// A reminder that was given up takes no step: it reached nobody.
fn rejected(
    account: &Account,
    open: &Reminder,
    reason: RejectedReason,
    failure: &HandOverFailure,
    handed: Option<HandedOver>,
    context: &Context<'_>,
) -> ContactRejected {
    let took = took(open);
    let on = took.on;
    ContactRejected {
        reminder: open.number,
        attempt: open.attempts,
        reason,
        failure: failure.clone(),
        handed,
        took: StepsTaken { steps: Vec::new(), on },
        tried: Some(tried(account, took, open.retry_of.is_some(), context)),
        steps_before: Vec::new(),
    }
}

/// What was counted as taken while the outcome was unknown reached nobody: the rungs that it used up, and the step before it
/// of each item. An item that was settled meanwhile keeps its step.
fn refuted(
    account: &Account,
    unsettled: &Unsettled,
    unknown: &UnknownAttempt,
    context: &Context<'_>,
) -> (StepsTaken, Vec<StepBefore>) {
    let steps = still_open(account, &unsettled.takes);
    let steps_before = unknown.steps_before(&steps);
    let mut account = account.clone();
    unknown.take_back(&mut account.ledger.items);
    (tried(&account, StepsTaken { steps, on: unknown.day }, unknown.is_retry, context), steps_before)
}

/// The rungs of the ladder that a message about these steps used up without reaching anybody.
fn tried(
    account: &Account,
    StepsTaken { mut steps, on }: StepsTaken,
    is_retry: bool,
    context: &Context<'_>,
) -> StepsTaken {
    if is_retry {
        steps.retain(|step| untouched(account, step));
    }
    // What a person asked for uses up no rung: the ladder goes on as it would have.
    let policy = context.rules.policy.as_ref().filter(|_| !is_retry);
    let schedule = policy.and_then(|policy| Schedule::of(account, policy, context));
    schedule.map(|schedule| schedule.tried(account, &steps, on)).unwrap_or(StepsTaken { steps, on })
}

/// Whether nothing has been said, or tried, of an item on the ladder at this step or above. What has been tried before keeps its
/// day, so that a retry that fails does not put off the ladder.
fn untouched(account: &Account, step: &ItemStep) -> bool {
    let item =
        account.ledger.items.iter().find(|item| (&item.invoice, item.instalment) == (&step.invoice, step.instalment));
    item.is_some_and(|item| {
        item.tried.is_none() && item.last_step.is_none_or(|last| last.offset_days < step.offset_days)
    })
}
