//! Who may ask what.

use std::{sync::Arc, time::Duration};

use prost::Message;
use saldo::client::{Clients, Target, TlsArgs, connect};
use saldo_api::{FieldMask, codec::Codec, v1};
use saldo_auth::{Issuer, Role};
use saldo_command::edge::RPCS;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};

use crate::{
    Outcome,
    commands::{date, eur, invoice, open, payment, reason},
    env::Env,
    process::Saldo,
};

const HOUR: Duration = Duration::from_secs(3600);
/// Every RPC, in a fixed order: nine commands, the last of them for timekeepers, then five queries.
const COMMANDS: usize = 9;
const QUERIES: usize = 5;

/// Calls every RPC once; `Ok` where the call was let in and answered.
async fn call_all(mut clients: Clients) -> Vec<Result<(), Status>> {
    let opened = clients.command.open_account(open("a", "D-1")).await.map(|_| ());
    let mut answers = vec![opened];
    answers.extend(call_on_account(clients).await);
    answers
}

/// Calls every RPC but the opening, each with a request that only the account's state can refuse.
async fn call_on_account(mut clients: Clients) -> Vec<Result<(), Status>> {
    let account_id = || "D-1".to_owned();
    let (command, query) = (&mut clients.command, &mut clients.query);
    let mut answers: Vec<Result<(), Status>> = Vec::new();
    macro_rules! call {
        ($client:ident.$method:ident($request:expr)) => {
            answers.push($client.$method($request).await.map(|_| ()))
        };
    }
    call!(command.amend_account(v1::AmendAccountRequest {
        request_id: "amend".into(),
        account_id: account_id(),
        profile: open("", "").profile,
        update_mask: Some(FieldMask { paths: vec!["language".into()] }),
    }));
    call!(command.issue_invoice(invoice("b", "D-1", "F-1", 100)));
    call!(command.credit_invoice(v1::CreditInvoiceRequest {
        request_id: "credit".into(),
        account_id: account_id(),
        credit_note_number: "C-1".into(),
        invoice_number: "F-1".into(),
        amount: eur(10),
        credit_date: date(2026, 1, 2),
        reason: String::new(),
    }));
    call!(command.void_invoice(v1::VoidInvoiceRequest {
        request_id: "void".into(),
        account_id: account_id(),
        invoice_number: "F-1".into(),
        void_date: date(2026, 1, 2),
        reason: String::new(),
    }));
    call!(command.allocate_payment(v1::AllocatePaymentRequest {
        request_id: "allocate".into(),
        account_id: account_id(),
        reference: "P-9".into(),
        allocations: Vec::new(),
    }));
    call!(command.reverse_payment(v1::ReversePaymentRequest {
        request_id: "reverse".into(),
        account_id: account_id(),
        reference: "P-9".into(),
        reversal_date: date(2026, 2, 11),
        reason: String::new(),
    }));
    // The last that is written; see `history`.
    call!(command.record_payment(payment("c", "D-1", "P-1", 100)));
    call!(command.advance_time(v1::AdvanceTimeRequest { request_id: "d".into(), account_id: account_id() }));
    call!(query.list_open_items(v1::ListOpenItemsRequest { account_id: account_id(), ..Default::default() }));
    call!(query.get_account(v1::GetAccountRequest { account_id: account_id(), ..Default::default() }));
    call!(query.list_history(v1::ListHistoryRequest { account_id: account_id(), ..Default::default() }));
    call!(query.get_aging(v1::GetAgingRequest { account_id: account_id(), ..Default::default() }));
    call!(query.list_parked(v1::ListParkedRequest {}));
    assert_eq!(answers.len(), COMMANDS - 1 + QUERIES);
    answers
}

fn denied(answer: &Result<(), Status>) -> bool {
    answer.as_ref().is_err_and(|status| status.code() == Code::PermissionDenied && reason(status) == "ROLE_MISSING")
}

/// The history of ours, which a query reads once the read models have reached the last thing we did.
async fn history(mut ours: Clients) -> Result<Vec<v1::HistoryEntry>, Status> {
    let last = ours.command.record_payment(payment("c", "D-1", "P-1", 100)).await?.into_inner();
    let request = v1::ListHistoryRequest {
        account_id: "D-1".into(),
        consistency_token: last.consistency_token,
        page_size: 1_000,
        ..Default::default()
    };
    Ok(ours.query.list_history(request).await?.into_inner().entries)
}

pub async fn every_call(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let target = |token: &str| Target { token: token.to_owned(), ..saldo.target.clone() };

    for (token, expected) in [("", "TOKEN_MISSING"), ("nonsense", "TOKEN_INVALID")] {
        for answer in call_all(target(token).connect().await?).await {
            let status = answer.expect_err("refused");
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, expected));
        }
    }
    let expired = saldo.clients_as("acme", &[Role::Writer, Role::Reader], Duration::ZERO).await?;
    crate::env::eventually("the token expired", || {
        let mut clients = expired.clone();
        async move { clients.query.list_parked(v1::ListParkedRequest {}).await.is_err() }
    })
    .await?;
    for answer in call_all(expired).await {
        assert_eq!(reason(&answer.expect_err("refused")), "TOKEN_EXPIRED");
    }

    // A reader commands nothing, a writer reads nothing and does not turn the clock.
    let reader = call_all(saldo.clients_as("acme", &[Role::Reader], HOUR).await?).await;
    assert!(reader[..COMMANDS].iter().all(denied) && !reader[COMMANDS..].iter().any(denied), "{reader:?}");
    let writer = call_all(saldo.clients_as("acme", &[Role::Writer], HOUR).await?).await;
    assert!(!writer[..COMMANDS - 1].iter().any(denied) && writer[COMMANDS - 1..].iter().all(denied), "{writer:?}");
    let operator = call_all(saldo.clients_as("acme", &[Role::Operator], HOUR).await?).await;
    assert!(
        operator[..COMMANDS - 1].iter().all(denied) && !operator[COMMANDS - 1..].iter().any(denied),
        "{operator:?}"
    );

    let auditor = call_all(saldo.clients_as("acme", &[Role::Auditor], HOUR).await?).await;
    assert!(auditor[..COMMANDS].iter().all(denied) && !auditor[COMMANDS..].iter().any(denied), "{auditor:?}");
    let service = call_all(saldo.clients_as("acme", &[Role::Service], HOUR).await?).await;
    assert!(!service.iter().any(denied), "{service:?}");

    // Another tenant's account is not there, whatever is asked of it; opening it opens one of their own.
    let roles = [Role::Reader, Role::Writer, Role::Operator];
    let ours = saldo.clients_as("acme", &roles, HOUR).await?;
    let before = history(ours.clone()).await?;
    let mut foreign = saldo.clients_as("other", &roles, HOUR).await?;
    let mut answers = call_on_account(foreign.clone()).await;
    assert!(answers.pop().is_some_and(|parked| parked.is_ok()), "the list of theirs that are parked is empty");
    for answer in answers {
        assert_eq!(reason(&answer.expect_err("not theirs")), "ACCOUNT_UNKNOWN");
    }
    let third = call_all(saldo.clients_as("third", &roles, HOUR).await?).await;
    assert!(third[0].is_ok(), "an account of the same id is another one: {third:?}");
    assert_eq!(before, history(ours).await?, "nothing of theirs touched ours");
    let aging = foreign.query.get_aging(v1::GetAgingRequest::default()).await?.into_inner();
    assert!(aging.rows.is_empty() && aging.totals.is_empty());
    Ok(())
}

/// Every RPC about speaking to debtors, and the roles that may ask it.
const TALKING: [(&str, &[Role]); 12] = [
    ("StartContactAttempt", &[Role::Service]),
    ("RecordContactOutcome", &[Role::Service]),
    ("RetryContact", &[Role::Operator]),
    ("DropContact", &[Role::Operator]),
    ("PublishPolicy", &[Role::Operator]),
    ("SetSending", &[Role::Operator]),
    ("PublishSettings", &[Role::Operator]),
    ("GetCatalog", &[Role::Reader, Role::Auditor, Role::Operator, Role::Service]),
    ("PreviewContacts", &[Role::Reader, Role::Auditor, Role::Operator, Role::Service]),
    ("ListReminders", &[Role::Reader, Role::Auditor, Role::Operator, Role::Service]),
    ("ListAttempts", &[Role::Reader, Role::Auditor, Role::Operator, Role::Service]),
    ("GetContactTotals", &[Role::Reader, Role::Auditor, Role::Operator, Role::Service]),
];

async fn talk(clients: &Clients, rpc: &str) -> Result<(), Status> {
    let Clients { mut command, mut catalog, mut query } = clients.clone();
    let (request_id, account_id) = (uuid::Uuid::new_v4().to_string(), "D-1".to_owned());
    match rpc {
        "StartContactAttempt" => {
            let claim = vec![1; 16];
            let request = v1::StartContactAttemptRequest { request_id, account_id, reminder: 1, claim };
            command.start_contact_attempt(request).await.map(|_| ())
        }
        "RecordContactOutcome" => {
            let unknown = v1::record_contact_outcome_request::Unknown { handed: None };
            let outcome = Some(v1::record_contact_outcome_request::Outcome::Unknown(unknown));
            let claim = vec![1; 16];
            let request =
                v1::RecordContactOutcomeRequest { request_id, account_id, reminder: 1, attempt: 1, claim, outcome };
            command.record_contact_outcome(request).await.map(|_| ())
        }
        "RetryContact" => command
            .retry_contact(v1::RetryContactRequest { request_id, account_id, reminder: 1, note: String::new() })
            .await
            .map(|_| ()),
        "DropContact" => command
            .drop_contact(v1::DropContactRequest { request_id, account_id, reminder: 1, note: String::new() })
            .await
            .map(|_| ()),
        "PublishPolicy" => {
            let request = v1::PublishPolicyRequest { request_id, files: Vec::new(), validate_only: true };
            catalog.publish_policy(request).await.map(|_| ())
        }
        "SetSending" => catalog.set_sending(v1::SetSendingRequest { request_id, on: false }).await.map(|_| ()),
        "PublishSettings" => {
            let request = v1::PublishSettingsRequest { request_id, settings: None };
            catalog.publish_settings(request).await.map(|_| ())
        }
        "GetCatalog" => catalog.get_catalog(v1::GetCatalogRequest {}).await.map(|_| ()),
        "PreviewContacts" => {
            let request = v1::PreviewContactsRequest { account_id, ..Default::default() };
            catalog.preview_contacts(request).await.map(|_| ())
        }
        "ListReminders" => query.list_reminders(v1::ListRemindersRequest::default()).await.map(|_| ()),
        "ListAttempts" => {
            query.list_attempts(v1::ListAttemptsRequest { account_id, ..Default::default() }).await.map(|_| ())
        }
        _ => query.get_contact_totals(v1::GetContactTotalsRequest::default()).await.map(|_| ()),
    }
}

pub async fn talking(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    saldo.clients().await?.command.open_account(open("a", "D-1")).await?;
    let expired = saldo.clients_as("acme", &[Role::Service, Role::Operator, Role::Reader], Duration::ZERO).await?;
    crate::env::eventually("the token expired", || {
        let mut clients = expired.clone();
        async move { clients.query.list_parked(v1::ListParkedRequest {}).await.is_err() }
    })
    .await?;
    let nobody = Target { token: "nonsense".to_owned(), ..saldo.target.clone() }.connect().await?;
    for (rpc, allowed) in TALKING {
        for (clients, expected) in [(&nobody, "TOKEN_INVALID"), (&expired, "TOKEN_EXPIRED")] {
            let status = talk(clients, rpc).await.expect_err("refused");
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, expected), "{rpc}");
        }
        for role in [Role::Writer, Role::Reader, Role::Operator, Role::Auditor, Role::Service] {
            let answer = talk(&saldo.clients_as("acme", &[role], HOUR).await?, rpc).await;
            assert_eq!(denied(&answer), !allowed.contains(&role), "{rpc} as {role:?}: {answer:?}");
        }
        // Another tenant has no such account, and a catalog of its own.
        let foreign = saldo.clients_as("other", allowed, HOUR).await?;
        match (rpc, talk(&foreign, rpc).await) {
            ("PublishPolicy" | "PublishSettings" | "PreviewContacts", Err(status)) => {
                assert_eq!(reason(&status), "INVALID_REQUEST", "{rpc}")
            }
            ("SetSending" | "GetCatalog" | "ListReminders" | "GetContactTotals", answer) => {
                assert!(answer.is_ok(), "{rpc}")
            }
            (_, answer) => assert_eq!(reason(&answer.expect_err("not theirs")), "ACCOUNT_UNKNOWN", "{rpc}"),
        }
    }
    // A switch of ours and one of theirs stand each on its own chain.
    let version = |tenant: &'static str| {
        let saldo = &saldo;
        async move {
            let mut clients = saldo.clients_as(tenant, &[Role::Reader], HOUR).await?;
            Ok::<_, crate::Failure>(clients.catalog.get_catalog(v1::GetCatalogRequest {}).await?.into_inner().version)
        }
    };
    assert_eq!((version("acme").await?, version("other").await?), (1, 1));
    Ok(())
}

/// Calls an rpc with an empty message, and expects a no.
async fn call_empty(channel: &Channel, rpc: &str, token: Option<&str>) -> Result<Status, crate::Failure> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await?;
    let mut request = Request::new(v1::ListParkedRequest {});
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    // The fields of a response are passed over.
    let codec = Codec::<v1::ListParkedRequest, v1::ListParkedRequest>::default();
    let answer = grpc.unary(request, format!("/collections.v1.{rpc}").parse::<PathAndQuery>()?, codec).await;
    Ok(answer.err().ok_or(format!("{rpc} was answered"))?)
}

/// Every rpc of every service needs a token. A command needs a role of its declaration, and then the request is read.
pub async fn declared(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let channel = connect(&saldo.target.endpoint, &TlsArgs::default()).await?;
    let descriptors = prost_types::FileDescriptorSet::decode(saldo_api::DESCRIPTORS)?;
    let services = descriptors.file.iter().flat_map(|file| &file.service);
    let rpcs: Vec<String> = services
        .flat_map(|service| service.method.iter().map(|method| format!("{}/{}", service.name(), method.name())))
        .collect();
    for rpc in &rpcs {
        for (token, expected) in [(None, "TOKEN_MISSING"), (Some("nonsense"), "TOKEN_INVALID")] {
            let status = call_empty(&channel, rpc, token).await?;
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, expected), "{rpc}");
        }
    }
    let issuer = Issuer::read(&dir.path().join("dev-key.pem"))?;
    for declared in RPCS {
        let rpc = format!("CommandService/{}", declared.method);
        assert!(rpcs.contains(&rpc), "{rpc}");
        for role in [Role::Writer, Role::Reader, Role::Operator, Role::Auditor, Role::Service] {
            let token = issuer.issue("somebody", "acme", &[role], HOUR)?;
            let status = call_empty(&channel, &rpc, Some(&token)).await?;
            let expected = match declared.roles.contains(&role) {
                true => (Code::InvalidArgument, "INVALID_REQUEST"),
                false => (Code::PermissionDenied, "ROLE_MISSING"),
            };
            assert_eq!((status.code(), reason(&status).as_str()), expected, "{rpc} as {role}");
        }
    }
    saldo.stop().await
}
