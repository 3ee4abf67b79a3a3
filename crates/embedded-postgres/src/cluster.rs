//! One cluster in one data directory: its lock, its password, its creation, start and stop.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postgresql_embedded::{PostgreSQL, Settings, VersionReq};

use crate::protocol::StartStep;

/// How long one step (creating the cluster, starting, stopping) may take. `pg_ctl` itself gives up after 60 seconds
/// and says why, so ours is longer.
const STEP_LIMIT: Duration = Duration::from_secs(75);
/// How long a previous owner of the data directory gets to finish stopping its server.
const LOCK_LIMIT: Duration = Duration::from_secs(20);
const LOCK_POLL: Duration = Duration::from_millis(50);
/// A free port can be taken by someone else before the server binds it.
const START_TRIES: u32 = 3;
/// Lines of the server's log that an error repeats.
const LOG_TAIL_LINES: usize = 15;
const PASSWORD_BYTES: usize = 24;
/// The folder of the server's own files.
const CLUSTER: &str = "cluster";

/// Settings unless the caller gives others. The server may hold the log, so it syncs; `-F`, which the library passes,
/// would turn that off, and a later `-c` wins over it.
const DEFAULT_SETTINGS: [(&str, &str); 5] =
    [("fsync", "on"), ("timezone", "UTC"), ("log_timezone", "UTC"), ("max_connections", "200"), ("jit", "off")];
/// Settings that are not up for choice: reachable from this machine only, and by password only.
const FIXED_SETTINGS: [(&str, &str); 2] = [("listen_addresses", "127.0.0.1"), ("unix_socket_directories", "")];

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("can't use {path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is in use by another process; stop that one or choose another data directory", path = path.display())]
    InUse { path: PathBuf },
    #[error("the password file {path} holds no usable password; restore it", path = path.display())]
    Password { path: PathBuf },
    #[error("can't draw random bytes for a password: {0}")]
    Random(getrandom::Error),
    #[error("Postgres setting `{name}` = `{value}`: only letters, digits and ` _ . , - + / : %` can be passed")]
    Setting { name: String, value: String },
    #[error("can't create a Postgres cluster in {path}: {cause}", path = path.display())]
    Create { path: PathBuf, cause: String },
    #[error("Postgres does not start on {path}: {cause}\n{log}", path = path.display())]
    Start { path: PathBuf, cause: String, log: String },
    #[error("Postgres on {path} does not stop: {cause}\n{log}", path = path.display())]
    Stop { path: PathBuf, cause: String, log: String },
}

/// Whether a data directory has a cluster already.
pub fn is_made(data_dir: &Path) -> bool {
    data_dir.join(CLUSTER).is_dir()
}

/// A data directory that this process alone may run a server on.
pub(crate) struct Cluster {
    data_dir: PathBuf,
    server: PathBuf,
    password: String,
    /// Held until the process ends. The server does not inherit it, which is why a server may be found running.
    _lock: File,
}

/// A server that accepts connections.
pub(crate) struct Running {
    server: PostgreSQL,
}

impl Cluster {
    /// Takes the data directory; waits for a previous owner that is about to end.
    pub(crate) async fn take(data_dir: &Path, server: &Path) -> Result<Self, ClusterError> {
        let lock = take_lock(&data_dir.join("lock")).await?;
        let password = read_or_make_password(&data_dir.join("password"))?;
        Ok(Self { data_dir: data_dir.to_owned(), server: server.to_owned(), password, _lock: lock })
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    fn home(&self) -> PathBuf {
        self.data_dir.join(CLUSTER)
    }

    fn library(&self, home: PathBuf, port: u16, configuration: HashMap<String, String>) -> PostgreSQL {
        // Written out in full: the library's own defaults make temporary directories under $TMPDIR that it never removes.
        PostgreSQL::new(Settings {
            releases_url: String::new(),
            version: VersionReq::STAR,
            installation_dir: self.server.clone(),
            password_file: self.data_dir.join("password"),
            data_dir: home,
            host: Ipv4Addr::LOCALHOST.to_string(),
            port,
            username: postgresql_embedded::BOOTSTRAP_SUPERUSER.to_owned(),
            password: self.password.clone(),
            temporary: false,
            timeout: Some(STEP_LIMIT),
            configuration,
            trust_installation_dir: true,
            socket_dir: None,
        })
    }

    /// Creates the cluster where there is none. It is renamed into place when complete, so that a crash midway is
    /// repaired by the next try.
    pub(crate) async fn create_if_missing(&self, report: &impl Fn(StartStep)) -> Result<(), ClusterError> {
        if self.home().is_dir() {
            return Ok(());
        }
        report(StartStep::Initializing);
        let partial = self.data_dir.join("cluster.partial");
        match fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ClusterError::File { path: partial, source: error });
            }
            _ => {}
        }
        self.library(partial.clone(), 0, HashMap::new())
            .setup()
            .await
            .map_err(|error| ClusterError::Create { path: self.data_dir.clone(), cause: error.to_string() })?;
        fs::rename(&partial, self.home()).map_err(|source| ClusterError::File { path: self.home(), source })
    }

    /// Starts the server on the loopback address: on the port of its last start, so that a URL which somebody has noted stays right,
    /// or on a free one where that port is taken.
    pub(crate) async fn start(&self, settings: &BTreeMap<String, String>) -> Result<(Running, u16), ClusterError> {
        let configuration = configuration(settings)?;
        self.end_previous_server().await?;
        let mut attempt = 1;
        let mut last = self.last_port();
        loop {
            let port = match last.take() {
                Some(port) => port,
                None => free_port().map_err(|e| self.start_failed(format!("no free port on 127.0.0.1: {e}")))?,
            };
            let mut server = self.library(self.home(), port, configuration.clone());
            match server.start().await {
                Ok(()) => {
                    self.note_port(port)?;
                    return Ok((Running { server }, port));
                }
                Err(_) if attempt < START_TRIES => attempt += 1,
                Err(error) => return Err(self.start_failed(error.to_string())),
            }
        }
    }

    /// The port of the last start, if it is free. What stands there otherwise is no reason not to start.
    fn last_port(&self) -> Option<u16> {
        let port = fs::read_to_string(self.data_dir.join("port")).ok()?.trim().parse().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    }

    fn note_port(&self, port: u16) -> Result<(), ClusterError> {
        let path = self.data_dir.join("port");
        fs::write(&path, format!("{port}\n")).map_err(|source| ClusterError::File { path, source })
    }

    fn start_failed(&self, cause: String) -> ClusterError {
        ClusterError::Start { path: self.home(), cause, log: log_tail(&self.home()) }
    }

    /// A server whose child process was killed still runs: it is stopped. A machine that lost power leaves a pid file
    /// behind whose number may be another process by now: it is removed. We hold the lock, so nobody else starts one.
    async fn end_previous_server(&self) -> Result<(), ClusterError> {
        let pid_file = self.home().join("postmaster.pid");
        let content = match fs::read_to_string(&pid_file) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(ClusterError::File { path: pid_file, source }),
        };
        if content.lines().next().is_some_and(is_postgres) {
            tracing::warn!("a Postgres server was left behind on the data directory; stopping it");
            return Running { server: self.library(self.home(), 0, HashMap::new()) }.stop().await;
        }
        match fs::remove_file(&pid_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ClusterError::File { path: pid_file, source: error })
            }
            _ => Ok(()),
        }
    }
}

impl Running {
    /// Fast shutdown: sessions are ended, everything is written, nothing is left to recover.
    pub(crate) async fn stop(self) -> Result<(), ClusterError> {
        let home = &self.server.settings().data_dir;
        self.server.stop().await.map_err(|error| ClusterError::Stop {
            path: home.clone(),
            cause: error.to_string(),
            log: log_tail(home),
        })
    }
}

async fn take_lock(path: &Path) -> Result<File, ClusterError> {
    let failed = |source| ClusterError::File { path: path.to_owned(), source };
    let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(failed)?;
    let give_up = Instant::now() + LOCK_LIMIT;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < give_up => tokio::time::sleep(LOCK_POLL).await,
            Err(TryLockError::WouldBlock) => {
                let path = path.parent().unwrap_or(path).to_owned();
                return Err(ClusterError::InUse { path });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// Whether the process of this number is a Postgres server. Where `/proc` can't tell, the server's own check decides.
fn is_postgres(pid: &str) -> bool {
    let Ok(pid) = pid.trim().parse::<u32>() else { return false };
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => name.trim() == "postgres",
        Err(_) => !Path::new("/proc/self").exists(),
    }
}

/// The password outlives the process, or a restart could not connect to the cluster that it protects.
fn read_or_make_password(path: &Path) -> Result<String, ClusterError> {
    let failed = |source| ClusterError::File { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(password) if password.len() == 2 * PASSWORD_BYTES && password.bytes().all(|b| b.is_ascii_hexdigit()) => {
            return Ok(password);
        }
        Ok(_) => return Err(ClusterError::Password { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let mut bytes = [0; PASSWORD_BYTES];
    getrandom::fill(&mut bytes).map_err(ClusterError::Random)?;
    let password: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    saldo_private_files::replace(path, password.as_bytes()).map_err(failed)?;
    Ok(password)
}

fn configuration(settings: &BTreeMap<String, String>) -> Result<HashMap<String, String>, ClusterError> {
    let mut all: HashMap<String, String> =
        DEFAULT_SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for (name, value) in settings {
        // pg_ctl hands these to a shell.
        let name_ok = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b));
        let value_ok =
            !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.,-+/:%".contains(&b));
        if !name_ok || !value_ok {
            return Err(ClusterError::Setting { name: name.clone(), value: value.clone() });
        }
        all.insert(name.to_ascii_lowercase(), value.clone());
    }
    all.extend(FIXED_SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Ok(all)
}

fn free_port() -> io::Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr().map(|address| address.port())
}

fn log_tail(home: &Path) -> String {
    let path = home.join("start.log");
    match fs::read(&path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
            format!("the end of its log {}:\n{}", path.display(), tail.join("\n"))
        }
        Err(error) => format!("its log {} can't be read: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_callers_setting_replaces_the_default() -> Result<(), ClusterError> {
        assert_eq!(configuration(&settings("fsync", "off"))?["fsync"], "off");
        assert_eq!(configuration(&BTreeMap::new())?["fsync"], "on");
        Ok(())
    }

    #[test]
    fn the_server_stays_on_the_loopback_address_whatever_is_asked() -> Result<(), ClusterError> {
        assert_eq!(configuration(&settings("LISTEN_ADDRESSES", "0.0.0.0"))?["listen_addresses"], "127.0.0.1");
        Ok(())
    }

    #[test]
    fn a_setting_that_a_shell_would_read_is_refused() {
        for value in ["", "a b", "$(id)", "x;y", "'"] {
            assert!(configuration(&settings("application_name", value)).is_err(), "{value}");
        }
        assert!(configuration(&settings("a b", "1")).is_err());
    }
}
