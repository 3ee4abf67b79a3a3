//! Somebody who can read and write the topics, and has no key of the log.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use prost::Message;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use saldo_api::v1;
use saldo_clock::Clock;
use saldo_log::{
    Log, NewRecord,
    frame::{Frame, partition_of},
    kafka::{KafkaConfig, KafkaLog},
    keys::{self, LogKeys},
};

use crate::{
    Failure, Outcome,
    commands::{date, invoice, open},
    conformance,
    env::Env,
    process::{Saldo, embedded_log},
    the_log::{self, TheLog},
};

const KEY: &str = "acme/D-1";

/// The outsider has everything that stands in the topic: the head, the layout, and an authenticator to copy.
async fn append(log: &dyn Log, read: &TheLog, version: u64, event: v1::Event) -> Outcome {
    let (head, newest) = read.heads.get(KEY).ok_or("no account")?;
    let mut commit = read.chains.get(KEY).and_then(|chain| chain.last()).ok_or("no commit")?.clone();
    commit.request_id = "forged".into();
    commit.events = vec![event];
    let payload = commit.encode_to_vec();
    let mut value = [&b"SALD\x02\x01\x04acme\x03D-1"[..], &(newest + version).to_be_bytes(), head].concat();
    value.extend((payload.len() as u32).to_be_bytes());
    value.extend(payload);
    let partition = partition_of(KEY, log.partition_count().await?.ok_or("no log")?);
    let records = conformance::read(log, partition, 0).await?;
    let last = records.iter().rev().find(|record| record.key == KEY).ok_or("no record")?;
    value.extend(&last.value[last.value.len() - 36..]);
    let record = NewRecord { partition, key: KEY.into(), value: value.into(), trace: None };
    Ok(log.append(vec![record]).await?)
}

async fn open_minor(saldo: &Saldo, consistency_token: String) -> Result<i64, Failure> {
    let request = v1::ListOpenItemsRequest { account_id: "D-1".into(), consistency_token, ..Default::default() };
    let items = saldo.clients().await?.query.list_open_items(request).await?.into_inner().items;
    Ok(items.iter().map(|item| item.open_minor).sum())
}

pub async fn payment_by_an_outsider(env: Arc<Env>) -> Outcome {
    let brokers = env.kafka().await?.brokers.clone();
    let (topic, database, dir) = (conformance::topic(), env.database().await?, tempfile::tempdir()?);
    let saldo =
        Saldo::start(dir.path(), &["--kafka", &brokers, "--topic", &topic, "--database-url", &database]).await?;
    let mut clients = saldo.clients().await?;
    clients.command.open_account(open("1", "D-1")).await?;
    clients.command.issue_invoice(invoice("2", "D-1", "F-1", 1_000)).await?;

    let log =
        KafkaLog::connect(KafkaConfig { brokers, topic, replication_factor: 1, allow_unsafe: true, tls: None }).await?;
    let read = the_log::read(&log).await?;
    let payment = v1::PaymentRecorded {
        reference: "P-1".into(),
        currency: "EUR".into(),
        amount_minor: 1_000,
        value_date: date(2026, 2, 10),
        ..Default::default()
    };
    let stored = |kind: &str, body: Vec<u8>| v1::Event { r#type: kind.into(), version: 1, body };
    append(&log, &read, 1, stored("payment.recorded", payment.encode_to_vec())).await?;
    // A payload that no release can read would park the account.
    append(&log, &read, 1, stored("invoice.issued", b"garbage".to_vec())).await?;

    let answer = clients.command.issue_invoice(invoice("3", "D-1", "F-2", 50)).await?.into_inner();
    assert_eq!(answer.version, 3, "later commands stand on what counts");
    assert_eq!(open_minor(&saldo, answer.consistency_token).await?, 1_050);
    let report = saldo.verify().await?;
    assert_eq!((report["differences"].as_u64(), report["parked"].as_u64()), (Some(0), Some(0)), "{report}");
    let void = report["void"].as_object().ok_or("no void records")?;
    let forged = void.iter().find(|(reason, _)| reason.starts_with("forged")).map(|(_, count)| count.as_u64());
    assert_eq!(forged, Some(Some(2)), "{report}");
    Ok(())
}

/// A key that was added is used without a restart, and what was written under the key before still counts.
pub async fn rotated_key(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start_with(dir.path(), &[], &[("SALDO__LOG__PARTITIONS", "1")]).await?;
    let mut clients = saldo.clients().await?;
    clients.command.open_account(open("1", "D-1")).await?;
    // As if it had been added some minutes ago, since writers take their time.
    let begins = Clock::system().now().checked_sub(SignedDuration::from_mins(5))?;
    assert_eq!(LogKeys::rotate(&dir.path().join("keyring").join(keys::FILE), begins)?, 2);
    let log = embedded_log(&saldo.config).await?;
    let mut invoices = 0;
    loop {
        invoices += 1;
        let number = format!("F-{invoices}");
        clients.command.issue_invoice(invoice(&number, "D-1", &number, 100)).await?;
        let last = conformance::read(&log, 0, log.end(0).await? - 1).await?.remove(0);
        if Frame::parse(&last.value)?.key_number == 2 {
            break;
        }
    }
    let said = saldo.succeed(&["log", "rotate-key"]).await?;
    assert!(said.contains("key 3 was added"), "{said}");
    let answer = clients.command.issue_invoice(invoice("last", "D-1", "last", 100)).await?.into_inner();
    assert_eq!(open_minor(&saldo, answer.consistency_token).await?, 100 * (invoices + 1));
    let report = saldo.verify().await?;
    assert_eq!((report["differences"].as_u64(), report["foreign"].as_u64()), (Some(0), Some(0)), "{report}");
    Ok(())
}

/// Somebody writes a record in a transaction of Kafka, and commits or aborts it. Either leaves a marker behind the record.
async fn transaction(brokers: &str, topic: &str, commit: bool) -> Outcome {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    let written = tokio::task::spawn_blocking(move || {
        let patience = Duration::from_secs(20);
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("transactional.id", uuid::Uuid::new_v4().to_string())
            .create()?;
        producer.init_transactions(patience)?;
        producer.begin_transaction()?;
        let record = BaseRecord::to(&topic).partition(0).key("acme/D-1").payload("garbage");
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(patience)?;
        match commit {
            true => producer.commit_transaction(patience),
            false => producer.abort_transaction(patience),
        }
    });
    Ok(written.await??)
}

/// Kafka gives no record for a marker, and counts it.
pub async fn markers_of_transactions(env: Arc<Env>) -> Outcome {
    let brokers = env.kafka().await?.brokers.clone();
    let (topic, database, dir) = (conformance::topic(), env.database().await?, tempfile::tempdir()?);
    let args = ["--kafka", &brokers, "--topic", &topic, "--database-url", &database];
    let partitions = [("SALDO__LOG__PARTITIONS", "1")];
    let saldo = Saldo::start_with(dir.path(), &args, &partitions).await?;
    saldo.clients().await?.command.open_account(open("1", "D-1")).await?;
    for (commit, account) in [(false, "D-2"), (true, "D-3")] {
        transaction(&brokers, &topic, commit).await?;
        transaction(&brokers, &format!("{topic}.catalog"), commit).await?;
        // A new account is decided on once the log was read to its end, and the marker is the end.
        let opened = saldo.clients().await?.command.open_account(open("1", account)).await?.into_inner();
        let request = v1::GetAccountRequest { account_id: account.into(), consistency_token: opened.consistency_token };
        saldo.clients().await?.query.get_account(request).await?;
        saldo.succeed(&["sending", if commit { "on" } else { "off" }]).await?;
    }
    transaction(&brokers, &topic, false).await?;
    let report = saldo.verify().await?;
    let count = |reason: &str| report["void"].as_object()?.iter().find(|(why, _)| why.starts_with(reason))?.1.as_u64();
    assert_eq!((count("a marker"), count("malformed")), (Some(3), Some(3)), "{report}");
    saldo.stop().await?;
    let saldo = Saldo::start_with(dir.path(), &args, &partitions).await?;
    saldo.clients().await?.command.issue_invoice(invoice("2", "D-1", "F-1", 100)).await?;
    assert_eq!(saldo.verify().await?["differences"].as_u64(), Some(0));
    Ok(())
}
