//! Who may ask what.

use std::{sync::Arc, time::Duration};

use saldo::client::{Clients, Target};
use saldo_api::v1;
use saldo_auth::Role;
use tonic::{Code, Status};

use crate::{
    Outcome,
    commands::{invoice, open, payment, reason},
    env::Env,
    process::Saldo,
};

const HOUR: Duration = Duration::from_secs(3600);
/// Every RPC, in a fixed order: nine commands, the last of them for timekeepers, then five queries.
const COMMANDS: usize = 9;
const QUERIES: usize = 5;

/// Calls every RPC once; `Ok` where the call was let in, whatever it was answered.
async fn call_all(mut clients: Clients) -> Vec<Result<(), Status>> {
    let account_id = || "D-1".to_owned();
    let (command, query) = (&mut clients.command, &mut clients.query);
    let mut answers: Vec<Result<(), Status>> = Vec::new();
    macro_rules! call {
        ($client:ident.$method:ident($request:expr)) => {
            answers.push($client.$method($request).await.map(|_| ()))
        };
    }
    call!(command.open_account(open("a", "D-1")));
    call!(command.amend_account(v1::AmendAccountRequest { account_id: account_id(), ..Default::default() }));
    call!(command.issue_invoice(invoice("b", "D-1", "F-1", 100)));
    call!(command.credit_invoice(v1::CreditInvoiceRequest { account_id: account_id(), ..Default::default() }));
    call!(command.void_invoice(v1::VoidInvoiceRequest { account_id: account_id(), ..Default::default() }));
    call!(command.record_payment(payment("c", "D-1", "P-1", 100)));
    call!(command.allocate_payment(v1::AllocatePaymentRequest { account_id: account_id(), ..Default::default() }));
    call!(command.reverse_payment(v1::ReversePaymentRequest { account_id: account_id(), ..Default::default() }));
    call!(command.advance_time(v1::AdvanceTimeRequest { request_id: "d".into(), account_id: account_id() }));
    call!(query.get_aging(v1::GetAgingRequest::default()));
    call!(query.list_open_items(v1::ListOpenItemsRequest { account_id: account_id(), ..Default::default() }));
    call!(query.get_account(v1::GetAccountRequest { account_id: account_id(), ..Default::default() }));
    call!(query.list_history(v1::ListHistoryRequest { account_id: account_id(), ..Default::default() }));
    call!(query.list_parked(v1::ListParkedRequest {}));
    assert_eq!(answers.len(), COMMANDS + QUERIES);
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

    // Another tenant's account is not there; naming it in no field changes that.
    let roles = [Role::Reader, Role::Writer];
    let mut foreign = saldo.clients_as("other", &roles, HOUR).await?;
    let request = v1::GetAccountRequest { account_id: "D-1".into(), ..Default::default() };
    let status = foreign.query.get_account(request).await.expect_err("not theirs");
    assert_eq!(reason(&status), "ACCOUNT_UNKNOWN");
    let status = foreign.command.issue_invoice(invoice("e", "D-1", "F-2", 100)).await.expect_err("not theirs");
    assert_eq!(reason(&status), "ACCOUNT_UNKNOWN");
    // What opens an account opens theirs; every other call on an account finds none or is wrong in itself.
    let before = history(saldo.clients_as("acme", &roles, HOUR).await?).await?;
    let all = saldo.clients_as("third", &[Role::Reader, Role::Writer, Role::Operator], HOUR).await?;
    let mut clients = all.clone();
    for request in [invoice("f", "D-1", "F-3", 100), invoice("g", "D-1", "F-4", 100)] {
        assert_eq!(reason(&clients.command.issue_invoice(request).await.expect_err("not theirs")), "ACCOUNT_UNKNOWN");
    }
    let answers = call_all(all).await;
    assert!(answers[0].is_ok(), "an account of the same id is another one: {answers:?}");
    let after = history(saldo.clients_as("acme", &roles, HOUR).await?).await?;
    assert_eq!(before, after, "nothing of theirs touched ours");
    let aging = foreign.query.get_aging(v1::GetAgingRequest::default()).await?.into_inner();
    assert!(aging.rows.is_empty() && aging.totals.is_empty());
    Ok(())
}
