//! Whose key store, whose log, whose database: what does not belong together is refused at the start, and noticed while it runs.

use std::{path::Path, sync::Arc, time::Duration};

use saldo_log::{embedded::EmbeddedLog, genesis, keys::LogKeys};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tonic::Code;

use crate::{
    Outcome,
    commands::{open, reason},
    deployment::{Deployment, Plan, Service, text},
    env::{Env, within},
    mailbox::Moody,
    talking::{becomes, debtor, policy},
};

/// How soon a running process must have noticed.
const SOON: Duration = Duration::from_secs(30);

async fn says_not_serving(service: &Service, name: &str) -> Outcome {
    within(SOON, &format!("NOT_SERVING of the {name}"), || service.answers("NOT_SERVING")).await
}

async fn in_log(deployment: &Deployment, statement: &str) -> Outcome {
    let mut log = PgConnection::connect(&deployment.log).await?;
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut log).await?;
    Ok(())
}

/// Two services with folders of their own must not both begin a log; and a store serves its own log alone.
pub async fn o1_whose_key_store(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let house = Deployment::embedded(dir.path(), &env, Plan::default()).await?;
    let command = house.start("command", 1)?;
    command.serves().await?;
    // The log holds no account yet.
    let other = dir.path().join("others").display().to_string();
    let said = house.refuses("command", &["--keyring-dir", &other]).await?;
    assert!(said.contains("log.keys is missing"), "{said}");
    assert!(!Path::new(&other).join("master.key").exists(), "no store is made beside the log's");

    let theirs_dir = tempfile::tempdir()?;
    let theirs = Deployment::embedded(theirs_dir.path(), &env, Plan::default()).await?;
    let ours = house.keys().display().to_string();
    let said = theirs.refuses("command", &["--keyring-dir", &ours]).await?;
    assert!(said.contains("belongs to log"), "{said}");
    let started = theirs.start("command", 1)?;
    started.serves().await?;
    let foreign = theirs.keys().display().to_string();
    for service in ["command", "projector"] {
        let said = house.refuses(service, &["--keyring-dir", &foreign]).await?;
        assert!(said.contains("belongs to log"), "{service}: {said}");
    }
    Ok(())
}

/// The catalog of a log that an older release has created cannot name its key store yet: none is made, so that no two are.
pub async fn o1_whose_key_store_at_an_older_format(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let (log, database) = (env.database().await?, env.database().await?);
    let house = Deployment::configure(dir.path(), log, database, Plan::default())?;
    let (ours, other) = (house.keys(), dir.path().join("others"));
    let keys = LogKeys::at(ours.join(saldo_log::keys::FILE));
    let accounts = EmbeddedLog::connect(&house.log, "saldo.accounts").await?;
    keys.finish(genesis::begin(&accounts, 3, || keys.begin(), &keys).await?)?;
    genesis::complete(&accounts, &keys).await?;
    genesis::create(&EmbeddedLog::connect(&house.log, "saldo.catalog").await?, 1, &keys).await?;
    let said = house.refuses("command", &["--keyring-dir", &ours.display().to_string()]).await?;
    assert!(said.contains("is not made") && said.contains("`saldo log upgrade`"), "{said}");
    let said = house.refuses("command", &["--keyring-dir", &other.display().to_string()]).await?;
    assert!(said.contains("log.keys is missing"), "{said}");
    assert!(!ours.join("master.key").exists() && !other.join("master.key").exists());
    house.succeeds(&["log", "upgrade"]).await?;
    let command = house.start("command", 1)?;
    command.serves().await?;
    let said = house.refuses("command", &["--keyring-dir", &other.display().to_string()]).await?;
    assert!(said.contains("log.keys is missing"), "{said}");
    Ok(())
}

/// A backup of the key store that is older than the log is refused until a person gives the names up.
pub async fn o1_older_key_store(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let house = Deployment::embedded(dir.path(), &env, Plan::default()).await?;
    let keys = house.keys();
    let command = house.start("command", 1)?;
    command.serves().await?;
    let mut clients = house.clients(None).await?;
    clients.command.open_account(open("1", "D-1")).await?;
    std::fs::create_dir(dir.path().join("backup"))?;
    for entry in std::fs::read_dir(&keys)? {
        let entry = entry?;
        std::fs::copy(entry.path(), dir.path().join("backup").join(entry.file_name()))?;
    }
    for account in ["D-2", "D-3"] {
        clients.command.open_account(open("1", account)).await?;
    }
    drop(command);
    std::fs::rename(&keys, dir.path().join("newest"))?;
    std::fs::rename(dir.path().join("backup"), &keys)?;
    for service in ["command", "projector"] {
        let said = house.refuses(service, &[]).await?;
        assert!(said.contains("is older than the log: 4 values"), "{said}");
    }
    let said = house.ends_with(3, &["log", "accept"]).await?;
    assert!(said.contains("(2 keys are missing)") && said.contains("nothing was changed"), "{said}");
    house.succeeds(&["log", "accept", "--missing-keys"]).await?;
    let (command, projector) = (house.start("command", 1)?, house.start("projector", 1)?);
    command.serves().await?;
    projector.serves().await?;
    let said = house.ends_with(3, &["verify"]).await?;
    assert!(said.contains("4 sealed values have NO KEY") && said.contains("(2 keys are missing)"), "{said}");
    drop((command, projector));

    // The newest one is still the log's.
    std::fs::rename(&keys, dir.path().join("backup"))?;
    std::fs::rename(dir.path().join("newest"), &keys)?;
    std::fs::rename(keys.join("master.key"), dir.path().join("aside"))?;
    let said = house.refuses("command", &[]).await?;
    assert!(said.contains("master.key is missing") && !keys.join("master.key").exists(), "{said}");
    std::fs::rename(dir.path().join("aside"), keys.join("master.key"))?;
    house.start("command", 1)?.serves().await?;
    let projector = house.start("projector", 1)?;
    projector.serves().await?;
    let checked = house.run(&[], &["verify"]).await?;
    assert!(!text(&checked.stdout).contains("NO KEY"), "{}", text(&checked.stdout));
    Ok(())
}

/// A folder that is deleted under a running service stops it before the next append.
pub async fn o1_vanished_key_store(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let house = Deployment::embedded(dir.path(), &env, Plan::default()).await?;
    let command = house.start("command", 1)?;
    command.serves().await?;
    let mut clients = house.clients(None).await?;
    clients.command.open_account(open("1", "D-1")).await?;
    std::fs::rename(house.keys(), dir.path().join("aside"))?;
    for account in ["D-1", "D-2"] {
        let status = clients.command.open_account(open("2", account)).await.expect_err("the store is gone");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "KEY_STORE_UNAVAILABLE"));
    }
    says_not_serving(&command, "command service").await?;
    std::fs::rename(dir.path().join("aside"), house.keys())?;
    command.serves().await?;
    clients.command.open_account(open("2", "D-2")).await?;
    Ok(())
}

/// An older log under running processes: each of them stops and says so, and nothing is sent until a person releases it.
pub async fn o4_older_log(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let mail = Moody::start(0).await?;
    let house = Deployment::embedded(dir.path(), &env, Plan { smtp: &mail.url(), ..Plan::default() }).await?;
    let start = || ["command", "projector", "scheduler", "dispatcher", "query"].map(|service| house.start(service, 1));
    let mut processes = start().into_iter().collect::<Result<Vec<_>, _>>()?;
    for process in &processes {
        process.serves().await?;
    }
    let mut clients = house.clients(Some(&processes[4])).await?;
    debtor(&clients, "D-1", "ana@example.com", 10).await?;
    in_log(&house, "CREATE TABLE backup AS TABLE saldo_log.records; CREATE TABLE ends AS TABLE saldo_log.partitions")
        .await?;
    house.succeeds(&["policy", "publish", &policy(dir.path(), |text| text)?]).await?;
    house.succeeds(&["sending", "on"]).await?;
    becomes(&clients, "D-1", "accepted").await?;
    assert_eq!(mail.heard().len(), 1);

    // The accounts log goes back to before the reminder. The catalog is kept.
    in_log(
        &house,
        "BEGIN;
             DELETE FROM saldo_log.records r WHERE topic = 'saldo.accounts'
                 AND NOT EXISTS (SELECT FROM backup b WHERE (b.topic, b.partition, b.record_offset)
                                 = (r.topic, r.partition, r.record_offset));
             UPDATE saldo_log.partitions p SET next_offset = e.next_offset FROM ends e
                 WHERE p.topic = 'saldo.accounts' AND (e.topic, e.partition) = (p.topic, p.partition);
             COMMIT",
    )
    .await?;
    for (process, service) in processes.iter().zip(["command", "projector", "scheduler", "dispatcher", "query"]) {
        says_not_serving(process, service).await?;
    }
    let status = clients.command.open_account(open("1", "D-2")).await.expect_err("the log is another one");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "LOG_CHANGED"));
    assert!(status.message().contains("of saldo.accounts ends at offset"), "{}", status.message());
    let asked = saldo_api::v1::GetAccountRequest { account_id: "D-1".into(), consistency_token: String::new() };
    let status = clients.query.get_account(asked).await.expect_err("the log is another one");
    assert_eq!(reason(&status), "LOG_CHANGED");
    // A process that is NOT_SERVING still runs, and would go on with the log that it remembers.
    let said = house.ends_with(1, &["log", "accept", "--older-log"]).await?;
    assert!(said.contains("another process uses key store") && said.contains("Stop every process"), "{said}");
    drop(processes.drain(..2));
    let said = house.ends_with(1, &["log", "accept", "--older-log"]).await?;
    assert!(said.contains("sessions in the database") && said.contains("Nothing was changed"), "{said}");
    drop(processes);

    // Started again by whoever supervises them, they still refuse it.
    for service in ["command", "projector"] {
        let said = house.refuses(service, &[]).await?;
        assert!(said.contains("an older copy of the log was restored") && said.contains("log accept"), "{said}");
    }
    house.ends_with(3, &["log", "accept"]).await?;
    let said = house.succeeds(&["log", "accept", "--older-log"]).await?;
    assert!(said.contains("sending is held"), "{said}");
    let processes = start().into_iter().collect::<Result<Vec<_>, _>>()?;
    for process in &processes {
        process.serves().await?;
    }
    let clients = house.clients(Some(&processes[4])).await?;
    debtor(&clients, "D-3", "eva@example.com", 10).await?;
    house.succeeds(&["verify"]).await?;
    assert_eq!(mail.heard().len(), 1, "nothing is sent while sending is held");
    let query = ("SALDO_QUERY_ENDPOINT", processes[4].endpoint.as_str());
    for ask in [&["preview", "D-3"][..], &["policy", "show"], &["outbox"], &["sending", "on"]] {
        let said = house.succeeds_with(&[query], ask).await?;
        assert!(said.contains("held for every creditor") && said.contains("`saldo sending release"), "{ask:?}: {said}");
    }
    house.succeeds(&["sending", "release", "--reason", "compared with the mail log"]).await?;
    becomes(&clients, "D-3", "accepted").await?;
    Ok(())
}

/// No process works with the database or the catalog of another log.
pub async fn o6_whose_database(env: Arc<Env>) -> Outcome {
    let (dir, theirs_dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let house = Deployment::embedded(dir.path(), &env, Plan::default()).await?;
    let theirs = Deployment::embedded(theirs_dir.path(), &env, Plan::default()).await?;
    for house in [&house, &theirs] {
        let (command, projector) = (house.start("command", 1)?, house.start("projector", 1)?);
        command.serves().await?;
        projector.serves().await?;
    }
    for service in ["query", "scheduler", "dispatcher", "projector"] {
        let said = house.refuses(service, &["--database-url", &theirs.database]).await?;
        assert!(said.contains("the read models are of log"), "{service}: {said}");
    }
    // The catalog of another log stands in this one's place.
    let (mut ours, mut other) = (PgConnection::connect(&house.log).await?, PgConnection::connect(&theirs.log).await?);
    let records: Vec<(i32, i64, Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "SELECT partition, record_offset, key, value FROM saldo_log.records WHERE topic = 'saldo.catalog'",
    )
    .fetch_all(&mut other)
    .await?;
    sqlx::query("DELETE FROM saldo_log.records WHERE topic = 'saldo.catalog'").execute(&mut ours).await?;
    sqlx::query("UPDATE saldo_log.partitions SET next_offset = $1 WHERE topic = 'saldo.catalog'")
        .bind(records.len() as i64)
        .execute(&mut ours)
        .await?;
    for (partition, offset, key, value) in records {
        sqlx::query("INSERT INTO saldo_log.records VALUES ('saldo.catalog', $1, $2, $3, $4, now())")
            .bind(partition)
            .bind(offset)
            .bind(key)
            .bind(value)
            .execute(&mut ours)
            .await?;
    }
    for service in ["command", "projector", "scheduler", "dispatcher"] {
        let said = house.refuses(service, &[]).await?;
        assert!(said.contains("belongs to another accounts log"), "{service}: {said}");
    }
    Ok(())
}

/// A damaged local store is set aside, and the service goes on from the log.
pub async fn o8_damaged_store(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let house = Deployment::embedded(dir.path(), &env, Plan::default()).await?;
    let command = house.start("command", 1)?;
    command.serves().await?;
    house.clients(None).await?.command.open_account(open("1", "D-1")).await?;
    drop(command);
    for partition in 0..3 {
        let path = house.dir.join(format!("command-1/command/partition-{partition}.redb"));
        let length = std::fs::metadata(&path)?.len();
        std::fs::OpenOptions::new().write(true).open(&path)?.set_len(length / 2)?;
    }
    house.start("command", 1)?.serves().await?;
    Ok(())
}
