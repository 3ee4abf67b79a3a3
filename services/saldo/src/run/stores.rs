//! Log and database, opened: the configured ones, and embedded ones in their absence.

use std::{sync::Arc, time::Duration};

use saldo_catalog::{CatalogError, PARTITIONS};
use saldo_embedded_postgres::{ChildCommand, EmbeddedPostgres, StartStep};
use saldo_log::{
    Log, LogError,
    embedded::EmbeddedLog,
    frame::PROBE_KEY,
    genesis::{self, Identity},
    kafka::{KafkaConfig, KafkaLog, KafkaTls},
    keys::LogKeys,
};
use sqlx::{
    Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    Failure,
    config::{Config, Secret},
    terminal::progress,
};

/// Records read at once when the log is searched for a commit.
const SEARCH_BATCH: usize = 100;
/// The longest that connections to the embedded log may take to close.
const CLOSE: Duration = Duration::from_secs(10);
/// Connections to Postgres of the command-line tools.
const TOOL_CONNECTIONS: u32 = 16;

pub struct Stores {
    /// The accounts log.
    pub log: Arc<dyn Log>,
    pub catalog_log: Arc<dyn Log>,
    /// The embedded log's address; `None` with Kafka.
    pub log_url: Option<Secret>,
    database: Option<Database>,
    postgres: Option<EmbeddedPostgres>,
    /// Both logs again, where they are embedded: they have connections to close.
    embedded: Vec<Arc<EmbeddedLog>>,
}

/// The read models' database.
pub struct Database {
    /// Connections for tools.
    pub pool: PgPool,
    pub url: Secret,
}

/// A server that cannot be reached, or not yet. A retry can succeed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(String);

/// What a tool needs, and nothing names.
#[derive(Debug)]
enum Missing {
    Log,
    Database,
}

/// Nothing says what a tool is to work on.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.words())]
pub struct NotConfigured {
    what: Missing,
    data_dir: String,
}

impl NotConfigured {
    /// For the log.
    pub fn log(config: &Config) -> Self {
        Self { what: Missing::Log, data_dir: config.data_dir.display().to_string() }
    }

    fn words(&self) -> String {
        let (missing, flag) = match self.what {
            Missing::Log => ("no log is configured", "--kafka"),
            Missing::Database => ("no database is configured (database.url)", "--database-url"),
        };
        let dir = &self.data_dir;
        format!(
            "{missing}, and data_dir {dir} holds none: name the configuration with --config FILE or SALDO_CONFIG (`saldo dev` prints \
             it), the server with {flag}, or the folder of an embedded one with --data-dir"
        )
    }
}

/// Whether a retry can succeed.
pub fn is_unreachable(failure: &Failure) -> bool {
    failure.is::<Unreachable>()
        || matches!(failure.downcast_ref(), Some(LogError::Unavailable(_)))
        || matches!(failure.downcast_ref(), Some(CatalogError::Log(LogError::Unavailable(_))))
}

impl Stores {
    /// Opens the configured log and database, and an embedded Postgres for what is not configured.
    pub async fn open(config: &Config, progress: impl Fn(StartStep)) -> Result<Self, Failure> {
        let postgres = if config.database.url.is_none() || !config.log.is_named() {
            Some(start_postgres(config, progress).await?)
        } else {
            None
        };
        let url = match (&config.database.url, &postgres) {
            (Some(url), _) => url.clone(),
            (None, Some(postgres)) => {
                postgres.ensure_database("saldo").await?;
                Secret::new(postgres.url("saldo"))
            }
            (None, None) => return Err("database.url is missing".into()),
        };
        let log_url = match (&config.log.embedded_url, &postgres) {
            _ if config.log.kafka.is_some() => None,
            (Some(url), _) => Some(url.clone()),
            (None, Some(postgres)) => {
                postgres.ensure_database("saldo_log").await?;
                Some(Secret::new(postgres.url("saldo_log")))
            }
            (None, None) => None,
        };
        let (log, catalog_log, embedded) = open_logs(config, log_url.as_ref()).await?;
        let database = Some(Database { pool: connect(&url, TOOL_CONNECTIONS, None).await?, url });
        Ok(Self { log, catalog_log, log_url, database, postgres, embedded })
    }

    /// Opens what one service of several needs. Nothing is embedded: each process would start a Postgres of its own.
    pub async fn open_apart(config: &Config, with_database: bool) -> Result<Self, Failure> {
        let log_url = config.log.embedded_url.clone().filter(|_| config.log.kafka.is_none());
        if config.log.kafka.is_none() && log_url.is_none() {
            return Err("log.kafka is missing: services apart share a log (or name one in log.embedded_url)".into());
        }
        let database = match &config.database.url {
            _ if !with_database => None,
            Some(url) => Some(Database { pool: connect(url, TOOL_CONNECTIONS, None).await?, url: url.clone() }),
            None => return Err("database.url is missing: services apart share a database".into()),
        };
        let (log, catalog_log, embedded) = open_logs(config, log_url.as_ref()).await?;
        Ok(Self { log, catalog_log, log_url, database, postgres: None, embedded })
    }

    /// Opens what a tool works on: the log, and with `with_database` the read models. An embedded Postgres is started over a folder
    /// that has one, and is never made: a tool would find an empty log in it, and speak of that one.
    pub async fn open_for_tool(config: &Config, with_database: bool) -> Result<Self, Failure> {
        let has_log = config.log.is_named();
        if has_log && (config.database.url.is_some() || !with_database) {
            return Self::open_apart(config, with_database).await;
        }
        if !saldo_embedded_postgres::is_made(&config.embedded_dir()) {
            let what = if has_log { Missing::Database } else { Missing::Log };
            return Err(NotConfigured { what, data_dir: config.data_dir.display().to_string() }.into());
        }
        Self::open_shown(config).await.map_err(|error| match config.dev_file() {
            Some(file) => format!("{error}; while `saldo dev` runs, name its configuration: --config {file}").into(),
            None => error,
        })
    }

    pub fn database(&self) -> Result<&Database, Failure> {
        self.database.as_ref().ok_or_else(|| "this process was started without a database".into())
    }

    /// Opens as [`Stores::open`] does, with a spinner that says what the start waits for.
    pub async fn open_shown(config: &Config) -> Result<Self, Failure> {
        let bar = progress::spinner("opening log and database");
        let opened = Self::open(config, |stage| progress::show_stage(&bar, &stage)).await;
        bar.finish_and_clear();
        opened
    }

    /// The identity of both logs. With `create`, a missing log is created.
    pub async fn identities(&self, config: &Config, create: bool) -> Result<Identities, Failure> {
        let (accounts, catalog) = (self.log.as_ref(), self.catalog_log.as_ref());
        let keys = LogKeys::at(config.log_keys());
        if create {
            let log_id = genesis::begin(accounts, config.log.partitions, || keys.begin(), &keys).await?;
            keys.finish(log_id)?;
            let accounts = genesis::complete(accounts, &keys).await?;
            return Ok(Identities { accounts, catalog: genesis::create(catalog, PARTITIONS, &keys).await? });
        }
        self.identities_under(&keys).await
    }

    /// The identity of both logs, where no process of theirs has another use for the keys of their records.
    pub async fn identities_without_keys(&self) -> Result<Identities, Failure> {
        self.identities_under(&LogKeys::NONE).await
    }

    async fn identities_under(&self, keys: &LogKeys) -> Result<Identities, Failure> {
        let accounts = genesis::open(self.log.as_ref(), keys).await?;
        match genesis::open(self.catalog_log.as_ref(), keys).await {
            Err(error @ LogError::NotALog { .. }) => {
                let topic = self.catalog_log.topic();
                Err(format!("the catalog, {topic}, belongs to another accounts log, or is damaged: {error}").into())
            }
            catalog => Ok(Identities { accounts, catalog: catalog? }),
        }
    }

    pub async fn close(self) {
        if let Some(database) = self.database {
            database.pool.close().await;
        }
        drop((self.log, self.catalog_log));
        // The embedded Postgres must not stop under a connection that is on its way back to its pool.
        let closing = futures::future::join_all(self.embedded.iter().map(|log| log.close()));
        if tokio::time::timeout(CLOSE, closing).await.is_err() {
            tracing::warn!("connections to the embedded log did not close in time");
        }
        if let Some(postgres) = self.postgres
            && let Err(error) = postgres.stop().await
        {
            tracing::warn!(%error, "the embedded Postgres");
        }
    }
}

/// The actor that raises the format of a log, as the history of the catalog names it.
pub const UPGRADER: &str = "saldo log";

#[derive(Debug, Clone)]
pub struct Identities {
    pub accounts: Identity,
    pub catalog: Identity,
}

/// A pool of at most so many connections. The first is opened at once. Postgres ends a statement that takes longer than `longest`.
pub(crate) async fn connect(url: &Secret, connections: u32, longest: Option<Duration>) -> Result<PgPool, Failure> {
    let options = PgPoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(10));
    let server: PgConnectOptions = url.expose().parse().map_err(|error| format!("database.url: {error}"))?;
    let mut server = saldo_postgres::as_session(server);
    if let Some(longest) = longest {
        server = server.options([("statement_timeout", longest.as_millis().to_string())]);
    }
    let why = match options.connect_with(server).await {
        Ok(pool) => return Ok(pool),
        // The pool only says that it timed out: one more try tells the reason.
        Err(sqlx::Error::PoolTimedOut) => PgConnection::connect(url.expose()).await.err(),
        Err(error) => Some(error),
    };
    let why = why.unwrap_or(sqlx::Error::PoolTimedOut);
    let told = format!("database.url: {why}");
    let is_starting_or_full = |code: &str| matches!(code, "57P03" | "53300");
    Err(match why {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => Unreachable(told).into(),
        sqlx::Error::Database(error) if error.code().is_some_and(|code| is_starting_or_full(&code)) => {
            Unreachable(told).into()
        }
        _ => told.into(),
    })
}

async fn start_postgres(config: &Config, progress: impl Fn(StartStep)) -> Result<EmbeddedPostgres, Failure> {
    let mut child = ChildCommand::this_binary(["postgres"])?;
    // Under this variable a test binary stands in for `saldo`; its child needs the variable too.
    if let Some(value) = std::env::var_os("SALDO_TEST_AS_SALDO") {
        child.envs.push(("SALDO_TEST_AS_SALDO".into(), value));
    }
    let options = saldo_embedded_postgres::Options::new(config.embedded_dir(), child).setting("max_connections", "100");
    Ok(EmbeddedPostgres::start(options, progress).await?)
}

/// Whether the log holds more than each partition's Genesis (record 0) and probes of its clock.
pub(crate) async fn holds_commits(log: &dyn Log, identity: &Identity) -> Result<bool, Failure> {
    for partition in 0..identity.partitions {
        let (mut next, end) = (1, log.end(partition).await?);
        if next >= end {
            continue;
        }
        let mut tail = log.tail(&[(partition, next)]).await?;
        while next < end {
            for record in tail.next(SEARCH_BATCH).await? {
                next = record.offset + 1;
                if record.key != PROBE_KEY {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Accounts and catalog; and both again where they are embedded.
type Logs = (Arc<dyn Log>, Arc<dyn Log>, Vec<Arc<EmbeddedLog>>);

async fn open_logs(config: &Config, embedded_url: Option<&Secret>) -> Result<Logs, Failure> {
    let mut embedded = Vec::new();
    let accounts = open_log(config, &config.log.topic, embedded_url, &mut embedded).await?;
    let catalog = open_log(config, &config.log.catalog_topic(), embedded_url, &mut embedded).await?;
    Ok((accounts, catalog, embedded))
}

async fn open_log(
    config: &Config,
    topic: &str,
    embedded_url: Option<&Secret>,
    embedded: &mut Vec<Arc<EmbeddedLog>>,
) -> Result<Arc<dyn Log>, Failure> {
    let failed = |place: String| {
        move |error: LogError| -> Failure {
            let told = format!("{place}: {error}");
            if matches!(error, LogError::Unavailable(_)) { Unreachable(told).into() } else { told.into() }
        }
    };
    if let Some(brokers) = &config.log.kafka {
        let tls = config.log.files()?.map(KafkaTls::open).transpose().map_err(|error| format!("log: {error}"))?;
        let kafka = KafkaLog::connect(KafkaConfig {
            brokers: brokers.clone(),
            topic: topic.to_owned(),
            replication_factor: config.log.replication_factor as i32,
            allow_unsafe: config.log.allow_unsafe,
            tls,
        });
        return Ok(Arc::new(kafka.await.map_err(failed(format!("log.kafka {brokers}")))?));
    }
    let url = embedded_url.ok_or("neither log.kafka nor an embedded log is configured")?;
    let log = EmbeddedLog::connect(url.expose(), topic).await;
    let log = Arc::new(log.map_err(failed("log.embedded_url".to_owned()))?);
    embedded.push(log.clone());
    Ok(log)
}
