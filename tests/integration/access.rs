//! The rights of callers.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use prost::Message;
use saldo::client::{ClientRequest, Clients, Target, TlsArgs, connect};
use saldo_api::{FieldMask, codec::Codec, v1};
use saldo_auth::{Issuer, Role};
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};

use crate::{
    Failure, Outcome,
    commands::{date, eur, invoice, open, payment, reason},
    env::{Env, eventually},
    process::Saldo,
};

const HOUR: Duration = Duration::from_secs(3600);
const ROLES: [Role; 5] = [Role::Writer, Role::Reader, Role::Operator, Role::Auditor, Role::Service];

/// Every rpc of every service as SERVICE/METHOD, and whether its request names an account.
fn rpcs() -> Result<Vec<(String, bool)>, Failure> {
    let files = prost_types::FileDescriptorSet::decode(saldo_api::DESCRIPTORS)?.file;
    let names_an_account = |request: &str| {
        let name = request.rsplit('.').next();
        let message = files.iter().flat_map(|file| &file.message_type).find(|message| Some(message.name()) == name);
        message.is_some_and(|message| message.field.iter().any(|field| field.name() == "account_id"))
    };
    let services = files.iter().flat_map(|file| &file.service);
    let rpc = |(service, method): (&prost_types::ServiceDescriptorProto, &prost_types::MethodDescriptorProto)| {
        (format!("{}/{}", service.name(), method.name()), names_an_account(method.input_type()))
    };
    Ok(services.flat_map(|service| service.method.iter().map(move |method| (service, method))).map(rpc).collect())
}

/// Calls an rpc with an empty message.
async fn call_empty(channel: &Channel, rpc: &str, token: Option<&str>) -> Result<Result<(), Status>, Failure> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await?;
    let mut request = Request::new(v1::ListParkedRequest {});
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    // The fields of a response are passed over.
    let codec = Codec::<v1::ListParkedRequest, v1::ListParkedRequest>::default();
    let answer = grpc.unary(request, format!("/collections.v1.{rpc}").parse::<PathAndQuery>()?, codec).await;
    Ok(answer.map(|_| ()))
}

/// Who only reads sees everything on the command line, and changes nothing.
pub async fn a_reader(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let mut clients = saldo.clients().await?;
    clients.command.open_account(open("1", "D-1")).await?;
    let issued = clients.command.issue_invoice(invoice("2", "D-1", "F-1", 10_000)).await?.into_inner();
    let seen = v1::GetAccountRequest { account_id: "D-1".into(), consistency_token: issued.consistency_token };
    clients.query.get_account(seen).await?;
    let token = Issuer::read(&dir.path().join("dev-key.pem"))?.issue("auditor", "acme", &[Role::Reader], HOUR)?;
    let run = async |args: &[&str]| -> Result<(Option<i32>, String), Failure> {
        let mut command = saldo.prepare(args)?;
        command.env("SALDO_TOKEN", &token);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    };
    for (args, word) in [
        (&["aging", "--as-of", "2026-02-10"][..], "100.00"),
        (&["account", "show", "D-1"], "Ana Gil"),
        (&["account", "show", "D-1", "--history"], "F-1"),
        (&["invoice", "show", "D-1", "F-1"], "F-1"),
        (&["outbox"], ""),
        (&["policy", "show"], ""),
        (&["hold", "list"], ""),
    ] {
        let (code, said) = run(args).await?;
        assert!(code == Some(0) && said.contains(word), "{args:?}: {said}");
    }
    for (args, role) in [
        (&["payment", "record", "D-1", "P-1", "5.00 EUR", "--value-date", "2026-02-01"][..], "writer"),
        (&["account", "amend", "D-1", "--name", "Eva"], "writer"),
        (&["sending", "on"], "operator"),
    ] {
        let (code, said) = run(args).await?;
        assert!(code == Some(1) && said.contains(role), "{args:?}: {said}");
    }
    Ok(())
}

/// Every rpc of every service is declared, needs a token that is good, and a role of its declaration. Then the request is
/// read: an empty one changes nothing.
pub async fn declared(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let channel = connect(&saldo.target.endpoint, &TlsArgs::default()).await?;
    let issuer = Issuer::read(&dir.path().join("dev-key.pem"))?;
    let expired = issuer.issue("somebody", "acme", &ROLES, Duration::ZERO)?;
    eventually("the token expired", || async {
        let answer = call_empty(&channel, "QueryService/ListParked", Some(&expired)).await;
        matches!(answer, Ok(Err(status)) if reason(&status) == "TOKEN_EXPIRED")
    })
    .await?;
    let declared = [saldo_command::edge::RPCS, saldo_query::RPCS, saldo_command::catalog::RPCS].concat();
    let names: Vec<String> = declared.iter().map(|one| format!("{}/{}", one.service, one.method)).collect();
    let rpcs: Vec<String> = rpcs()?.into_iter().map(|(rpc, _)| rpc).collect();
    assert_eq!(BTreeSet::from_iter(&names), BTreeSet::from_iter(&rpcs));
    for (declared, rpc) in declared.iter().zip(&names) {
        for (token, expected) in
            [(None, "TOKEN_MISSING"), (Some("nonsense"), "TOKEN_INVALID"), (Some(expired.as_str()), "TOKEN_EXPIRED")]
        {
            let status = call_empty(&channel, rpc, token).await?.expect_err("refused");
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, expected), "{rpc}");
        }
        for role in ROLES {
            let token = issuer.issue("somebody", "acme", &[role], HOUR)?;
            let answer = call_empty(&channel, rpc, Some(&token)).await?;
            let denied = answer
                .as_ref()
                .is_err_and(|status| status.code() == Code::PermissionDenied && reason(status) == "ROLE_MISSING");
            assert_eq!(denied, !declared.roles.contains(&role), "{rpc} as {role}: {answer:?}");
            let read = answer.is_ok() || answer.is_err_and(|status| reason(&status) == "INVALID_REQUEST");
            assert!(denied || read, "{rpc} as {role}");
        }
    }
    saldo.stop().await
}

async fn asked<R: ClientRequest>(clients: &Clients, request: R) -> (String, Result<(), Status>) {
    (format!("{}/{}", R::SERVICE, R::METHOD), clients.ask(request).await.map(|_| ()))
}

/// Asks every rpc that names an account, but for the one that opens it, about D-1: each with a request that only the state of
/// the account can refuse.
async fn about_an_account(clients: &Clients) -> Vec<(String, Result<(), Status>)> {
    let account_id = || "D-1".to_owned();
    let request_id = || uuid::Uuid::new_v4().to_string();
    let mut answers = Vec::new();
    macro_rules! ask {
        ($($request:expr;)*) => { $(answers.push(asked(clients, $request).await);)* };
    }
    ask! {
        v1::AmendAccountRequest {
            request_id: request_id(),
            account_id: account_id(),
            profile: open("", "").profile,
            update_mask: Some(FieldMask { paths: vec!["language".into()] }),
            ..Default::default()
        };
        invoice(&request_id(), "D-1", "F-1", 100);
        v1::CreditInvoiceRequest {
            request_id: request_id(),
            account_id: account_id(),
            credit_note_number: "C-1".into(),
            invoice_number: "F-1".into(),
            amount: eur(10),
            credit_date: date(2026, 1, 2),
            ..Default::default()
        };
        v1::VoidInvoiceRequest {
            request_id: request_id(),
            account_id: account_id(),
            invoice_number: "F-1".into(),
            void_date: date(2026, 1, 2),
            ..Default::default()
        };
        payment(&request_id(), "D-1", "P-1", 100);
        v1::AllocatePaymentRequest {
            request_id: request_id(), account_id: account_id(), reference: "P-1".into(), ..Default::default()
        };
        v1::ReversePaymentRequest {
            request_id: request_id(),
            account_id: account_id(),
            reference: "P-1".into(),
            reversal_date: date(2026, 2, 11),
            ..Default::default()
        };
        v1::DeallocatePaymentRequest {
            request_id: request_id(), account_id: account_id(), reference: "P-1".into(), ..Default::default()
        };
        v1::AllocateCreditNoteRequest {
            request_id: request_id(), account_id: account_id(), credit_note_number: "C-1".into(), ..Default::default()
        };
        v1::DeallocateCreditNoteRequest {
            request_id: request_id(), account_id: account_id(), credit_note_number: "C-1".into(), ..Default::default()
        };
        v1::RefundCreditRequest {
            request_id: request_id(),
            account_id: account_id(),
            reference: "OUT-1".into(),
            amount: eur(10),
            refund_date: date(2026, 2, 11),
            credit: Some(v1::refund_credit_request::Credit::PaymentReference("P-1".into())),
            ..Default::default()
        };
        v1::AdvanceTimeRequest { request_id: request_id(), account_id: account_id() };
        v1::StartContactAttemptRequest {
            request_id: request_id(), account_id: account_id(), reminder: 1, claim: vec![1; 16]
        };
        v1::RecordContactOutcomeRequest {
            request_id: request_id(),
            account_id: account_id(),
            reminder: 1,
            attempt: 1,
            claim: vec![1; 16],
            outcome: Some(v1::record_contact_outcome_request::Outcome::Unknown(Default::default())),
        };
        v1::RetryContactRequest {
            request_id: request_id(), account_id: account_id(), reminder: 1, ..Default::default()
        };
        v1::DropContactRequest {
            request_id: request_id(), account_id: account_id(), reminder: 1, ..Default::default()
        };
        v1::DeallocatePaymentRequest {
            request_id: request_id(), account_id: account_id(), reference: "P-9".into(), ..Default::default()
        };
        v1::AllocateCreditNoteRequest {
            request_id: request_id(), account_id: account_id(), credit_note_number: "C-9".into(), ..Default::default()
        };
        v1::RefundCreditRequest {
            request_id: request_id(),
            account_id: account_id(),
            reference: "R-1".into(),
            credit: Some(v1::refund_credit_request::Credit::PaymentReference("P-9".into())),
            amount: eur(10),
            refund_date: date(2026, 2, 11),
            ..Default::default()
        };
        v1::PlaceHoldRequest {
            request_id: request_id(),
            account_id: account_id(),
            hold_id: "H-1".into(),
            terms: Some(v1::HoldTerms { reason: "legal".into(), ..Default::default() }),
            ..Default::default()
        };
        v1::AmendHoldRequest {
            request_id: request_id(),
            account_id: account_id(),
            hold_id: "H-1".into(),
            terms: Some(v1::HoldTerms { reason: "legal".into(), ..Default::default() }),
            update_mask: Some(FieldMask { paths: vec!["reason".into()] }),
            ..Default::default()
        };
        v1::ReleaseHoldRequest {
            request_id: request_id(), account_id: account_id(), hold_id: "H-1".into(), ..Default::default()
        };
        v1::GetAgingRequest { account_id: account_id(), ..Default::default() };
        v1::ListOpenItemsRequest { account_id: account_id(), ..Default::default() };
        v1::GetInvoiceRequest { account_id: account_id(), number: "F-1".into(), ..Default::default() };
        v1::FindDocumentsRequest {
            account_id: account_id(),
            kind: v1::find_documents_request::Kind::Invoice.into(),
            ..Default::default()
        };
        v1::GetPaymentRequest { account_id: account_id(), reference: "P-1".into(), ..Default::default() };
        v1::GetCreditNoteRequest { account_id: account_id(), number: "C-1".into(), ..Default::default() };
        v1::GetAccountRequest { account_id: account_id(), ..Default::default() };
        v1::ListHistoryRequest { account_id: account_id(), ..Default::default() };
        v1::ListRemindersRequest { account_id: account_id(), ..Default::default() };
        v1::ListAttemptsRequest { account_id: account_id(), ..Default::default() };
        v1::ListHoldsRequest { account_id: account_id(), ..Default::default() };
        v1::PreviewContactsRequest { account_id: account_id(), ..Default::default() };
    }
    answers
}

/// Nothing of one tenant is there for another tenant, by any rpc.
pub async fn another_tenant(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let ours = saldo.clients_as("acme", &ROLES, HOUR).await?;
    ours.ask(open("a", "D-1")).await?;
    let token = ours.ask(invoice("b", "D-1", "F-1", 100)).await?.consistency_token;
    let history = v1::ListHistoryRequest {
        account_id: "D-1".into(),
        consistency_token: token,
        page_size: 1_000,
        ..Default::default()
    };
    let before = ours.ask(history.clone()).await?;

    let theirs = saldo.clients_as("other", &ROLES, HOUR).await?;
    let answers = about_an_account(&theirs).await;
    let named = rpcs()?.into_iter().filter(|(rpc, named)| *named && rpc != "CommandService/OpenAccount");
    let named: BTreeSet<String> = named.map(|(rpc, _)| rpc).collect();
    assert_eq!(answers.iter().map(|(rpc, _)| rpc.clone()).collect::<BTreeSet<_>>(), named);
    for (rpc, answer) in answers {
        // Without a policy there is nothing to preview.
        let expected = if rpc == "CatalogService/PreviewContacts" { "INVALID_REQUEST" } else { "ACCOUNT_UNKNOWN" };
        assert_eq!(reason(&answer.expect_err("not theirs")), expected, "{rpc}");
    }
    let aging = theirs.ask(v1::GetAgingRequest::default()).await?;
    assert!(aging.rows.is_empty() && aging.totals.is_empty());
    assert!(theirs.ask(v1::ListParkedRequest {}).await?.accounts.is_empty());
    assert!(theirs.ask(v1::ListHoldsRequest::default()).await?.holds.is_empty());

    // An account of the same id is another one, and a switch of theirs stands on a chain of its own.
    assert_eq!(theirs.ask(open("a", "D-1")).await?.version, 1);
    for clients in [&ours, &theirs] {
        clients.ask(v1::SetSendingRequest { request_id: "s".into(), on: false }).await?;
        assert_eq!(clients.ask(v1::GetCatalogRequest {}).await?.version, 1);
    }
    assert_eq!(before, ours.ask(history).await?, "nothing of theirs touched ours");

    let nobody = Target { token: "nonsense".to_owned(), ..saldo.target.clone() }.connect().await?;
    for (rpc, answer) in about_an_account(&nobody).await {
        assert_eq!(reason(&answer.expect_err("refused")), "TOKEN_INVALID", "{rpc}");
    }
    saldo.stop().await
}
