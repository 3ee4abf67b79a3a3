//! `saldo` as a process of its own: this same binary under another name.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use saldo::client::{Clients, Target};
use saldo_auth::{Issuer, Role};
use saldo_log::{Log, embedded::EmbeddedLog, genesis, keys::LogKeys};
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{Failure, Outcome, env::eventually};

/// Makes the test binary be `saldo`.
pub const AS_SALDO: &str = "SALDO_TEST_AS_SALDO";

/// A running `saldo dev`.
pub struct Saldo {
    child: Child,
    /// Where and as whom (every role, tenant acme).
    pub target: Target,
    /// The configuration by which other commands reach its stores.
    pub config: PathBuf,
    data_dir: PathBuf,
}

/// `saldo` with these arguments.
pub fn saldo(args: &[&str]) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(AS_SALDO, "1").stdin(Stdio::null());
    with(&mut command, args);
    Ok(command)
}

/// Adds arguments. A database's URL holds a password, and goes into the environment.
fn with(command: &mut Command, args: &[&str]) {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match (*arg, args.as_slice().first()) {
            ("--database-url", Some(url)) => {
                command.env("SALDO__DATABASE__URL", url);
                args.next();
            }
            _ => drop(command.arg(arg)),
        }
    }
}

/// A program that the kernel ends with the thread that started it, however that ends, where the system can do so.
pub fn bound(program: impl AsRef<OsStr>) -> Command {
    const SETPRIV: &str = "/usr/bin/setpriv";
    if !Path::new(SETPRIV).exists() {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// A key of the dev.toml that a running `saldo dev` has written.
pub fn dev_setting(config: &Path, key: &str) -> Result<String, Failure> {
    let text = std::fs::read_to_string(config)?;
    let start = format!("{key} = \"");
    let value = text.lines().find_map(|line| line.strip_prefix(&start)).ok_or(format!("no {key} in dev.toml"))?;
    Ok(value.trim_end_matches('"').to_owned())
}

/// The health of a process, or of one of its services.
pub async fn health(endpoint: &str, service: &str) -> Result<ServingStatus, Failure> {
    let channel = Endpoint::from_shared(endpoint.to_owned())?.connect().await?;
    let request = HealthCheckRequest { service: service.to_owned() };
    Ok(HealthClient::new(channel).check(request).await?.into_inner().status())
}

/// Waits until a process takes calls.
pub async fn ready(endpoint: &str) -> Outcome {
    let is_ready =
        || async { health(endpoint, "readiness").await.is_ok_and(|status| status == ServingStatus::Serving) };
    eventually(&format!("readiness of {endpoint}"), is_ready).await
}

/// The embedded log that a running `saldo dev` uses.
pub async fn embedded_log(config: &Path) -> Result<EmbeddedLog, Failure> {
    Ok(EmbeddedLog::connect(&dev_setting(config, "embedded_url")?, "saldo.accounts").await?)
}

impl Saldo {
    /// Starts `saldo dev` over a folder and waits until it serves.
    pub async fn start(data_dir: &Path, args: &[&str]) -> Result<Self, Failure> {
        Self::start_with(data_dir, args, &[]).await
    }

    /// The same, with these variables in its environment.
    pub async fn start_with(data_dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> Result<Self, Failure> {
        let mut command = saldo(&["dev", "--json", "--data-dir"])?;
        command.arg(data_dir);
        with(&mut command, args);
        if !args.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(["--mail-page", "127.0.0.1:0"]);
        command.envs(variables.iter().copied());
        command.env("SALDO__TRACING__FILTER", "warn").stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = tokio::time::timeout(Duration::from_secs(120), line).await???;
        if line.is_empty() {
            return Err(format!("saldo dev ended before it served: {}", child.wait()?).into());
        }
        let said: serde_json::Value = serde_json::from_str(&line)?;
        let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        let target = Target::new(text("endpoint"), text("token"));
        Ok(Self { child, target, config: text("config").into(), data_dir: data_dir.to_owned() })
    }

    /// The keys that the records of its log are written under.
    pub async fn log_keys(&self, log: &dyn Log) -> Result<LogKeys, Failure> {
        let log_id = genesis::open(log, &LogKeys::NONE).await?.log_id;
        Ok(LogKeys::open(self.data_dir.join("keyring").join(saldo_log::keys::FILE), log_id)?)
    }

    /// Clients with every role.
    pub async fn clients(&self) -> Result<Clients, Failure> {
        Ok(self.target.connect().await?)
    }

    /// Clients with this token's subject, tenant and roles.
    pub async fn clients_as(&self, tenant: &str, roles: &[Role], life: Duration) -> Result<Clients, Failure> {
        let issuer = Issuer::read(&self.data_dir.join("dev-key.pem"))?;
        let token = issuer.issue("somebody", tenant, roles, life)?;
        Ok(Target { token, ..self.target.clone() }.connect().await?)
    }

    /// A `saldo` command against this instance.
    pub fn prepare(&self, args: &[&str]) -> Result<Command, Failure> {
        let mut command = saldo(args)?;
        command
            .env("SALDO_ENDPOINT", &self.target.endpoint)
            .env("SALDO_TOKEN", &self.target.token)
            .env("SALDO_CONFIG", &self.config)
            .env("SALDO__TRACING__FILTER", "warn");
        Ok(command)
    }

    /// Runs one to its end.
    pub async fn command(&self, args: &[&str]) -> Result<Output, Failure> {
        let mut command = self.prepare(args)?;
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub async fn succeed(&self, args: &[&str]) -> Result<String, Failure> {
        let output = self.command(args).await?;
        if !output.status.success() {
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            return Err(format!("saldo {args:?} ended with {}: {out}{err}", output.status).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The check against the log, which must find nothing.
    pub async fn verify(&self) -> Result<serde_json::Value, Failure> {
        Ok(serde_json::from_str(&self.succeed(&["verify", "--json"]).await?)?)
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop and waits for its end, which must be orderly.
    pub async fn stop(mut self) -> Result<(), Failure> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let status = tokio::task::spawn_blocking(move || self.child.wait().map(|status| (status, self)));
        let (status, _gone) = tokio::time::timeout(Duration::from_secs(60), status).await???;
        if status.success() { Ok(()) } else { Err(format!("saldo dev ended with {status}").into()) }
    }
}

impl Drop for Saldo {
    fn drop(&mut self) {
        // One that was killed before may have a successor over the same folder.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its Postgres is going down by itself; the folder must not be removed under it.
        if let Ok(lock) = std::fs::File::open(self.data_dir.join("postgres/lock")) {
            let _ = lock.lock();
        }
    }
}
