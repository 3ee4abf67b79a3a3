//! Every service a process of its own, several of each, on one Kafka and one Postgres, over mutual TLS.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use saldo::client::Clients;
use sqlx::{Connection, PgConnection};

use crate::{
    Failure, Outcome,
    deployment::{Deployment, NO_MAIL, Plan},
    env::{Env, free_port},
    mailbox::Moody,
    process::saldo,
    talking::{becomes, debtor, policy},
};

/// Two command services, and mutual TLS everywhere.
pub async fn over_tls(dir: &Path, env: &Env, smtp: &str) -> Result<Deployment, Failure> {
    let plan = Plan { smtp, commands: 2, over_tls: true, ..Plan::default() };
    Deployment::on_kafka(dir, env, &env.kafka().await?.brokers, plan).await
}

async fn owes(clients: &Clients, numbers: std::ops::Range<u32>) -> Result<(), Failure> {
    for number in numbers {
        debtor(clients, &format!("D-{number}"), &format!("ana{number}@example.com"), 10).await?;
    }
    Ok(())
}

async fn reminded(clients: &Clients, numbers: std::ops::Range<u32>) -> Result<(), Failure> {
    for number in numbers {
        becomes(clients, &format!("D-{number}"), "accepted").await?;
    }
    Ok(())
}

/// The whole way from an invoice to a mail through processes that share only log, database and key store; one of each
/// is killed on the way; then all stop in order.
pub async fn services(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let mail = Moody::start(0).await?;
    let deployment = over_tls(dir.path(), &env, &mail.url()).await?;
    // A scheduler that was stopped keeps its lock, and says nothing.
    let mut silent = PgConnection::connect(&deployment.database).await?;
    sqlx::query("SELECT pg_advisory_lock(hashtext('saldo_scheduler'))").execute(&mut silent).await?;
    let mut commands = vec![deployment.start("command", 1)?, deployment.start("command", 2)?];
    let mut others = Vec::new();
    for (service, count) in [("projector", 2), ("scheduler", 2), ("dispatcher", 2), ("query", 2)] {
        for number in 1..=count {
            others.push(deployment.start(service, number)?);
        }
    }
    for process in commands.iter().chain(&others) {
        process.serves().await?;
    }
    let queries = others.split_off(6);
    let one = deployment.target(1, Some(&queries[0]))?;
    let two = deployment.target(2, Some(&queries[1]))?;
    let clients = one.connect().await?;
    owes(&clients, 0..10).await?;
    let policy = policy(dir.path(), |text| text)?;
    let by_the_second = [("SALDO_ENDPOINT", two.endpoint.as_str())];
    deployment.succeeds_with(&by_the_second, &["policy", "publish", &policy]).await?;
    deployment.succeeds_with(&by_the_second, &["sending", "on"]).await?;
    reminded(&clients, 0..10).await?;
    assert!(silent.ping().await.is_err(), "its session was ended");

    // The first of each is gone, without a word; the second goes on alone.
    for number in [4, 2, 0] {
        others[number].signal("-KILL")?;
        others.remove(number);
    }
    commands[0].signal("-KILL")?;
    commands.remove(0);
    let clients = two.connect().await?;
    owes(&clients, 10..20).await?;
    reminded(&clients, 10..20).await?;
    let is_heard: bool = sqlx::query_scalar(
        "SELECT state_change > clock_timestamp() - interval '5 seconds' FROM pg_locks JOIN pg_stat_activity USING (pid)
         WHERE locktype = 'advisory' AND granted AND (classid::bigint << 32) | objid::bigint = hashtext('saldo_scheduler')",
    )
    .fetch_one(&mut PgConnection::connect(&deployment.database).await?)
    .await?;
    assert!(is_heard, "the scheduler that works is heard every second");
    let mut heard = mail.heard();
    heard.sort();
    heard.dedup();
    assert_eq!((heard.len(), mail.heard().len()), (20, 20), "each once");

    deployment.succeeds(&["verify"]).await?;
    for process in others.into_iter().chain(commands).chain(queries) {
        process.stop().await?;
    }
    Ok(())
}

/// A service that is started before its servers waits for them, and can be stopped meanwhile; what is wrong in itself is
/// said at once.
pub async fn waiting(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let deployment = over_tls(dir.path(), &env, NO_MAIL).await?;
    let nobody = format!("postgres://saldo@127.0.0.1:{}/saldo", free_port()?);
    let run = |service: &str, database: &str| {
        let mut command = saldo(&[service, "--listen", "127.0.0.1:0", "--database-url", database])?;
        command.arg("--config").arg(&deployment.config).arg("--data-dir").arg(dir.path().join("waiting"));
        command.stderr(Stdio::piped());
        Ok::<_, Failure>(command)
    };
    let mut child = run("query", &nobody)?.spawn()?;
    let process_id = child.id().to_string();
    let said = tokio::task::spawn_blocking(move || {
        let mut lines = std::io::BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        std::io::BufRead::read_line(&mut lines, &mut line)?;
        Command::new("kill").args(["-TERM", &process_id]).status()?;
        child.wait().map(|status| (line, status))
    });
    let (line, status) = tokio::time::timeout(Duration::from_secs(60), said).await???;
    assert!(line.contains("not there yet") && line.contains("database.url"), "{line}");
    assert!(status.success(), "{status}");

    for (service, key, variable) in [
        ("query", "auth.public_keys", "SALDO__AUTH__PUBLIC_KEYS"),
        ("scheduler", "services.command", "SALDO__SERVICES__COMMAND"),
    ] {
        let mut command = run(service, &nobody)?;
        command.env(variable, "[]");
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(key), "{service}: {error}");
    }
    Ok(())
}
