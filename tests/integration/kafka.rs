//! A real Apache Kafka: fetched with Maven into a cache, run with Java, ended with the tests.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, OnceLock},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};

use crate::{
    Failure,
    env::{cache, eventually, free_port},
    process::bound,
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

/// One more way to a broker, for somebody who is to have a proxy of his own in front of it.
#[derive(Clone, Copy)]
pub struct Door {
    /// Where the broker listens.
    pub port: u16,
    /// Where it says that it does.
    pub advertised: u16,
}

/// How a broker of one's own differs from the usual one.
pub struct Shape<'s> {
    /// More ways to it.
    pub doors: &'s [Door],
    /// The protocol: PLAINTEXT or SSL.
    pub protocol: &'s str,
    /// More settings of its own, a line each.
    pub settings: &'s str,
    /// Settings of a client that reaches it.
    pub client: ClientConfig,
}

impl Default for Shape<'_> {
    fn default() -> Self {
        Self { doors: &[], protocol: "PLAINTEXT", settings: "", client: ClientConfig::new() }
    }
}

/// Why there is no Kafka here.
pub fn missing() -> Option<String> {
    if std::env::var_os(NAMED).is_some() { None } else { own_missing() }
}

/// Why no Kafka of one's own can be started here. It is found out once: Maven takes seconds to say its version.
pub fn own_missing() -> Option<String> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    MISSING.get_or_init(look_for_own).clone()
}

fn look_for_own() -> Option<String> {
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
        Self::start_as(dir, Shape::default()).await
    }

    /// The same, of another shape.
    pub async fn start_as(dir: PathBuf, shape: Shape<'_>) -> Result<Self, Failure> {
        let Shape { doors, protocol, settings, client } = shape;
        let lib = tokio::task::spawn_blocking(fetch).await??;
        std::fs::create_dir_all(&dir)?;
        let (port, controller) = (free_port()?, free_port()?);
        let properties = dir.join("server.properties");
        let each = |line: fn(usize, &Door) -> String| -> String {
            doors.iter().enumerate().map(|(number, door)| line(number, door)).collect()
        };
        let listeners = each(|number, door| format!(",DOOR{number}://127.0.0.1:{}", door.port));
        let advertised = each(|number, door| format!(",DOOR{number}://127.0.0.1:{}", door.advertised));
        let protocols = each(|number, _| format!(",DOOR{number}:PLAINTEXT"));
        std::fs::write(
            &properties,
            format!(
                "process.roles=broker,controller\nnode.id=1\n\
                 controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
                 listeners={protocol}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listeners}\n\
                 advertised.listeners={protocol}://127.0.0.1:{port}{advertised}\n\
                 listener.security.protocol.map=CONTROLLER:PLAINTEXT,{protocol}:{protocol}{protocols}\n\
                 inter.broker.listener.name={protocol}\n\
                 controller.listener.names=CONTROLLER\nlog.dirs={}\n\
                 offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
                 transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\n\
                 share.coordinator.state.topic.min.isr=1\nauto.create.topics.enable=false\n{settings}",
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

    /// Ends the broker as a power cut would. Returns which process it was and how it ended.
    pub fn kill(&self) -> Option<(u32, ExitStatus)> {
        let mut child = self.own.as_ref()?.child.lock().expect("lock").take()?;
        let _ = child.kill();
        Some((child.id(), child.wait().ok()?))
    }

    /// The broker's process.
    pub fn pid(&self) -> Option<u32> {
        self.own.as_ref()?.child.lock().expect("lock").as_ref().map(Child::id)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Java over Kafka's libraries.
fn java(lib: &Path, dir: &Path) -> Command {
    let mut command = bound("java");
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
    let cache = cache();
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
