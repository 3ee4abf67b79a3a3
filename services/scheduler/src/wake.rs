//! Waking one account.

use jiff::{Timestamp, ToSpan};
use saldo_api::v1::{AdvanceTimeRequest, CommandResponse};
use saldo_client::{ServiceClients, StatusDetails, is_transient, patiently_until, timed};
use saldo_clock::Clock;
use saldo_crash_point::crash_point;
use saldo_facts::CatalogVersions;
use tokio::time::{Duration, sleep};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    SchedulerError,
    wakeups::{Answer, Key, Update},
};

/// How long one account is tried while the command service is out of reach or busy. Short, since accounts of a healthy
/// partition may wait behind it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Minutes until an account is tried again that was refused (parked, unknown): a person has to see to it.
const AFTER_NO: i64 = 5;
/// Seconds until an account is tried again that nobody answered for.
const AFTER_SILENCE: i64 = 5;
/// Seconds until an account is tried again that is not due by the command service's clock, which is behind ours.
const AFTER_EARLY: i64 = 1;

/// An account after it was woken.
#[derive(Debug)]
pub(crate) struct Woken {
    pub(crate) key: Key,
    pub(crate) result: WakeResult,
    pub(crate) update: Update,
}

/// The result of waking an account, for figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WakeResult {
    /// Something was due.
    Advanced,
    /// Nothing was.
    NothingDue,
    /// The account could not be woken, for this reason.
    Failed(String),
    /// Nobody answered, for this reason.
    OutOfReach(String),
}

impl WakeResult {
    /// In one word, for figures.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            WakeResult::Advanced => "advanced",
            WakeResult::NothingDue => "nothing_due",
            WakeResult::Failed(_) => "failed",
            WakeResult::OutOfReach(_) => "out_of_reach",
        }
    }
}

/// Asks one account to let everything happen that is due. Fails only if no account could be asked at all.
pub(crate) async fn wake(clients: ServiceClients, clock: Clock, key: Key) -> Result<Woken, SchedulerError> {
    crash_point("scheduler.before-wake");
    let asked = clock.now();
    let request = AdvanceTimeRequest { request_id: Uuid::new_v4().to_string(), account_id: key.account.clone() };
    // A new client for every try: the next instance may answer where this one did not.
    let ask = || async {
        let mut commands = clients.commands(&key.tenant)?;
        commands.advance_time(timed(request.clone())).await
    };
    let answer = patiently_until(ask, sleep(PATIENCE)).await;
    crash_point("scheduler.after-wake");
    let (result, update) = match answer {
        Ok(answer) => read(answer.get_ref(), asked),
        Err(status) => refused(&status, clock.now())?,
    };
    Ok(Woken { key, result, update })
}

fn read(answer: &CommandResponse, asked: Timestamp) -> (WakeResult, Update) {
    let advanced = !answer.consistency_token.is_empty();
    let next = answer.next_wakeup.and_then(|at| saldo_facts::timestamp_from_api(at).ok());
    // Still due though nothing happened: the command service's clock is behind ours. Trying at once would be a hot loop.
    let early = |at: Timestamp| !advanced && at <= asked;
    let wakeup_at = next.map(|at| if early(at) { later(asked, AFTER_EARLY.seconds()) } else { at });
    let catalog = CatalogVersions { tenant: answer.policy_version, system: answer.system_version };
    let answered = Answer { wakeup_at, account_version: answer.version, catalog };
    (if advanced { WakeResult::Advanced } else { WakeResult::NothingDue }, Update::Answered(answered))
}

fn refused(status: &Status, now: Timestamp) -> Result<(WakeResult, Update), SchedulerError> {
    let (code, reason) = (status.code(), StatusDetails::of(status).reason);
    if matches!(code, Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented) {
        return Err(SchedulerError::Refused { code: format!("{code:?}"), reason });
    }
    let name = if reason.is_empty() { format!("{code:?}") } else { reason };
    Ok(if is_transient(status) {
        (WakeResult::OutOfReach(name), Update::NotBefore(later(now, AFTER_SILENCE.seconds())))
    } else {
        (WakeResult::Failed(name), Update::NotBefore(later(now, AFTER_NO.minutes())))
    })
}

fn later(now: Timestamp, span: jiff::Span) -> Timestamp {
    now.checked_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use saldo_api::Timestamp as Instant;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("instant")
    }

    fn answer(token: &str, next: Option<i64>) -> CommandResponse {
        CommandResponse {
            version: 7,
            policy_version: 3,
            system_version: 2,
            consistency_token: token.to_owned(),
            next_wakeup: next.map(|seconds| Instant { seconds, nanos: 0 }),
            ..CommandResponse::default()
        }
    }

    fn wakeup(update: &Update) -> Option<Timestamp> {
        match update {
            Update::Answered(answer) => answer.wakeup_at,
            Update::NotBefore(at) => Some(*at),
        }
    }

    #[test]
    fn the_answer_says_when_the_account_is_woken_next() {
        let (result, update) = read(&answer("v1.x", Some(2_000)), at(1_000));
        assert_eq!((result, wakeup(&update)), (WakeResult::Advanced, Some(at(2_000))));
        let (result, update) = read(&answer("", None), at(1_000));
        assert_eq!(result, WakeResult::NothingDue);
        let catalog = CatalogVersions { tenant: 3, system: 2 };
        assert_eq!(update, Update::Answered(Answer { wakeup_at: None, account_version: 7, catalog }));
    }

    #[test]
    fn an_account_whose_clock_is_behind_is_not_asked_in_a_hot_loop() {
        let (_, update) = read(&answer("", Some(999)), at(1_000));
        assert_eq!(wakeup(&update), Some(at(1_001)));
        // Where something happened and more is due, it is asked at once.
        let (_, update) = read(&answer("v1.x", Some(999)), at(1_000));
        assert_eq!(wakeup(&update), Some(at(999)));
    }

    #[test]
    fn a_parked_account_waits_and_an_unreachable_one_for_less() {
        let details = ErrorDetails::with_error_info("ACCOUNT_PARKED", "saldo", []);
        let parked = Status::with_error_details(Code::FailedPrecondition, "parked", details);
        let (result, update) = refused(&parked, at(1_000)).expect("of the account");
        assert_eq!((result, wakeup(&update)), (WakeResult::Failed("ACCOUNT_PARKED".into()), Some(at(1_300))));
        let (result, update) = refused(&Status::unavailable("down"), at(1_000)).expect("of the account");
        assert_eq!((result, wakeup(&update)), (WakeResult::OutOfReach("Unavailable".into()), Some(at(1_005))));
    }

    #[test]
    fn a_no_to_the_scheduler_itself_is_nothing_of_the_account() {
        assert!(refused(&Status::unauthenticated("who?"), at(0)).is_err());
    }
}
