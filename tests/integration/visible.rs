//! The operator's view of separate processes: health, log lines, and the takeover of one by another.

use std::{process::Stdio, sync::Arc, time::Duration};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    Failure, Outcome,
    commands::open,
    deployment::{Deployment, Plan, Service},
    env::{Env, eventually, free_port, within},
    kafka::Kafka,
    process::saldo,
};

/// The plan of every deployment here: its lines are JSON, and the tests read them.
fn heard() -> Plan<'static> {
    Plan { keeps_lines: true, ..Plan::default() }
}

/// The lines that a service has written so far. Every line must be JSON.
fn said(service: &Service) -> Result<Vec<Value>, Failure> {
    let text = std::fs::read_to_string(&service.lines)?;
    // A line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = |line: &str| serde_json::from_str(line).map_err(|error| format!("{error}: {line}").into());
    whole.lines().map(line).collect()
}

/// The fields of the first line with this text in its message.
fn line(service: &Service, message: &str) -> Result<Option<Value>, Failure> {
    let has = |line: &Value| line["fields"]["message"].as_str().is_some_and(|said| said.contains(message));
    Ok(said(service)?.into_iter().find(has).map(|line| line["fields"].clone()))
}

/// Waits for a line with this text in its message, and returns the fields of the line.
async fn says(service: &Service, message: &str) -> Result<Value, Failure> {
    eventually(&format!("{message:?} in {}", service.lines.display()), || async {
        matches!(line(service, message), Ok(Some(_)))
    })
    .await?;
    Ok(line(service, message)?.unwrap_or_default())
}

/// How many accounts the read models have.
async fn accounts(database: &str) -> Result<i64, Failure> {
    let mut connection = PgConnection::connect(database).await?;
    Ok(sqlx::query_scalar("SELECT count(*) FROM bi.accounts").fetch_one(&mut connection).await?)
}

/// O2: the projector that works is stopped inside a transaction, with rows locked. The other one takes over within seconds, and
/// the stopped one stands by when it goes on.
pub async fn o2_stopped_inside_a_transaction(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let deployment = Deployment::embedded(dir.path(), &env, heard()).await?;
    let command = deployment.start("command", 1)?;
    let working = deployment.start("projector", 1)?;
    says(&working, "this projector is the active one").await?;
    let other = deployment.start("projector", 2)?;
    says(&other, "this one stands by").await?;
    command.becomes("readiness", ServingStatus::Serving).await?;
    let mut clients = deployment.clients(None).await?;
    clients.command.open_account(open("1", "D-1")).await?;
    let known = async |count: i64, patience: Duration| {
        let look = || async { accounts(&deployment.database).await.is_ok_and(|found| found == count) };
        within(patience, &format!("{count} accounts in the read models"), look).await
    };
    known(1, Duration::from_secs(30)).await?;

    // Its transaction waits for a table, and so is open for certain when the process is stopped.
    let mut blocks = PgConnection::connect(&deployment.database).await?;
    let build: i64 = sqlx::query_scalar("SELECT number FROM saldo.live").fetch_one(&mut blocks).await?;
    let lock = format!("BEGIN; LOCK TABLE rm_{build}.history IN ACCESS EXCLUSIVE MODE");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut blocks).await?;
    clients.command.open_account(open("2", "D-2")).await?;
    waits_for_a_lock(&deployment.database).await?;
    working.signal("-STOP")?;
    sqlx::raw_sql("COMMIT").execute(&mut blocks).await?;
    // Ten seconds of standing still, and some for the start.
    known(2, Duration::from_secs(25)).await?;
    let took_over = says(&other, "the projector that worked stands still").await?;
    assert!(took_over["sessions"].as_i64() >= Some(2), "its lock and its transaction: {took_over}");

    working.signal("-CONT")?;
    says(&working, "this one stands by").await?;
    clients.command.open_account(open("3", "D-3")).await?;
    known(3, Duration::from_secs(30)).await?;
    for process in [working, other, command] {
        process.stop().await?;
    }
    Ok(())
}

/// A statement of ours waits for a lock.
async fn waits_for_a_lock(database: &str) -> Outcome {
    eventually("a statement that waits", || async {
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                                    AND datname = current_database() AND application_name LIKE 'saldo-%')";
        let Ok(mut look) = PgConnection::connect(database).await else { return false };
        sqlx::query_scalar(waits).fetch_one(&mut look).await.unwrap_or(false)
    })
    .await
}

/// O2: the scheduler that works is stopped in the middle of a statement, and holds its lock. The other one takes over within
/// seconds, and the stopped one stands by when it goes on.
pub async fn o2_stopped_scheduler(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let deployment = Deployment::embedded(dir.path(), &env, heard()).await?;
    let (command, projector) = (deployment.start("command", 1)?, deployment.start("projector", 1)?);
    let working = deployment.start("scheduler", 1)?;
    says(&working, "this scheduler is the active one").await?;
    let other = deployment.start("scheduler", 2)?;
    says(&other, "this one stands by").await?;
    command.becomes("readiness", ServingStatus::Serving).await?;
    let mut clients = deployment.clients(None).await?;
    let known = async |count: i64, patience: Duration| {
        let look = || async {
            let Ok(mut look) = PgConnection::connect(&deployment.database).await else { return false };
            let found = sqlx::query_scalar("SELECT count(*) FROM saldo.wakeups").fetch_one(&mut look).await;
            found.is_ok_and(|found: i64| found == count)
        };
        within(patience, &format!("{count} accounts that the scheduler knows"), look).await
    };
    clients.command.open_account(open("1", "D-1")).await?;
    known(1, Duration::from_secs(30)).await?;

    // It takes over the agenda when it is stopped.
    let mut blocks = PgConnection::connect(&deployment.database).await?;
    sqlx::raw_sql("BEGIN; LOCK TABLE saldo.wakeups IN EXCLUSIVE MODE").execute(&mut blocks).await?;
    clients.command.open_account(open("2", "D-2")).await?;
    waits_for_a_lock(&deployment.database).await?;
    working.signal("-STOP")?;
    sqlx::raw_sql("COMMIT").execute(&mut blocks).await?;
    says(&other, "the scheduler that worked has fallen silent").await?;
    says(&other, "this scheduler is the active one").await?;
    clients.command.open_account(open("3", "D-3")).await?;
    known(3, Duration::from_secs(30)).await?;

    working.signal("-CONT")?;
    says(&working, "this one stands by").await?;
    clients.command.open_account(open("4", "D-4")).await?;
    known(4, Duration::from_secs(30)).await?;
    for process in [working, other, projector, command] {
        process.stop().await?;
    }
    Ok(())
}

/// O7 and O10: a process listens before its servers are there. It is alive and not ready, and every line is JSON, from the
/// first to the fault that ends it.
pub async fn o7_and_o10_from_the_first_line_on(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let deployment = Deployment::embedded(dir.path(), &env, heard()).await?;
    let command = deployment.start("command", 1)?;
    command.becomes("", ServingStatus::Serving).await?;
    assert_eq!(command.health("liveness").await?, ServingStatus::Serving);
    let first = said(&command)?.first().cloned().unwrap_or_default();
    assert_eq!(first["fields"]["message"], "saldo starts", "{first}");
    let instance = first["fields"]["instance"].as_str().unwrap_or_default();
    assert!(instance.ends_with(&format!(":{}", command.id())), "{first}");
    let log = says(&command, "the log is open").await?;
    assert_eq!(log["log_id"].as_str().map(str::len), Some(32), "{log}");
    says(&command, "caught up with the log").await?;
    command.stop().await?;

    let (away, nobody) = (dir.path().join("away"), format!("postgres://saldo@127.0.0.1:{}/saldo", free_port()?));
    std::fs::create_dir(&away)?;
    let away = Deployment::configure(&away, env.database().await?, nobody, heard())?;
    let query = away.start("query", 1)?;
    query.becomes("liveness", ServingStatus::Serving).await?;
    says(&query, "not there yet").await?;
    for name in ["readiness", "", "collections.v1.QueryService"] {
        assert_eq!(query.health(name).await?, ServingStatus::NotServing, "{name}");
    }
    query.stop().await?;

    let mut faulty = saldo(&["query", "--listen", "127.0.0.1:0", "--config"])?;
    faulty.arg(&deployment.config).env("SALDO__AUTH__PUBLIC_KEYS", "[\"/nowhere/key.pem\"]").stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || faulty.output()).await??;
    let text = String::from_utf8(output.stderr)?;
    let last: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    assert!(!output.status.success());
    assert!(last["fields"]["error"].as_str().is_some_and(|error| error.contains("auth.public_keys")), "{last}");
    Ok(())
}

/// O10: a broker is killed under every service, and comes back.
pub async fn o10_a_kafka_outage_is_two_lines(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let broker = Kafka::start_own(dir.path().join("kafka")).await?;
    let deployment = Deployment::on_kafka(dir.path(), &env, &broker.brokers, heard()).await?;
    // The services, and what each says last before there is something to do.
    let services = [
        ("command", "caught up with the log"),
        ("projector", "caught up with the log"),
        ("query", ""),
        ("scheduler", "this scheduler is the active one"),
        ("dispatcher", "sending begins"),
    ];
    let processes: Vec<_> =
        services.iter().map(|(service, _)| deployment.start(service, 1)).collect::<Result<_, Failure>>()?;
    for (process, (_, last)) in processes.iter().zip(services) {
        process.becomes("", ServingStatus::Serving).await?;
        says(process, last).await?;
    }
    let before: Vec<usize> =
        processes.iter().map(|process| Ok(said(process)?.len())).collect::<Result<_, Failure>>()?;
    broker.kill();
    let mut clients = deployment.clients(None).await?;
    for process in &processes {
        says(process, "Kafka is out of reach").await?;
    }
    // As long as the service waits for the log: time for some hundred tries.
    clients.command.open_account(open("1", "D-1")).await.expect_err("the log is out of reach");
    broker.run().await?;
    for process in &processes {
        says(process, "Kafka is in reach again").await?;
    }
    for (process, before) in processes.iter().zip(before) {
        let lines = said(process)?;
        assert!(lines.len() - before <= 5, "{} lines: {:#?}", lines.len() - before, &lines[before..]);
    }
    for process in processes {
        process.stop().await?;
    }
    Ok(())
}
