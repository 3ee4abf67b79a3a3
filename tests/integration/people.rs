//! A credit clerk looks at accounts and corrects them, with the command line alone.

use std::sync::Arc;

use saldo_api::v1;
use saldo_clock::Clock;
use serde_json::{Value, json};

use crate::{
    Failure, Outcome,
    commands::{date, eur, reason},
    env::Env,
    mailbox::Moody,
    process::Saldo,
    talking::{becomes, debtor, speaking},
};

const OPEN: [&str; 15] = [
    "account",
    "open",
    "D-1",
    "--name",
    "Ana Gil",
    "--kind",
    "consumer",
    "--language",
    "es",
    "--time-zone",
    "Europe/Madrid",
    "--country",
    "ES",
    "--email",
    "ana@example.com",
];

async fn read(saldo: &Saldo, args: &[&str]) -> Result<Value, Failure> {
    Ok(serde_json::from_str(&saldo.succeed(&[args, &["--json"]].concat()).await?)?)
}

/// The standard error of a command that must fail.
async fn refused(saldo: &Saldo, args: &[&str]) -> Result<String, Failure> {
    let output = saldo.command(args).await?;
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    Ok(String::from_utf8(output.stderr)?)
}

fn addresses(account: &Value) -> Vec<&str> {
    let points = account["contact_points"].as_array().map(Vec::as_slice).unwrap_or_default();
    points.iter().filter_map(|point| point["address"].as_str()).collect()
}

pub async fn account(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let unknown = refused(&saldo, &["account", "show", "D-1"]).await?;
    assert!(unknown.contains("ACCOUNT_UNKNOWN") && unknown.contains("`saldo account open` opens one"), "{unknown}");
    assert!(saldo.succeed(&OPEN).await?.contains("account D-1 is open"));
    let again = refused(&saldo, &OPEN).await?;
    assert!(again.contains("ACCOUNT_ALREADY_OPEN") && again.contains("saldo account amend"), "{again}");
    let text = saldo.succeed(&["account", "show", "D-1"]).await?;
    for word in ["Ana Gil", "consumer", "Europe/Madrid", "email     ana@example.com", "Owed as of", "Open:"] {
        assert!(text.contains(word), "{word} in {text}");
    }

    // Each change of an address leaves the others as they are.
    let amend = |args: &[&'static str]| [&["account", "amend", "D-1"], args].concat();
    saldo.succeed(&amend(&["--add-phone", "+34600000000", "--add-email", "office@example.com"])).await?;
    saldo.succeed(&amend(&["--change", "ana@example.com", "ana@example.org", "--language", "en"])).await?;
    let account = read(&saldo, &["account", "show", "D-1"]).await?;
    assert_eq!(addresses(&account), ["ana@example.org", "office@example.com", "+34600000000"]);
    assert_eq!((account["language"].as_str(), account["time_zone"].as_str()), (Some("en"), Some("Europe/Madrid")));
    saldo.succeed(&amend(&["--remove", "office@example.com", "--time-zone", "Atlantic/Canary"])).await?;
    let account = read(&saldo, &["account", "show", "D-1", "--history"]).await?;
    assert_eq!(addresses(&account), ["ana@example.org", "+34600000000"]);
    // The opening, the opening that was refused, and three amendments.
    assert_eq!(account["history"].as_array().map(Vec::len), Some(5));

    // A slip is named and changes nothing.
    for (args, says) in [
        (&["--remove", "ana@example.com"][..], "no such address"),
        (&["--time-zone", "Europe/Madird"], "must be an IANA time zone"),
        (&["--add-phone", "600000000"], "E.164"),
        (&[], "name what is to change"),
    ] {
        let error = refused(&saldo, &amend(args)).await?;
        assert!(error.contains(says), "{args:?}: {error}");
    }
    // A person who saw other addresses than there are overwrites nothing.
    let clients = saldo.clients().await?;
    let request = v1::AmendAccountRequest {
        request_id: "stale".into(),
        account_id: "D-1".into(),
        profile: Some(v1::Profile::default()),
        update_mask: Some(saldo_api::FieldMask { paths: vec!["contact_points".into()] }),
        seen_contact_points: Some(v1::SeenContactPoints {
            points: vec![v1::ContactPoint { channel: v1::Channel::Email.into(), address: "ana@example.com".into() }],
        }),
    };
    assert_eq!(reason(&clients.ask(request).await.expect_err("stale")), "CONTACT_POINTS_CHANGED");
    let account = read(&saldo, &["account", "show", "D-1"]).await?;
    assert_eq!(addresses(&account), ["ana@example.org", "+34600000000"]);
    let replay = saldo.succeed(&["replay", "acme/D-1", "--json"]).await?;
    assert!(!replay.contains("ana@example.com"), "no address stands in the clear in the log");
    // The last addresses can go, too.
    saldo.succeed(&amend(&["--remove", "ana@example.org", "--remove", "+34600000000"])).await?;
    assert!(addresses(&read(&saldo, &["account", "show", "D-1"]).await?).is_empty());
    saldo.stop().await
}

/// Paid in part today, which is unapplied until the issue date.
pub async fn issued_ahead(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    saldo.succeed(&OPEN).await?;
    let ahead = v1::IssueInvoiceRequest {
        request_id: "F-1".into(),
        account_id: "D-1".into(),
        number: "F-1".into(),
        total: eur(10_000),
        issue_date: date(2100, 1, 1),
        due_date: date(2100, 1, 31),
        ..Default::default()
    };
    saldo.clients().await?.ask(ahead).await?;
    saldo.succeed(&["payment", "record", "D-1", "P-1", "40 EUR", "--value-date", "2026-02-10"]).await?;
    let unapplied = [json!(["P-1", -4_000, -4_000])];
    for (day, open, balance) in [
        (&[][..], &unapplied[..], Some(-4_000)),
        (&["--as-of", "2026-02-09"], &[], None),
        (&["--as-of", "2026-02-10"], &unapplied, Some(-4_000)),
        (&["--as-of", "2099-12-31"], &unapplied, Some(-4_000)),
        (&["--as-of", "2100-01-01"], &[json!(["F-1", 10_000, 6_000])], Some(6_000)),
    ] {
        let account = read(&saldo, &[&["account", "show", "D-1"], day].concat()).await?;
        let items = account["open_items"].as_array().ok_or("open_items")?.iter();
        let items: Vec<Value> =
            items.map(|item| json!([item["document"], item["original_minor"], item["open_minor"]])).collect();
        assert_eq!((&items[..], account["figures"][0]["balance"].as_i64()), (open, balance), "{day:?}");
    }
    saldo.stop().await
}

/// An account with an invoice of 100.00 in two parts, and one of 40.00 that is due later.
async fn owing(saldo: &Saldo) -> Outcome {
    saldo.succeed(&OPEN).await?;
    let clients = saldo.clients().await?;
    let part = |month, amount_minor| v1::Instalment { due_date: date(2026, month, 28), amount_minor };
    let invoice = v1::IssueInvoiceRequest {
        request_id: "F-1".into(),
        account_id: "D-1".into(),
        number: "F-1".into(),
        total: eur(10_000),
        issue_date: date(2026, 1, 1),
        instalments: vec![part(1, 6_000), part(2, 4_000)],
        ..Default::default()
    };
    clients.ask(invoice.clone()).await?;
    let later = v1::IssueInvoiceRequest {
        request_id: "F-2".into(),
        number: "F-2".into(),
        total: eur(4_000),
        due_date: date(2026, 3, 31),
        instalments: Vec::new(),
        ..invoice
    };
    clients.ask(later).await?;
    Ok(())
}

pub async fn payment(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    owing(&saldo).await?;
    // 50.00 arrive: 30.00 for F-2 and 20.00 for the second part of F-1.
    let record = [
        "payment",
        "record",
        "D-1",
        "P-1",
        "50,00 EUR",
        "--value-date",
        "2026-02-10",
        "--to",
        "F-2=30.00",
        "--to",
        "F-1#2=20 EUR",
        "--remittance",
        "from Ana Gil",
    ];
    let text = saldo.succeed(&record).await?;
    assert!(
        text.contains("payment P-1 of 50.00 EUR is recorded on D-1") && text.contains("all of it is applied"),
        "{text}"
    );
    let twice = refused(&saldo, &record).await?;
    assert!(twice.contains("PAYMENT_REFERENCE_TAKEN") && twice.contains("saldo payment show"), "{twice}");
    let shown = read(&saldo, &["payment", "show", "D-1", "P-1"]).await?;
    let lines = |shown: &Value| -> Vec<(String, u64, i64)> {
        let lines = shown["allocations"].as_array().cloned().unwrap_or_default();
        let line = |line: &Value| {
            let invoice = line["invoice"].as_str().unwrap_or_default().to_owned();
            (
                invoice,
                line["instalment"].as_u64().unwrap_or_default(),
                line["amount_minor"].as_i64().unwrap_or_default(),
            )
        };
        lines.iter().map(line).collect()
    };
    assert_eq!(lines(&shown), [("F-2".to_owned(), 1, 3_000), ("F-1".to_owned(), 2, 2_000)]);
    assert_eq!((shown["unapplied_minor"].as_i64(), shown["value_date"].as_str()), (Some(0), Some("2026-02-10")));

    // Slips, each named, with what is right.
    let slip =
        |to: &'static str| ["payment", "record", "D-1", "P-2", "10 EUR", "--value-date", "2026-02-11", "--to", to];
    for (to, says) in [
        ("F-9=5", "INVOICE_UNKNOWN"),
        ("F-2=5 USD", "the money is in EUR, not in USD"),
        ("F-2=1.234", "can be read in two ways"),
        ("F-2=10.01", "OVER_ALLOCATION"),
    ] {
        let error = refused(&saldo, &slip(to)).await?;
        assert!(error.contains(says), "{to}: {error}");
    }

    let future = refused(&saldo, &["payment", "reverse", "D-1", "P-1", "--on", "2027-02-12"]).await?;
    assert!(future.contains("DATE_IN_FUTURE"), "{future}");

    // The next payment applies the money that a reversal gives back, and a repeat under the same id changes nothing.
    saldo.succeed(&["payment", "reverse", "D-1", "P-1", "--on", "2026-02-12", "--reason", "returned"]).await?;
    let shown = read(&saldo, &["payment", "show", "D-1", "P-1"]).await?;
    assert_eq!((shown["reversed_on"].as_str(), shown["unapplied_minor"].as_i64()), (Some("2026-02-12"), Some(0)));
    assert_eq!(lines(&shown).iter().map(|(_, _, amount)| amount).sum::<i64>(), 0, "applied and taken back");
    let before = read(&saldo, &["payment", "show", "D-1", "P-1", "--as-of", "2026-02-11"]).await?;
    assert_eq!((before["reversed_on"].as_str(), lines(&before).len()), (None, 2));
    let again = refused(&saldo, &["payment", "reverse", "D-1", "P-1", "--on", "2026-02-12"]).await?;
    assert!(again.contains("PAYMENT_ALREADY_REVERSED"), "{again}");
    let unknown = refused(&saldo, &["payment", "allocate", "D-1", "P-9"]).await?;
    assert!(unknown.contains("PAYMENT_UNKNOWN") && unknown.contains("--history"), "{unknown}");

    // 150.00 for 140.00 that are open: the rest stays unapplied until something is open again.
    let much = ["payment", "record", "D-1", "P-3", "150 EUR", "--value-date", "2026-02-13", "--request-id", "mine"];
    let much: Value = read(&saldo, &much).await?;
    assert_eq!((much["unapplied_minor"].as_i64(), much["replayed"].as_bool()), (Some(1_000), Some(false)));
    assert_eq!(much["request_id"].as_str(), Some("mine"));
    let nothing = refused(&saldo, &["payment", "allocate", "D-1", "P-3"]).await?;
    assert!(nothing.contains("NOTHING_OPEN"), "{nothing}");
    let request = v1::IssueInvoiceRequest {
        request_id: "F-3".into(),
        account_id: "D-1".into(),
        number: "F-3".into(),
        total: eur(1_200),
        issue_date: date(2026, 2, 14),
        due_date: date(2026, 3, 14),
        ..Default::default()
    };
    let clients = saldo.clients().await?;
    let token = clients.ask(request).await?.consistency_token;
    clients
        .ask(v1::ListOpenItemsRequest { account_id: "D-1".into(), consistency_token: token, ..Default::default() })
        .await?;
    // The credit went to the new invoice by itself. It is taken back, and a part of it applied by name, once.
    let shown = read(&saldo, &["payment", "show", "D-1", "P-3"]).await?;
    assert_eq!(shown["unapplied_minor"].as_i64(), Some(0));
    let unknown = refused(&saldo, &["payment", "deallocate", "D-1", "P-3", "--from", "F-9"]).await?;
    assert!(unknown.contains("F-9"), "{unknown}");
    let back = ["payment", "deallocate", "D-1", "P-3", "--from", "F-3", "--on", "2026-02-16", "--reason", "for F-4"];
    saldo.succeed(&back).await?;
    let allocate = ["payment", "allocate", "D-1", "P-3", "--to", "F-3=4.00", "--request-id", "apply-once"];
    for replayed in [false, true] {
        let applied = read(&saldo, &allocate).await?;
        assert_eq!((applied["replayed"].as_bool(), lines(&applied)), (Some(replayed), vec![("F-3".into(), 1, 400)]));
    }
    let shown = read(&saldo, &["payment", "show", "D-1", "P-3"]).await?;
    assert_eq!(shown["unapplied_minor"].as_i64(), Some(600), "applied once");
    let before = read(&saldo, &["payment", "show", "D-1", "P-3", "--as-of", "2026-02-20"]).await?;
    assert_eq!(before["unapplied_minor"].as_i64(), Some(1_000), "until the day it was applied");
    let refund =
        |amount: &'static str| ["payment", "refund", "D-1", "P-3", amount, "--refund", "OUT-1", "--on", "2026-03-01"];
    assert!(refused(&saldo, &refund("6.01 EUR")).await?.contains("REFUND_EXCEEDS_CREDIT"));
    saldo.succeed(&refund("6.00 EUR")).await?;
    assert!(refused(&saldo, &refund("6.00 EUR")).await?.contains("REFUND_REFERENCE_TAKEN"));
    let shown = read(&saldo, &["payment", "show", "D-1", "P-3"]).await?;
    assert_eq!(shown["unapplied_minor"].as_i64(), Some(0));
    assert_eq!(
        (shown["refunds"][0]["refund"].as_str(), shown["refunds"][0]["amount_minor"].as_i64()),
        (Some("OUT-1"), Some(600))
    );
    let kept = ["payment", "record", "D-1", "P-5", "2 EUR", "--value-date", "2026-02-15", "--keep-unapplied"];
    let kept = read(&saldo, &kept).await?;
    assert_eq!((kept["unapplied_minor"].as_i64(), lines(&kept).len()), (Some(200), 0));

    // Three of eleven euros do not fit, and stay unapplied where that is asked for.
    let excess = ["payment", "record", "D-1", "P-4", "11 EUR", "--value-date", "2026-02-15", "--to", "F-3=11"];
    assert!(refused(&saldo, &excess).await?.contains("--keep-excess"));
    let excess = read(&saldo, &[&excess[..], &["--keep-excess"]].concat()).await?;
    assert_eq!((excess["unapplied_minor"].as_i64(), lines(&excess)), (Some(300), vec![("F-3".into(), 1, 800)]));
    assert_eq!(saldo.verify().await?["differences"].as_u64(), Some(0));
    saldo.stop().await
}

pub async fn invoice(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let server = Moody::start(0).await?;
    let saldo = Saldo::start(&dir.path().join("data"), &["--smtp", &server.url()]).await?;
    owing(&saldo).await?;
    let unpaid = Clock::system().now().to_string();
    saldo.succeed(&["payment", "record", "D-1", "P-1", "70 EUR", "--value-date", "2026-02-10"]).await?;
    let credit = v1::CreditInvoiceRequest {
        request_id: "C-1".into(),
        account_id: "D-1".into(),
        credit_note_number: "C-1".into(),
        invoice_number: "F-1".into(),
        amount: eur(500),
        credit_date: date(2026, 2, 20),
        ..Default::default()
    };
    let clients = saldo.clients().await?;
    let token = clients.ask(credit).await?.consistency_token;
    clients
        .ask(v1::ListOpenItemsRequest { account_id: "D-1".into(), consistency_token: token, ..Default::default() })
        .await?;
    let text = saldo.succeed(&["invoice", "show", "D-1", "F-1"]).await?;
    for word in ["100.00 EUR", "25.00 EUR open", "Applied to it:", "credit note", "P-1", "C-1"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let open = |invoice: &Value| -> Vec<Value> {
        let parts = invoice["instalments"].as_array().cloned().unwrap_or_default();
        parts.iter().map(|part| part["open_minor"].clone()).collect()
    };
    let now = read(&saldo, &["invoice", "show", "D-1", "F-1"]).await?;
    assert_eq!(open(&now), [json!(0), json!(2_500)]);
    assert_eq!(now["allocations"].as_array().map(Vec::len), Some(3));

    // On a day in between, as known now; and as it was known before the payment came.
    let between = read(&saldo, &["invoice", "show", "D-1", "F-1", "--as-of", "2026-02-15"]).await?;
    assert_eq!(open(&between), [json!(0), json!(3_000)]);
    let before = read(&saldo, &["invoice", "show", "D-1", "F-1", "--known-at", &unpaid]).await?;
    assert_eq!(
        (open(&before), before["allocations"].as_array().map(Vec::len)),
        (vec![json!(6_000), json!(4_000)], Some(0))
    );
    let early = saldo.succeed(&["invoice", "show", "D-1", "F-1", "--as-of", "2025-12-31"]).await?;
    assert!(early.contains("not issued yet"), "{early}");
    let unknown = refused(&saldo, &["invoice", "show", "D-1", "F-9"]).await?;
    assert!(unknown.contains("the account has no invoice F-9 (INVOICE_UNKNOWN)"), "{unknown}");
    let mistaken = saldo.command(&["invoice", "show", "D-1", "F-1", "--known-at", "2026-11-27"]).await?;
    assert!(String::from_utf8(mistaken.stderr)?.contains("such as 2026-11-27T00:00:00Z"));

    // A message that lists an invoice is shown with it.
    debtor(&clients, "D-2", "eva@example.com", 10).await?;
    speaking(&saldo, dir.path()).await?;
    becomes(&clients, "D-2", "accepted").await?;
    let told = read(&saldo, &["invoice", "show", "D-2", "F-D-2"]).await?;
    let listed = &told["listed_in"][0];
    assert_eq!((listed["reminder"].as_u64(), listed["open_minor"].as_i64()), (Some(1), Some(12_340)));
    assert_eq!((listed["status"].as_str(), listed["step"].as_str()), (Some("accepted"), Some("first-reminder")));
    assert_eq!(saldo.verify().await?["differences"].as_u64(), Some(0));
    saldo.stop().await
}

/// Invoices and credit notes by hand: issued, applied elsewhere, paid out and voided, each as a person types it.
pub async fn credit_note(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    saldo.succeed(&OPEN).await?;
    let issue = |number: &'static str, parts: &[&'static str]| {
        [&["invoice", "issue", "D-1", number, "100 EUR", "--issued", "2026-01-01"], parts].concat()
    };
    let parts = ["--instalment", "2026-01-28=60", "--instalment", "2026-02-28=40.00 EUR"];
    assert!(saldo.succeed(&issue("F-1", &parts)).await?.contains("invoice F-1 of 100.00 EUR is issued to D-1"));
    // A slip is named by its flag.
    for (args, says) in [
        (issue("F-2", &["--instalment", "2026-01-28=60"]), "--instalment: "),
        (issue("F-1", &["--due", "2026-03-31"]), "`saldo invoice show` shows it"),
        (issue("F-2", &["--due", "2025-03-31"]), "--due: "),
    ] {
        let error = refused(&saldo, &args).await?;
        assert!(error.contains(says), "{args:?}: {error}");
    }
    saldo.succeed(&issue("F-2", &["--due", "2026-03-31"])).await?;

    // More than is open of F-1 goes to nothing else by itself, until it is applied to F-2.
    let credit = ["credit-note", "issue", "D-1", "C-1", "120 EUR", "--invoice", "F-1", "--on", "2026-02-01"];
    let text = saldo.succeed(&credit).await?;
    for word in ["credit note C-1 of 120.00 EUR for invoice F-1", "60.00 EUR", "20.00 EUR of it is unapplied"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let twice = refused(&saldo, &credit).await?;
    assert!(twice.contains("CREDIT_NOTE_NUMBER_TAKEN") && twice.contains("saldo credit-note show"), "{twice}");
    let unknown = refused(&saldo, &["credit-note", "show", "D-1", "C-9"]).await?;
    assert!(unknown.contains("CREDIT_NOTE_UNKNOWN") && unknown.contains("--history"), "{unknown}");
    let over = refused(&saldo, &["credit-note", "allocate", "D-1", "C-1", "--to", "F-2=20.01"]).await?;
    assert!(over.contains("only 20.00 EUR can be applied") && over.contains("saldo credit-note show"), "{over}");
    let allocated = read(&saldo, &["credit-note", "allocate", "D-1", "C-1", "--to", "F-2=15"]).await?;
    assert_eq!(allocated["allocations"][0]["amount_minor"].as_i64(), Some(1_500));
    let refund = ["credit-note", "refund", "D-1", "C-1", "5 EUR", "--refund", "OUT-1", "--on", "2026-02-02"];
    saldo.succeed(&refund).await?;
    let shown = saldo.succeed(&["credit-note", "show", "D-1", "C-1"]).await?;
    for word in ["for invoice  F-1", "unapplied    0.00 EUR", "Paid out:", "OUT-1"] {
        assert!(shown.contains(word), "{word} in {shown}");
    }

    // The money for F-1 was meant for another debtor. It is taken back, and F-1 is voided.
    let applied = refused(&saldo, &["invoice", "void", "D-1", "F-1", "--on", "2026-02-01"]).await?;
    assert!(applied.contains("INVOICE_HAS_ALLOCATIONS") && applied.contains("credit-note deallocate"), "{applied}");
    let back = ["credit-note", "deallocate", "D-1", "C-1", "--from", "F-1", "--reason", "of another order"];
    let text = saldo.succeed(&back).await?;
    for word in ["Taken back:", "60.00 EUR", "40.00 EUR", "until `saldo credit-note allocate D-1 C-1`"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let again = refused(&saldo, &back).await?;
    assert!(again.contains("C-1 is not applied to invoice F-1"), "{again}");
    let today = read(&saldo, &["credit-note", "show", "D-1", "C-1"]).await?;
    assert_eq!((today["unapplied_minor"].as_i64(), today["invoice"].as_str()), (Some(10_000), Some("F-1")));
    let yesterday = ["invoice", "void", "D-1", "F-1", "--on", "2026-02-01"];
    let voided = saldo.succeed(&yesterday).await?;
    assert!(voided.contains("is voided from ") && !voided.contains("2026-02-01"), "not before it was free: {voided}");
    assert_eq!(saldo.verify().await?["differences"].as_u64(), Some(0));
    saldo.stop().await
}

/// Credit that is applied by itself, and the day that counts, are told where they come about.
pub async fn told(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    owing(&saldo).await?;
    saldo.succeed(&["payment", "record", "D-1", "P-1", "140 EUR", "--value-date", "2026-02-10"]).await?;
    let kept = saldo.succeed(&["payment", "record", "D-1", "P-2", "50 EUR", "--value-date", "2026-02-11"]).await?;
    assert!(kept.contains("50.00 EUR of it is unapplied; `saldo payment allocate D-1 P-2` applies it"), "{kept}");
    let back = saldo.succeed(&["payment", "deallocate", "D-1", "P-1", "--from", "F-2"]).await?;
    let (taken, by_itself) = back.split_once("applied by itself:").ok_or("nothing applied by itself")?;
    assert!(taken.contains("Taken back:") && taken.contains("40.00 EUR"), "{back}");
    assert!(by_itself.contains("P-2") && by_itself.contains("40.00 EUR"), "{back}");
    let today = read(&saldo, &["payment", "show", "D-1", "P-2"]).await?["as_of"].clone();
    let reversed = saldo.succeed(&["payment", "reverse", "D-1", "P-1", "--on", "2026-02-12"]).await?;
    let day = format!("is reversed from {} on", today.as_str().unwrap_or_default());
    assert!(reversed.contains(&day) && reversed.contains("taken back"), "{reversed}");

    // A hold of the past covers nothing, is said to, and does not stand as one.
    let hold = ["hold", "place", "D-1", "--id", "H-1", "--reason", "legal", "--until", "2026-01-31"];
    let placed = saldo.succeed(&hold).await?;
    assert!(placed.contains("its last day 2026-01-31 is past"), "{placed}");
    saldo.succeed(&["hold", "place", "D-1", "--id", "H-2", "--reason", "legal"]).await?;
    let holds = |shown: &Value| -> Vec<(String, String)> {
        let holds = shown["holds"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        holds.iter().map(|hold| (text(&hold["hold"]), text(&hold["state"]))).collect()
    };
    let listed = holds(&read(&saldo, &["hold", "list", "D-1"]).await?);
    assert_eq!(listed, [("H-1".into(), "ended".into()), ("H-2".into(), "stands".into())]);
    let now = holds(&read(&saldo, &["account", "show", "D-1"]).await?);
    assert_eq!(now, [("H-2".into(), "stands".into())]);
    let then = holds(&read(&saldo, &["account", "show", "D-1", "--as-of", "2026-01-31"]).await?);
    assert_eq!(then, [("H-1".into(), "stands".into()), ("H-2".into(), "stands".into())]);
    let outbox = saldo.succeed(&["outbox", "D-1"]).await?;
    assert!(outbox.contains("H-2") && !outbox.contains("H-1"), "{outbox}");
    let refused_by_flag = refused(
        &saldo,
        &["hold", "place", "D-1", "--reason", "legal", "--from", "2026-03-02", "--until", "2026-03-01"],
    )
    .await?;
    assert!(refused_by_flag.contains("--until: must not be before the first day"), "{refused_by_flag}");
    saldo.stop().await
}
