//! One suite over both adapters of the log.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use saldo_log::{
    AppendError, Log, LogError, NewRecord, READ_BYTES, Record,
    acceptor::{Acceptor, Verdict, VoidReason},
    embedded::EmbeddedLog,
    frame::{self, Kind, MAX_COMMIT_BYTES, partition_of},
    genesis::{self, Identity},
    kafka::{KafkaConfig, KafkaLog},
    keys::LogKeys,
};

use crate::{Failure, Outcome, env::Env};

const PARTITIONS: u32 = 4;

/// The keys of a log of these tests.
pub fn keys() -> LogKeys {
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

/// A topic of one replica.
pub fn config(brokers: &str, topic: &str) -> KafkaConfig {
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

/// A record of this key and value.
pub fn new(identity: &Identity, key: &str, value: Vec<u8>) -> NewRecord {
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
