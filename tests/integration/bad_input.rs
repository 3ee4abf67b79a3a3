//! Input that must be refused clearly and change nothing.

use std::sync::Arc;

use saldo_api::v1;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    Outcome,
    commands::{date, eur, invoice, open, payment, reason},
    env::Env,
    process::Saldo,
};

pub fn field(status: &Status) -> String {
    let bad = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    bad.first().map(|violation| violation.field.clone()).unwrap_or_default()
}

pub async fn requests(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let mut clients = saldo.clients().await?;
    let command = &mut clients.command;
    command.open_account(open("o", "D-1")).await?;
    command.issue_invoice(invoice("i", "D-1", "F-1", 10_000)).await?;
    command.record_payment(payment("p", "D-1", "P-1", 1_000)).await?;
    let before = saldo.verify().await?["records"].as_u64();

    // Wrong in itself: answered without the log, naming the field.
    let base = || invoice("x", "D-1", "F-2", 10_000);
    let money = |minor_units, currency: &str| Some(v1::Money { minor_units, currency: currency.into() });
    let part = |day, amount_minor| v1::Instalment { due_date: date(2026, 2, day), amount_minor };
    let cases: Vec<(&str, v1::IssueInvoiceRequest)> = vec![
        ("total.minor_units", v1::IssueInvoiceRequest { total: eur(0), ..base() }),
        ("total.minor_units", v1::IssueInvoiceRequest { total: eur(-1), ..base() }),
        ("total.minor_units", v1::IssueInvoiceRequest { total: eur(i64::MAX), ..base() }),
        ("total.currency", v1::IssueInvoiceRequest { total: money(1, "EUX"), ..base() }),
        ("total.currency", v1::IssueInvoiceRequest { total: money(1, "eur"), ..base() }),
        ("total", v1::IssueInvoiceRequest { total: None, ..base() }),
        ("due_date", v1::IssueInvoiceRequest { due_date: date(2025, 12, 31), ..base() }),
        ("due_date", v1::IssueInvoiceRequest { due_date: None, ..base() }),
        ("issue_date", v1::IssueInvoiceRequest { issue_date: date(2026, 2, 30), ..base() }),
        ("issue_date", v1::IssueInvoiceRequest { issue_date: None, ..base() }),
        (
            "instalments",
            v1::IssueInvoiceRequest { due_date: None, instalments: vec![part(1, 4_000), part(2, 5_999)], ..base() },
        ),
        (
            "instalments[1].due_date",
            v1::IssueInvoiceRequest { due_date: None, instalments: vec![part(2, 4_000), part(1, 6_000)], ..base() },
        ),
        ("number", v1::IssueInvoiceRequest { number: String::new(), ..base() }),
        ("number", v1::IssueInvoiceRequest { number: "F\u{e9}".into(), ..base() }),
        ("account_id", v1::IssueInvoiceRequest { account_id: "D/1".into(), ..base() }),
        ("account_id", v1::IssueInvoiceRequest { account_id: "../D".into(), ..base() }),
        ("request_id", v1::IssueInvoiceRequest { request_id: String::new(), ..base() }),
        ("request_id", v1::IssueInvoiceRequest { request_id: "a b".into(), ..base() }),
        ("request_id", v1::IssueInvoiceRequest { request_id: "x".repeat(65), ..base() }),
        ("description", v1::IssueInvoiceRequest { description: "a\0b".into(), ..base() }),
    ];
    for (expected, request) in cases {
        let shown = format!("{request:?}");
        let status = command.issue_invoice(request).await.expect_err(&shown);
        assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, expected), "{shown}");
    }
    for amount in [0, -1, i64::MIN, i64::MAX, 100_000_000_000_001] {
        let paid = v1::RecordPaymentRequest { amount: eur(amount), ..payment("x", "D-1", "P-2", 1) };
        let status = command.record_payment(paid).await.expect_err("no amount");
        assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, "amount.minor_units"), "{amount}");
        let allocations =
            vec![v1::Allocation { invoice_number: "F-1".into(), amount_minor: amount, ..Default::default() }];
        let paid = v1::RecordPaymentRequest { allocations, ..payment("x", "D-1", "P-2", 1) };
        let status = command.record_payment(paid).await.expect_err("no amount");
        let expected = (Code::InvalidArgument, "allocations[0].amount_minor");
        assert_eq!((status.code(), field(&status).as_str()), expected, "{amount}");
        let credit = v1::CreditInvoiceRequest {
            request_id: "x".into(),
            account_id: "D-1".into(),
            credit_note_number: "C-1".into(),
            invoice_number: "F-1".into(),
            amount: eur(amount),
            credit_date: date(2026, 2, 1),
            reason: String::new(),
        };
        let status = command.credit_invoice(credit).await.expect_err("no amount");
        assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, "amount.minor_units"), "{amount}");
        let parts = vec![part(1, 10_000), part(2, amount)];
        let issued = v1::IssueInvoiceRequest { due_date: None, instalments: parts, ..base() };
        let status = command.issue_invoice(issued).await.expect_err("no amount");
        assert!(field(&status).starts_with("instalments"), "{amount}: {status:?}");
    }
    type Change = fn(&mut v1::Profile);
    let profiles: [(&str, Change); 9] = [
        ("profile.display_name", |profile| profile.display_name = "Ana\r\nBcc: all".into()),
        ("profile.display_name", |profile| profile.display_name = "Ana\0".into()),
        ("profile.display_name", |profile| profile.display_name = "  ".into()),
        ("profile.contact_points[0].address", |profile| profile.contact_points[0].address = "a@b\nc".into()),
        ("profile.contact_points[0].address", |profile| profile.contact_points[0].address = "a\0@b.com".into()),
        ("profile.contact_points[0].address", |profile| profile.contact_points[0].address = "not an address".into()),
        ("profile.kind", |profile| profile.kind = 0),
        ("profile.time_zone", |profile| profile.time_zone = "Europe/Atlantis".into()),
        ("profile.language", |profile| profile.language = "spanish".into()),
    ];
    for (expected, change) in profiles {
        let mut request = open("y", "D-9");
        change(request.profile.as_mut().ok_or("profile")?);
        let status = command.open_account(request).await.expect_err(expected);
        assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, expected));
    }
    let status = command.issue_invoice(v1::IssueInvoiceRequest { description: "x".repeat(5 << 20), ..base() }).await;
    let status = status.expect_err("5 MB");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert!(status.message().contains("1048576"), "the limit is named: {}", status.message());
    let status = invalid_utf8(&saldo).await?;
    assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "INVALID_REQUEST".into()));
    assert!(status.message().contains("request_id"), "the field is named: {}", status.message());
    assert_eq!(saldo.verify().await?["records"].as_u64(), before, "nothing was appended");

    // Not allowed by the account's state: a refusal, remembered in the log, without an event of its own.
    let allocation =
        |invoice: &str, amount_minor| v1::Allocation { invoice_number: invoice.into(), instalment: None, amount_minor };
    let pay = |id: &str, allocations| v1::RecordPaymentRequest { allocations, ..payment(id, "D-1", id, 5_000) };
    for (request, expected) in [
        (pay("r1", vec![allocation("F-1", 5_001)]), "OVER_ALLOCATION"),
        (
            v1::RecordPaymentRequest { amount: eur(20_000), ..pay("r2", vec![allocation("F-1", 9_001)]) },
            "OVER_ALLOCATION",
        ),
        (pay("r3", vec![allocation("F-404", 1)]), "INVOICE_UNKNOWN"),
        (v1::RecordPaymentRequest { amount: money(5_000, "USD"), ..pay("r4", vec![]) }, "CURRENCY_MISMATCH"),
        (v1::RecordPaymentRequest { reference: "P-1".into(), ..pay("r5", vec![]) }, "PAYMENT_REFERENCE_TAKEN"),
    ] {
        let status = clients.command.record_payment(request).await.expect_err(expected);
        assert_eq!(reason(&status), expected);
    }
    let report = saldo.verify().await?;
    assert_eq!(report["records"].as_u64(), before.map(|count| count + 5), "{report}");
    assert_eq!(report["differences"].as_u64(), Some(0), "{report}");
    Ok(())
}

/// A key is made for an account that exists, or that is being opened, and for no other.
pub async fn mistyped_accounts(_: Arc<Env>) -> Outcome {
    const MISTYPED: usize = 1_000;
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let clients = saldo.clients().await?;
    clients.command.clone().open_account(open("o", "D-1")).await?;
    let key_store = dir.path().join("keyring/keyring");
    let before = std::fs::metadata(&key_store)?.len();
    let described = |id: String, account: String| v1::IssueInvoiceRequest {
        description: "personal".into(),
        ..invoice(&id, &account, &id, 10_000)
    };
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..MISTYPED {
        let (mut command, request) = (clients.command.clone(), described(format!("F-{n}"), format!("X-{n}")));
        asked.spawn(async move { command.issue_invoice(request).await });
    }
    while let Some(answer) = asked.join_next().await {
        let status = answer?.expect_err("no such account");
        assert_eq!((status.code(), reason(&status)), (Code::NotFound, "ACCOUNT_UNKNOWN".into()));
    }
    assert_eq!(std::fs::metadata(&key_store)?.len(), before, "no key was made for an account that is not there");

    // An account that is there has its key, and one that is opened gets it.
    let mut command = clients.command.clone();
    command.issue_invoice(described("F-1".into(), "D-1".into())).await?;
    assert_eq!(std::fs::metadata(&key_store)?.len(), before, "the account had its key");
    command.open_account(open("o", "X-1")).await?;
    assert!(std::fs::metadata(&key_store)?.len() > before, "an account that is opened gets its key");
    command.issue_invoice(described("again".into(), "X-1".into())).await?;
    saldo.stop().await
}

/// A request whose request_id is the bytes ff fe, which are not UTF-8.
async fn invalid_utf8(saldo: &Saldo) -> Result<Status, crate::Failure> {
    let channel = tonic::transport::Endpoint::from_shared(saldo.target.endpoint.clone())?.connect().await?;
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await?;
    let mut request = tonic::Request::new(v1::EchoRequest { body: vec![0xff, 0xfe] });
    request.metadata_mut().insert("authorization", format!("Bearer {}", saldo.target.token).parse()?);
    // Field 1 of EchoRequest is bytes, field 1 of OpenAccountRequest a string: the same wire type.
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/collections.v1.CommandService/OpenAccount");
    let codec = saldo_api::codec::Codec::<v1::EchoRequest, v1::CommandResponse>::default();
    Ok(grpc.unary(request, path, codec).await.err().ok_or("it was taken")?)
}

pub async fn csv(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(&dir.path().join("data"), &[]).await?;
    let (file, map) = (dir.path().join("in.csv"), dir.path().join("map.toml"));
    std::fs::write(
        &map,
        "[format]\ndate = '%d.%m.%Y'\ndecimal = ','\ngroup = '.'\ndelimiter = ';'\ncurrency = '{cur}'\n\
         [invoice]\nnumber = '{no}'\namount = '{amount}'\nissue_date = '{date}'\ndue_date = '{due}'\ndescription = '{text}'\n\
         [account]\nid = 'K-{customer}'\n[account.open]\ndisplay_name = 'Kunde {customer}'\nkind = 'business'\n\
         language = 'de'\ntime_zone = 'Europe/Berlin'\ncountry = 'DE'\n",
    )?;
    let rows: [&[u8]; 10] = [
        b"\xef\xbb\xbfcustomer;no;amount;cur;date;due;text",
        b"1;A-1;1.234,50;EUR;01.02.2026;01.03.2026;plain",
        b"1;A-2;99;EUR;01.02.2026;01.03.2026;\"two\nlines; and a semicolon\"",
        b"2;A-1;0,5;EUR;01.02.2026;01.03.2026;fewer decimals",
        b"2;A-3;1,234;EUR;01.02.2026;01.03.2026;too many decimals",
        b"2;A-4;12;EUR;31.02.2026;01.03.2026;no such day",
        b"2;A-5;12;EUR;01.02.2026",
        b"2;A-6;12;XXQ;01.02.2026;01.03.2026;no currency",
        b"2;A-7;-12;EUR;01.02.2026;01.03.2026;negative",
        b"2;A-8;12;EUR;01.02.2026;01.03.2026;\xff\xfe",
    ];
    std::fs::write(&file, rows.join(&b'\n'))?;
    let (file, map) = (file.display().to_string(), map.display().to_string());
    let args = ["import", "invoices", &file, "--map", &map, "--json"];
    for (added, present) in [(3, 0), (0, 3)] {
        let output = saldo.command(&args).await?;
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let counts = ["rows", "added", "present", "rejected"].map(|key| summary[key].as_u64());
        assert_eq!(counts, [Some(9), Some(added), Some(present), Some(6)], "{summary}");
        assert!(summary["unread"].is_null(), "the figures below are read at once: {summary}");
    }
    let rejected = std::fs::read(format!("{file}.rejected.csv"))?;
    let rejected = String::from_utf8_lossy(&rejected);
    for (line, word) in
        [(6, "decimals"), (7, "issue_date"), (8, "columns"), (9, "currency"), (10, "greater than zero"), (11, "UTF-8")]
    {
        let row = rejected
            .lines()
            .find(|row| row.contains(&format!(";{line};")))
            .ok_or(format!("line {line}: {rejected}"))?;
        assert!(row.contains(word), "{row}");
    }
    let aging = saldo.succeed(&["aging", "--as-of", "2026-02-15"]).await?;
    assert!(aging.contains("1333.50") && aging.contains("0.50"), "{aging}");
    Ok(())
}
