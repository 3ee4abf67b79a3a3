//! Whose key store, whose log, whose database: what does not belong together is refused at the start, and noticed while it runs.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use saldo::client::{Clients, Target, TlsArgs};
use saldo_auth::{Issuer, Role};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tonic::Code;

use crate::{
    Failure, Outcome,
    commands::{open, reason},
    env::{Env, eventually, free_port, within},
    mailbox::Moody,
    process::saldo,
    talking::{becomes, debtor, policy},
};

/// How soon a running process must have noticed.
const SOON: Duration = Duration::from_secs(30);

/// A log in Postgres, a database and a key store, and processes that share them.
struct House {
    dir: PathBuf,
    config: PathBuf,
    log_url: String,
    database: String,
    issuer: Issuer,
    command: String,
}

struct Process {
    child: Child,
    endpoint: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn answers(&self, expected: &'static str) -> impl Future<Output = bool> + use<> {
        let command = saldo(&["health", "--endpoint", &self.endpoint]);
        async move {
            let Ok(mut command) = command else { return false };
            let asked = tokio::task::spawn_blocking(move || command.stderr(Stdio::null()).output());
            matches!(asked.await, Ok(Ok(output)) if text(&output.stdout).trim() == expected)
        }
    }

    async fn serves(&self) -> Result<(), Failure> {
        eventually(&format!("health of {}", self.endpoint), || self.answers("SERVING")).await
    }

    async fn says_not_serving(&self, what: &str) -> Result<(), Failure> {
        within(SOON, &format!("NOT_SERVING of the {what}"), || self.answers("NOT_SERVING")).await
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl House {
    async fn lay(dir: &Path, env: &Env, smtp: &str) -> Result<Self, Failure> {
        let key = |name: &str| {
            let issuer = Issuer::read_or_create(&dir.join(format!("{name}.pem")))?;
            std::fs::write(dir.join(format!("{name}.pub.pem")), issuer.public_pem()?)?;
            Ok::<_, Failure>(issuer)
        };
        let (issuer, _) = (key("issuer")?, key("service")?);
        let (log_url, database) = (env.database().await?, env.database().await?);
        let command = format!("127.0.0.1:{}", free_port()?);
        let (at, config) = (dir.display(), dir.join("saldo.toml"));
        let written = format!(
            "[log]\nembedded_url = '{log_url}'\npartitions = 3\n[database]\nurl = '{database}'\n\
             [keyring]\ndir = '{at}/keys'\n[sending]\nsmtp = '{smtp}'\n\
             [auth]\npublic_keys = ['{at}/issuer.pub.pem', '{at}/service.pub.pem']\nservice_key = '{at}/service.pem'\n\
             [services]\ncommand = ['http://{command}']\n[tracing]\nfilter = 'warn'\n"
        );
        std::fs::write(&config, written)?;
        let house = Self { dir: dir.to_owned(), config, log_url, database, issuer, command };
        house.succeeds(&["log", "create"]).await?;
        Ok(house)
    }

    fn prepare(&self, args: &[&str]) -> Result<Command, Failure> {
        let mut command = saldo(args)?;
        command.env("SALDO_CONFIG", &self.config).env("SALDO_ENDPOINT", format!("http://{}", self.command));
        let roles = [Role::Writer, Role::Reader, Role::Operator, Role::Auditor];
        command.env("SALDO_TOKEN", self.issuer.issue("somebody", "acme", &roles, Duration::from_secs(3_600))?);
        Ok(command)
    }

    async fn run(&self, variables: &[(&str, &str)], args: &[&str]) -> Result<Output, Failure> {
        let mut command = self.prepare(args)?;
        command.envs(variables.iter().copied());
        let run = tokio::task::spawn_blocking(move || command.output());
        Ok(tokio::time::timeout(Duration::from_secs(120), run).await???)
    }

    async fn succeeds(&self, args: &[&str]) -> Result<String, Failure> {
        self.succeeds_with(&[], args).await
    }

    async fn succeeds_with(&self, variables: &[(&str, &str)], args: &[&str]) -> Result<String, Failure> {
        let output = self.run(variables, args).await?;
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "saldo {args:?}: {out}{error}");
        Ok(out)
    }

    /// A command that must end with this code. Returns what it said.
    async fn ends_with(&self, code: i32, args: &[&str]) -> Result<String, Failure> {
        let output = self.run(&[], args).await?;
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "saldo {args:?}: {said}");
        Ok(said)
    }

    fn start_at(&self, service: &str, listen: &str, args: &[&str]) -> Result<Process, Failure> {
        let mut command = self.prepare(&[service, "--listen", listen])?;
        command.arg("--data-dir").arg(self.dir.join(service)).args(args);
        Ok(Process { child: command.spawn()?, endpoint: format!("http://{listen}") })
    }

    fn start(&self, service: &str) -> Result<Process, Failure> {
        match service {
            "command" => self.start_at(service, &self.command, &[]),
            _ => self.start_at(service, &format!("127.0.0.1:{}", free_port()?), &[]),
        }
    }

    /// A service that must not start. Returns what it said.
    async fn refuses(&self, service: &str, args: &[&str]) -> Result<String, Failure> {
        let data = self.dir.join(format!("{service}-refused")).display().to_string();
        let all = [&[service, "--listen", "127.0.0.1:0", "--data-dir", data.as_str()], args].concat();
        self.ends_with(1, &all).await
    }

    async fn clients(&self, query: Option<&Process>) -> Result<Clients, Failure> {
        let roles = [Role::Writer, Role::Reader, Role::Operator, Role::Auditor];
        let token = self.issuer.issue("somebody", "acme", &roles, Duration::from_secs(3_600))?;
        let (endpoint, query_endpoint) =
            (format!("http://{}", self.command), query.map(|query| query.endpoint.clone()));
        Ok(Target { endpoint, query_endpoint, token, tls: TlsArgs::default() }.connect().await?)
    }

    fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    async fn in_log(&self, statement: &str) -> Result<(), Failure> {
        let mut log = PgConnection::connect(&self.log_url).await?;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut log).await?;
        Ok(())
    }
}

/// Two services with folders of their own must not both begin a log; and a store serves its own log alone.
pub async fn o1_whose_key_store(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let house = House::lay(dir.path(), &env, "smtp://127.0.0.1:1?tls=none").await?;
    let command = house.start("command")?;
    command.serves().await?;
    // The log holds no account yet.
    let other = dir.path().join("others").display().to_string();
    let said = house.refuses("command", &["--keyring-dir", &other]).await?;
    assert!(said.contains("log.keys is missing"), "{said}");
    assert!(!Path::new(&other).join("master.key").exists(), "no store is made beside the log's");

    let theirs_dir = tempfile::tempdir()?;
    let theirs = House::lay(theirs_dir.path(), &env, "smtp://127.0.0.1:1?tls=none").await?;
    let ours = house.keys().display().to_string();
    let said = theirs.refuses("command", &["--keyring-dir", &ours]).await?;
    assert!(said.contains("belongs to log"), "{said}");
    let started = theirs.start("command")?;
    started.serves().await?;
    let foreign = theirs.keys().display().to_string();
    for service in ["command", "projector"] {
        let said = house.refuses(service, &["--keyring-dir", &foreign]).await?;
        assert!(said.contains("belongs to log"), "{service}: {said}");
    }
    Ok(())
}

/// A backup of the key store that is older than the log is refused until a person gives the names up.
pub async fn o1_older_key_store(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let house = House::lay(dir.path(), &env, "smtp://127.0.0.1:1?tls=none").await?;
    let keys = house.keys();
    let command = house.start("command")?;
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
    let (command, projector) = (house.start("command")?, house.start("projector")?);
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
    house.start("command")?.serves().await?;
    let projector = house.start("projector")?;
    projector.serves().await?;
    let checked = house.run(&[], &["verify"]).await?;
    assert!(!text(&checked.stdout).contains("NO KEY"), "{}", text(&checked.stdout));
    Ok(())
}

/// A folder that is deleted under a running service stops it before the next append.
pub async fn o1_vanished_key_store(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let house = House::lay(dir.path(), &env, "smtp://127.0.0.1:1?tls=none").await?;
    let command = house.start("command")?;
    command.serves().await?;
    let mut clients = house.clients(None).await?;
    clients.command.open_account(open("1", "D-1")).await?;
    std::fs::rename(house.keys(), dir.path().join("aside"))?;
    for account in ["D-1", "D-2"] {
        let status = clients.command.open_account(open("2", account)).await.expect_err("the store is gone");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "KEY_STORE_UNAVAILABLE"));
    }
    command.says_not_serving("command service").await?;
    std::fs::rename(dir.path().join("aside"), house.keys())?;
    command.serves().await?;
    clients.command.open_account(open("2", "D-2")).await?;
    Ok(())
}

/// An older log under running processes: each of them stops and says so, and nothing is sent until a person releases it.
pub async fn o4_older_log(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let mail = Moody::start(0).await?;
    let house = House::lay(dir.path(), &env, &mail.url()).await?;
    let start = || ["command", "projector", "scheduler", "dispatcher", "query"].map(|service| house.start(service));
    let processes = start().into_iter().collect::<Result<Vec<_>, _>>()?;
    for process in &processes {
        process.serves().await?;
    }
    let mut clients = house.clients(Some(&processes[4])).await?;
    debtor(&clients, "D-1", "ana@example.com", 10).await?;
    house
        .in_log("CREATE TABLE backup AS TABLE saldo_log.records; CREATE TABLE ends AS TABLE saldo_log.partitions")
        .await?;
    house.succeeds(&["policy", "publish", &policy(dir.path(), |text| text)?]).await?;
    house.succeeds(&["sending", "on"]).await?;
    becomes(&clients, "D-1", "accepted").await?;
    assert_eq!(mail.heard().len(), 1);

    // The accounts log goes back to before the reminder. The catalog is kept.
    house
        .in_log(
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
        process.says_not_serving(service).await?;
    }
    let status = clients.command.open_account(open("1", "D-2")).await.expect_err("the log is another one");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "LOG_CHANGED"));
    assert!(status.message().contains("of saldo.accounts ends at offset"), "{}", status.message());
    let asked = saldo_api::v1::GetAccountRequest { account_id: "D-1".into(), consistency_token: String::new() };
    let status = clients.query.get_account(asked).await.expect_err("the log is another one");
    assert_eq!(reason(&status), "LOG_CHANGED");
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
    let house = House::lay(dir.path(), &env, "smtp://127.0.0.1:1?tls=none").await?;
    let theirs = House::lay(theirs_dir.path(), &env, "smtp://127.0.0.1:1?tls=none").await?;
    for house in [&house, &theirs] {
        let (command, projector) = (house.start("command")?, house.start("projector")?);
        command.serves().await?;
        projector.serves().await?;
    }
    for service in ["query", "scheduler", "dispatcher", "projector"] {
        let said = house.refuses(service, &["--database-url", &theirs.database]).await?;
        assert!(said.contains("the read models are of log"), "{service}: {said}");
    }
    // The catalog of another log stands in this one's place.
    let (mut ours, mut other) =
        (PgConnection::connect(&house.log_url).await?, PgConnection::connect(&theirs.log_url).await?);
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
        assert!(said.contains("the catalog belongs to accounts log"), "{service}: {said}");
    }
    Ok(())
}

/// A damaged local store is set aside, and the service goes on from the log.
pub async fn o8_damaged_store(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let house = House::lay(dir.path(), &env, "smtp://127.0.0.1:1?tls=none").await?;
    let command = house.start("command")?;
    command.serves().await?;
    house.clients(None).await?.command.open_account(open("1", "D-1")).await?;
    drop(command);
    for partition in 0..3 {
        let path = house.dir.join(format!("command/command/partition-{partition}.redb"));
        let length = std::fs::metadata(&path)?.len();
        std::fs::OpenOptions::new().write(true).open(&path)?.set_len(length / 2)?;
    }
    house.start("command")?.serves().await?;
    Ok(())
}
