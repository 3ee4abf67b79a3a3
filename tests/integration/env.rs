//! The common servers of all tests: a runtime, one Postgres and one Kafka a run, started when first needed.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use saldo_embedded_postgres::{ChildCommand, EmbeddedPostgres, Options};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    sync::OnceCell,
};

use crate::{Failure, kafka::Kafka, process};

static ENV: OnceLock<Arc<Env>> = OnceLock::new();

/// Shared by all tests of a run.
pub struct Env {
    runtime: Runtime,
    dir: Mutex<Option<tempfile::TempDir>>,
    postgres: OnceCell<Mutex<Option<EmbeddedPostgres>>>,
    kafka: OnceCell<Kafka>,
}

impl Env {
    /// The run's environment.
    pub fn get() -> Arc<Env> {
        ENV.get_or_init(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            Arc::new(Env {
                runtime: runtime.expect("a runtime"),
                dir: Mutex::new(Some(tempfile::tempdir().expect("a temporary folder"))),
                postgres: OnceCell::new(),
                kafka: OnceCell::new(),
            })
        })
        .clone()
    }

    /// Runs the tests' futures.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn dir(&self) -> PathBuf {
        self.dir.lock().expect("lock").as_ref().expect("not shut down").path().to_owned()
    }

    /// The address of a fresh, empty database.
    pub async fn database(&self) -> Result<String, Failure> {
        let postgres = self
            .postgres
            .get_or_try_init(|| async {
                let options = postgres_in(&self.dir().join("postgres"))?.setting("max_connections", "300");
                Ok::<_, Failure>(Mutex::new(Some(EmbeddedPostgres::start(options, |_| {}).await?)))
            })
            .await?;
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let (admin, url) = {
            let postgres = postgres.lock().expect("lock");
            let postgres = postgres.as_ref().ok_or("shut down")?;
            (postgres.url("postgres"), postgres.url(&name))
        };
        let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&admin).await?;
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await?;
        Ok(url)
    }

    /// The run's broker.
    pub async fn kafka(&self) -> Result<&Kafka, Failure> {
        self.kafka.get_or_try_init(|| Kafka::start(self.dir().join("kafka"))).await
    }
}

/// A Postgres of one's own.
pub fn postgres_in(dir: &Path) -> Result<Options, Failure> {
    let mut child = ChildCommand::this_binary(["postgres"])?;
    child.envs.push((process::AS_SALDO.into(), "1".into()));
    Ok(Options::new(dir, child))
}

/// Stops the servers.
pub fn shut_down() {
    let Some(env) = ENV.get() else { return };
    env.runtime.block_on(async {
        if let Some(kafka) = env.kafka.get() {
            kafka.kill();
        }
        let postgres = env.postgres.get().and_then(|postgres| postgres.lock().expect("lock").take());
        if let Some(postgres) = postgres {
            let _ = postgres.stop().await;
        }
    });
    drop(env.dir.lock().expect("lock").take());
}

/// Where tests keep what they fetch.
pub fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("saldo-tests")
}

/// Real material beside the project, absent on a user's machine.
pub fn shared_data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/receivables/WA_Fn-UseC_-Accounts-Receivable.csv")
}

/// Why tests on real material cannot run.
pub fn shared_data_missing() -> Option<String> {
    (!shared_data().exists()).then(|| "needs ../shared/data beside the project".to_owned())
}

/// Waits for a condition, at most a minute.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) -> Result<(), Failure> {
    within(Duration::from_secs(60), what, condition).await
}

/// Waits for a condition, at most so long.
pub async fn within<F: Future<Output = bool>>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + patience;
    while !condition().await {
        if tokio::time::Instant::now() > deadline {
            return Err(format!("{what} did not come about within {} seconds", patience.as_secs()).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Below the range that connections and listeners on "any port" are given theirs from, which would take one that a server is
/// yet to be started on, or started on again.
const PORTS: std::ops::Range<u32> = 10_000..32_768;

/// A port that nobody listens on, handed out once in a run.
pub fn free_port() -> Result<u16, Failure> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = PORTS.end - PORTS.start;
    // Runs beside each other begin at places of their own.
    let first = std::process::id().wrapping_mul(997);
    for _ in 0..count {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = u16::try_from(PORTS.start + next)?;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("no port is free".into())
}

/// The answer of an HTTP server of this machine.
pub async fn get(port: u16, path: &str) -> Result<String, Failure> {
    let mut line = TcpStream::connect(("127.0.0.1", port)).await?;
    line.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    line.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    if head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200") {
        Ok(body.to_owned())
    } else {
        Err(format!("{path}: {head}").into())
    }
}
