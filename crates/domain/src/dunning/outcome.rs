//! The outcome of an attempt: what its sender says, and what time says in its place.

use jiff::{Timestamp, ToSpan, civil::Date};

use super::{
    Fact, Refusal,
    attempt::{
        Claim, ContactAccepted, ContactDeferred, ContactRejected, ContactUnknown, DeferredReason, Outcome,
        RejectedReason, UNKNOWN_AFTER, UnknownReason,
    },
    ladder::StepsTaken,
    reminder::{Reminder, ReminderState, Schedule, day_of},
};
use crate::{account::Account, command::Context};

/// Minutes until the next try where no policy says.
const PAUSE_MINUTES: u32 = 60;

/// Minutes until the next try of a message that was too late to leave.
const TOO_LATE_MINUTES: u32 = 5;

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
