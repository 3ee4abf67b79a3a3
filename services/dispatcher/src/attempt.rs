//! One attempt: start, render, hand over, record. Each step takes the result of the step before.

use std::{sync::Arc, time::Duration};

use saldo_api::v1::{
    CommandResponse, ContactAnswer, ContactSnapshot, RecordContactOutcomeRequest, StartContactAttemptRequest,
    contact_answer::State, record_contact_outcome_request::Outcome as Recorded,
};
use saldo_channels::{Message, Stage, Transport};
use saldo_client::{StatusDetails, is_transient, patiently_until, timed};
use saldo_clock::Moment;
use saldo_crash_point::crash_point;
use saldo_facts::channel_from_api;
use saldo_telemetry::{
    KeyValue,
    span::{Links, around},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};
use uuid::Uuid;

use crate::{
    Dispatcher,
    hand_over::hand_over,
    leases::Job,
    outcome::{self, AttemptOutcome, RouteNews},
    render::{self, NoMessage},
    route::{CATALOG, OnHold, Route, Routes, not_arrived},
};

/// How long a start is asked for. A later answer would leave little time to send, so the reminder is leased again instead.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long the catalog that the account decided by may take to arrive here. It is on its way already.
const CATALOG_PATIENCE: Duration = Duration::from_secs(30);
/// How long answers are waited for after a stop.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// No message could be made.
const RENDER: Stage = Stage::new("render");
/// This dispatcher has no transport for the channel that the account has decided on. The reminder then waits for that channel, and
/// is not asked for again here.
const CHANNEL: Stage = Stage::new("channel");

/// How a job ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) job: Job,
    /// In one word, for figures.
    pub(crate) outcome: &'static str,
    /// The reason's name, where a person may have to see to something.
    pub(crate) trouble: Option<String>,
    /// Nobody knows whether anything happened, so the reminder may be asked for again at once.
    pub(crate) give_back: bool,
}

/// The account allows the attempt, and the right to send is ours.
struct Started {
    attempt: u32,
    claim: [u8; 16],
    policy_version: u64,
    send_before: Moment,
    snapshot: ContactSnapshot,
}

/// Takes one reminder as far as it goes.
pub(crate) async fn run(
    dispatcher: Arc<Dispatcher>,
    routes: Arc<Routes>,
    slot: OwnedSemaphorePermit,
    job: Job,
    stop: CancellationToken,
) -> Ended {
    crash_point("dispatcher.leased");
    let given_back = |job, outcome| Ended { job, outcome, trouble: None, give_back: true };
    let open = tokio::select! {
        open = routes.open(&job.tenant) => open,
        () = stop.cancelled() => return given_back(job, "stopped"),
    };
    if let Err(OnHold) = open {
        return given_back(job, "on_hold");
    }
    let started = match start(&dispatcher, &job, &stop).await {
        Ok(Ok(started)) => started,
        Ok(Err(outcome)) => return Ended { job, outcome, trouble: None, give_back: false },
        Err(status) => {
            let (outcome, trouble) = ("not_started", Some(reason(&status)));
            return Ended { job, outcome, trouble, give_back: is_transient(&status) };
        }
    };
    crash_point("dispatcher.started");
    let AttemptOutcome { recorded, name: outcome, route } = deliver(&dispatcher, &job, &started).await;
    match route {
        RouteNews::Failed(failure) => routes.suspect(Route::Whole, &failure),
        RouteNews::SenderRefused(failure) => routes.suspect(Route::Sender(job.tenant.clone()), &failure),
        RouteNews::NotMade(version, failure) => routes.cannot_make(&job.tenant, version, &failure),
        RouteNews::Works => routes.works_for(&job.tenant),
        RouteNews::None => {}
    }
    // The outcome is recorded beside the next message.
    drop(slot);
    let answer = record(&dispatcher, &job, &started, recorded, &stop).await;
    crash_point("dispatcher.recorded");
    let trouble = answer.err().map(|status| {
        let reason = reason(&status);
        tracing::error!(
            tenant = job.tenant,
            account = job.account,
            reminder = job.reminder,
            attempt = started.attempt,
            outcome,
            reason,
            "the outcome of an attempt could not be recorded; the account will record it as unknown"
        );
        reason
    });
    Ended { job, outcome, trouble, give_back: false }
}

/// Renders the message and hands it over.
async fn deliver(dispatcher: &Dispatcher, job: &Job, started: &Started) -> AttemptOutcome {
    let Some(transport) = transport(dispatcher, &started.snapshot) else {
        let why = "this dispatcher is not configured to send by the step's channel".to_owned();
        return outcome::deferred(CHANNEL, why, |_| RouteNews::None);
    };
    match render(dispatcher, job, started, transport).await {
        Ok(message) => {
            crash_point("dispatcher.rendered");
            let handing_over = async {
                let outcome = hand_over(transport, &message, started.send_before).await;
                outcome::of_hand_over(outcome, &message)
            };
            let name = |outcome: &AttemptOutcome| Some(KeyValue::new("outcome", outcome.name));
            let outcome = around("hand over", Links::default(), handing_over, name).await;
            crash_point("dispatcher.handed-over");
            outcome
        }
        Err(no_message) => no_message,
    }
}

/// The transport of the channel that the account has decided on.
fn transport<'d>(dispatcher: &'d Dispatcher, snapshot: &ContactSnapshot) -> Option<&'d dyn Transport> {
    let channel = channel_from_api(snapshot.saying.as_ref()?.channel)?;
    dispatcher.transports.get(channel).map(AsRef::as_ref)
}

/// Asks the account to start an attempt. The inner error is the account's answer that we send nothing, in one word.
async fn start(
    dispatcher: &Dispatcher,
    job: &Job,
    stop: &CancellationToken,
) -> Result<Result<Started, &'static str>, Status> {
    let mut claim = [0; 16];
    getrandom::fill(&mut claim).map_err(|_| Status::internal("no random bytes from the system"))?;
    let request = StartContactAttemptRequest {
        request_id: Uuid::new_v4().to_string(),
        account_id: job.account.clone(),
        reminder: job.reminder,
        claim: claim.to_vec(),
    };
    // Taken before the account decides, however often it has to be asked: the time to send runs from here.
    let asked = Moment::now();
    let ask = || async {
        let mut commands = dispatcher.clients.commands(&job.tenant)?;
        commands.start_contact_attempt(timed(request.clone())).await
    };
    let answer = patiently_until(ask, enough(Some(START_PATIENCE), stop)).await?;
    Ok(read(answer.into_inner(), claim, asked))
}

/// The account's answer, for the holder of `claim`, who asked at that moment.
fn read(answer: CommandResponse, claim: [u8; 16], asked: Moment) -> Result<Started, &'static str> {
    let contact: ContactAnswer = answer.contact.unwrap_or_default();
    match contact.state() {
        State::Started => {}
        State::Deferred => return Err("waits"),
        State::Withheld => return Err("withheld"),
        State::UsedUp | State::Closed => return Err("used_up"),
        State::Unspecified => return Err("not_understood"),
    }
    let snapshot = contact.snapshot.filter(|snapshot| snapshot.claim == claim).ok_or("used_up")?;
    let send_before = asked + time_to_send(&snapshot);
    Ok(Started { attempt: contact.attempt, claim, policy_version: answer.policy_version, send_before, snapshot })
}

/// The time from the account's decision until the message must have begun to leave. Both ends are the account's, since our
/// own clock may be wrong. Without them there is no right to send.
fn time_to_send(snapshot: &ContactSnapshot) -> Duration {
    let ends = render::instant(snapshot.at.as_ref()).zip(render::instant(snapshot.send_before.as_ref()));
    ends.and_then(|(at, send_before)| send_before.duration_since(at).try_into().ok()).unwrap_or(Duration::ZERO)
}

/// The message by the catalog that the account decided by, or a newer one; or else the outcome.
async fn render(
    dispatcher: &Dispatcher,
    job: &Job,
    started: &Started,
    transport: &dyn Transport,
) -> Result<Message, AttemptOutcome> {
    let version = started.policy_version;
    let arrives = dispatcher.catalog.wait_for(|state| state.tenant(&job.tenant).version >= version);
    if timeout(CATALOG_PATIENCE, arrives).await != Ok(true) {
        return Err(outcome::deferred(CATALOG, not_arrived(version), |failure| RouteNews::NotMade(version, failure)));
    }
    let state = dispatcher.catalog.state();
    let catalog = state.tenant(&job.tenant);
    let message = render::message(job, &started.snapshot, version, catalog, transport);
    message.map_err(|error| match error {
        NoMessage::NotNow(why) => {
            outcome::deferred(RENDER, why, |failure| RouteNews::NotMade(catalog.version, failure))
        }
        NoMessage::Final(why) => outcome::rejected(RENDER.name(), &why),
    })
}

/// Records the outcome on the account, for as long as it takes, with the same request each time.
async fn record(
    dispatcher: &Dispatcher,
    job: &Job,
    started: &Started,
    outcome: Recorded,
    stop: &CancellationToken,
) -> Result<Response<CommandResponse>, Status> {
    let request = RecordContactOutcomeRequest {
        request_id: Uuid::new_v4().to_string(),
        account_id: job.account.clone(),
        reminder: job.reminder,
        attempt: started.attempt,
        claim: started.claim.to_vec(),
        outcome: Some(outcome),
    };
    let ask = || async {
        let mut commands = dispatcher.clients.commands(&job.tenant)?;
        commands.record_contact_outcome(timed(request.clone())).await
    };
    patiently_until(ask, enough(None, stop)).await
}

/// Ends after `patience`, and in any case some time after a stop.
async fn enough(patience: Option<Duration>, stop: &CancellationToken) {
    let running = async {
        match patience {
            Some(patience) => sleep(patience).await,
            None => std::future::pending().await,
        }
    };
    let stopping = async {
        stop.cancelled().await;
        sleep(STOP_PATIENCE).await;
    };
    tokio::select! {
        () = running => {}
        () = stopping => {}
    }
}

fn reason(status: &Status) -> String {
    let reason = StatusDetails::of(status).reason;
    if reason.is_empty() { format!("{:?}", status.code()) } else { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 16] = [7; 16];

    fn answer(state: State, claim: Option<[u8; 16]>) -> CommandResponse {
        let snapshot = claim.map(|claim| ContactSnapshot { claim: claim.to_vec(), ..ContactSnapshot::default() });
        let contact = ContactAnswer { state: state.into(), attempt: 2, snapshot, ..ContactAnswer::default() };
        CommandResponse { contact: Some(contact), policy_version: 3, ..CommandResponse::default() }
    }

    #[test]
    fn only_the_holder_of_the_claim_that_won_may_send() {
        let started = read(answer(State::Started, Some(OURS)), OURS, Moment::now()).expect("ours");
        assert_eq!((started.attempt, started.policy_version), (2, 3));
        for other in [Some([8; 16]), None] {
            assert_eq!(read(answer(State::Started, other), OURS, Moment::now()).err(), Some("used_up"));
        }
    }

    #[test]
    fn a_message_has_the_time_that_the_account_gives_it_whatever_our_clock_says() {
        let instant = |seconds| Some(saldo_api::Timestamp { seconds, nanos: 0 });
        let long_ago =
            ContactSnapshot { at: instant(1_000), send_before: instant(1_120), ..ContactSnapshot::default() };
        assert_eq!(time_to_send(&long_ago), Duration::from_secs(120));
        let far_off = ContactSnapshot { at: instant(1 << 35), send_before: instant((1 << 35) + 7), ..long_ago.clone() };
        assert_eq!(time_to_send(&far_off), Duration::from_secs(7));
        for (at, send_before) in [(1_000, None), (1_000, instant(1_000)), (1_001, instant(1_000))] {
            let none = ContactSnapshot { at: instant(at), send_before, ..ContactSnapshot::default() };
            assert_eq!(time_to_send(&none), Duration::ZERO);
        }
        let asked = Moment::now();
        let started = read(answer(State::Started, Some(OURS)), OURS, asked).expect("ours");
        assert_eq!(started.send_before, asked, "an answer that says nothing of the end leaves no time");
    }

    #[test]
    fn nothing_is_sent_on_any_other_answer() {
        for (state, word) in [
            (State::Withheld, "withheld"),
            (State::Deferred, "waits"),
            (State::UsedUp, "used_up"),
            (State::Closed, "used_up"),
            (State::Unspecified, "not_understood"),
        ] {
            assert_eq!(read(answer(state, Some(OURS)), OURS, Moment::now()).err(), Some(word));
        }
        assert_eq!(read(CommandResponse::default(), OURS, Moment::now()).err(), Some("not_understood"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_outcome_is_told_for_ever_until_the_dispatcher_stops() {
        let stop = CancellationToken::new();
        let told = enough(None, &stop);
        tokio::pin!(told);
        assert!(timeout(Duration::from_secs(86_400), &mut told).await.is_err());
        stop.cancel();
        assert!(timeout(STOP_PATIENCE + Duration::from_secs(1), &mut told).await.is_ok());
    }
}
