//! Faults of each adapter of the log: connections that break, logs that are cut and regrown, topics with unsafe settings.

use std::sync::Arc;

use bytes::Bytes;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
    client::DefaultClientContext,
};
use saldo_log::{
    AppendError, Log, LogError,
    acceptor::{Acceptor, Position},
    embedded::EmbeddedLog,
    frame::partition_of,
    genesis::{self, Identity},
    kafka::{KafkaConfig, KafkaLog},
    same::{Changed, Trust, until_changed},
};

use crate::{
    Failure, Outcome,
    conformance::{config, keys, new, read, topic},
    env::{Env, eventually},
    kafka::Kafka,
};

/// Appends ten records, one by one: a batch is what an adapter may lose.
async fn append_ten(log: &dyn Log, identity: &Identity, first: u8) -> Outcome {
    for n in first..first + 10 {
        log.append(vec![new(identity, "acme/cut", vec![n])]).await?;
    }
    Ok(())
}

/// The position of a reader that has read partition 0.
async fn read_to_the_end(log: &dyn Log, identity: &Identity) -> Result<Position, Failure> {
    let mut acceptor = Acceptor::new(identity, 0);
    for record in read(log, 0, 0).await? {
        acceptor.judge(&record)?;
    }
    Ok(acceptor.position().ok_or("a position")?)
}

/// The reader at this position refuses the log that was cut, and also the log that grows again with other records.
async fn regrows(log: &dyn Log, identity: &Identity, position: Position) -> Outcome {
    let resumed = || Acceptor::resume(identity, 0, position, []);
    let cut = log.tail(&[(0, resumed().start())]).await.map(drop);
    assert!(matches!(cut, Err(LogError::Cut { .. })), "a log that ends earlier is refused");
    append_ten(log, identity, 100).await?;
    let record = read(log, 0, resumed().start()).await?.remove(0);
    assert!(resumed().judge(&record).is_err(), "a log that regrew differently is refused");
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
    append_ten(&log, &identity, 0).await?;
    let position = read_to_the_end(&log, &identity).await?;
    let mut admin = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await?;
    sqlx::raw_sql(
        "DELETE FROM saldo_log.records WHERE record_offset >= 5;
         UPDATE saldo_log.partitions SET next_offset = 5",
    )
    .execute(&mut admin)
    .await?;
    regrows(&log, &identity, position).await
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
    append_ten(&log, &identity, 0).await?;
    let position = read_to_the_end(&log, &identity).await?;
    assert_eq!(position.next, 11);
    broker.kill();
    keep_batches(dir.path(), 6)?;
    broker.run().await?;
    let log = KafkaLog::connect(config(&broker.brokers, "saldo.accounts")).await?;
    assert_eq!(log.end(0).await?, 6, "the log is cut");
    regrows(&log, &identity, position).await
}

/// A broker that comes back with an older log is noticed by a process that waits for no record, with the true offsets.
pub async fn o4_kafka_older_log(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let broker = Kafka::start_own(dir.path().to_owned()).await?;
    let log = KafkaLog::connect(config(&broker.brokers, "saldo.accounts")).await?;
    let identity = genesis::create(&log, 1, &keys()).await?;
    append_ten(&log, &identity, 0).await?;
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
