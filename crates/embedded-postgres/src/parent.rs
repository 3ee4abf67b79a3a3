//! The side that wants a database: starts the child, learns where the server is, and ends it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

pub use crate::privileges::PrivilegeError;
use crate::privileges::{Account, prepare_directory, unprivileged};
use crate::protocol::{ChildMessage, Instructions, StartStep};

const SUPERUSER: &str = postgresql_embedded::BOOTSTRAP_SUPERUSER;
/// The child gives the server 75 seconds to stop; this adds time for its own end.
const STOP_LIMIT: Duration = Duration::from_secs(90);
/// SQLSTATE of CREATE DATABASE losing a race: the name exists, or its row was just inserted.
const ALREADY_THERE: [&str; 2] = ["42P04", "23505"];

/// How to run this same binary so that it calls [`run_child`](crate::run_child).
#[derive(Debug, Clone)]
pub struct ChildCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables to add to its environment.
    pub envs: Vec<(OsString, OsString)>,
}

impl ChildCommand {
    /// This same binary with other arguments. On Linux it is named through `/proc/self/exe`, which the unprivileged
    /// user can execute even where it can't enter the directory that the binary lies in.
    pub fn this_binary<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> io::Result<Self> {
        let by_proc = Path::new("/proc/self/exe");
        let program = if by_proc.exists() { by_proc.to_owned() } else { std::env::current_exe()? };
        Ok(Self { program, args: args.into_iter().map(Into::into).collect(), envs: Vec::new() })
    }
}

/// The options of a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the cluster, its password and its lock live. Made if missing; if root, given to the server's user.
    pub data_dir: PathBuf,
    /// How to run the child.
    pub child: ChildCommand,
    /// Where the server's files are kept for all to share. Default: `/var/cache/saldo` for root, otherwise
    /// `$XDG_CACHE_HOME/saldo` or `~/.cache/saldo`.
    pub cache_dir: Option<PathBuf>,
    /// The user to run the server under when this process is root. Default: `nobody`.
    pub user: Option<String>,
    /// Server settings, such as `max_connections` (200 by default).
    pub settings: BTreeMap<String, String>,
}

impl Options {
    /// The defaults around a data directory and a child.
    pub fn new(data_dir: impl Into<PathBuf>, child: ChildCommand) -> Self {
        Self { data_dir: data_dir.into(), child, cache_dir: None, user: None, settings: BTreeMap::new() }
    }

    /// Sets a server setting.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// User or directories.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// There is no place for the cache: the environment names neither a cache directory nor a home.
    #[error("no place for the Postgres cache: set HOME or XDG_CACHE_HOME, or name a cache directory")]
    NoCache,
    /// The child could not be run.
    #[error("can't run {program} as the hidden Postgres process: {source}", program = program.display())]
    Spawn {
        /// The program that was to be run.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The child said why it failed.
    #[error("the embedded Postgres is not available: {0}")]
    Failed(String),
    /// The child ended or broke off without a word.
    #[error("the hidden Postgres process broke off while starting: {0}")]
    BrokeOff(String),
}

/// Why the server may not have stopped cleanly. The next start recovers.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The child ended with an error.
    #[error(
        "the embedded Postgres did not stop cleanly: its process ended with {0}; its log is cluster/start.log in the data directory"
    )]
    Unclean(ExitStatus),
    /// It takes too long.
    #[error("the embedded Postgres did not stop within {} seconds; its log is cluster/start.log in the data directory", STOP_LIMIT.as_secs())]
    TimedOut,
    /// The system could not say.
    #[error("can't wait for the hidden Postgres process: {0}")]
    Wait(#[from] io::Error),
}

/// A running server. Dropping it lets the server stop by itself a moment later; [`stop`](Self::stop) waits for that.
pub struct EmbeddedPostgres {
    child: Child,
    /// The child stops the server when this closes.
    lifeline: ChildStdin,
    port: u16,
    password: String,
}

impl EmbeddedPostgres {
    /// Starts a server and waits until it accepts connections. `progress` hears of each stage as it begins; the first
    /// run on a machine downloads. Dropping the future gives up cleanly.
    pub async fn start(options: Options, progress: impl Fn(StartStep)) -> Result<Self, StartError> {
        let account = unprivileged(options.user.as_deref())?;
        let data_dir = prepare_directory(&options.data_dir, 0o700, account)?;
        let cache = match options.cache_dir {
            Some(directory) => directory,
            None => default_cache(account)?,
        };
        let install_dir = prepare_directory(&cache.join("postgresql"), 0o755, account)?;

        let mut child = command(&options.child, &data_dir, account)
            .spawn()
            .map_err(|source| StartError::Spawn { program: options.child.program.clone(), source })?;
        let pipe_missing = || StartError::BrokeOff("it has no pipes".to_owned());
        let mut lifeline = child.stdin.take().ok_or_else(pipe_missing)?;
        let output = child.stdout.take().ok_or_else(pipe_missing)?;

        let mut instructions = serde_json::to_vec(&Instructions { data_dir, install_dir, settings: options.settings })
            .map_err(|error| StartError::BrokeOff(error.to_string()))?;
        instructions.push(b'\n');
        // Should the child be gone already, its output says so below.
        let _ = lifeline.write_all(&instructions).await;

        let mut lines = BufReader::new(output).lines();
        loop {
            let line = lines.next_line().await.map_err(|error| StartError::BrokeOff(error.to_string()))?;
            match line.as_deref().map(serde_json::from_str) {
                Some(Ok(ChildMessage::Progress(stage))) => progress(stage),
                Some(Ok(ChildMessage::Failed(why))) => return Err(StartError::Failed(why)),
                Some(Ok(ChildMessage::Ready { port, password })) => {
                    return Ok(Self { child, lifeline, port, password });
                }
                Some(Err(_)) => {
                    let why = "it printed something else than its reports; do its arguments lead to `run_child`?";
                    return Err(StartError::BrokeOff(why.to_owned()));
                }
                None => {
                    let status = child.wait().await.map_or_else(|e| e.to_string(), |status| status.to_string());
                    return Err(StartError::BrokeOff(status));
                }
            }
        }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's URL of a database, as psql takes it too: a driver's own parameters are not in it. It holds the
    /// password, which is hexadecimal: not for logs.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The superuser's way into a database.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(SUPERUSER)
            .password(&self.password)
            .database(database)
    }

    /// Creates the database where it is missing. Several may ask at once.
    pub async fn ensure_database(&self, name: &str) -> Result<(), sqlx::Error> {
        let mut connection = PgConnection::connect_with(&self.connect_options("postgres")).await?;
        let found: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
        if !found {
            let create = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
            match connection.execute(AssertSqlSafe(create)).await {
                Err(sqlx::Error::Database(error))
                    if error.code().is_some_and(|code| ALREADY_THERE.contains(&code.as_ref())) => {}
                other => {
                    other?;
                }
            }
        }
        connection.close().await
    }

    /// Stops the server and waits until everything is written and the process has ended.
    pub async fn stop(mut self) -> Result<(), StopError> {
        drop(self.lifeline);
        let status = tokio::time::timeout(STOP_LIMIT, self.child.wait()).await.map_err(|_| StopError::TimedOut)??;
        if status.success() { Ok(()) } else { Err(StopError::Unclean(status)) }
    }
}

/// Without the password.
impl fmt::Debug for EmbeddedPostgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedPostgres").field("port", &self.port).finish_non_exhaustive()
    }
}

fn command(child: &ChildCommand, data_dir: &Path, account: Option<Account>) -> Command {
    let mut command = Command::new(&child.program);
    // The user's own PG variables would reach initdb and the server.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
    command
        .args(&child.args)
        .envs(child.envs.iter().map(|(name, value)| (name, value)))
        // One order of text on every machine, whatever locales it has; initdb fails on an unknown one.
        .env("LC_ALL", "C")
        .env("HOME", data_dir)
        .current_dir(data_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Ctrl-C at a terminal is for the parent, which still needs the database to end in order.
        .process_group(0);
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

fn default_cache(account: Option<Account>) -> Result<PathBuf, StartError> {
    if account.is_some() {
        return Ok(PathBuf::from("/var/cache/saldo"));
    }
    let from_env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from_env("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| from_env("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("saldo"))
        .ok_or(StartError::NoCache)
}
