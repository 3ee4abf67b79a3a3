//! Faults, for real: every process killed and stopped, broker and database killed, connections cut, delayed and halved,
//! while clients go on. Afterwards a program of its own reads the log and everything that was answered, stored and sent.

mod checker;
mod clients;
mod commands;
mod database;
mod dice;
mod journal;
mod plan;
mod processes;
mod proxy;
mod schedule;
mod site;

use std::{path::Path, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{Outcome, env::Env};

pub use checker::{missing, planted};
use clients::Crowd;
use journal::Journal;
use plan::Plan;
pub use plan::long_run_is_asked_for;
use site::Site;

/// The longest that everything may take to come to rest after the last fault.
const SETTLING: Duration = Duration::from_secs(180);

/// A minute or so of everything.
pub async fn short_run(_: Arc<Env>) -> Outcome {
    run(Plan::short()).await
}

/// As long as `SALDO_FAULTS` asks for.
pub async fn long_run(_: Arc<Env>) -> Outcome {
    run(Plan::from_environment()?).await
}

async fn run(plan: Plan) -> Outcome {
    println!("faults: {plan}");
    let folder = plan.folder()?;
    let ended = run_in(folder.path(), &plan).await;
    if ended.is_err() {
        println!("faults: everything about this run stands in {}", folder.stay().display());
    }
    ended
}

async fn run_in(dir: &Path, plan: &Plan) -> Outcome {
    let site = Site::lay(dir).await?;
    site.speak().await?;
    let begun = Instant::now();
    let journal = Arc::new(Journal::create(dir, begun)?);
    let crowd = Crowd::start(&site, &journal, plan).await?;
    let harm = schedule::harm(&site, &crowd, &journal, plan);
    tokio::try_join!(harm, schedule::disturb(&site, &journal, plan))?;
    crowd.finish(plan.commands).await?;
    let seconds = begun.elapsed().as_secs();
    println!("faults: over after {seconds} s, {}", journal.counts());
    site.settle(SETTLING).await?;
    site.close().await?;
    journal.close()?;
    checker::check(&site, dir, plan, seconds).await
}
