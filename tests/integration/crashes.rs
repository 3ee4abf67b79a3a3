//! Killed at random moments of an import: nothing is lost and nothing doubled, by the log's own account.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use saldo_log::{
    Log,
    kafka::{KafkaConfig, KafkaLog},
};

use crate::{
    Outcome, conformance,
    env::{Env, free_port},
    importing::{map, sample},
    process::{Saldo, embedded_log, saldo},
    the_log,
};

/// Kills of one import. The demand is many; a longer run is a matter of this number.
const KILLS: u32 = 30;

pub async fn embedded(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    killed_during_import(
        dir.path(),
        &[],
        |config| async move { Ok(Arc::new(embedded_log(&config).await?) as Arc<dyn Log>) },
    )
    .await
}

pub async fn kafka(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let brokers = env.kafka().await?.brokers.clone();
    let (topic, database) = (conformance::topic(), env.database().await?);
    let args = ["--kafka", &brokers, "--topic", &topic, "--database-url", &database];
    killed_during_import(dir.path(), &args, |_| async {
        let config = KafkaConfig {
            brokers: brokers.clone(),
            topic: topic.clone(),
            replication_factor: 1,
            allow_unsafe: true,
            tls: None,
        };
        Ok(Arc::new(KafkaLog::connect(config).await?) as Arc<dyn Log>)
    })
    .await
}

/// The importer itself is killed, again and again; the last run finds what the others did and completes it.
pub async fn importer(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let service = Saldo::start(&dir.path().join("data"), &[]).await?;
    let file = sample(dir.path())?;
    let args = ["import", "invoices", &file, "--map", &map("invoices"), "--json", "--in-flight", "16"];
    let mut cut_short = 0;
    for _ in 0..KILLS {
        let mut import = saldo(&args)?;
        import.env("SALDO_ENDPOINT", &service.target.endpoint).env("SALDO_TOKEN", &service.target.token);
        let mut import = import.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // The moment is to be random, as above.
        tokio::time::sleep(Duration::from_millis(20 + random() % 150)).await;
        import.kill()?;
        cut_short += u32::from(!import.wait()?.success());
    }
    assert!(cut_short > 0, "at least one run was cut short");
    let last: serde_json::Value = serde_json::from_str(&service.succeed(&args).await?)?;
    let count = |key: &str| last[key].as_u64().unwrap_or_default();
    assert_eq!((count("rows"), count("added") + count("present")), (2466, 2466), "{last}");
    let log = embedded_log(&service.config).await?;
    let numbers = the_log::read(&log).await?.numbers("invoice.issued")?;
    assert!(numbers.len() == 2466 && numbers.values().all(|count| *count == 1), "nothing is lost or doubled");
    Ok(())
}

async fn killed_during_import<F>(dir: &Path, args: &[&str], open_log: impl Fn(PathBuf) -> F) -> Outcome
where
    F: Future<Output = Result<Arc<dyn Log>, crate::Failure>>,
{
    let listen = format!("127.0.0.1:{}", free_port()?);
    let args = [args, &["--listen", &listen]].concat();
    let data = dir.join("data");
    let mut service = Saldo::start(&data, &args).await?;
    let file = sample(dir)?;
    let mut kills = 0;
    for kind in ["invoices", "payments"] {
        let mut import = saldo(&["import", kind, &file, "--map", &map(kind), "--json", "--in-flight", "2"])?;
        import.env("SALDO_ENDPOINT", &service.target.endpoint).env("SALDO_TOKEN", &service.target.token);
        let mut import = import.stdout(Stdio::piped()).spawn()?;
        for _ in 0..KILLS / 2 {
            // The moment is to be random: this wait is the fault itself, not a hope that something has happened.
            tokio::time::sleep(Duration::from_millis(100 + random() % 400)).await;
            if import.try_wait()?.is_none() {
                kills += 1;
            }
            service.kill()?;
            service = Saldo::start(&data, &args).await?;
        }
        let output = tokio::task::spawn_blocking(move || import.wait_with_output()).await??;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{kind}: {}: {said}", output.status);
        let summary: serde_json::Value = serde_json::from_str(&said)?;
        assert_eq!(summary["rows"].as_u64(), Some(2466), "{summary}");
        // Run again, it adds nothing.
        let again = service.succeed(&["import", kind, &file, "--map", &map(kind), "--json"]).await?;
        let again: serde_json::Value = serde_json::from_str(&again)?;
        assert_eq!((again["added"].as_u64(), again["rejected"].as_u64()), (Some(0), Some(0)), "{again}");
    }
    assert!(kills >= KILLS / 2, "half of the kills hit an import under way, not {kills}");
    let log = open_log(service.config.clone()).await?;
    let the_log = the_log::read(log.as_ref()).await?;
    for event_type in ["invoice.issued", "payment.recorded"] {
        let numbers = the_log.numbers(event_type)?;
        assert_eq!(numbers.len(), 2466, "{event_type}: nothing is lost");
        assert!(numbers.values().all(|count| *count == 1), "{event_type}: nothing is doubled");
    }
    let report = service.verify().await?;
    assert_eq!(report["differences"].as_u64(), Some(0), "{report}");
    println!("{kills} kills during an import; {} void records", the_log.void);
    Ok(())
}

/// A random number; UUIDs of version 4 are.
fn random() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}
