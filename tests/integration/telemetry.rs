//! Telemetry for operations: traces from a call to a message, metrics that alarms and dashboard go by, and nothing personal.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use saldo_api::v1;
use tonic::Request;

use crate::{
    Failure, Outcome,
    apart::over_tls,
    collector::{Collector, Span, delivered},
    env::{Env, eventually, free_port},
    mailbox::Moody,
    process::Saldo,
    talking::{becomes, debtor, policy},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const ACCOUNT: &str = "D-sanchez-4711";
const ADDRESS: &str = "ana.sanchez@example.com";
const COMMANDS: &str = "collections.v1.CommandService";
/// The longest that a stop may take, on a busy machine and whatever the collector does.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// A call with a known trace is followed through command service, log and projector; a reminder through scheduler,
/// dispatcher and the calls it makes. Then the collector is gone, and nobody minds.
pub async fn traces_and_metrics(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let (mail, collector) = (Moody::start(0).await?, Collector::start(dir.path()).await?);
    let deployment = over_tls(dir.path(), &env, &mail.url()).await?;
    let mut config = std::fs::read_to_string(&deployment.config)?;
    config += &format!("[telemetry]\notlp = '{}'\nsample = 1.0\ninterval_seconds = 1\n", collector.url());
    std::fs::write(&deployment.config, config)?;
    let mut processes = vec![deployment.start("command", 1)?];
    for service in ["projector", "scheduler", "dispatcher", "query"] {
        processes.push(deployment.start(service, 1)?);
    }
    for process in &processes {
        process.serves().await?;
    }
    let target = deployment.target(1, Some(&processes[4]))?;
    let clients = target.connect().await?;
    debtor(&clients, ACCOUNT, ADDRESS, 10).await?;
    let request_id = uuid::Uuid::new_v4().to_string();
    let amend = v1::AmendAccountRequest {
        request_id: request_id.clone(),
        account_id: ACCOUNT.into(),
        profile: Some(v1::Profile { display_name: "Ana Sánchez".into(), ..Default::default() }),
        update_mask: Some(saldo_api::FieldMask { paths: vec!["display_name".into()] }),
        ..Default::default()
    };
    let mut amend = Request::new(amend);
    amend.metadata_mut().insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse()?);
    clients.command.clone().amend_account(amend).await?;

    let called = |method: &str| {
        let name = format!("{COMMANDS}/{method}");
        move |span: &Span| span.service == "saldo-command" && span.name == name
    };
    let amended = collector.span("the call", called("AmendAccount")).await?;
    assert_eq!((amended.trace.as_str(), amended.parent.as_str()), (TRACE, CALLER), "it continues its caller's trace");
    let part = async |name: &str, of: &Span| {
        let of = of.clone();
        collector.span(name, move |span| span.name == name && span.trace == of.trace && span.parent == of.id).await
    };
    for step in ["check and seal", "queue", "decide"] {
        part(step, &amended).await?;
    }
    let append = part("append", &amended).await?;
    let linked = |append: Span| move |span: &Span| span.links.contains(&(append.trace.clone(), append.id.clone()));
    let projected = collector.span("the projection", linked(append)).await?;
    assert_eq!((projected.service.as_str(), projected.name.as_str()), ("saldo-projector", "project"));

    let policy = policy(dir.path(), |text| text)?;
    deployment.succeeds(&["policy", "publish", &policy]).await?;
    deployment.succeeds(&["sending", "on"]).await?;
    becomes(&clients, ACCOUNT, "accepted").await?;
    let made_due = collector.span("waking", |span| {
        span.service == "saldo-scheduler" && span.name == "wake" && span.attribute("result") == Some("advanced")
    });
    let advanced = part(&format!("{COMMANDS}/AdvanceTime"), &made_due.await?).await?;
    let due = linked(part("append", &advanced).await?);
    let attempt = collector.span("the attempt, linked to what made it due", move |span| {
        let accepted = span.attribute("outcome") == Some("accepted");
        span.service == "saldo-dispatcher" && span.name == "attempt" && accepted && due(span)
    });
    let attempt = attempt.await?;
    part(&format!("{COMMANDS}/StartContactAttempt"), &attempt).await?;
    part("hand over", &attempt).await?;
    let outcome = part(&format!("{COMMANDS}/RecordContactOutcome"), &attempt).await?;
    collector.span("the outcome's projection", linked(part("append", &outcome).await?)).await?;

    let used = used_metrics()?;
    let exported = || async { collector.metrics().await.map(|text| names(&text)) };
    let complete = || async { exported().await.is_ok_and(|exported| used.is_subset(&exported)) };
    if eventually("every metric that alarms and dashboard use", complete).await.is_err() {
        return Err(format!("not exported: {:?}", used.difference(&exported().await?).collect::<Vec<_>>()).into());
    }
    let (metrics, taken) = (collector.metrics().await?, collector.taken()?);
    let query = |line: &&str| line.starts_with("saldo_calls_total{") && line.contains("service=\"query\"");
    let answered = |line: &str| line.contains("method=\"ListReminders\"") && line.contains("code=\"Ok\"");
    assert!(metrics.lines().filter(query).any(answered), "queries are counted: {metrics}");
    for secret in ["Ana Gil", "Sánchez", ADDRESS, ACCOUNT, "acme", "somebody", &request_id, &target.token] {
        assert!(!taken.contains(secret) && !metrics.contains(secret), "{secret} was exported");
    }

    collector.kill();
    debtor(&clients, "D-2", "two@example.com", 10).await?;
    becomes(&clients, "D-2", "accepted").await?;
    for process in processes.into_iter().rev() {
        let (endpoint, asked) = (process.endpoint.clone(), Instant::now());
        process.stop().await?;
        assert!(asked.elapsed() < STOPS_WITHIN, "{endpoint}: {:?}", asked.elapsed());
    }
    Ok(())
}

/// A collector that never was holds up nothing.
pub async fn without_collector(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let nobody = format!("http://127.0.0.1:{}", free_port()?);
    let variables = [("SALDO__TELEMETRY__OTLP", nobody.as_str()), ("SALDO__TELEMETRY__SAMPLE", "1.0")];
    let saldo = Saldo::start_with(&dir.path().join("data"), &[], &variables).await?;
    debtor(&saldo.clients().await?, "D-1", "ana@example.com", 10).await?;
    let asked = Instant::now();
    saldo.stop().await?;
    assert!(asked.elapsed() < STOPS_WITHIN, "{:?}", asked.elapsed());
    Ok(())
}

/// The metrics that alarms and dashboard go by.
fn used_metrics() -> Result<BTreeSet<String>, Failure> {
    let mut used = BTreeSet::new();
    for file in ["alerts.yaml", "dashboard.json"] {
        used.extend(names(&std::fs::read_to_string(delivered().join(file))?));
    }
    assert!(used.len() > 15, "{used:?}");
    Ok(used)
}

fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    words.filter(|word| word.starts_with("saldo_")).map(str::to_owned).collect()
}

/// The operator's page explains every alarm.
pub async fn runbooks(_: Arc<Env>) -> Outcome {
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
    let alarms = std::fs::read_to_string(format!("{deploy}/telemetry/alerts.yaml"))?;
    let page = std::fs::read_to_string(format!("{deploy}/OPERATIONS.md"))?;
    let told = alarms.lines().filter_map(|line| line.trim().strip_prefix("runbook: deploy/OPERATIONS.md#"));
    let told: BTreeSet<String> = told.map(str::to_owned).collect();
    let headings = page.lines().filter_map(|line| line.strip_prefix("### Alarm: "));
    let explained: BTreeSet<String> =
        headings.map(|name| format!("alarm-{}", name.to_lowercase().replace(' ', "-"))).collect();
    assert!(told.len() > 10, "{told:?}");
    assert_eq!(told, explained);
    Ok(())
}
