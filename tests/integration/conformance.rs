//! One suite over both adapters of the log.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
    client::DefaultClientContext,
};
use saldo_log::{
    AppendError, Log, LogError, NewRecord, READ_BYTES, Record,
    acceptor::{Acceptor, Verdict, VoidReason},
    embedded::EmbeddedLog,
    frame::{self, Kind, MAX_COMMIT_BYTES, partition_of},
    genesis::{self, Identity},
    kafka::{KafkaConfig, KafkaLog},
    keys::LogKeys,
    same::{Changed, Trust, until_changed},
};

use crate::{
    Failure, Outcome,
    env::{Env, eventually},
    kafka::Kafka,
};

const PARTITIONS: u32 = 4;

fn keys() -> LogKeys {
    LogKeys::fixed([3; 32])
}

pub async fn embedded(env: Arc<Env>) -> Outcome {
    let url = env.database().await?;
    let one = EmbeddedLog::connect(&url, "saldo.accounts").await?;
    let two = EmbeddedLog::connect(&url, "saldo.accounts").await?;
    suite(Arc::new(one), Arc::new(two)).await?;
    let elsewhere = EmbeddedLog::connect(&env.database().await?, "saldo.accounts").await?;
    absent_then_other(&elsewhere).await
}

pub async fn kafka(env: Arc<Env>) -> Outcome {
    let brokers = &env.kafka().await?.brokers;
    let topic = topic();
    let one = KafkaLog::connect(config(brokers, &topic)).await?;
    absent_then_other(&one).await?;
    let two = KafkaLog::connect(config(brokers, &topic)).await?;
    let (one, two) = (Arc::new(one), Arc::new(two));
    suite(one.clone(), two).await?;
    trace_beside_the_value(one.as_ref()).await
}

/// The trace that a record was written under comes back beside its value, which it is no part of.
async fn trace_beside_the_value(log: &dyn Log) -> Outcome {
    let identity = genesis::open(log, &keys()).await?;
    let trace: Box<str> = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into();
    let traced = NewRecord { trace: Some(trace.clone()), ..new(&identity, "acme/traced", b"value".to_vec()) };
    let from = log.end(traced.partition).await?;
    log.append(vec![traced.clone()]).await?;
    let read = read(log, traced.partition, from).await?.remove(0);
    assert_eq!((read.value, read.trace), (traced.value, Some(trace)));
    Ok(())
}

/// A new topic's name.
pub fn topic() -> String {
    format!("saldo.accounts.{}", uuid::Uuid::new_v4().simple())
}

fn config(brokers: &str, topic: &str) -> KafkaConfig {
    KafkaConfig { brokers: brokers.into(), topic: topic.into(), replication_factor: 1, allow_unsafe: true, tls: None }
}

async fn absent_then_other(log: &dyn Log) -> Outcome {
    assert!(
        matches!(genesis::open(log, &keys()).await, Err(LogError::Absent(_))),
        "a log that is not there is said to be absent"
    );
    genesis::create(log, PARTITIONS, &keys()).await?;
    Ok(())
}

async fn suite(one: Arc<dyn Log>, two: Arc<dyn Log>) -> Outcome {
    // Created by two at once, it is one log; created again, nothing changes.
    let keys = keys();
    let (a, b) = tokio::join!(
        genesis::create(one.as_ref(), PARTITIONS, &keys),
        genesis::create(two.as_ref(), PARTITIONS, &keys)
    );
    let identity = a?;
    let others =
        [b?, genesis::create(one.as_ref(), PARTITIONS, &keys).await?, genesis::open(two.as_ref(), &keys).await?];
    assert!(others.iter().all(|other| (other.log_id, other.partitions) == (identity.log_id, identity.partitions)));
    let foreign = genesis::open(two.as_ref(), &LogKeys::fixed([4; 32])).await;
    assert!(matches!(foreign, Err(LogError::NotALog { .. })), "the Genesis binds the first key: {foreign:?}");

    order_and_any_offset(one.as_ref(), &identity).await?;
    concurrent_writers(&one, &two, &identity).await?;
    what_counts(one.as_ref(), &identity).await?;
    oversize(one.as_ref(), &identity).await?;
    bounded_by_bytes(one.as_ref(), &identity).await?;
    resuming(one.as_ref(), &identity).await?;
    beyond_the_end(one.as_ref()).await
}

fn commit(key: &str, version: u64, parent: [u8; 32], payload: &[u8]) -> Vec<u8> {
    let (tenant, account) = key.split_once('/').expect("tenant/account");
    frame::encode(Kind::Commit, tenant, account, version, parent, payload, &keys())
}

fn new(identity: &Identity, key: &str, value: Vec<u8>) -> NewRecord {
    let partition = partition_of(key, identity.partitions);
    NewRecord { partition, key: Bytes::copy_from_slice(key.as_bytes()), value: value.into(), trace: None }
}

/// Everything a partition holds from an offset on.
pub async fn read(log: &dyn Log, partition: u32, from: u64) -> Result<Vec<Record>, Failure> {
    let end = log.end(partition).await?;
    let mut records = Vec::new();
    if from < end {
        let mut tail = log.tail(&[(partition, from)]).await?;
        while records.len() < (end - from) as usize {
            records.extend(tail.next(7).await?);
        }
    }
    Ok(records)
}

async fn order_and_any_offset(log: &dyn Log, identity: &Identity) -> Outcome {
    let key = "acme/order";
    let partition = partition_of(key, identity.partitions);
    let records = (0..50u8).map(|n| new(identity, key, vec![n])).collect();
    let start = log.end(partition).await?;
    log.append(records).await?;
    for skip in [0u64, 1, 25, 49] {
        let read = read(log, partition, start + skip).await?;
        let values: Vec<u8> = read.iter().map(|record| record.value[0]).collect();
        assert_eq!(values, (skip as u8..50).collect::<Vec<_>>(), "in order from any offset");
        assert!(read.iter().zip(start + skip..).all(|(record, offset)| record.offset == offset), "without gaps");
    }
    Ok(())
}

async fn concurrent_writers(one: &Arc<dyn Log>, two: &Arc<dyn Log>, identity: &Identity) -> Outcome {
    let keys: Vec<String> = (0..20).map(|n| format!("acme/concurrent-{n}")).collect();
    let before: u64 = total(one.as_ref(), identity).await?;
    let mut tasks = Vec::new();
    for (writer, log) in [(0u8, one), (1, two)] {
        for (n, key) in keys.iter().enumerate() {
            let log = log.clone();
            let records = (0..10u8).map(|i| new(identity, key, vec![writer, n as u8, i])).collect();
            tasks.push(tokio::spawn(async move { log.append(records).await }));
        }
    }
    for task in tasks {
        task.await??;
    }
    assert_eq!(total(one.as_ref(), identity).await? - before, 400, "each record once");
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    let mut last = std::collections::HashMap::new();
    for partition in 0..identity.partitions {
        for record in read(one.as_ref(), partition, 0).await?.iter().filter(|record| record.value.len() == 3) {
            assert!(seen.insert(record.value.to_vec()), "no record twice");
            let next = last.entry(record.value[..2].to_vec()).or_insert(0);
            assert_eq!(record.value[2], *next, "each writer's order is kept");
            *next += 1;
        }
    }
    assert_eq!(seen.len(), 400);
    Ok(())
}

async fn total(log: &dyn Log, identity: &Identity) -> Result<u64, Failure> {
    let mut total = 0;
    for partition in 0..identity.partitions {
        total += log.end(partition).await?;
    }
    Ok(total)
}

/// The first of a fork wins; a twin, a foreign or misplaced record is void; the chain goes on.
async fn what_counts(log: &dyn Log, identity: &Identity) -> Outcome {
    let key = "acme/forked";
    let partition = partition_of(key, identity.partitions);
    let start = log.end(partition).await?;
    let parent = frame::first_parent(&identity.log_id, key);
    let first = commit(key, 1, parent, b"first");
    let rival = commit(key, 1, parent, b"rival");
    let second = commit(key, 2, frame::hash(&first), b"second");
    let elsewhere = (0..).map(|n| format!("acme/elsewhere-{n}"));
    let elsewhere =
        elsewhere.into_iter().find(|key| partition_of(key, identity.partitions) != partition).ok_or("no key")?;
    let misplaced = commit(&elsewhere, 1, frame::first_parent(&identity.log_id, &elsewhere), b"");
    let genesis = read(log, partition, 0).await?.remove(0).value;
    let under = |key: &str, value: Vec<u8>| NewRecord {
        partition,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        trace: None,
    };
    log.append(vec![
        under(key, first.clone()),
        under(key, first.clone()),
        under(key, rival),
        under(key, b"not ours at all".to_vec()),
        under("acme/another", second.clone()),
        under(&elsewhere, misplaced),
        under("genesis", genesis.to_vec()),
        under("clock", second.clone()),
        under(key, commit(key, 3, frame::hash(&first), b"a version ahead")),
        under(key, second),
    ])
    .await?;
    let mut acceptor = Acceptor::new(identity, partition);
    let mut verdicts = Vec::new();
    for record in read(log, partition, 0).await? {
        let verdict = match acceptor.judge(&record)? {
            Verdict::Genesis | Verdict::Resumed => continue,
            Verdict::Accepted { frame, .. } => format!("accepted {}", String::from_utf8_lossy(frame.payload)),
            Verdict::Void(VoidReason::Malformed(_)) => "malformed".to_owned(),
            Verdict::Void(reason) => format!("{reason:?}"),
        };
        if record.offset >= start {
            verdicts.push(verdict);
        }
    }
    let expected = [
        "accepted first",
        "NotTheHead",
        "NotTheHead",
        "malformed",
        "OtherKey",
        "OtherPartition",
        "LateGenesis",
        "Probe",
        "NotTheHead",
        "accepted second",
    ];
    assert_eq!(verdicts, expected);
    Ok(())
}

async fn oversize(log: &dyn Log, identity: &Identity) -> Outcome {
    let before = total(log, identity).await?;
    let refused = log.append(vec![new(identity, "acme/large", vec![0; MAX_COMMIT_BYTES + 1])]).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    assert_eq!(total(log, identity).await?, before, "nothing was appended");
    log.append(vec![new(identity, "acme/large", vec![0; MAX_COMMIT_BYTES])]).await?;
    Ok(())
}

/// However many large records wait, a reader is given so many bytes of them at once.
async fn bounded_by_bytes(log: &dyn Log, identity: &Identity) -> Outcome {
    const RECORDS: usize = 30;
    let key = "acme/many-large";
    let partition = partition_of(key, identity.partitions);
    let from = log.end(partition).await?;
    for _ in 0..RECORDS {
        log.append(vec![new(identity, key, vec![0; MAX_COMMIT_BYTES])]).await?;
    }
    let mut tail = log.tail(&[(partition, from)]).await?;
    let mut read = 0;
    while read < RECORDS {
        let records = tail.next(5_000).await?;
        let bytes: usize = records.iter().map(|record| record.value.len()).sum();
        assert!(bytes < READ_BYTES + MAX_COMMIT_BYTES, "{bytes} bytes at once");
        read += records.len();
    }
    assert_eq!(read, RECORDS);
    Ok(())
}

/// A reader that resumes judges as one that never stopped; one that resumes elsewhere notices.
async fn resuming(log: &dyn Log, identity: &Identity) -> Outcome {
    let partition = partition_of("acme/forked", identity.partitions);
    let records = read(log, partition, 0).await?;
    let (before, after) = records.split_at(records.len() / 2);
    let mut whole = Acceptor::new(identity, partition);
    for record in before {
        whole.judge(record)?;
    }
    let position = whole.position().ok_or("a position")?;
    let heads = whole.heads().map(|(key, head)| (key.into(), head)).collect::<Vec<_>>();
    let mut resumed = Acceptor::resume(identity, partition, position, heads.clone());
    assert_eq!(resumed.start(), position.next - 1);
    assert_eq!(resumed.judge(&before[before.len() - 1])?, Verdict::Resumed);
    for record in after {
        assert_eq!(whole.judge(record)?, resumed.judge(record)?);
    }
    let mut other = before[before.len() - 1].clone();
    other.value = Bytes::from_static(b"another record");
    assert!(Acceptor::resume(identity, partition, position, heads).judge(&other).is_err(), "another record is noticed");
    let other_log = Identity { log_id: [9; 16], ..identity.clone() };
    assert!(Acceptor::new(&other_log, partition).judge(&records[0]).is_err(), "another log is noticed");
    Ok(())
}

async fn beyond_the_end(log: &dyn Log) -> Outcome {
    let end = log.end(0).await?;
    assert!(matches!(log.tail(&[(0, end + 1)]).await, Err(LogError::Cut { .. })), "a tail beyond the end is refused");
    Ok(())
}

pub async fn embedded_cut_off(env: Arc<Env>) -> Outcome {
    let url = env.database().await?;
    let log = EmbeddedLog::connect(&url, "saldo.accounts").await?;
    let identity = genesis::create(&log, 1, &keys()).await?;
    let mut admin = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await?;
    for round in 0..5u8 {
        sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .execute(&mut admin)
        .await?;
        let log = &log;
        eventually("an append after the connections were cut", || {
            let record = new(&identity, "acme/cut", vec![round]);
            async move { log.append(vec![record]).await.is_ok() }
        })
        .await?;
    }
    let values: Vec<u8> = read(&log, 0, 1).await?.iter().map(|record| record.value[0]).collect();
    for round in 0..5u8 {
        assert!(values.contains(&round), "an acknowledged record is there");
    }
    Ok(())
}

pub async fn embedded_regrown(env: Arc<Env>) -> Outcome {
    let url = env.database().await?;
    let log = EmbeddedLog::connect(&url, "saldo.accounts").await?;
    let identity = genesis::create(&log, 1, &keys()).await?;
    log.append((0..10u8).map(|n| new(&identity, "acme/cut", vec![n])).collect()).await?;
    let mut acceptor = Acceptor::new(&identity, 0);
    for record in read(&log, 0, 0).await? {
        acceptor.judge(&record)?;
    }
    let position = acceptor.position().ok_or("a position")?;
    let mut admin = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await?;
    sqlx::raw_sql(
        "DELETE FROM saldo_log.records WHERE record_offset >= 5;
         UPDATE saldo_log.partitions SET next_offset = 5",
    )
    .execute(&mut admin)
    .await?;
    let resumed = || Acceptor::resume(&identity, 0, position, []);
    let cut = log.tail(&[(0, resumed().start())]).await;
    assert!(matches!(cut, Err(LogError::Cut { .. })), "a log that ends earlier is refused");
    log.append((0..10u8).map(|n| new(&identity, "acme/cut", vec![100 + n])).collect()).await?;
    let record = read(&log, 0, resumed().start()).await?.remove(0);
    assert!(resumed().judge(&record).is_err(), "a log that regrew differently is refused");
    Ok(())
}

pub async fn kafka_broker_killed(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let broker = Kafka::start_own(dir.path().to_owned()).await?;
    let log = KafkaLog::connect(config(&broker.brokers, "saldo.accounts")).await?;
    let identity = genesis::create(&log, 1, &keys()).await?;
    let mut tail = log.tail(&[(0, 0)]).await?;
    log.append(vec![new(&identity, "acme/before", b"before".to_vec())]).await?;
    broker.kill();
    let during = log.append(vec![new(&identity, "acme/during", b"during".to_vec())]);
    broker.run().await?;
    // The producer delivers it after the broker's return, or says that it does not know.
    let during = during.await;
    assert!(matches!(during, Ok(()) | Err(AppendError::Unknown(_))), "{during:?}");
    log.append(vec![new(&identity, "acme/after", b"after".to_vec())]).await?;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|value: &Bytes| value != "after") {
        let records = tokio::time::timeout(std::time::Duration::from_secs(60), tail.next(100)).await??;
        seen.extend(records.into_iter().skip_while(|record| record.offset == 0).map(|record| record.value));
    }
    assert_eq!(seen.first().map(Bytes::as_ref), Some(&b"before"[..]), "what was acknowledged is there");
    let kept = seen.iter().filter(|value| *value == "during").count();
    assert!(kept == 1 || (kept == 0 && during.is_err()), "what was acknowledged is there once");
    Ok(())
}

/// A broker that comes back from a power cut with less than it had, and goes on from there.
pub async fn kafka_regrown(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let broker = Kafka::start_own(dir.path().to_owned()).await?;
    let log = KafkaLog::connect(config(&broker.brokers, "saldo.accounts")).await?;
    let identity = genesis::create(&log, 1, &keys()).await?;
    for n in 0..10u8 {
        log.append(vec![new(&identity, "acme/cut", vec![n])]).await?;
    }
    let mut acceptor = Acceptor::new(&identity, 0);
    for record in read(&log, 0, 0).await? {
        acceptor.judge(&record)?;
    }
    let position = acceptor.position().ok_or("a position")?;
    assert_eq!(position.next, 11);
    broker.kill();
    keep_batches(dir.path(), 6)?;
    broker.run().await?;
    let resumed = || Acceptor::resume(&identity, 0, position, []);
    let log = KafkaLog::connect(config(&broker.brokers, "saldo.accounts")).await?;
    assert_eq!(log.end(0).await?, 6, "the log is cut");
    let cut = log.tail(&[(0, resumed().start())]).await;
    assert!(matches!(cut, Err(LogError::Cut { .. })), "a log that ends earlier is refused");
    for n in 0..10u8 {
        log.append(vec![new(&identity, "acme/cut", vec![100 + n])]).await?;
    }
    let record = read(&log, 0, resumed().start()).await?.remove(0);
    assert!(resumed().judge(&record).is_err(), "a log that regrew differently is refused");
    Ok(())
}

/// A broker that comes back with an older log is noticed by a process that waits for no record, with the true offsets.
pub async fn o4_kafka_older_log(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let broker = Kafka::start_own(dir.path().to_owned()).await?;
    let log = KafkaLog::connect(config(&broker.brokers, "saldo.accounts")).await?;
    let identity = genesis::create(&log, 1, &keys()).await?;
    for n in 0..10u8 {
        log.append(vec![new(&identity, "acme/cut", vec![n])]).await?;
    }
    let (trust, (seen, mut positions)) = (Trust::default(), tokio::sync::watch::channel(Vec::new()));
    let restored = async {
        positions.wait_for(|seen| !seen.is_empty()).await?;
        broker.kill();
        keep_batches(dir.path(), 6)?;
        broker.run().await?;
        std::future::pending::<Outcome>().await
    };
    let changed = tokio::select! {
        changed = until_changed(&log, &identity, &trust, &seen) => changed,
        failed = restored => return failed,
        () = tokio::time::sleep(std::time::Duration::from_secs(120)) => return Err("nothing was noticed".into()),
    };
    let topic = "saldo.accounts".to_owned();
    assert_eq!(changed, Changed::WentBack { topic, partition: 0, end: 6, reached: 11 });
    Ok(())
}

/// Records that somebody deletes are missed by whoever reads there, and the error says where.
pub async fn kafka_deleted(env: Arc<Env>) -> Outcome {
    let (brokers, topic) = (&env.kafka().await?.brokers, topic());
    let log = KafkaLog::connect(config(brokers, &topic)).await?;
    let identity = genesis::create(&log, 2, &keys()).await?;
    let key = (0..).map(|n| format!("acme/D-{n}")).find(|key| partition_of(key, 2) == 1).ok_or("no key")?;
    log.append((0..5u8).map(|n| new(&identity, &key, vec![n])).collect()).await?;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let mut deleted = TopicPartitionList::new();
    deleted.add_partition_offset(&topic, 1, Offset::Offset(3))?;
    admin.delete_records(&deleted, &AdminOptions::new()).await?;
    let mut tail = log.tail(&[(0, 0), (1, 2)]).await?;
    let error = loop {
        match tokio::time::timeout(std::time::Duration::from_secs(60), tail.next(100)).await? {
            Ok(records) => assert!(records.iter().all(|record| record.partition == 0)),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, LogError::Cut { partition: 1, offset: 2, .. }), "{error}");
    Ok(())
}

/// Cuts the topic's only segment behind its first batches. A batch begins with its base offset (8 bytes) and the length
/// of what follows (4 bytes): Kafka's protocol guide, "Record Batch".
fn keep_batches(broker: &std::path::Path, batches: usize) -> Outcome {
    let mut folders = vec![broker.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("saldo.accounts-0/00000000000000000000.log") {
                let bytes = std::fs::read(&path)?;
                let mut at = 0;
                for _ in 0..batches {
                    let length = bytes.get(at + 8..at + 12).ok_or("fewer batches than expected")?;
                    at += 12 + u32::from_be_bytes(length.try_into()?) as usize;
                }
                assert!(at < bytes.len(), "there is something to cut");
                std::fs::OpenOptions::new().write(true).open(&path)?.set_len(at as u64)?;
                return Ok(());
            }
        }
    }
    Err("the topic's segment was not found".into())
}

pub async fn kafka_unsafe(env: Arc<Env>) -> Outcome {
    let brokers = &env.kafka().await?.brokers;
    let topic = topic();
    genesis::create(&KafkaLog::connect(config(brokers, &topic)).await?, 1, &keys()).await?;
    let refused = KafkaLog::connect(KafkaConfig { allow_unsafe: false, ..config(brokers, &topic) }).await;
    let Err(LogError::Unsafe { faults, .. }) = refused else { return Err("an unsafe topic was taken".into()) };
    let faults = faults.join("; ");
    assert!(faults.contains("replication factor is 1") && faults.contains("min.insync.replicas"), "{faults}");
    // Each setting that durability rests on, made wrong in a topic of its own.
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    for (setting, value) in [
        ("unclean.leader.election.enable", "true"),
        ("cleanup.policy", "compact"),
        ("retention.ms", "604800000"),
        ("retention.bytes", "1000000000"),
        ("message.timestamp.type", "CreateTime"),
        ("max.message.bytes", "1000"),
    ] {
        let topic = crate::conformance::topic();
        genesis::create(&KafkaLog::connect(config(brokers, &topic)).await?, 1, &keys()).await?;
        let change = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set(setting, value);
        for altered in admin.alter_configs([&change], &AdminOptions::new()).await? {
            altered.map_err(|(_, code)| format!("{setting}: {code}"))?;
        }
        eventually(&format!("{setting} is named"), || {
            let config = KafkaConfig { allow_unsafe: false, ..config(brokers, &topic) };
            async move {
                let refused = KafkaLog::connect(config).await.map(|_| ());
                matches!(refused, Err(LogError::Unsafe { faults, .. }) if faults.iter().any(|fault| fault.starts_with(setting)))
            }
        })
        .await?;
    }
    Ok(())
}

/// Kafka is in reach, and has fewer brokers than the topic is to have replicas.
pub async fn o13_more_replicas_than_brokers(env: Arc<Env>) -> Outcome {
    let brokers = &env.kafka().await?.brokers;
    let config = KafkaConfig { replication_factor: 100, allow_unsafe: false, ..config(brokers, &topic()) };
    let refused = KafkaLog::connect(config).await?.create(1).await.expect_err("nobody has 100 brokers");
    assert!(matches!(refused, LogError::TooFewBrokers { replicas: 100, .. }), "{refused}");
    assert!(refused.to_string().contains("log.replication_factor is 100"), "{refused}");
    Ok(())
}

pub async fn kafka_other_log(env: Arc<Env>) -> Outcome {
    let brokers = &env.kafka().await?.brokers;
    let (old, new_topic) = (topic(), topic());
    let old = genesis::create(&KafkaLog::connect(config(brokers, &old)).await?, 1, &keys()).await?;
    let log = KafkaLog::connect(config(brokers, &new_topic)).await?;
    let other = genesis::create(&log, 1, &keys()).await?;
    assert_ne!(old.log_id, other.log_id);
    let record = read(&log, 0, 0).await?.remove(0);
    assert!(Acceptor::new(&old, 0).judge(&record).is_err(), "a topic made anew is another log");
    Ok(())
}
