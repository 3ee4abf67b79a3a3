//! The command service over gRPC, and what the log says of its answers.

use std::{sync::Arc, time::Duration};

use jiff::tz::TimeZone;
use saldo::client::{Clients, StatusDetails};
use saldo_api::{FieldMask, v1};
use saldo_clock::Clock;
use saldo_facts::{ConsistencyToken, date_to_api};
use saldo_log::{
    Log, NewRecord,
    acceptor::Acceptor,
    frame::{self, Kind, partition_of},
    genesis,
    kafka::{KafkaConfig, KafkaLog},
    keys::LogKeys,
};
use tonic::{Code, Status};

use crate::{
    Failure, Outcome, conformance,
    env::Env,
    process::{Saldo, embedded_log},
    the_log,
};

pub fn date(year: i32, month: i32, day: i32) -> Option<v1::Date> {
    Some(v1::Date { year, month, day })
}

pub fn eur(minor_units: i64) -> Option<v1::Money> {
    Some(v1::Money { minor_units, currency: "EUR".into() })
}

pub fn open(id: &str, account: &str) -> v1::OpenAccountRequest {
    v1::OpenAccountRequest {
        request_id: id.into(),
        account_id: account.into(),
        profile: Some(v1::Profile {
            display_name: "Ana Gil".into(),
            kind: v1::DebtorKind::Business.into(),
            language: "es".into(),
            time_zone: "Europe/Madrid".into(),
            country: "ES".into(),
            contact_points: vec![v1::ContactPoint {
                channel: v1::Channel::Email.into(),
                address: "ana@example.com".into(),
            }],
        }),
    }
}

pub fn invoice(id: &str, account: &str, number: &str, minor: i64) -> v1::IssueInvoiceRequest {
    v1::IssueInvoiceRequest {
        request_id: id.into(),
        account_id: account.into(),
        number: number.into(),
        total: eur(minor),
        issue_date: date(2026, 1, 1),
        due_date: date(2026, 1, 31),
        ..Default::default()
    }
}

pub fn payment(id: &str, account: &str, reference: &str, minor: i64) -> v1::RecordPaymentRequest {
    v1::RecordPaymentRequest {
        request_id: id.into(),
        account_id: account.into(),
        reference: reference.into(),
        amount: eur(minor),
        value_date: date(2026, 2, 10),
        ..Default::default()
    }
}

pub fn reason(status: &Status) -> String {
    StatusDetails::of(status).reason
}

pub async fn life_of_an_account(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let mut clients = saldo.clients().await?;
    let command = &mut clients.command;
    let unknown = command.issue_invoice(invoice("0", "D-1", "F-1", 10_000)).await.expect_err("no account yet");
    assert_eq!((unknown.code(), reason(&unknown)), (Code::NotFound, "ACCOUNT_UNKNOWN".into()));
    command.open_account(open("1", "D-1")).await?;
    let mut in_parts = invoice("2", "D-1", "F-1", 10_000);
    in_parts.due_date = None;
    in_parts.instalments = vec![
        v1::Instalment { due_date: date(2026, 1, 31), amount_minor: 3_000 },
        v1::Instalment { due_date: date(2026, 2, 28), amount_minor: 5_000 },
        v1::Instalment { due_date: date(2026, 3, 31), amount_minor: 2_000 },
    ];
    command.issue_invoice(in_parts).await?;
    // 100 as 30, 50 and 20, paid 40: 40 and 20 are open.
    let paid = command.record_payment(payment("3", "D-1", "P-1", 4_000)).await?.into_inner();
    let parts: Vec<(u32, i64)> = paid.allocations.iter().map(|line| (line.instalment, line.amount_minor)).collect();
    assert_eq!(parts, [(1, 3_000), (2, 1_000)]);
    let request = v1::ListOpenItemsRequest {
        account_id: "D-1".into(),
        consistency_token: paid.consistency_token,
        ..Default::default()
    };
    let items = clients.query.list_open_items(request).await?.into_inner().items;
    assert_eq!(items.iter().map(|item| item.open_minor).collect::<Vec<_>>(), [4_000, 2_000]);

    let command = &mut clients.command;
    let reversal = v1::ReversePaymentRequest {
        request_id: "4".into(),
        account_id: "D-1".into(),
        reference: "P-1".into(),
        reversal_date: date(2026, 2, 12),
        reason: "bounced".into(),
    };
    let reversed = command.reverse_payment(reversal.clone()).await?.into_inner();
    let again = v1::ReversePaymentRequest { request_id: "5".into(), ..reversal };
    let refused = command.reverse_payment(again).await.expect_err("reversed already");
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "PAYMENT_ALREADY_REVERSED".into()));
    let request = v1::ListOpenItemsRequest {
        account_id: "D-1".into(),
        consistency_token: reversed.consistency_token,
        ..Default::default()
    };
    let items = clients.query.list_open_items(request).await?.into_inner().items;
    assert_eq!(items.iter().map(|item| item.open_minor).collect::<Vec<_>>(), [3_000, 5_000, 2_000]);

    let who = v1::GetAccountRequest { account_id: "D-1".into(), ..Default::default() };
    let who = clients.query.get_account(who).await?.into_inner();
    assert_eq!((who.display_name.as_str(), who.contact_points[0].address.as_str()), ("Ana Gil", "ana@example.com"));
    let replayed = saldo.succeed(&["replay", "acme/D-1", "--json"]).await?;
    assert!(!replayed.contains("Ana Gil") && replayed.contains("PAYMENT_ALREADY_REVERSED"), "{replayed}");
    let report = saldo.verify().await?;
    assert_eq!((report["differences"].as_u64(), report["accounts"].as_u64()), (Some(0), Some(1)), "{report}");
    saldo.stop().await
}

/// The open items after each correction, and the bytes in the log: nothing personal in the clear.
pub async fn corrections(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let mut clients = saldo.clients().await?;
    let account_id = || "D-1".to_owned();
    let command = &mut clients.command;
    command.open_account(open("1", "D-1")).await?;
    command.issue_invoice(invoice("2", "D-1", "F-1", 10_000)).await?;
    command.issue_invoice(invoice("3", "D-1", "F-2", 5_000)).await?;
    let credit = v1::CreditInvoiceRequest {
        request_id: "4".into(),
        account_id: account_id(),
        credit_note_number: "C-1".into(),
        invoice_number: "F-1".into(),
        amount: eur(2_500),
        credit_date: date(2026, 1, 15),
        reason: "damaged goods".into(),
    };
    command.credit_invoice(credit.clone()).await?;
    let twice = v1::CreditInvoiceRequest { request_id: "5".into(), ..credit };
    let twice = command.credit_invoice(twice).await.expect_err("the number is taken");
    assert_eq!((twice.code(), reason(&twice)), (Code::AlreadyExists, "CREDIT_NOTE_NUMBER_TAKEN".into()));
    // Paid before the invoice it is for: unapplied at first, applied when the invoice comes, taken back, and then designated.
    command.record_payment(payment("6", "D-1", "P-1", 20_000)).await?;
    let applied = command.issue_invoice(invoice("7", "D-1", "F-3", 6_000)).await?.into_inner().allocations;
    assert_eq!(applied.iter().map(|line| line.amount_minor).collect::<Vec<_>>(), [6_000]);
    let deallocated = v1::DeallocatePaymentRequest {
        request_id: "7b".into(),
        account_id: account_id(),
        reference: "P-1".into(),
        items: vec![v1::AllocatedItem { invoice_number: "F-3".into(), instalment: None }],
        deallocation_date: None,
        reason: "of another order".into(),
    };
    command.deallocate_payment(deallocated).await?;
    let designated = v1::AllocatePaymentRequest {
        request_id: "8".into(),
        account_id: account_id(),
        reference: "P-1".into(),
        allocations: vec![v1::Allocation { invoice_number: "F-3".into(), amount_minor: 4_000, ..Default::default() }],
        allocation_date: None,
    };
    let over = v1::AllocatePaymentRequest {
        request_id: "9".into(),
        allocations: vec![v1::Allocation { invoice_number: "F-3".into(), amount_minor: 6_001, ..Default::default() }],
        ..designated.clone()
    };
    let over = command.allocate_payment(over).await.expect_err("more than is open");
    assert_eq!((over.code(), reason(&over)), (Code::FailedPrecondition, "OVER_ALLOCATION".into()));
    command.issue_invoice(invoice("10", "D-1", "F-4", 100)).await?;
    let void = v1::VoidInvoiceRequest {
        request_id: "11".into(),
        account_id: account_id(),
        invoice_number: "F-4".into(),
        void_date: date(2026, 3, 1),
        reason: "sent to the wrong debtor".into(),
    };
    let in_a_year = v1::VoidInvoiceRequest { request_id: "12".into(), void_date: date(2199, 3, 1), ..void.clone() };
    let in_a_year = command.void_invoice(in_a_year).await.expect_err("a slip of the pen");
    assert_eq!((in_a_year.code(), reason(&in_a_year)), (Code::FailedPrecondition, "DATE_IN_FUTURE".into()));
    command.void_invoice(void).await?;
    command.allocate_payment(designated).await?;
    let refund = v1::RefundCreditRequest {
        request_id: "13".into(),
        account_id: account_id(),
        reference: "R-1".into(),
        credit: Some(v1::refund_credit_request::Credit::PaymentReference("P-1".into())),
        amount: eur(500),
        // Not before the day on which the money was taken back from F-3.
        refund_date: Some(date_to_api(Clock::system().now().to_zoned(TimeZone::UTC).date())),
        reason: "paid twice".into(),
    };
    let refunded = command.refund_credit(refund.clone()).await?.into_inner();
    let again = v1::RefundCreditRequest { request_id: "14".into(), ..refund };
    let again = command.refund_credit(again).await.expect_err("its reference is taken");
    assert_eq!((again.code(), reason(&again)), (Code::AlreadyExists, "REFUND_REFERENCE_TAKEN".into()));
    // Paid were 7,500 and 5,000 of 20,000. F-3 got 4,000 more, and 500 were paid out, so 3,000 are unapplied.
    let request = v1::ListOpenItemsRequest {
        account_id: account_id(),
        consistency_token: refunded.consistency_token,
        ..Default::default()
    };
    let items = clients.query.list_open_items(request).await?.into_inner().items;
    let mut open: Vec<(String, i64)> = items.into_iter().map(|item| (item.document, item.open_minor)).collect();
    open.sort();
    assert_eq!(open, [("F-3".to_owned(), 2_000), ("P-1".to_owned(), -3_000)]);
    let report = saldo.verify().await?;
    assert_eq!((report["differences"].as_u64(), report["behind"].as_u64()), (Some(0), Some(0)), "{report}");

    let log = embedded_log(&saldo.config).await?;
    let mut commits = 0;
    for partition in 0..log.partition_count().await?.ok_or("no log")? {
        let (end, mut next) = (log.end(partition).await?, 0);
        let mut tail = log.tail(&[(partition, 0)]).await?;
        while next < end {
            for record in tail.next(1_000).await? {
                next = record.offset + 1;
                commits += 1;
                for personal in
                    ["Ana Gil", "ana@example.com", "damaged goods", "wrong debtor", "another order", "paid twice"]
                {
                    let found = record.value.windows(personal.len()).any(|bytes| bytes == personal.as_bytes());
                    assert!(!found, "{personal:?} stands in the log in the clear");
                }
            }
        }
    }
    assert!(commits > 10, "the log was read");
    Ok(())
}

pub async fn request_ids(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let mut saldo = Saldo::start(dir.path(), &[]).await?;
    let mut clients = saldo.clients().await?;
    let first = clients.command.open_account(open("1", "D-1")).await?.into_inner();
    clients.command.issue_invoice(invoice("2", "D-1", "F-1", 10_000)).await?;
    let twin = clients.command.issue_invoice(invoice("3", "D-1", "F-1", 10_000)).await.expect_err("number taken");
    assert_eq!((twin.code(), reason(&twin)), (Code::AlreadyExists, "INVOICE_NUMBER_TAKEN".into()));
    assert_eq!(StatusDetails::of(&twin).details["same_content"], "true");
    // Before and after a crash, answers and refusals are given again, and other content is refused.
    for round in 0..2 {
        let again = clients.command.open_account(open("1", "D-1")).await?.into_inner();
        assert!(again.replayed && !first.replayed);
        assert_eq!((again.version, &again.consistency_token), (first.version, &first.consistency_token));
        let twin = clients.command.issue_invoice(invoice("3", "D-1", "F-1", 10_000)).await.expect_err("the same no");
        assert_eq!(StatusDetails::of(&twin).details["replayed"], "true");
        let reused = clients.command.issue_invoice(invoice("2", "D-1", "F-1", 9_999)).await.expect_err("other content");
        assert_eq!((reused.code(), reason(&reused)), (Code::AlreadyExists, "REQUEST_ID_REUSED".into()));
        if round == 0 {
            saldo.kill()?;
            // The local store is disposable.
            std::fs::remove_dir_all(dir.path().join("command"))?;
            saldo = Saldo::start(dir.path(), &[]).await?;
            clients = saldo.clients().await?;
        }
    }
    // After 30 days of the account's own time an id is free again; what moves money stays known for ever.
    saldo.stop().await?;
    let saldo = Saldo::start(dir.path(), &["--clock-ahead", "719h"]).await?;
    let reused = saldo.clients().await?.command.issue_invoice(invoice("2", "D-1", "F-9", 1)).await;
    assert_eq!(reason(&reused.expect_err("remembered")), "REQUEST_ID_REUSED");
    saldo.stop().await?;
    let saldo = Saldo::start(dir.path(), &["--clock-ahead", "721h"]).await?;
    let mut clients = saldo.clients().await?;
    let fresh = clients.command.issue_invoice(invoice("2", "D-1", "F-9", 1)).await?.into_inner();
    assert!(!fresh.replayed);
    let twin = clients.command.issue_invoice(invoice("10", "D-1", "F-1", 10_000)).await.expect_err("number taken");
    assert_eq!(reason(&twin), "INVOICE_NUMBER_TAKEN");
    Ok(())
}

pub async fn amended_and_advanced(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let mut clients = saldo.clients().await?;
    clients.command.open_account(open("1", "D-1")).await?;
    let request = v1::AmendAccountRequest {
        request_id: "2".into(),
        account_id: "D-1".into(),
        profile: Some(v1::Profile { display_name: "Ana Ruiz".into(), language: "en".into(), ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["display_name".into(), "contact_points".into()] }),
        ..Default::default()
    };
    let amended = clients.command.amend_account(request).await?.into_inner();
    let who = v1::GetAccountRequest { account_id: "D-1".into(), consistency_token: amended.consistency_token };
    let who = clients.query.get_account(who).await?.into_inner();
    assert_eq!((who.display_name.as_str(), who.language.as_str()), ("Ana Ruiz", "es"), "only what the mask names");
    assert!(who.contact_points.is_empty(), "the list is replaced whole");
    let before = saldo.verify().await?["records"].clone();
    let request = v1::AdvanceTimeRequest { request_id: "3".into(), account_id: "D-1".into() };
    let advanced = clients.command.advance_time(request).await?.into_inner();
    assert_eq!((advanced.version, advanced.consistency_token.as_str()), (2, ""));
    assert_eq!(saldo.verify().await?["records"], before, "with nothing due, nothing is appended");
    Ok(())
}

/// With room for one, most of a crowd is sent away at once, told when to come back, and gets in then.
pub async fn full_queue(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start_with(dir.path(), &[], &[("SALDO__QUEUE", "1")]).await?;
    let clients = saldo.clients().await?;
    clients.clone().command.open_account(open("0", "D-1")).await?;
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..200 {
        let mut clients = clients.clone();
        asked.spawn(async move {
            let mut sent_away = 0;
            loop {
                match clients.command.issue_invoice(invoice(&format!("r-{n}"), "D-1", &format!("F-{n}"), 100)).await {
                    Ok(_) => return Ok(sent_away),
                    Err(status) if status.code() == Code::ResourceExhausted => {
                        let said = StatusDetails::of(&status);
                        assert_eq!(said.reason, "QUEUE_FULL");
                        sent_away += 1;
                        tokio::time::sleep(said.retry_after.expect("RetryInfo")).await;
                    }
                    Err(status) => return Err(status),
                }
            }
        });
    }
    let mut sent_away = 0;
    while let Some(answer) = asked.join_next().await {
        sent_away += answer??;
    }
    assert!(sent_away > 0, "the queue was full at least once");
    let report = saldo.verify().await?;
    assert_eq!((report["accepted"].as_u64(), report["differences"].as_u64()), (Some(201), Some(0)), "{report}");
    Ok(())
}

/// Both instances are sent the same requests at once. The log must agree with every answer of each instance.
pub async fn two_instances(env: Arc<Env>) -> Outcome {
    let brokers = env.kafka().await?.brokers.clone();
    let topic = conformance::topic();
    let database = env.database().await?;
    let keys = tempfile::tempdir()?;
    let keys = keys.path().display().to_string();
    let args = ["--kafka", &brokers, "--topic", &topic, "--database-url", &database, "--keyring-dir", &keys];
    let (one_dir, two_dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let one = Saldo::start(one_dir.path(), &args).await?;
    let two = Saldo::start(two_dir.path(), &args).await?;
    let (one_clients, two_clients) = (one.clients().await?, two.clients().await?);
    let accounts: Vec<String> = (0..4).map(|n| format!("D-{n}")).collect();
    for account in &accounts {
        one_clients.clone().command.open_account(open("open", account)).await?;
    }
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..60 {
        for account in &accounts {
            for clients in [&one_clients, &two_clients] {
                let (mut clients, account): (Clients, String) = (clients.clone(), account.clone());
                asked.spawn(async move {
                    let request = invoice(&format!("r-{n}"), &account, &format!("F-{n}"), 100 + n);
                    loop {
                        match clients.command.issue_invoice(request.clone()).await {
                            Err(status) if saldo::client::is_transient(&status) => {
                                tokio::time::sleep(Duration::from_millis(5)).await;
                            }
                            answer => return (account, n, answer.map(tonic::Response::into_inner)),
                        }
                    }
                });
            }
        }
    }
    let mut answers = Vec::new();
    while let Some(answer) = asked.join_next().await {
        answers.push(answer?);
    }
    let log =
        KafkaLog::connect(KafkaConfig { brokers, topic, replication_factor: 1, allow_unsafe: true, tls: None }).await?;
    let the_log = the_log::read(&log).await?;
    for account in &accounts {
        let chain = &the_log.chains[&format!("acme/{account}")];
        assert_eq!(chain.len(), 61, "the opening and each invoice once");
    }
    let mut first_answers = 0;
    for (account, n, answer) in answers {
        let answer: v1::CommandResponse = answer?;
        let token: ConsistencyToken = answer.consistency_token.parse()?;
        let (key, version) = &the_log.places[&(token.partition, token.offset)];
        assert_eq!((key, *version), (&format!("acme/{account}"), answer.version), "the answer stands in the log");
        let commit = &the_log.chains[key][*version as usize - 1];
        assert_eq!(commit.request_id, format!("r-{n}"));
        first_answers += u32::from(!answer.replayed);
    }
    assert_eq!(first_answers, 240, "each request was answered first by one instance only");
    println!("two instances: {} void records in the races", the_log.void);
    let report = one.verify().await?;
    assert_eq!(report["differences"].as_u64(), Some(0), "{report}");
    Ok(())
}

pub async fn newer_event(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let mut clients = saldo.clients().await?;
    for account in ["D-1", "D-2"] {
        clients.command.open_account(open("1", account)).await?;
    }
    let log = embedded_log(&saldo.config).await?;
    append_newer(&log, &saldo.log_keys(&log).await?, "acme/D-1").await?;
    let request = || v1::ListOpenItemsRequest { account_id: "D-1".into(), ..Default::default() };
    crate::env::eventually("the account parked", || {
        let mut clients = clients.clone();
        async move {
            clients.query.list_open_items(request()).await.is_err_and(|status| reason(&status) == "ACCOUNT_PARKED")
        }
    })
    .await?;
    // The command service may read the record later than the projector.
    let refused = clients.ask_patiently(invoice("2", "D-1", "F-1", 1)).await.expect_err("parked");
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "ACCOUNT_PARKED".into()));
    clients.command.issue_invoice(invoice("2", "D-2", "F-1", 1)).await?;
    let totals = clients.query.get_aging(v1::GetAgingRequest::default()).await?.into_inner();
    assert_eq!(totals.parked_accounts, 1, "totals say that they are incomplete");
    let report = saldo.verify().await?;
    assert_eq!((report["differences"].as_u64(), report["parked"].as_u64()), (Some(0), Some(1)), "{report}");
    Ok(())
}

/// A record that a newer release could write: a valid link of the chain with an event version that this release does not know.
async fn append_newer(log: &dyn Log, keys: &LogKeys, key: &str) -> Result<(), Failure> {
    use prost::Message;
    let identity = genesis::open(log, keys).await?;
    let partition = partition_of(key, identity.partitions);
    let mut acceptor = Acceptor::new(&identity, partition);
    for record in conformance::read(log, partition, 0).await? {
        acceptor.judge(&record)?;
    }
    let head = acceptor.head(key);
    let event = v1::Event { r#type: "invoice.issued".into(), version: 99, body: Vec::new() };
    let payload = v1::CommitPayload {
        request_id: "from-the-future".into(),
        fingerprint: vec![0; 32],
        recorded_at: Some(saldo_api::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        events: vec![event],
        ..Default::default()
    };
    let (tenant, account) = key.split_once('/').ok_or("key")?;
    let value =
        frame::encode(Kind::Commit, tenant, account, head.version + 1, head.hash, &payload.encode_to_vec(), keys);
    log.append(vec![NewRecord { partition, key: key.to_owned().into(), value: value.into(), trace: None }]).await?;
    Ok(())
}
