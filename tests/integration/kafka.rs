//! A real Apache Kafka: fetched with Maven into a cache, run with Java, ended with the tests.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};

use crate::{
    Failure,
    env::{eventually, free_port},
};

/// Names a broker to use instead of one of our own.
const NAMED: &str = "SALDO_TEST_KAFKA";
const POM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kafka/pom.xml");
const VERSION: &str = "4.3.0";

/// A broker.
pub struct Kafka {
    /// `host:port`.
    pub brokers: String,
    own: Option<Own>,
    /// How a client asks whether it is there.
    client: ClientConfig,
}

struct Own {
    dir: PathBuf,
    port: u16,
    child: Mutex<Option<Child>>,
}

/// Why there is no Kafka here.
pub fn missing() -> Option<String> {
    if std::env::var_os(NAMED).is_some() { None } else { own_missing() }
}

/// Why no Kafka of one's own can be started here.
pub fn own_missing() -> Option<String> {
    let java = Command::new("java").arg("-version").output().is_ok_and(|output| {
        java_release(&String::from_utf8_lossy(&output.stderr)).is_some_and(|release| release >= 17)
    });
    let maven = Command::new("mvn").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    (!java || !maven).then(|| format!("needs Kafka: install Java 17 and Maven, or name a broker in {NAMED}"))
}

/// 17 of `openjdk version "17.0.12" …`; 1 of the releases before 9.
fn java_release(said: &str) -> Option<u32> {
    said.split('"').nth(1)?.split(['.', '-', '+']).next()?.parse().ok()
}

impl Kafka {
    /// The broker named in the environment, or a new one with its files in `dir`.
    pub async fn start(dir: PathBuf) -> Result<Self, Failure> {
        match std::env::var(NAMED) {
            Ok(brokers) => Ok(Self { brokers, own: None, client: ClientConfig::new() }),
            Err(_) => Self::start_own(dir).await,
        }
    }

    /// A broker of one's own, to kill and start again.
    pub async fn start_own(dir: PathBuf) -> Result<Self, Failure> {
        Self::start_as(dir, "PLAINTEXT", "", ClientConfig::new()).await
    }

    /// The same, that speaks this protocol, with settings of its own and of a client's that reaches it.
    pub async fn start_as(dir: PathBuf, protocol: &str, more: &str, client: ClientConfig) -> Result<Self, Failure> {
        let lib = tokio::task::spawn_blocking(fetch).await??;
        std::fs::create_dir_all(&dir)?;
        let (port, controller) = (free_port()?, free_port()?);
        let properties = dir.join("server.properties");
        std::fs::write(
            &properties,
            format!(
                "process.roles=broker,controller\nnode.id=1\n\
                 controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
                 listeners={protocol}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
                 advertised.listeners={protocol}://127.0.0.1:{port}\n\
                 listener.security.protocol.map=CONTROLLER:PLAINTEXT,{protocol}:{protocol}\n\
                 inter.broker.listener.name={protocol}\n\
                 controller.listener.names=CONTROLLER\nlog.dirs={}\n\
                 offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
                 transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\n\
                 share.coordinator.state.topic.min.isr=1\nauto.create.topics.enable=false\n{more}",
                dir.join("data").display()
            ),
        )?;
        let random = java(&lib, &dir).args(["kafka.tools.StorageTool", "random-uuid"]).output()?;
        let id = String::from_utf8(random.stdout)?.trim().to_owned();
        let formatted = java(&lib, &dir)
            .args(["kafka.tools.StorageTool", "format", "--standalone", "-t", &id, "-c"])
            .arg(&properties)
            .output()?;
        if !formatted.status.success() {
            return Err(format!("formatting Kafka's storage: {}", String::from_utf8_lossy(&formatted.stderr)).into());
        }
        let own = Own { dir, port, child: Mutex::new(None) };
        let kafka = Self { brokers: format!("127.0.0.1:{port}"), own: Some(own), client };
        kafka.run().await?;
        Ok(kafka)
    }

    /// Starts the broker (again) and waits until it answers.
    pub async fn run(&self) -> Result<(), Failure> {
        let own = self.own.as_ref().ok_or("a named broker is not ours to start")?;
        let lib = tokio::task::spawn_blocking(fetch).await??;
        let output = std::fs::File::create(own.dir.join("broker.log"))?;
        let mut command = java(&lib, &own.dir);
        command.args(["kafka.Kafka"]).arg(own.dir.join("server.properties"));
        command.stdout(output.try_clone()?).stderr(output);
        // The kernel ends it with the thread that started it: the runtime's live to the end, a test's does not.
        let child = tokio::spawn(async move { command.spawn() }).await??;
        *own.child.lock().expect("lock") = Some(child);
        let mut client = self.client.clone();
        let asker: BaseConsumer = client.set("bootstrap.servers", &self.brokers).set("log_level", "0").create()?;
        let asker = std::sync::Arc::new(asker);
        eventually(&format!("Kafka on port {}", own.port), || {
            let asker = asker.clone();
            async move {
                let asked = tokio::task::spawn_blocking(move || {
                    asker.fetch_metadata(None, std::time::Duration::from_secs(1)).is_ok_and(|m| !m.brokers().is_empty())
                });
                asked.await.unwrap_or(false)
            }
        })
        .await
    }

    /// Ends the broker as a power cut would.
    pub fn kill(&self) {
        let child = self.own.as_ref().and_then(|own| own.child.lock().expect("lock").take());
        if let Some(mut child) = child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Java over Kafka's libraries, ended by the kernel when the tests end however they end.
fn java(lib: &Path, dir: &Path) -> Command {
    let mut command = if Path::new("/usr/bin/setpriv").exists() {
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL", "java"]);
        command
    } else {
        Command::new("java")
    };
    command
        .args(["-Xmx512m", "-cp"])
        .arg(format!("{}/*", lib.display()))
        .arg(format!("-Dkafka.logs.dir={}", dir.display()))
        .current_dir(dir)
        .stdin(Stdio::null());
    command
}

/// Kafka's libraries, from the cache or by Maven. Runs side by side: whoever renames first wins.
fn fetch() -> Result<PathBuf, Failure> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().expect("lock");
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let cache = cache.unwrap_or_else(std::env::temp_dir).join("saldo-tests");
    let lib = cache.join(format!("kafka-{VERSION}"));
    if lib.exists() {
        return Ok(lib);
    }
    std::fs::create_dir_all(&cache)?;
    let fresh = tempfile::tempdir_in(&cache)?;
    let target = fresh.path().join("lib");
    let output = Command::new("mvn")
        .args(["-q", "-B", "-f", POM, "dependency:copy-dependencies"])
        .arg(format!("-DoutputDirectory={}", target.display()))
        .output()?;
    if !output.status.success() {
        return Err(format!("fetching Kafka with Maven: {}", String::from_utf8_lossy(&output.stdout)).into());
    }
    match std::fs::rename(&target, &lib) {
        Err(error) if !lib.exists() => Err(error.into()),
        _ => Ok(lib),
    }
}
