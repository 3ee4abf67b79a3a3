//! A real OpenTelemetry Collector, with the configuration that we deliver.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    Failure,
    env::{eventually, free_port, get},
};

/// Names a collector to run, where it stands elsewhere.
const NAMED: &str = "SALDO_TEST_COLLECTOR";

/// The settings that differ for a test: ports of its own, everything in one file at once.
const OVERLAY: &str = "
receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:<otlp>'}}}}
processors: {batch: {timeout: 50ms}}
exporters: {prometheus: {endpoint: '127.0.0.1:<web>'}, file: {path: '<file>', flush_interval: 50ms}}
service:
  pipelines: {metrics: {exporters: [prometheus, file]}, traces: {exporters: [file]}}
  telemetry: {metrics: {level: none}, logs: {level: error}}
";

/// A running collector.
pub struct Collector {
    child: Child,
    otlp: u16,
    web: u16,
    file: PathBuf,
}

/// A span, and the service that made it.
#[derive(Debug, Clone)]
pub struct Span {
    pub service: String,
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    /// Trace and span of each.
    pub links: Vec<(String, String)>,
    attributes: Value,
}

impl Span {
    /// A text among its attributes.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        let all = self.attributes.as_array()?;
        all.iter().find(|one| one["key"] == key)?["value"]["stringValue"].as_str()
    }
}

fn binary() -> Option<PathBuf> {
    let built = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/saldo-tests/otelcol"));
    std::env::var_os(NAMED).map(PathBuf::from).or(built.filter(|file| file.exists()))
}

/// Why there is no collector here.
pub fn missing() -> Option<String> {
    binary().is_none().then(|| {
        let build = "cd tests/collector && go build -o ~/.cache/saldo-tests/otelcol .";
        format!("needs an OpenTelemetry Collector: `{build}`, or name its binary in {NAMED}")
    })
}

/// The folder of what we deliver for telemetry.
pub fn delivered() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/telemetry")
}

impl Collector {
    /// Starts it and waits until it answers.
    pub async fn start(dir: &Path) -> Result<Self, Failure> {
        let (otlp, web, file) = (free_port()?, free_port()?, dir.join("telemetry.json"));
        let overlay = OVERLAY
            .replace("<otlp>", &otlp.to_string())
            .replace("<web>", &web.to_string())
            .replace("<file>", &file.display().to_string());
        let path = dir.join("collector.yaml");
        std::fs::write(&path, overlay)?;
        let child = Command::new(binary().ok_or("no collector")?)
            .arg("--config")
            .arg(delivered().join("collector.yaml"))
            .arg("--config")
            .arg(path)
            .stdout(Stdio::null())
            .spawn()?;
        let collector = Self { child, otlp, web, file };
        eventually("the collector answers", || async { get(web, "/metrics").await.is_ok() }).await?;
        Ok(collector)
    }

    /// As `telemetry.otlp` wants it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.otlp)
    }

    /// The text that Prometheus reads.
    pub async fn metrics(&self) -> Result<String, Failure> {
        get(self.web, "/metrics").await
    }

    /// All that it took, as it came in.
    pub fn taken(&self) -> Result<String, Failure> {
        Ok(std::fs::read_to_string(&self.file)?)
    }

    /// All spans that it took.
    pub fn spans(&self) -> Result<Vec<Span>, Failure> {
        let mut spans = Vec::new();
        // The last line may be on its way.
        for line in self.taken()?.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            for resource in each(&line["resourceSpans"]) {
                let named = each(&resource["resource"]["attributes"]).find(|one| one["key"] == "service.name");
                let service = named.map(|one| text(&one["value"]["stringValue"])).unwrap_or_default();
                let all = each(&resource["scopeSpans"]).flat_map(|scope| each(&scope["spans"]));
                spans.extend(all.map(|span| Span {
                    service: service.clone(),
                    name: text(&span["name"]),
                    trace: text(&span["traceId"]),
                    id: text(&span["spanId"]),
                    parent: text(&span["parentSpanId"]),
                    links: each(&span["links"]).map(|link| (text(&link["traceId"]), text(&link["spanId"]))).collect(),
                    attributes: span["attributes"].clone(),
                }));
            }
        }
        Ok(spans)
    }

    /// Waits for a span.
    pub async fn span(&self, what: &str, is: impl Fn(&Span) -> bool) -> Result<Span, Failure> {
        let find = || self.spans().ok()?.into_iter().find(|span| is(span));
        eventually(&format!("a span: {what}"), || async { find().is_some() }).await?;
        find().ok_or_else(|| "gone".into())
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        let _ = self.child.kill();
    }
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
