//! Which fault comes when: two decks, shuffled; one of what is killed and stopped, one of what is done to connections.

use std::{collections::HashSet, os::unix::process::ExitStatusExt, time::Duration};

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    clients::Crowd,
    dice::Dice,
    journal::Journal,
    plan::Plan,
    processes::{Process, resume},
    proxy::{Mode, Proxy},
    site::Site,
};
use crate::{Failure, Outcome, env::within};

/// The longest a recovery is waited for; the checker holds it to less.
const RECOVERY: Duration = Duration::from_secs(120);

#[derive(Clone, Copy)]
enum Harm {
    Kill(usize),
    Stop(usize),
    Broker,
    Database,
}

/// Kills and stops, one after the other; each recovery is seen before the next.
pub async fn harm(site: &Site, crowd: &Crowd, journal: &Journal, plan: &Plan) -> Outcome {
    let mut dice = Dice::new(plan.seed, 1);
    let all = site.processes.len();
    let mut deck: Vec<Harm> = (0..plan.kills as usize).map(|kill| Harm::Kill(kill % all)).collect();
    let first = dice.between(0, all as u64 - 1) as usize;
    deck.extend((0..plan.stops as usize).map(|stop| Harm::Stop((first + 2 * stop) % all)));
    deck.extend((0..plan.brokers).map(|_| Harm::Broker));
    deck.extend((0..plan.databases).map(|_| Harm::Database));
    dice.shuffle(&mut deck);
    for harm in deck {
        sleep(dice.span(100, 1_000)).await;
        let (at, troubles) = (journal.now(), journal.troubles());
        let mut line = match harm {
            Harm::Kill(number) => kill(site, crowd, &site.processes[number]).await?,
            Harm::Stop(number) => stop(site, crowd, &site.processes[number], dice.span(1_000, 8_000)).await?,
            Harm::Broker => broker(site, crowd).await?,
            Harm::Database => database(site, crowd).await?,
        };
        line["begun"] = at.into();
        line["tries_without_answer"] = (journal.troubles() - troubles).into();
        journal.fault(line);
    }
    Ok(())
}

async fn kill(site: &Site, crowd: &Crowd, process: &Process) -> Result<serde_json::Value, Failure> {
    let (death, successor) = process.kill().await?;
    let begun = Instant::now();
    serves(site, crowd, process).await?;
    Ok(json!({
        "kind": "kill", "target": process.spec.name, "pid": death.pid, "signal": death.status.signal(),
        "new_pid": successor, "recovered_ms": begun.elapsed().as_millis() as u64,
    }))
}

async fn stop(site: &Site, crowd: &Crowd, process: &Process, span: Duration) -> Result<serde_json::Value, Failure> {
    let (pid, state) = process.pause().await?;
    sleep(span).await;
    resume(pid)?;
    let begun = Instant::now();
    serves(site, crowd, process).await?;
    Ok(json!({
        "kind": "stop", "target": process.spec.name, "pid": pid, "state": state, "same_process": process.pid() == Some(pid),
        "stopped_ms": span.as_millis() as u64, "recovered_ms": begun.elapsed().as_millis() as u64,
    }))
}

async fn broker(site: &Site, crowd: &Crowd) -> Result<serde_json::Value, Failure> {
    let (pid, status) = site.kafka.kill().ok_or("no broker")?;
    // How long it is away matters to whoever waits for it.
    sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    site.kafka.run().await?;
    let started = begun.elapsed();
    for process in site.of("command") {
        serves(site, crowd, process).await?;
    }
    Ok(json!({
        "kind": "broker", "target": "kafka", "pid": pid, "signal": status.signal(), "new_pid": site.kafka.pid(),
        "started_ms": started.as_millis() as u64, "recovered_ms": begun.elapsed().as_millis() as u64,
    }))
}

async fn database(site: &Site, crowd: &Crowd) -> Result<serde_json::Value, Failure> {
    let (pid, status) = site.database.kill().ok_or("no Postgres")?;
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    site.database.run().await?;
    let started = begun.elapsed();
    read_back(site, crowd).await?;
    Ok(json!({
        "kind": "database", "target": "postgres", "pid": pid, "signal": status.signal(), "new_pid": site.database.pid(),
        "started_ms": started.as_millis() as u64, "recovered_ms": begun.elapsed().as_millis() as u64,
    }))
}

/// A process does again what it is there for.
async fn serves(site: &Site, crowd: &Crowd, process: &Process) -> Outcome {
    let what = format!("{} serves again", process.spec.name);
    within(RECOVERY, &what, || async { process.is_healthy().await }).await?;
    match process.spec.role {
        "command" => {
            let what = format!("{} acknowledges a command", process.spec.name);
            within(RECOVERY, &what, || async { crowd.probe(site, process).await.is_ok() }).await
        }
        "query" | "projector" => read_back(site, crowd).await,
        _ => Ok(()),
    }
}

/// A fact that is acknowledged now can be queried a moment later.
async fn read_back(site: &Site, crowd: &Crowd) -> Outcome {
    let what = "an acknowledged command is seen by a query";
    within(RECOVERY, what, || async { crowd.probe_read_back(site).await.is_ok() }).await
}

/// Disturbs connections, one link after the other.
pub async fn disturb(site: &Site, journal: &Journal, plan: &Plan) -> Outcome {
    let mut dice = Dice::new(plan.seed, 2);
    let kinds = [("cut", plan.cuts), ("halve", plan.halves), ("delay", plan.delays), ("throttle", plan.throttles)];
    let mut deck: Vec<&str> = kinds.into_iter().flat_map(|(kind, times)| (0..times).map(move |_| kind)).collect();
    dice.shuffle(&mut deck);
    // The first of each kind, and every other one, hits a link that is never idle.
    let busy: Vec<&Proxy> = site.links.iter().filter(|link| link.name.starts_with("anybody")).collect();
    let any: Vec<&Proxy> = site.links.iter().collect();
    let mut seen = HashSet::new();
    for (turn, kind) in deck.into_iter().enumerate() {
        sleep(dice.span(300, 2_000)).await;
        let first = seen.insert(kind);
        let link = dice.one(if first || turn % 2 == 0 { &busy } else { &any }).ok_or("no links")?;
        let (mode, span, noticed): (_, _, &[&str]) = match kind {
            "cut" => (Mode::Cut, dice.span(500, 4_000), &["reset", "refused"]),
            "halve" => (Mode::Halve, dice.span(2_000, 8_000), &["held"]),
            "delay" => (Mode::Delay(dice.span(20, 300)), dice.span(2_000, 5_000), &["late"]),
            _ => (Mode::Throttle, dice.span(2_000, 5_000), &["throttled"]),
        };
        let before = link.counts.named();
        let at = journal.now();
        link.set(mode);
        sleep(span).await;
        if first {
            // A connection must notice the fault, even while other parts are down.
            let told = format!("{kind} on {} is noticed", link.name);
            let is_noticed = || async {
                let now = link.counts.named();
                now.iter().zip(&before).any(|(now, before)| noticed.contains(&now.0) && now != before)
            };
            within(RECOVERY, &told, is_noticed).await?;
        }
        link.set(Mode::Pass);
        let mut line = json!({ "kind": kind, "target": link.name, "begun": at, "lasted_ms": span.as_millis() as u64 });
        for ((name, before), (_, after)) in before.into_iter().zip(link.counts.named()) {
            line[name] = (after - before).into();
        }
        journal.fault(line);
    }
    Ok(())
}
