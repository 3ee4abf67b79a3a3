//! A deployment for tests: services that run as processes of their own and share a log, a database and keys.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use saldo::client::{Clients, Target, TlsArgs};
use saldo_auth::{Issuer, Role};
use saldo_test_certificates::{Authority, VALID};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    Failure, Outcome, conformance,
    env::{Env, eventually, free_port},
    process::{health, saldo},
};

/// A mail server that is not there.
pub const NO_MAIL: &str = "smtp://127.0.0.1:1?tls=none";
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);
/// The longest that a command or an orderly stop may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The parts in which deployments differ.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'p> {
    /// The mail server, as `sending.smtp` names it.
    pub smtp: &'p str,
    /// The number of command services.
    pub commands: usize,
    /// All services and clients use mutual TLS. One authority certifies all of them.
    pub over_tls: bool,
    /// The services write their lines as JSON to files, which `Service::said` reads. Otherwise warnings go to standard error.
    pub keeps_lines: bool,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self { smtp: NO_MAIL, commands: 1, over_tls: false, keeps_lines: false }
    }
}

/// A configuration, its keys, and the addresses of its servers.
pub struct Deployment {
    /// The folder of everything that the services keep.
    pub dir: PathBuf,
    /// The configuration file.
    pub config: PathBuf,
    /// The URL of the database of the read models.
    pub database: String,
    /// The URL of the embedded log, or the brokers.
    pub log: String,
    issuer: Issuer,
    /// The addresses of the command services.
    commands: Vec<String>,
    tls: TlsArgs,
    keeps_lines: bool,
}

/// Makes the keys of a folder: one signs the tokens of people, and one those of services. Returns the first one.
pub fn make_keys(dir: &Path) -> Result<Issuer, Failure> {
    let key = |name: &str| {
        let issuer = Issuer::read_or_create(&dir.join(format!("{name}.pem")))?;
        std::fs::write(dir.join(format!("{name}.pub.pem")), issuer.public_pem()?)?;
        Ok::<_, Failure>(issuer)
    };
    key("service")?;
    key("issuer")
}

/// The environment variables by which a `saldo` command uses these TLS files.
pub fn tls_variables(tls: &TlsArgs) -> Vec<(&'static str, PathBuf)> {
    let files = [("SALDO_TLS_CA", &tls.tls_ca), ("SALDO_TLS_CERT", &tls.tls_cert), ("SALDO_TLS_KEY", &tls.tls_key)];
    files.into_iter().filter_map(|(name, path)| path.clone().map(|path| (name, path))).collect()
}

impl Deployment {
    /// Makes a deployment whose log is embedded in a database of its own.
    pub async fn embedded(dir: &Path, env: &Env, plan: Plan<'_>) -> Result<Self, Failure> {
        let deployment = Self::configure(dir, env.database().await?, env.database().await?, plan)?;
        deployment.succeeds(&["log", "create"]).await?;
        Ok(deployment)
    }

    /// Makes a deployment with a new topic of these brokers.
    pub async fn on_kafka(dir: &Path, env: &Env, brokers: &str, plan: Plan<'_>) -> Result<Self, Failure> {
        let deployment = Self::configure(dir, brokers.to_owned(), env.database().await?, plan)?;
        deployment.succeeds(&["log", "create"]).await?;
        Ok(deployment)
    }

    /// Writes keys, certificates and a configuration. Makes no log.
    pub fn configure(dir: &Path, log: String, database: String, plan: Plan<'_>) -> Result<Self, Failure> {
        let issuer = make_keys(dir)?;
        let commands = (0..plan.commands)
            .map(|_| Ok(format!("127.0.0.1:{}", free_port()?)))
            .collect::<Result<Vec<_>, Failure>>()?;
        let scheme = if plan.over_tls { "https" } else { "http" };
        let urls: Vec<String> = commands.iter().map(|command| format!("'{scheme}://{command}'")).collect();
        let log_section = match log.starts_with("postgres") {
            true => format!("embedded_url = '{log}'"),
            false => {
                let topic = conformance::topic();
                format!("kafka = '{log}'\ntopic = '{topic}'\nreplication_factor = 1\nallow_unsafe = true")
            }
        };
        let (tls, tls_sections) = if plan.over_tls { certify(dir)? } else { Default::default() };
        let tracing = if plan.keeps_lines { "format = 'json'" } else { "filter = 'warn'" };
        let at = dir.display();
        let text = format!(
            "[log]\n{log_section}\npartitions = 3\n[database]\nurl = '{database}'\n[keyring]\ndir = '{at}/keys'\n\
             [sending]\nsmtp = '{}'\n[tracing]\n{tracing}\n\
             [auth]\npublic_keys = ['{at}/issuer.pub.pem']\nservice_public_keys = ['{at}/service.pub.pem']\nservice_key = '{at}/service.pem'\n\
             [services]\ncommand = [{}]\n{tls_sections}",
            plan.smtp,
            urls.join(", ")
        );
        let config = dir.join("saldo.toml");
        std::fs::write(&config, text)?;
        let keeps_lines = plan.keeps_lines;
        Ok(Self { dir: dir.to_owned(), config, database, log, issuer, commands, tls, keeps_lines })
    }

    /// The folder of the key store.
    pub fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    fn url(&self, address: &str) -> String {
        let scheme = if self.tls.tls_ca.is_some() { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    /// Starts a service. The number, from 1, tells several processes of one service apart.
    pub fn start(&self, service: &str, number: usize) -> Result<Service, Failure> {
        let listen = match service {
            "command" => self.commands[number - 1].clone(),
            _ => format!("127.0.0.1:{}", free_port()?),
        };
        let mut command = self.prepare(&[service, "--listen", &listen])?;
        command.arg("--data-dir").arg(self.dir.join(format!("{service}-{number}")));
        let lines = self.dir.join(format!("{service}-{number}.log"));
        if self.keeps_lines {
            command.stderr(std::fs::File::create(&lines)?);
        }
        Ok(Service { child: command.spawn()?, endpoint: self.url(&listen), tls: self.tls.clone(), lines })
    }

    /// Starts a service that must not start. Returns what it said.
    pub async fn refuses(&self, service: &str, args: &[&str]) -> Result<String, Failure> {
        let data = self.dir.join(format!("{service}-refused")).display().to_string();
        let all = [&[service, "--listen", "127.0.0.1:0", "--data-dir", data.as_str()], args].concat();
        self.ends_with(1, &all).await
    }

    /// The command service of this number and a query service, for a person with every role but a service's.
    pub fn target(&self, command: usize, query: Option<&Service>) -> Result<Target, Failure> {
        let roles = [Role::Writer, Role::Reader, Role::Operator, Role::Auditor];
        let token = self.issuer.issue("somebody", "acme", &roles, TOKEN_LIFE)?;
        let endpoint = self.url(&self.commands[command - 1]);
        let query_endpoint = query.map(|query| query.endpoint.clone());
        Ok(Target { query_endpoint, tls: self.tls.clone(), ..Target::new(endpoint, token) })
    }

    /// Clients of the first command service and of a query service.
    pub async fn clients(&self, query: Option<&Service>) -> Result<Clients, Failure> {
        Ok(self.target(1, query)?.connect().await?)
    }

    /// A `saldo` command against the first command service.
    pub fn prepare(&self, args: &[&str]) -> Result<Command, Failure> {
        let target = self.target(1, None)?;
        let mut command = saldo(args)?;
        command.env("SALDO_CONFIG", &self.config).env("SALDO_ENDPOINT", target.endpoint);
        command.env("SALDO_TOKEN", target.token).envs(tls_variables(&self.tls));
        Ok(command)
    }

    /// Runs a `saldo` command to its end, with these variables in its environment.
    pub async fn run(&self, variables: &[(&str, &str)], args: &[&str]) -> Result<Output, Failure> {
        let mut command = self.prepare(args)?;
        command.envs(variables.iter().copied());
        let run = tokio::task::spawn_blocking(move || command.output());
        Ok(tokio::time::timeout(PATIENCE, run).await???)
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub async fn succeeds(&self, args: &[&str]) -> Result<String, Failure> {
        self.succeeds_with(&[], args).await
    }

    /// The same, with these variables in its environment.
    pub async fn succeeds_with(&self, variables: &[(&str, &str)], args: &[&str]) -> Result<String, Failure> {
        let output = self.run(variables, args).await?;
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "saldo {args:?}: {out}{error}");
        Ok(out)
    }

    /// Runs a command that must end with this code. Returns what it said.
    pub async fn ends_with(&self, code: i32, args: &[&str]) -> Result<String, Failure> {
        let output = self.run(&[], args).await?;
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "saldo {args:?}: {said}");
        Ok(said)
    }
}

/// Certificates for services and clients, and the sections of the configuration that name them.
fn certify(dir: &Path) -> Result<(TlsArgs, String), Failure> {
    let authority = Authority::new("ours");
    let ca = authority.write(dir, "ca")?;
    let (certificate, key) = authority.certify(&["127.0.0.1"], VALID).write(dir, "saldo")?;
    let (ca_at, certificate_at, key_at) = (ca.display(), certificate.display(), key.display());
    let sections = format!(
        "tls_certificate = '{certificate_at}'\ntls_key = '{key_at}'\ntls_ca = '{ca_at}'\n\
         [tls]\ncertificate = '{certificate_at}'\nkey = '{key_at}'\nclient_ca = '{ca_at}'\n"
    );
    Ok((TlsArgs { tls_ca: Some(ca), tls_cert: Some(certificate), tls_key: Some(key) }, sections))
}

/// A running service. It is killed when it is dropped.
pub struct Service {
    child: Child,
    /// The URL on which it listens.
    pub endpoint: String,
    tls: TlsArgs,
    /// The file of its lines, where the deployment keeps them.
    pub lines: PathBuf,
}

impl Service {
    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether `saldo health` prints this status of it.
    pub fn answers(&self, expected: &'static str) -> impl Future<Output = bool> + use<> {
        let (command, variables) = (saldo(&["health", "--endpoint", &self.endpoint]), tls_variables(&self.tls));
        async move {
            let Ok(mut command) = command else { return false };
            command.envs(variables).stderr(Stdio::null());
            let asked = tokio::task::spawn_blocking(move || command.output());
            matches!(asked.await, Ok(Ok(output)) if text(&output.stdout).trim() == expected)
        }
    }

    /// Waits until it serves.
    pub async fn serves(&self) -> Outcome {
        eventually(&format!("health of {}", self.endpoint), || self.answers("SERVING")).await
    }

    /// Its health, or that of one of its gRPC services.
    pub async fn health(&self, name: &str) -> Result<ServingStatus, Failure> {
        health(&self.endpoint, name).await
    }

    /// Waits until its health is this.
    pub async fn becomes(&self, name: &str, status: ServingStatus) -> Outcome {
        eventually(&format!("{name:?} {status:?} of {}", self.endpoint), || async {
            self.health(name).await.is_ok_and(|now| now == status)
        })
        .await
    }

    /// Sends a signal, such as `-STOP`.
    pub fn signal(&self, name: &str) -> Outcome {
        Command::new("kill").args([name, &self.child.id().to_string()]).status()?;
        Ok(())
    }

    /// Asks it to stop and waits for its end, which must be orderly.
    pub async fn stop(mut self) -> Outcome {
        self.signal("-TERM")?;
        let endpoint = self.endpoint.clone();
        // It moves into the thread that waits, so a time-out kills it.
        let ended = tokio::task::spawn_blocking(move || self.child.wait());
        let status = tokio::time::timeout(PATIENCE / 2, ended).await???;
        if status.success() { Ok(()) } else { Err(format!("the service of {endpoint} ended with {status}").into()) }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The output of a process.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
