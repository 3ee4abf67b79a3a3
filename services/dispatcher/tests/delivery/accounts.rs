//! The command service, as far as a dispatcher asks it.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use saldo_api::{
    codec::Codec,
    v1::{self, contact_answer::State, record_contact_outcome_request::Outcome as Recorded},
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, body::Body, server::NamedService};

/// The calls that reached the accounts, by account.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub asked: Vec<String>,
    pub accepted: Vec<String>,
    pub deferred: Vec<String>,
}

/// Every account lets its reminder be sent by the channel that its id names, if the creditor has published a policy.
#[derive(Clone)]
pub struct Accounts(pub Arc<watch::Sender<Seen>>);

impl Accounts {
    fn start(&self, request: v1::StartContactAttemptRequest) -> v1::CommandResponse {
        self.0.send_modify(|seen| seen.asked.push(request.account_id.clone()));
        let channel = if request.account_id.contains("-sms-") { v1::Channel::Sms } else { v1::Channel::Email };
        let at = Timestamp::UNIX_EPOCH.as_second();
        let instant = |seconds| Some(saldo_api::Timestamp { seconds, nanos: 0 });
        let snapshot = v1::ContactSnapshot {
            claim: request.claim,
            saying: Some(v1::Saying {
                step: "first".into(),
                tone: v1::Tone::Friendly.into(),
                channel: channel.into(),
                template: "first-reminder".into(),
            }),
            language: "es".into(),
            name: "Ana Gil".into(),
            address: "ana@example.com".into(),
            day: Some(v1::Date { year: 2026, month: 3, day: 2 }),
            items: vec![v1::ListedItem {
                invoice_number: "F-1".into(),
                instalment: 1,
                currency: "EUR".into(),
                due_date: Some(v1::Date { year: 2026, month: 2, day: 15 }),
                open_minor: 123_450,
                takes_offset_days: Some(7),
            }],
            at: instant(at),
            send_before: instant(at + 120),
            stamp: Some(v1::MessageStamp {
                id: "1bb23c2c@example.com".into(),
                at: instant(at),
                day: Some(v1::Date { year: 2026, month: 3, day: 2 }),
            }),
            ..Default::default()
        };
        let contact = match request.account_id.starts_with("acme") {
            true => v1::ContactAnswer {
                state: State::Started.into(),
                attempt: 1,
                snapshot: Some(snapshot),
                ..Default::default()
            },
            false => v1::ContactAnswer { state: State::Withheld.into(), ..Default::default() },
        };
        v1::CommandResponse { contact: Some(contact), policy_version: 1, ..Default::default() }
    }

    fn record(&self, request: v1::RecordContactOutcomeRequest) -> v1::CommandResponse {
        match request.outcome {
            Some(Recorded::Accepted(_)) => self.0.send_modify(|seen| seen.accepted.push(request.account_id)),
            Some(Recorded::Deferred(_)) => self.0.send_modify(|seen| seen.deferred.push(request.account_id)),
            _ => {}
        }
        v1::CommandResponse::default()
    }
}

impl NamedService for Accounts {
    const NAME: &'static str = "collections.v1.CommandService";
}

/// Written by hand, so that a method that a dispatcher never calls need not be named here.
impl tower_service::Service<http::Request<Body>> for Accounts {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let accounts = self.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            Ok(match method.as_str() {
                "StartContactAttempt" => {
                    let start = tower::service_fn(move |request: Request<v1::StartContactAttemptRequest>| {
                        let answer = accounts.start(request.into_inner());
                        async move { Ok::<_, Status>(Response::new(answer)) }
                    });
                    tonic::server::Grpc::new(Codec::default()).unary(start, request).await
                }
                "RecordContactOutcome" => {
                    let record = tower::service_fn(move |request: Request<v1::RecordContactOutcomeRequest>| {
                        let answer = accounts.record(request.into_inner());
                        async move { Ok::<_, Status>(Response::new(answer)) }
                    });
                    tonic::server::Grpc::new(Codec::default()).unary(record, request).await
                }
                other => Status::unimplemented(other).into_http(),
            })
        })
    }
}
