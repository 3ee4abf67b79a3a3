//! A Postgres as a process of its own, to kill and start again: the embedded one's server and cluster, without its keeper.

use std::{
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::Mutex,
};

use saldo_embedded_postgres::{ChildCommand, EmbeddedPostgres, Options};
use sqlx::Connection;

use crate::{
    Failure,
    env::{eventually, free_port},
    process::{AS_SALDO, bound},
};

/// The server.
pub struct Database {
    /// Where it listens.
    pub port: u16,
    cluster: PathBuf,
    program: PathBuf,
    owner: (u32, u32),
    /// User and password.
    login: String,
    child: Mutex<Option<Child>>,
}

impl Database {
    /// Makes a cluster with a database `saldo`, and runs a server over it.
    pub async fn start(dir: &Path) -> Result<Self, Failure> {
        let mut keeper = ChildCommand::this_binary(["postgres"])?;
        keeper.envs.push((AS_SALDO.into(), "1".into()));
        let postgres = EmbeddedPostgres::start(Options::new(dir, keeper), |_| {}).await?;
        postgres.ensure_database("saldo").await?;
        let cluster = dir.join("cluster");
        let pid_file = std::fs::read_to_string(cluster.join("postmaster.pid"))?;
        let process = Path::new("/proc").join(pid_file.lines().next().ok_or("no process in postmaster.pid")?);
        let program = std::fs::read_link(process.join("exe"))?;
        let owner = std::fs::metadata(&process)?;
        let url = postgres.url("saldo");
        let login = url.trim_start_matches("postgres://").split('@').next().ok_or("no login")?.to_owned();
        postgres.stop().await?;
        let database = Self {
            port: free_port()?,
            cluster,
            program,
            owner: (owner.uid(), owner.gid()),
            login,
            child: Mutex::new(None),
        };
        database.run().await?;
        Ok(database)
    }

    /// Its address behind a port.
    pub fn url(&self, port: u16) -> String {
        format!("postgres://{}@127.0.0.1:{port}/saldo", self.login)
    }

    /// Starts the server (again) and waits until it answers. After a kill it may have to wait for what is left of the
    /// former one, so it is started until it stays.
    pub async fn run(&self) -> Result<(), Failure> {
        eventually("Postgres answers", || async {
            let running = match &mut *self.child.lock().expect("lock") {
                Some(child) => matches!(child.try_wait(), Ok(None)),
                None => false,
            };
            if !running && let Ok(child) = self.spawn().await {
                *self.child.lock().expect("lock") = Some(child);
            }
            sqlx::PgConnection::connect(&self.url(self.port)).await.is_ok()
        })
        .await
    }

    async fn spawn(&self) -> Result<Child, Failure> {
        let mut command = bound(&self.program);
        command.arg("-D").arg(&self.cluster).args(["-p", &self.port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", "jit=off"] {
            command.args(["-c", setting]);
        }
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.cluster.with_file_name("server.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(&self.cluster);
        // Postgres refuses to be root.
        command.uid(self.owner.0).gid(self.owner.1);
        // As with the broker: the kernel ends it with the thread that starts it.
        Ok(tokio::spawn(async move { command.spawn() }).await??)
    }

    /// Kills the server's first process, and with it its children. Their writes are still in the page cache, unlike after a
    /// power cut. Returns which process it was and how it ended.
    pub fn kill(&self) -> Option<(u32, ExitStatus)> {
        let mut child = self.child.lock().expect("lock").take()?;
        let _ = child.kill();
        Some((child.id(), child.wait().ok()?))
    }

    /// The server's first process.
    pub fn pid(&self) -> Option<u32> {
        self.child.lock().expect("lock").as_ref().map(Child::id)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
