//! Our processes: started, watched, started again when they end, and sent signals whose effect is looked at.

use std::{
    fs::{File, OpenOptions},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use saldo::client::TlsArgs;
use tokio::{process::Command, sync::watch, task::JoinHandle};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    Failure,
    env::within,
    process::{AS_SALDO, bound},
};

/// The processes of a run: role and how many.
pub const TABLE: [(&str, usize); 5] =
    [("command", 2), ("projector", 2), ("scheduler", 2), ("dispatcher", 2), ("query", 1)];

/// A pause before a process that ended by itself is started again, as a service manager makes it.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// The program to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Subcommand.
    pub role: &'static str,
    /// Role and number.
    pub name: String,
    /// Its configuration.
    pub config: PathBuf,
    /// Where it listens.
    pub port: u16,
    /// The file of its standard error.
    pub log: PathBuf,
}

/// How a process ended.
#[derive(Debug, Clone)]
pub struct Death {
    /// Which.
    pub pid: u32,
    /// Its wait status.
    pub status: ExitStatus,
}

/// A process and whoever keeps it running.
pub struct Process {
    /// The program to run.
    pub spec: Spec,
    pid: watch::Receiver<Option<u32>>,
    deaths: Arc<Mutex<Vec<Death>>>,
    stopping: watch::Sender<bool>,
    keeper: Mutex<Option<JoinHandle<Result<ExitStatus, Failure>>>>,
}

impl Process {
    /// Starts it and keeps it running.
    pub fn start(spec: Spec) -> Self {
        let (pid_said, pid) = watch::channel(None);
        let (stopping, stop) = watch::channel(false);
        let deaths = Arc::new(Mutex::new(Vec::new()));
        let keeper = tokio::spawn(keep(spec.clone(), pid_said, stop, deaths.clone()));
        Self { spec, pid, deaths, stopping, keeper: Mutex::new(Some(keeper)) }
    }

    /// Its process, if it runs at this moment.
    pub fn pid(&self) -> Option<u32> {
        *self.pid.borrow()
    }

    /// Every end so far.
    pub fn deaths(&self) -> Vec<Death> {
        self.deaths.lock().expect("lock").clone()
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.spec.port)
    }

    /// SIGKILL. Returns the process killed, how the kernel says that it ended, and its successor.
    pub async fn kill(&self) -> Result<(Death, u32), Failure> {
        let mut heard = self.pid.clone();
        let pid = heard.wait_for(Option::is_some).await?.ok_or("no process")?;
        signal(pid, Signal::KILL)?;
        let next = *heard.wait_for(|now| now.is_some_and(|now| now != pid)).await?;
        let death = self.deaths().into_iter().rfind(|death| death.pid == pid).ok_or("nobody saw it end")?;
        Ok((death, next.ok_or("no successor")?))
    }

    /// SIGSTOP; returns the process and what state the kernel says it is in.
    pub async fn pause(&self) -> Result<(u32, String), Failure> {
        let mut heard = self.pid.clone();
        let pid = heard.wait_for(Option::is_some).await?.ok_or("no process")?;
        signal(pid, Signal::STOP)?;
        let stopped = || async { state(pid).is_ok_and(|state| state == "T") };
        within(Duration::from_secs(5), "a stopped process stands still", stopped).await?;
        Ok((pid, state(pid)?))
    }

    /// Whether it says that it serves.
    pub async fn is_healthy(&self) -> bool {
        let asked = async {
            let mut client =
                HealthClient::new(saldo::client::connect(&self.endpoint(), &TlsArgs::default()).await.ok()?);
            let request = HealthCheckRequest::default();
            Some(client.check(request).await.ok()?.into_inner().status() == ServingStatus::Serving)
        };
        matches!(tokio::time::timeout(Duration::from_secs(2), asked).await, Ok(Some(true)))
    }

    /// SIGTERM, and its end, which must be orderly.
    pub async fn stop(&self) -> Result<(), Failure> {
        self.stopping.send_replace(true);
        let keeper = self.keeper.lock().expect("lock").take().ok_or("stopped twice")?;
        let status = tokio::time::timeout(Duration::from_secs(60), keeper).await???;
        if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", self.spec.name).into()) }
    }
}

/// SIGCONT.
pub fn resume(pid: u32) -> Result<(), Failure> {
    signal(pid, Signal::CONT)
}

fn signal(pid: u32, signal: Signal) -> Result<(), Failure> {
    let pid = Pid::from_raw(i32::try_from(pid)?).ok_or("no process has number 0")?;
    Ok(kill_process(pid, signal)?)
}

/// The letter that `/proc` gives a process's state.
fn state(pid: u32) -> Result<String, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before it stands in brackets and may hold anything.
    let behind = stat.rsplit_once(") ").ok_or("stat without a name")?.1;
    Ok(behind.chars().take(1).collect())
}

async fn keep(
    spec: Spec,
    pid: watch::Sender<Option<u32>>,
    mut stop: watch::Receiver<bool>,
    deaths: Arc<Mutex<Vec<Death>>>,
) -> Result<ExitStatus, Failure> {
    loop {
        let mut child = command(&spec)?.kill_on_drop(true).spawn()?;
        let number = child.id().ok_or("it has ended before it was started")?;
        pid.send_replace(Some(number));
        let ended = tokio::select! {
            status = child.wait() => Some(status?),
            _ = stop.wait_for(|stop| *stop) => None,
        };
        let Some(status) = ended else {
            signal(number, Signal::TERM)?;
            return Ok(child.wait().await?);
        };
        deaths.lock().expect("lock").push(Death { pid: number, status });
        pid.send_replace(None);
        if status.signal() != Some(Signal::KILL.as_raw()) {
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    }
}

fn command(spec: &Spec) -> Result<Command, Failure> {
    let log: File = OpenOptions::new().create(true).append(true).open(&spec.log)?;
    let mut command = bound(std::env::current_exe()?);
    command.arg(spec.role).arg("--config").arg(&spec.config).env(AS_SALDO, "1");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command.into())
}
