//! Where a run happens: a broker, a Postgres, a mail server, our processes, and a proxy on every way between them.

use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    time::Duration,
};

use saldo::client::{Clients, Target};
use saldo_auth::{Issuer, Role};
use saldo_log::{
    Log,
    kafka::{KafkaConfig, KafkaLog},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::Connection;

use super::{
    database::Database,
    processes::{Death, Process, Spec, TABLE},
    proxy::Proxy,
};
use crate::{
    Failure, Outcome,
    deployment::make_keys,
    env::{free_port, within},
    kafka::{Door, Kafka, Shape},
    mailbox::Moody,
    process::saldo,
    talking::policy,
};

/// The creditors.
pub const TENANTS: [&str; 3] = ["acme", "brisa", "cobalto"];
/// The accounts topic.
pub const TOPIC: &str = "saldo.accounts";
const PARTITIONS: u32 = 8;
const DAY: Duration = Duration::from_secs(86_400);

/// Everything that runs.
pub struct Site {
    /// The broker.
    pub kafka: Kafka,
    /// The read models' database.
    pub database: Database,
    /// Every way between processes.
    pub links: Vec<Proxy>,
    /// Ours.
    pub processes: Vec<Process>,
    mail: Moody,
    issuer: Issuer,
    /// The command instances, as clients reach them: through a proxy.
    fronts: Vec<String>,
    /// For commands that look at log and database from beside.
    config: PathBuf,
    dir: PathBuf,
}

impl Site {
    /// Lays everything out under a folder and starts it.
    pub async fn lay(dir: &Path) -> Result<Self, Failure> {
        let issuer = make_keys(dir)?;
        let mail = Moody::start(0).await?;
        let database = Database::start(&dir.join("postgres")).await?;
        let mut planned = Vec::new();
        for (role, count) in TABLE {
            for number in 1..=count {
                planned.push((role, format!("{role}-{number}"), free_port()?));
            }
        }
        let mut links = Vec::new();
        let (mut fronts, mut doors) = (Vec::new(), Vec::new());
        for (role, name, port) in &planned {
            if *role == "command" {
                let front = Proxy::start(format!("anybody to {name}"), *port).await?;
                fronts.push(format!("http://127.0.0.1:{}", front.port));
                links.push(front);
            }
        }
        let mut ways = Vec::new();
        for (role, name, _) in &planned {
            let door = free_port()?;
            let to_kafka = Proxy::start(format!("{name} to kafka"), door).await?;
            let to_database = Proxy::start(format!("{name} to postgres"), database.port).await?;
            let to_mail = Proxy::start(format!("{name} to mail"), mail.address.port()).await?;
            doors.push(Door { port: door, advertised: to_kafka.port });
            ways.push([to_kafka.port, to_database.port, to_mail.port]);
            links.push(to_kafka);
            // A way that nobody goes is nothing to disturb.
            links.extend((*role != "command").then_some(to_database));
            links.extend((*role == "dispatcher").then_some(to_mail));
        }
        let kafka = Kafka::start_as(dir.join("kafka"), Shape { doors: &doors, ..Shape::default() }).await?;

        let configure = |name: &str, port: u16, brokers: &str, database_url: &str, mail_port: u16| {
            let at = |file: &str| dir.join(file).display().to_string();
            let fronts: Vec<String> = fronts.iter().map(|front| format!("'{front}'")).collect();
            let text = format!(
                "listen = '127.0.0.1:{port}'\ndata_dir = '{}'\n\
                 [log]\nkafka = '{brokers}'\ntopic = '{TOPIC}'\nreplication_factor = 1\nallow_unsafe = true\n\
                 partitions = {PARTITIONS}\n[database]\nurl = '{database_url}'\n[keyring]\ndir = '{}'\n\
                 [sending]\nsmtp = 'smtp://127.0.0.1:{mail_port}?tls=none'\n\
                 [auth]\npublic_keys = ['{}']\nservice_public_keys = ['{}']\nservice_key = '{}'\n\
                 [services]\ncommand = [{}]\n[tracing]\nfilter = 'warn'\n",
                at(&format!("{name}.data")),
                at("keys"),
                at("issuer.pub.pem"),
                at("service.pub.pem"),
                at("service.pem"),
                fronts.join(", ")
            );
            let file = dir.join(format!("{name}.toml"));
            std::fs::write(&file, text)?;
            Ok::<_, Failure>(file)
        };
        let beside = configure("beside", 0, &kafka.brokers, &database.url(database.port), mail.address.port())?;
        let mut site = Self {
            kafka,
            database,
            links,
            processes: Vec::new(),
            mail,
            issuer,
            fronts: fronts.clone(),
            config: beside,
            dir: dir.into(),
        };
        site.command(&["log", "create"]).await?;
        for ((role, name, port), [kafka, database, mail]) in planned.into_iter().zip(ways) {
            let brokers = format!("127.0.0.1:{kafka}");
            let config = configure(&name, port, &brokers, &site.database.url(database), mail)?;
            let log = dir.join(format!("{name}.log"));
            site.processes.push(Process::start(Spec { role, name, config, port, log }));
        }
        site.all_healthy(Duration::from_secs(90)).await?;
        Ok(site)
    }

    /// Our processes of a role.
    pub fn of<'s>(&'s self, role: &'s str) -> impl Iterator<Item = &'s Process> {
        self.processes.iter().filter(move |process| process.spec.role == role)
    }

    /// Clients of a creditor, by command instance, through the proxy.
    pub async fn clients(&self, tenant: &str) -> Result<Vec<Clients>, Failure> {
        let mut clients = Vec::new();
        for front in &self.fronts {
            clients.push(self.target(front.clone(), tenant)?.connect().await?);
        }
        Ok(clients)
    }

    /// The file of the keys that records are written under.
    pub fn log_keys(&self) -> PathBuf {
        self.dir.join("keys").join(saldo_log::keys::FILE)
    }

    /// Where a process of ours listens, without a proxy.
    pub async fn direct(&self, process: &Process, tenant: &str) -> Result<Clients, Failure> {
        Ok(self.target(process.endpoint(), tenant)?.connect().await?)
    }

    fn target(&self, endpoint: String, tenant: &str) -> Result<Target, Failure> {
        let roles = [Role::Writer, Role::Reader, Role::Operator, Role::Auditor];
        let token = self.issuer.issue("crowd", tenant, &roles, DAY)?;
        Ok(Target::new(endpoint, token))
    }

    /// A `saldo` command beside everything, which must succeed.
    async fn command(&self, args: &[&str]) -> Result<String, Failure> {
        self.command_as(args, None).await
    }

    async fn command_as(&self, args: &[&str], target: Option<Target>) -> Result<String, Failure> {
        let mut command = saldo(args)?;
        command.env("SALDO_CONFIG", &self.config);
        if let Some(target) = target {
            command.env("SALDO_ENDPOINT", target.endpoint).env("SALDO_TOKEN", target.token);
        }
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(format!("saldo {args:?}: {said}{}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(said)
    }

    /// Puts a policy in force whose hours never end, for every creditor.
    pub async fn speak(&self) -> Outcome {
        let folder = policy(&self.dir, |text| text)?;
        for tenant in TENANTS {
            let target = self.target(self.fronts[0].clone(), tenant)?;
            self.command_as(&["policy", "publish", &folder], Some(target.clone())).await?;
            self.command_as(&["sending", "on"], Some(target)).await?;
        }
        Ok(())
    }

    async fn all_healthy(&self, patience: Duration) -> Outcome {
        for process in &self.processes {
            let what = format!("{} serves", process.spec.name);
            within(patience, &what, || async { process.is_healthy().await }).await?;
        }
        Ok(())
    }

    /// Where the log ends.
    async fn end(log: &dyn Log) -> Result<u64, Failure> {
        let mut end = 0;
        for partition in 0..PARTITIONS {
            end += log.end(partition).await?;
        }
        Ok(end)
    }

    /// The live build, if it has been read into up to there.
    async fn read_up_to(&self, end: u64) -> Result<Option<i64>, Failure> {
        let mut database = self.connect().await?;
        let build: i64 = sqlx::query_scalar("SELECT number FROM saldo.live").fetch_one(&mut database).await?;
        let reached = format!("SELECT sum(next_offset)::bigint FROM rm_{build}.checkpoints");
        let reached: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(reached)).fetch_one(&mut database).await?;
        Ok((reached as u64 == end).then_some(build))
    }

    /// Whether, as this build has it, no account is to be woken and no reminder to be sent.
    async fn nothing_waits(&self, build: i64) -> Result<bool, Failure> {
        let waiting = format!(
            "SELECT (SELECT count(*) FROM rm_{build}.reminders WHERE status = 'due')
                  + (SELECT count(*) FROM rm_{build}.agenda a LEFT JOIN saldo.wakeups w USING (tenant, account)
                     WHERE a.wakeup_at <= now() AND (w.account_version IS NULL OR w.account_version < a.account_version
                                                     OR w.wakeup_at <= now()))"
        );
        let waiting = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(waiting));
        Ok(waiting.fetch_one(&mut self.connect().await?).await? == 0)
    }

    /// Read models of a moment ago prove little. So the log must end at the same place before and after the look at them.
    async fn is_at_rest(&self, log: &dyn Log) -> Result<bool, Failure> {
        let end = Self::end(log).await?;
        let Some(build) = self.read_up_to(end).await? else { return Ok(false) };
        Ok(self.nothing_waits(build).await? && Self::end(log).await? == end)
    }

    async fn connect(&self) -> Result<sqlx::PgConnection, Failure> {
        Ok(sqlx::PgConnection::connect(&self.database.url(self.database.port)).await?)
    }

    async fn log(&self) -> Result<KafkaLog, Failure> {
        let config = KafkaConfig {
            brokers: self.kafka.brokers.clone(),
            topic: TOPIC.into(),
            replication_factor: 1,
            allow_unsafe: true,
            tls: None,
        };
        Ok(KafkaLog::connect(config).await?)
    }

    /// Everybody serves, nothing that is due waits to be sent, and the read models have come to the log's end.
    pub async fn settle(&self, patience: Duration) -> Outcome {
        self.all_healthy(patience).await?;
        let log = self.log().await?;
        let what = "everything due is sent and read back";
        within(patience, what, || async { matches!(self.is_at_rest(&log).await, Ok(true)) }).await
    }

    async fn read_back(&self, patience: Duration) -> Outcome {
        let log = self.log().await?;
        let read = async || -> Result<bool, Failure> { Ok(self.read_up_to(Self::end(&log).await?).await?.is_some()) };
        let what = "the read models reach the log's end";
        within(patience, what, || async { matches!(read().await, Ok(true)) }).await
    }

    /// Stops our processes in order, with the read models at the log's end. Mails that came in and the counts of the links are
    /// written down. The product's own check must pass.
    pub async fn close(&self) -> Outcome {
        let dir = &self.dir;
        let last = ["projector", "query"];
        for process in self.processes.iter().filter(|process| !last.contains(&process.spec.role)) {
            process.stop().await?;
        }
        self.read_back(Duration::from_secs(60)).await?;
        for process in self.processes.iter().filter(|process| last.contains(&process.spec.role)) {
            process.stop().await?;
        }
        let ends = self.processes.iter().flat_map(|process| {
            let line = |death: Death| {
                json!({ "process": process.spec.name, "pid": death.pid, "signal": death.status.signal(),
                "code": death.status.code() })
            };
            process.deaths().into_iter().map(move |death| format!("{}\n", line(death)))
        });
        std::fs::write(dir.join("ends.jsonl"), ends.collect::<String>())?;
        let mails = self.mail.messages().into_iter().map(|(to, message)| {
            let text = String::from_utf8_lossy(&message);
            let id = text.lines().find_map(|line| line.strip_prefix("Message-ID: <")).unwrap_or_default();
            json!({
                "to": to,
                "message_id": id.trim_end_matches('>'),
                "sha256": Sha256::digest(&message).iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            })
        });
        std::fs::write(dir.join("mails.jsonl"), mails.map(|mail| format!("{mail}\n")).collect::<String>())?;
        let links = self.links.iter().map(|link| {
            let mut line: serde_json::Map<_, _> =
                link.counts.named().into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
            line.insert("link".into(), link.name.clone().into());
            format!("{}\n", serde_json::Value::from(line))
        });
        std::fs::write(dir.join("links.jsonl"), links.collect::<String>())?;
        std::fs::write(dir.join("verify.json"), self.command(&["verify", "--json"]).await?)?;
        Ok(())
    }
}
