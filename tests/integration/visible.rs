//! What an operator sees of processes apart: health, log lines, and who takes over from whom.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use saldo::client::Target;
use saldo_auth::{Issuer, Role};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    Failure, Outcome,
    commands::open,
    env::{Env, eventually, free_port, within},
    kafka::Kafka,
    process::{health, saldo},
};

/// What processes apart share: a log, a database, keys. In the clear, on one machine.
struct Site {
    dir: PathBuf,
    config: PathBuf,
    issuer: Issuer,
    command: String,
}

impl Site {
    /// A configuration whose lines are JSON. `log` says where the log is.
    fn lay(dir: &Path, database: &str, log: &str) -> Result<Self, Failure> {
        let key = |name: &str| {
            let issuer = Issuer::read_or_create(&dir.join(format!("{name}.pem")))?;
            std::fs::write(dir.join(format!("{name}.pub.pem")), issuer.public_pem()?)?;
            Ok::<_, Failure>(issuer)
        };
        let (issuer, _) = (key("issuer")?, key("service")?);
        let at = |name: &str| dir.join(name).display().to_string();
        let command = format!("127.0.0.1:{}", free_port()?);
        let text = format!(
            "[log]\n{log}\npartitions = 2\n[database]\nurl = '{database}'\n[keyring]\ndir = '{}'\n\
             [auth]\npublic_keys = ['{}', '{}']\nservice_key = '{}'\n[services]\ncommand = ['http://{command}']\n\
             [sending]\nsmtp = 'smtp://127.0.0.1:{}?tls=none'\n[tracing]\nformat = 'json'\n",
            at("keys"),
            at("issuer.pub.pem"),
            at("service.pub.pem"),
            at("service.pem"),
            free_port()?,
        );
        let config = dir.join("saldo.toml");
        std::fs::write(&config, text)?;
        Ok(Self { dir: dir.to_owned(), config, issuer, command })
    }

    /// The same, with a log in a database and with the log made.
    async fn embedded(dir: &Path, env: &Env) -> Result<(Self, String), Failure> {
        let database = env.database().await?;
        let site = Self::lay(dir, &database, &format!("embedded_url = '{}'", env.database().await?))?;
        site.create_log().await?;
        Ok((site, database))
    }

    async fn create_log(&self) -> Outcome {
        let mut create = saldo(&["log", "create", "--config"])?;
        create.arg(&self.config);
        let created = tokio::task::spawn_blocking(move || create.output()).await??;
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        Ok(())
    }

    fn start(&self, service: &str, number: u32) -> Result<Process, Failure> {
        let listen = match service {
            "command" => self.command.clone(),
            _ => format!("127.0.0.1:{}", free_port()?),
        };
        let lines = self.dir.join(format!("{service}-{number}.log"));
        let mut command = saldo(&[service, "--listen", &listen])?;
        command.arg("--config").arg(&self.config);
        command.arg("--data-dir").arg(self.dir.join(format!("{service}-{number}")));
        command.stderr(std::fs::File::create(&lines)?);
        Ok(Process { child: command.spawn()?, endpoint: format!("http://{listen}"), lines })
    }

    fn target(&self) -> Result<Target, Failure> {
        let roles = [Role::Writer, Role::Reader, Role::Operator, Role::Auditor];
        let token = self.issuer.issue("somebody", "acme", &roles, Duration::from_secs(3_600))?;
        Ok(Target::new(format!("http://{}", self.command), token))
    }
}

struct Process {
    child: Child,
    endpoint: String,
    lines: PathBuf,
}

impl Process {
    /// What it has said so far. Every line must be JSON.
    fn said(&self) -> Result<Vec<Value>, Failure> {
        let text = std::fs::read_to_string(&self.lines)?;
        // A line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let line = |line: &str| serde_json::from_str(line).map_err(|error| format!("{error}: {line}").into());
        whole.lines().map(line).collect()
    }

    /// The fields of the first line with this text in its message.
    fn line(&self, message: &str) -> Result<Option<Value>, Failure> {
        let has = |line: &Value| line["fields"]["message"].as_str().is_some_and(|said| said.contains(message));
        Ok(self.said()?.into_iter().find(has).map(|line| line["fields"].clone()))
    }

    async fn says(&self, message: &str) -> Result<Value, Failure> {
        eventually(&format!("{message:?} in {}", self.lines.display()), || async {
            matches!(self.line(message), Ok(Some(_)))
        })
        .await?;
        Ok(self.line(message)?.unwrap_or_default())
    }

    async fn health(&self, name: &str) -> Result<ServingStatus, Failure> {
        health(&self.endpoint, name).await
    }

    async fn becomes(&self, name: &str, status: ServingStatus) -> Outcome {
        eventually(&format!("{name:?} {status:?} of {}", self.endpoint), || async {
            self.health(name).await.is_ok_and(|now| now == status)
        })
        .await
    }

    fn signal(&self, name: &str) -> Outcome {
        Command::new("kill").args([name, &self.child.id().to_string()]).status()?;
        Ok(())
    }

    async fn stop(mut self) -> Outcome {
        self.signal("-TERM")?;
        let ended = tokio::task::spawn_blocking(move || self.child.wait());
        let status = tokio::time::timeout(Duration::from_secs(60), ended).await???;
        assert!(status.success(), "{status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
    let (site, database) = Site::embedded(dir.path(), &env).await?;
    let command = site.start("command", 1)?;
    let working = site.start("projector", 1)?;
    working.says("this projector is the active one").await?;
    let other = site.start("projector", 2)?;
    other.says("this one stands by").await?;
    command.becomes("readiness", ServingStatus::Serving).await?;
    let mut clients = site.target()?.connect().await?;
    clients.command.open_account(open("1", "D-1")).await?;
    let known = async |count: i64, patience: Duration| {
        let look = || async { accounts(&database).await.is_ok_and(|found| found == count) };
        within(patience, &format!("{count} accounts in the read models"), look).await
    };
    known(1, Duration::from_secs(30)).await?;

    // Its transaction waits for a table, and so is open for certain when the process is stopped.
    let mut blocks = PgConnection::connect(&database).await?;
    let build: i64 = sqlx::query_scalar("SELECT number FROM saldo.live").fetch_one(&mut blocks).await?;
    let lock = format!("BEGIN; LOCK TABLE rm_{build}.history IN ACCESS EXCLUSIVE MODE");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut blocks).await?;
    clients.command.open_account(open("2", "D-2")).await?;
    waits_for_a_lock(&database).await?;
    working.signal("-STOP")?;
    sqlx::raw_sql("COMMIT").execute(&mut blocks).await?;
    // Ten seconds of standing still, and some for the start.
    known(2, Duration::from_secs(25)).await?;
    let took_over = other.says("the projector that worked stands still").await?;
    assert!(took_over["sessions"].as_i64() >= Some(2), "its lock and its transaction: {took_over}");

    working.signal("-CONT")?;
    working.says("this one stands by").await?;
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
    let (site, database) = Site::embedded(dir.path(), &env).await?;
    let (command, projector) = (site.start("command", 1)?, site.start("projector", 1)?);
    let working = site.start("scheduler", 1)?;
    working.says("this scheduler is the active one").await?;
    let other = site.start("scheduler", 2)?;
    other.says("this one stands by").await?;
    command.becomes("readiness", ServingStatus::Serving).await?;
    let mut clients = site.target()?.connect().await?;
    let known = async |count: i64, patience: Duration| {
        let look = || async {
            let Ok(mut look) = PgConnection::connect(&database).await else { return false };
            let found = sqlx::query_scalar("SELECT count(*) FROM saldo.wakeups").fetch_one(&mut look).await;
            found.is_ok_and(|found: i64| found == count)
        };
        within(patience, &format!("{count} accounts that the scheduler knows"), look).await
    };
    clients.command.open_account(open("1", "D-1")).await?;
    known(1, Duration::from_secs(30)).await?;

    // It takes over the agenda when it is stopped.
    let mut blocks = PgConnection::connect(&database).await?;
    sqlx::raw_sql("BEGIN; LOCK TABLE saldo.wakeups IN EXCLUSIVE MODE").execute(&mut blocks).await?;
    clients.command.open_account(open("2", "D-2")).await?;
    waits_for_a_lock(&database).await?;
    working.signal("-STOP")?;
    sqlx::raw_sql("COMMIT").execute(&mut blocks).await?;
    other.says("the scheduler that worked has fallen silent").await?;
    other.says("this scheduler is the active one").await?;
    clients.command.open_account(open("3", "D-3")).await?;
    known(3, Duration::from_secs(30)).await?;

    working.signal("-CONT")?;
    working.says("this one stands by").await?;
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
    let (site, _) = Site::embedded(dir.path(), &env).await?;
    let command = site.start("command", 1)?;
    command.becomes("", ServingStatus::Serving).await?;
    assert_eq!(command.health("liveness").await?, ServingStatus::Serving);
    let first = command.said()?.first().cloned().unwrap_or_default();
    assert_eq!(first["fields"]["message"], "saldo starts", "{first}");
    let instance = first["fields"]["instance"].as_str().unwrap_or_default();
    assert!(instance.ends_with(&format!(":{}", command.child.id())), "{first}");
    let log = command.says("the log is open").await?;
    assert_eq!(log["log_id"].as_str().map(str::len), Some(32), "{log}");
    command.says("caught up with the log").await?;
    command.stop().await?;

    let (away, nobody) = (dir.path().join("away"), format!("postgres://saldo@127.0.0.1:{}/saldo", free_port()?));
    std::fs::create_dir(&away)?;
    let away = Site::lay(&away, &nobody, &format!("embedded_url = '{}'", env.database().await?))?;
    let query = away.start("query", 1)?;
    query.becomes("liveness", ServingStatus::Serving).await?;
    query.says("not there yet").await?;
    for name in ["readiness", "", "collections.v1.QueryService"] {
        assert_eq!(query.health(name).await?, ServingStatus::NotServing, "{name}");
    }
    query.stop().await?;

    let mut faulty = saldo(&["query", "--listen", "127.0.0.1:0", "--config"])?;
    faulty.arg(&site.config).env("SALDO__AUTH__PUBLIC_KEYS", "[\"/nowhere/key.pem\"]").stderr(Stdio::piped());
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
    let log = format!("kafka = '{}'\nreplication_factor = 1\nallow_unsafe = true", broker.brokers);
    let site = Site::lay(dir.path(), &env.database().await?, &log)?;
    site.create_log().await?;
    let started: Result<Vec<_>, Failure> = ["command", "projector", "query", "scheduler", "dispatcher"]
        .map(|service| site.start(service, 1))
        .into_iter()
        .collect();
    let processes = started?;
    for process in &processes {
        process.becomes("", ServingStatus::Serving).await?;
    }
    // Their last lines before there is something to do.
    for (process, line) in processes.iter().zip([
        "caught up with the log",
        "caught up with the log",
        "",
        "this scheduler is the active one",
        "sending begins",
    ]) {
        process.says(line).await?;
    }
    let before: Vec<usize> =
        processes.iter().map(|process| Ok(process.said()?.len())).collect::<Result<_, Failure>>()?;
    broker.kill();
    let mut clients = site.target()?.connect().await?;
    for process in &processes {
        process.says("Kafka is out of reach").await?;
    }
    // As long as the service waits for the log: time for some hundred tries.
    clients.command.open_account(open("1", "D-1")).await.expect_err("the log is out of reach");
    broker.run().await?;
    for process in &processes {
        process.says("Kafka is in reach again").await?;
    }
    for (process, before) in processes.iter().zip(before) {
        let lines = process.said()?;
        assert!(lines.len() - before <= 5, "{} lines: {:#?}", lines.len() - before, &lines[before..]);
    }
    for process in processes {
        process.stop().await?;
    }
    Ok(())
}
