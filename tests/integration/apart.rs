//! Every service a process of its own, several of each, on one Kafka and one Postgres, over mutual TLS.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use saldo::client::{Clients, Target, TlsArgs};
use saldo_auth::{Issuer, Role};
use saldo_postgres::Lock;
use saldo_test_certificates::{Authority, VALID};
use sqlx::{Connection, PgConnection, PgPool};

use crate::{
    Failure, Outcome, conformance,
    env::{Env, eventually, free_port},
    mailbox::Moody,
    process::saldo,
    talking::{becomes, debtor, policy},
};

const HOUR: Duration = Duration::from_secs(3_600);

/// What the processes share.
pub struct Site {
    dir: PathBuf,
    /// The processes' configuration.
    pub config: PathBuf,
    /// Their database.
    database: String,
    issuer: Issuer,
    /// Where the command service's instances listen.
    pub commands: [String; 2],
    /// With which everybody speaks to everybody: all are certified by one authority.
    tls: TlsArgs,
}

impl Site {
    /// Keys, certificates, a configuration and an empty log.
    pub async fn lay(dir: &Path, env: &Env, smtp: &str) -> Result<Self, Failure> {
        let key = |name: &str| {
            let (private, public) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.pub.pem")));
            let issuer = Issuer::read_or_create(&private)?;
            std::fs::write(&public, issuer.public_pem()?)?;
            Ok::<_, Failure>(issuer)
        };
        let (issuer, _) = (key("issuer")?, key("service")?);
        let authority = Authority::new("ours");
        let ca = authority.write(dir, "ca")?;
        let (certificate, tls_key) = authority.certify(&["127.0.0.1"], VALID).write(dir, "saldo")?;
        let commands = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
        let config = dir.join("saldo.toml");
        let at = |name: &str| dir.join(name).display().to_string();
        let database = env.database().await?;
        let text = format!(
            "[log]\nkafka = '{}'\ntopic = '{}'\nreplication_factor = 1\nallow_unsafe = true\npartitions = 4\n\
             [database]\nurl = '{database}'\n[keyring]\ndir = '{}'\n[sending]\nsmtp = '{smtp}'\n\
             [auth]\npublic_keys = ['{}']\nservice_public_keys = ['{}']\nservice_key = '{}'\n\
             [tls]\ncertificate = '{}'\nkey = '{}'\nclient_ca = '{}'\n\
             [services]\ncommand = ['https://{}', 'https://{}']\n\
             tls_certificate = '{}'\ntls_key = '{}'\ntls_ca = '{}'\n[tracing]\nfilter = 'warn'\n",
            env.kafka().await?.brokers,
            conformance::topic(),
            at("keys"),
            at("issuer.pub.pem"),
            at("service.pub.pem"),
            at("service.pem"),
            certificate.display(),
            tls_key.display(),
            ca.display(),
            commands[0],
            commands[1],
            certificate.display(),
            tls_key.display(),
            ca.display(),
        );
        std::fs::write(&config, text)?;
        let tls = TlsArgs { tls_ca: Some(ca), tls_cert: Some(certificate), tls_key: Some(tls_key) };
        let site = Self { dir: dir.to_owned(), config, database, issuer, commands, tls };
        let mut create = saldo(&["log", "create"])?;
        create.arg("--config").arg(&site.config);
        let created = tokio::task::spawn_blocking(move || create.output()).await??;
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        Ok(site)
    }

    /// Starts a service.
    pub fn start(&self, service: &str, number: u32, listen: &str) -> Result<Process, Failure> {
        let mut command = saldo(&[service, "--listen", listen])?;
        command.arg("--config").arg(&self.config);
        command.arg("--data-dir").arg(self.dir.join(format!("{service}-{number}")));
        Ok(Process { child: command.spawn()?, endpoint: format!("https://{listen}"), tls: self.tls.clone() })
    }

    /// The same, on a port of its own.
    pub fn start_anywhere(&self, service: &str, number: u32) -> Result<Process, Failure> {
        self.start(service, number, &format!("127.0.0.1:{}", free_port()?))
    }

    /// Who asks these two, with every role but a service's.
    pub fn target(&self, command: &str, query: &Process) -> Result<Target, Failure> {
        let roles = [Role::Writer, Role::Reader, Role::Operator, Role::Auditor];
        let token = self.issuer.issue("somebody", "acme", &roles, HOUR)?;
        let (endpoint, query_endpoint) = (format!("https://{command}"), Some(query.endpoint.clone()));
        Ok(Target { query_endpoint, tls: self.tls.clone(), ..Target::new(endpoint, token) })
    }

    /// A `saldo` command that must succeed.
    pub async fn succeed(&self, target: &Target, args: &[&str]) -> Result<String, Failure> {
        let mut command = saldo(args)?;
        command.env("SALDO_ENDPOINT", &target.endpoint).env("SALDO_TOKEN", &target.token);
        command.env("SALDO_CONFIG", &self.config).envs(tls_variables(&self.tls));
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        assert!(output.status.success(), "saldo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// A service.
pub struct Process {
    child: Child,
    /// Where it listens.
    pub endpoint: String,
    tls: TlsArgs,
}

/// What tells a `saldo` command the same.
pub fn tls_variables(tls: &TlsArgs) -> Vec<(&'static str, PathBuf)> {
    let files = [("SALDO_TLS_CA", &tls.tls_ca), ("SALDO_TLS_CERT", &tls.tls_cert), ("SALDO_TLS_KEY", &tls.tls_key)];
    files.into_iter().filter_map(|(name, path)| path.clone().map(|path| (name, path))).collect()
}

impl Process {
    /// Waits until it serves.
    pub async fn healthy(&self) -> Result<(), Failure> {
        eventually(&format!("health of {}", self.endpoint), || async {
            let asked = saldo(&["health", "--endpoint", &self.endpoint]);
            let variables = tls_variables(&self.tls);
            let ask =
                |mut command: Command| command.envs(variables).stdout(Stdio::null()).stderr(Stdio::null()).status();
            let asked = tokio::task::spawn_blocking(move || asked.ok().and_then(|command| ask(command).ok()));
            matches!(asked.await, Ok(Some(status)) if status.success())
        })
        .await
    }

    fn signal(&self, name: &str) -> Result<(), Failure> {
        Command::new("kill").args([name, &self.child.id().to_string()]).status()?;
        Ok(())
    }

    /// Asks it to stop and waits for its end.
    pub async fn stop(mut self) -> Result<ExitStatus, Failure> {
        self.signal("-TERM")?;
        // It moves into the thread that waits, so a time-out kills it.
        let waited = tokio::task::spawn_blocking(move || self.child.wait());
        Ok(tokio::time::timeout(Duration::from_secs(60), waited).await???)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
    let site = Site::lay(dir.path(), &env, &mail.url()).await?;
    // A scheduler that was stopped keeps its lock, and says nothing.
    let mut silent = Lock::open(&PgPool::connect(&site.database).await?, "saldo_scheduler").await?;
    assert!(silent.try_take().await?);
    // An analyst can take every advisory lock, and can give a session any name.
    let mut analyst = PgConnection::connect(&site.database).await?;
    for lock in ["saldo_scheduler", "saldo_projector", "saldo_readmodel", "saldo_rebuild"] {
        sqlx::query("SELECT pg_advisory_lock(hashtext($1))").bind(lock).execute(&mut analyst).await?;
    }
    let mut commands = vec![
        site.start("command", 1, &site.commands[0].clone())?,
        site.start("command", 2, &site.commands[1].clone())?,
    ];
    let mut others = Vec::new();
    for (service, count) in [("projector", 2), ("scheduler", 2), ("dispatcher", 2), ("query", 2)] {
        for number in 1..=count {
            others.push(site.start_anywhere(service, number)?);
        }
    }
    for process in commands.iter().chain(&others) {
        process.healthy().await?;
    }
    let queries = others.split_off(6);
    let one = site.target(&site.commands[0], &queries[0])?;
    let two = site.target(&site.commands[1], &queries[1])?;
    let clients = one.connect().await?;
    owes(&clients, 0..10).await?;
    let policy = policy(dir.path(), |text| text)?;
    site.succeed(&two, &["policy", "publish", &policy]).await?;
    site.succeed(&two, &["sending", "on"]).await?;
    reminded(&clients, 0..10).await?;
    assert!(silent.session().ping().await.is_err(), "its session was ended");

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
        "SELECT state_change > clock_timestamp() - interval '5 seconds' FROM saldo.locks JOIN pg_stat_activity USING (pid)
         WHERE name = 'saldo_scheduler'",
    )
    .fetch_one(&mut PgConnection::connect(&site.database).await?)
    .await?;
    assert!(is_heard, "the scheduler that works is heard every second");
    let mut heard = mail.heard();
    heard.sort();
    heard.dedup();
    assert_eq!((heard.len(), mail.heard().len()), (20, 20), "each once");

    site.succeed(&two, &["verify"]).await?;
    for process in others.into_iter().chain(commands).chain(queries) {
        let endpoint = process.endpoint.clone();
        let status = process.stop().await?;
        assert!(status.success(), "{endpoint}: {status}");
    }
    Ok(())
}

/// A service that is started before its servers waits for them, and can be stopped meanwhile; what is wrong in itself is
/// said at once.
pub async fn waiting(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let site = Site::lay(dir.path(), &env, "smtp://127.0.0.1:1?tls=none").await?;
    let nobody = format!("postgres://saldo@127.0.0.1:{}/saldo", free_port()?);
    let run = |service: &str, database: &str| {
        let mut command = saldo(&[service, "--listen", "127.0.0.1:0", "--database-url", database])?;
        command.arg("--config").arg(&site.config).arg("--data-dir").arg(dir.path().join("waiting"));
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
