//! The projector proper: follows the log and keeps the live build at its end.

use std::{
    mem,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use saldo_facts::Commit;
use saldo_keyring::Keyring;
use saldo_log::{Log, ends, genesis::Identity};
use saldo_outage::Outage;
use saldo_readmodel::Models;
use saldo_telemetry::{
    CatchingUp,
    span::{Links, linked},
};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    ProjectorError,
    build::{Build, Written},
    fold::{Batch, Decode, Folding},
    heal::heal,
    metrics::Metrics,
    rebuild::{End, Progress, Rebuild, rebuild},
    standby,
};

/// Records of one transaction, and bytes of their values.
const BATCH: usize = 10_000;
const BATCH_BYTES: usize = 8 << 20;
/// Records asked of the log at once.
pub(crate) const READ: usize = 5_000;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Between two tries to put models in force that were made anew, and where a person must see to the rows first.
const RENEW_PAUSE: Duration = Duration::from_secs(5);
const DIFFERENT_PAUSE: Duration = Duration::from_secs(600);

/// Runs until `cancel`, or until the log turns out to be another one. Trouble with Postgres, the log or the key store is waited
/// out. One of several projectors works, and the others stand by ([`standby`]).
pub async fn run(
    log: Arc<dyn Log>,
    identity: Identity,
    pool: PgPool,
    keyring: Keyring,
    cancel: CancellationToken,
) -> Result<(), ProjectorError> {
    run_reading(Commit::decode, log, identity, pool, keyring, cancel).await
}

/// As [`run`], with another reader of commits.
pub async fn run_reading(
    decode: Decode,
    log: Arc<dyn Log>,
    identity: Identity,
    pool: PgPool,
    keyring: Keyring,
    cancel: CancellationToken,
) -> Result<(), ProjectorError> {
    let metrics = Metrics::new();
    let source = Source { log: log.as_ref(), identity: &identity, decode };
    tokio::select! {
        () = cancel.cancelled() => Ok(()),
        () = metrics.watch(log.as_ref(), &identity) => Ok(()),
        outcome = project(&source, &pool, &keyring, &metrics) => outcome,
    }
}

/// The pauses between tries, and the outage that tells of them.
struct Patience {
    pause: Duration,
    outage: Outage,
}

impl Patience {
    /// It works.
    fn rest(&mut self) {
        self.pause = FIRST_PAUSE;
        self.outage.over();
    }
}

/// The log that is followed, and the reading of its commits.
struct Source<'s> {
    log: &'s dyn Log,
    identity: &'s Identity,
    decode: Decode,
}

async fn project(
    source: &Source<'_>,
    pool: &PgPool,
    keyring: &Keyring,
    metrics: &Metrics,
) -> Result<(), ProjectorError> {
    let mut patience = Patience {
        pause: FIRST_PAUSE,
        outage: Outage::new("the projector goes on when it can", "the projector goes on"),
    };
    saldo_telemetry::interrupted(0);
    saldo_telemetry::seals_without_key(0);
    loop {
        match follow(source, pool, keyring, metrics, &mut patience).await {
            Ok(()) => {}
            Err(error) if error.is_transient() => {
                patience.outage.failed(error);
                saldo_telemetry::interrupted(1);
                tokio::time::sleep(patience.pause).await;
                patience.pause = (patience.pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Follows the log until overtaken. While one batch is written, new records are folded into the next one. It is handed over as
/// soon as the writer is free, so a quiet log is followed record by record and a busy one in large batches.
async fn follow(
    source: &Source<'_>,
    pool: &PgPool,
    keyring: &Keyring,
    metrics: &Metrics,
    patience: &mut Patience,
) -> Result<(), ProjectorError> {
    let Source { log, identity, decode } = *source;
    saldo_readmodel::ensure(pool, identity).await?;
    // Given up with this function.
    let _active = standby::become_active(log, identity, pool, metrics).await?;
    let schema = saldo_readmodel::ensure(pool, identity).await?;
    if schema.is_foreign() {
        return renew(source, pool, keyring, schema.lacks()).await;
    }
    if !schema.lacks().is_empty() {
        schema.supersede(pool, identity).await?;
    }
    let mut folding = Folding::resume(pool, &schema, identity).await?.reading(decode);
    metrics.stands_at(folding.done(), folding.parked());
    let build = Arc::new(Build { pool: pool.clone(), schema, keyring: Some(keyring.clone()), only_live: true });
    let mut mending = pin!(mend(source, &build, keyring));
    let Some(mut tail) = folding.tail(log, |_| u64::MAX).await? else { return Ok(()) };
    patience.rest();
    let end = ends(log, identity).await?.iter().sum();
    let mut progress = Some(CatchingUp::begin("projector", folding.done(), end));
    progress.take_if(|_| folding.done() >= end).into_iter().for_each(|progress| progress.end(end));
    let (mut batch, mut links) = (Batch::default(), Links::default());
    // One at most; ended with this function.
    let mut writing = JoinSet::new();
    loop {
        if writing.is_empty() && !batch.is_empty() {
            let (taken, links, build) = (mem::take(&mut batch), mem::take(&mut links), build.clone());
            let (records, done, parked) = (taken.records, folding.done(), folding.parked());
            metrics.writes();
            writing.spawn(async move {
                let begun = Instant::now();
                let written = linked("project", links, build.write(&taken), |_| None).await;
                written.map(|written| (written, records, done, parked, begun.elapsed()))
            });
        }
        tokio::select! {
            // The rows have changed: what was folded for the former ones is read again.
            mended = &mut mending => return mended,
            Some(ended) = writing.join_next() => {
                let (written, records, done, parked, took) = ended??;
                if written == Written::Overtaken {
                    return Ok(());
                }
                metrics.wrote(records, took);
                metrics.stands_at(done, parked);
                progress.take_if(|_| done >= end).into_iter().for_each(|progress| progress.end(done));
                progress.iter_mut().for_each(|progress| progress.at(done, end));
                patience.rest();
            }
            records = tail.next(READ), if !batch.is_full(BATCH, BATCH_BYTES) => {
                for record in records? {
                    links.note(record.trace.as_deref());
                    folding.fold(&mut batch, &record)?;
                }
                metrics.waits(batch.oldest);
            }
        }
    }
}

/// Brings the build to what this release knows, beside following the log: accounts that an earlier release has parked, then
/// models that it had in another version. Ends once something has changed, never where there is nothing to do.
async fn mend(source: &Source<'_>, build: &Build, keyring: &Keyring) -> Result<(), ProjectorError> {
    if heal(source.log, source.identity, build, source.decode).await? {
        return Ok(());
    }
    match build.schema.lacks() {
        lacks if lacks.is_empty() => std::future::pending().await,
        lacks => renew(source, &build.pool, keyring, lacks).await,
    }
}

/// Makes models anew that are missing or of an earlier release, in a build beside the live one, and puts them in force. The
/// former ones are served until then. Every obstacle is said, and the work is tried again.
async fn renew(source: &Source<'_>, pool: &PgPool, keyring: &Keyring, models: Models) -> Result<(), ProjectorError> {
    let names = models.iter().copied().collect::<Vec<_>>().join(", ");
    info!(models = names, "read models of an earlier release are made anew beside the live ones, which serve on");
    let options = Rebuild { models, only_lacking: true, decode: source.decode, ..Rebuild::default() };
    loop {
        let mut progress: Option<CatchingUp> = None;
        let tell = |now: Progress| {
            let progress = progress.get_or_insert_with(|| CatchingUp::begin("read models", now.done, now.total));
            progress.at(now.done, now.total);
        };
        match rebuild(source.log, source.identity, pool, keyring, &options, tell).await {
            Ok(rebuilt) if rebuilt.end == End::InForce => return Ok(()),
            Ok(rebuilt) if rebuilt.end == End::Swapped => {
                info!(models = names, records = rebuilt.records, "the read models made anew are in force");
                return Ok(());
            }
            Ok(rebuilt) => {
                let found = rebuilt.found.examples.first();
                error!(
                    models = names,
                    differences = rebuilt.found.differences,
                    ?found,
                    "the new read models were not put in force: the rows beside them differ from the log; run `saldo verify`, then `saldo rebuild`"
                );
                tokio::time::sleep(DIFFERENT_PAUSE).await;
            }
            // Somebody else's rebuild makes all of them.
            Err(ProjectorError::Rebuilding | ProjectorError::LiveStandsStill) => {}
            Err(error) if error.is_transient() => warn!(%error, "read models are made anew when that is possible"),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(RENEW_PAUSE).await;
        if saldo_readmodel::live(&mut *pool.acquire().await?).await?.lacks().is_empty() {
            return Ok(());
        }
    }
}
