//! Making the read models anew from the log: beside the live ones, compared with them, then swapped in one transaction.
//!
//! The filled rows stay when a rebuild ends early, however it ends. Each batch is one transaction with its checkpoints, and the
//! next rebuild goes on from there.

use std::{
    mem,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use saldo_facts::Commit;
use saldo_keyring::Keyring;
use saldo_log::{Log, ends, genesis::Identity};
use saldo_readmodel::{Models, ReadModelError, Schema};
use sqlx::{PgConnection, PgPool};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    ProjectorError,
    build::{Build, Written},
    compare::{self, Differences},
    fold::{Batch, Decode, Folding},
    live::READ,
    pace::{Pace, paced},
    standby::{LOOK, STANDSTILL},
};

/// Records of one transaction, and bytes of their values: two such batches are in memory at once.
pub(crate) const BATCH: usize = 50_000;
pub(crate) const BATCH_BYTES: usize = 32 << 20;
/// So many are worth a transaction when the writer has nothing else to do.
pub(crate) const WORTH: usize = 20_000;
/// However slowly records come, what was read is written this often: an interrupted rebuild loses no more.
const BATCH_TIME: Duration = Duration::from_secs(2);
/// Records that may still be read while the live build is locked.
const LEFT_FOR_THE_SWAP: u64 = 2_000;
/// The longest that the swap waits for a lock, such as a view's that an analyst reads: queries wait behind it meanwhile.
const LONGEST_LOCK: &str = "SET LOCAL lock_timeout = '1s'";
/// Between two tries to swap.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How a rebuild is made.
#[derive(Debug, Clone)]
pub struct Rebuild {
    /// Throw away what an earlier one has left.
    pub fresh: bool,
    /// Swap although the live rows differ.
    pub accept_differences: bool,
    /// The models to make anew. All others go over from the live build as they are.
    pub models: Models,
    /// Make none of these anew that the live build has by now: somebody else's rebuild may have come first.
    pub only_lacking: bool,
    /// How commits are read.
    pub decode: Decode,
    /// Read no more than this in a second of what stands in the log at the start.
    pub records_per_second: Option<NonZeroU32>,
    /// Leave it where it stands, once cancelled.
    pub pause: CancellationToken,
}

impl Default for Rebuild {
    fn default() -> Self {
        let pause = CancellationToken::new();
        let models = saldo_readmodel::all_models();
        Self {
            fresh: false,
            accept_differences: false,
            models,
            only_lacking: false,
            decode: Commit::decode,
            records_per_second: None,
            pause,
        }
    }
}

/// The phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Reading the log into the tables.
    #[default]
    Reading,
    /// Comparing with the live rows.
    Comparing,
    /// Making indexes.
    Indexing,
    /// Reading what came meanwhile, and swapping.
    Swapping,
}

/// How far a rebuild or a check is.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Progress {
    /// The phase.
    #[serde(rename = "stage")]
    pub phase: Phase,
    /// Records read.
    pub done: u64,
    /// Records there were when it was last looked.
    pub total: u64,
}

/// How a rebuild ended.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Rebuilt {
    /// How far it came.
    pub end: End,
    /// Records read, Genesis included; those of an earlier rebuild that this one went on from too.
    pub records: u64,
    /// Records behind which live and new rows were compared; `None` where they were not.
    pub compared_at: Option<u64>,
    /// The findings of the comparison.
    #[serde(flatten)]
    pub found: Differences,
    /// Time that went into reading and writing rows and making indexes.
    #[serde(skip)]
    pub filling: Duration,
}

/// How far a rebuild came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The new build is in force.
    Swapped,
    /// It was asked to stop; the next one goes on.
    Paused,
    /// There was nothing to do: somebody else's rebuild has put the models in force.
    InForce,
    /// The live rows are others; both builds stand.
    Different,
}

/// Builds the read models anew, compares them with the live ones and puts them in force.
pub async fn rebuild(
    log: &dyn Log,
    identity: &Identity,
    pool: &PgPool,
    keyring: &Keyring,
    options: &Rebuild,
    progress: impl FnMut(Progress) + Send,
) -> Result<Rebuilt, ProjectorError> {
    saldo_readmodel::ensure(pool, identity).await?;
    // Held to the end.
    let Some(_only) = saldo_readmodel::only_rebuild(pool).await? else { return Err(ProjectorError::Rebuilding) };
    let live = saldo_readmodel::live(&mut *pool.acquire().await?).await?;
    // A build that an earlier release made in another form has no tables that could be compared or taken over.
    let comparable = !live.is_foreign();
    let mut models = if comparable { options.models.clone() } else { saldo_readmodel::all_models() };
    if options.only_lacking {
        models = models.intersection(&live.lacks()).copied().collect();
    }
    let rebuilt = Rebuilt {
        end: End::InForce,
        records: 0,
        compared_at: None,
        found: Differences::default(),
        filling: Duration::ZERO,
    };
    if models.is_empty() {
        return Ok(rebuilt);
    }
    let partial = models != saldo_readmodel::all_models();
    let schema = Schema::build(pool, identity, options.fresh, &models).await?;
    let folding = Folding::resume(pool, &schema, identity).await?.reading(options.decode);
    let build = Build { pool: pool.clone(), schema, keyring: Some(keyring.clone()), only_live: false };
    let at_start = ends(log, identity).await?.iter().sum();
    let build = Arc::new(build);
    let mut work = Work { log, identity, options, progress, comparable, partial, at_start, folding, build, rebuilt };
    work.rebuilt.end = work.all().await?;
    work.rebuilt.records = work.folding.done();
    Ok(work.rebuilt)
}

struct Work<'w, P> {
    log: &'w dyn Log,
    identity: &'w Identity,
    options: &'w Rebuild,
    progress: P,
    /// Whether the live rows are of the same form.
    comparable: bool,
    /// Whether only some models are made anew: then it must stand exactly where the live build stands when it is swapped.
    partial: bool,
    /// Records that stood in the log at the start. Later records are read unpaced, or the end of a busy log would never be
    /// reached.
    at_start: u64,
    folding: Folding,
    build: Arc<Build>,
    rebuilt: Rebuilt,
}

impl<P: FnMut(Progress) + Send> Work<'_, P> {
    async fn all(&mut self) -> Result<End, ProjectorError> {
        if self.comparable && (self.partial || !self.options.accept_differences) && !self.wait_for_live().await? {
            return Ok(End::Paused);
        }
        // To where the live build stands, and no further: rows can only be compared at one place.
        let mut far = u64::MAX;
        while far > BATCH as u64
            && let Some(standing) = self.live_standing().await?
        {
            if !self.fill(&standing, Phase::Reading).await? {
                return Ok(End::Paused);
            }
            let standing = self.live_standing().await?;
            far = standing.map_or(0, |standing| self.behind(&standing));
        }
        if self.comparable && !self.compare().await? && !self.options.accept_differences {
            return Ok(End::Different);
        }
        if !self.fill_to_the_end(Phase::Reading).await? {
            return Ok(End::Paused);
        }
        self.index().await?;
        let mut pause = FIRST_PAUSE;
        loop {
            if !self.fill_to_the_end(Phase::Swapping).await? {
                return Ok(End::Paused);
            }
            match self.swap().await {
                Ok(true) => return Ok(End::Swapped),
                Ok(false) => {}
                Err(ProjectorError::ReadModel(error)) if error.is_lock_timeout() => {
                    tracing::info!(?pause, "a query reads what is to be swapped; the swap is tried again");
                    // The transaction took back the last records.
                    let folding = Folding::resume(&self.build.pool, &self.build.schema, self.identity).await?;
                    self.folding = folding.reading(self.options.decode);
                    tokio::select! {
                        () = self.options.pause.cancelled() => return Ok(End::Paused),
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads as far as it may: to the log's end, or to where the live build stands.
    async fn fill_to_the_end(&mut self, phase: Phase) -> Result<bool, ProjectorError> {
        let until = match self.partial {
            true => self.live_standing().await?.ok_or(ReadModelError::OtherLog)?,
            false => ends(self.log, self.identity).await?,
        };
        self.fill(&until, phase).await
    }

    fn tell(&mut self, phase: Phase, total: u64) {
        let done = self.folding.done();
        (self.progress)(Progress { phase, done, total: total.max(done) });
    }

    /// How many records it lacks.
    fn behind(&self, until: &[u64]) -> u64 {
        (0u32..).zip(until).map(|(partition, end)| end.saturating_sub(self.folding.next(partition))).sum()
    }

    /// Whether it has read further than the live build, which stands there.
    fn is_beyond(&self, live: &[u64]) -> bool {
        (0u32..).zip(live).any(|(partition, end)| self.folding.next(partition) > *end)
    }

    /// A build that an earlier rebuild has left may have read further than the live build. Rows can only be compared at one
    /// place, so this waits until the live build has come as far, while it moves. `false`: it was asked to pause.
    async fn wait_for_live(&self) -> Result<bool, ProjectorError> {
        let (mut last, mut since) = (None, Instant::now());
        loop {
            let Some(standing) = self.live_standing().await?.filter(|live| self.is_beyond(live)) else {
                return Ok(true);
            };
            if last.is_none() {
                tracing::info!("the live read models have not come as far as this rebuild has; it waits for them");
            }
            if last.as_ref() != Some(&standing) {
                (last, since) = (Some(standing), Instant::now());
            }
            if since.elapsed() >= STANDSTILL {
                return Err(ProjectorError::LiveStandsStill);
            }
            tokio::select! {
                () = self.options.pause.cancelled() => return Ok(false),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn live_standing(&self) -> Result<Option<Vec<u64>>, ProjectorError> {
        let mut connection = self.build.pool.acquire().await?;
        let live = saldo_readmodel::live(&mut connection).await?;
        Ok(live.standing(&mut connection, self.identity, false).await?)
    }

    /// Reads up to these offsets, folding one batch while the one before is written. `false`: it was asked to pause, and
    /// has written what it had read.
    async fn fill(&mut self, until: &[u64], phase: Phase) -> Result<bool, ProjectorError> {
        let begun = Instant::now();
        let filled = self.fill_until(until, phase).await;
        self.rebuilt.filling += begun.elapsed();
        filled
    }

    async fn fill_until(&mut self, until: &[u64], phase: Phase) -> Result<bool, ProjectorError> {
        let total = until.iter().sum();
        self.tell(phase, total);
        let Some(mut tail) = self.folding.tail(self.log, end_of(until)).await? else {
            return Ok(!self.options.pause.is_cancelled());
        };
        let mut pace = self.options.records_per_second.map(Pace::new);
        let mut batch = Batch::default();
        let mut begun = Instant::now();
        // One at most; ended with this function.
        let mut writing = JoinSet::new();
        loop {
            let paused = self.options.pause.is_cancelled();
            let read = paused || self.behind(until) == 0;
            pace.take_if(|_| self.folding.done() >= self.at_start);
            // So many records are worth a transaction before it is full.
            let worth = read || batch.is_full(WORTH, BATCH_BYTES) || begun.elapsed() >= BATCH_TIME;
            if writing.is_empty() && !batch.is_empty() && worth {
                let (taken, build) = (mem::take(&mut batch), self.build.clone());
                begun = Instant::now();
                writing.spawn(async move { build.write(&taken).await });
            }
            if read && writing.is_empty() {
                return Ok(!paused);
            }
            tokio::select! {
                Some(ended) = writing.join_next() => {
                    if ended?? == Written::Overtaken {
                        return Err(ReadModelError::OtherLog.into());
                    }
                }
                () = self.options.pause.cancelled(), if !paused => {}
                records = paced(pace.as_mut(), tail.as_mut()), if !read && !batch.is_full(BATCH, BATCH_BYTES) => {
                    for record in records?.iter().filter(|record| record.offset < end_of(until)(record.partition)) {
                        self.folding.fold(&mut batch, record)?;
                    }
                    self.tell(phase, total);
                }
            }
        }
    }

    /// Reads up to these offsets within a transaction.
    async fn fill_in(&mut self, transaction: &mut PgConnection, until: &[u64]) -> Result<(), ProjectorError> {
        let Some(mut tail) = self.folding.tail(self.log, end_of(until)).await? else { return Ok(()) };
        let mut batch = Batch::default();
        loop {
            let read = self.behind(until) == 0;
            if (read || batch.is_full(BATCH, BATCH_BYTES))
                && self.build.write_in(transaction, &mem::take(&mut batch)).await? == Written::Overtaken
            {
                return Err(ReadModelError::OtherLog.into());
            }
            if read {
                return Ok(());
            }
            for record in tail.next(READ).await?.iter().filter(|record| record.offset < end_of(until)(record.partition))
            {
                self.folding.fold(&mut batch, record)?;
            }
        }
    }

    /// Brings the new build to where one snapshot of the live one stands and compares them there; nobody waits for it.
    async fn compare(&mut self) -> Result<bool, ProjectorError> {
        let pool = self.build.pool.clone();
        let mut snapshot = saldo_postgres::begin_long(&pool).await?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *snapshot).await?;
        let live = saldo_readmodel::live(&mut snapshot).await?;
        let Some(standing) = live.standing(&mut snapshot, self.identity, false).await? else { return Ok(true) };
        if self.is_beyond(&standing) {
            let swaps_anyhow = self.options.accept_differences;
            return if swaps_anyhow { Ok(true) } else { Err(ProjectorError::LiveStandsStill) };
        }
        self.tell(Phase::Comparing, standing.iter().sum());
        self.fill_in(&mut snapshot, &standing).await?;
        // Beside models that are not made anew their parked accounts stay as they are: an earlier release may have parked
        // other ones, and in other words.
        let mut tables = self.build.schema.compared(&live);
        tables.retain(|table| !self.partial || *table != saldo_readmodel::PARKED_TABLE);
        compare::rows(&mut snapshot, &self.build.schema, &live, tables, &mut self.rebuilt.found).await?;
        compare::personal(&mut snapshot, &self.build.schema, &live, &mut self.rebuilt.found).await?;
        snapshot.commit().await?;
        self.rebuilt.compared_at = Some(standing.iter().sum());
        Ok(self.rebuilt.found.differences == 0)
    }

    async fn index(&mut self) -> Result<(), ProjectorError> {
        self.tell(Phase::Indexing, 0);
        let begun = Instant::now();
        let mut transaction = saldo_postgres::begin(&self.build.pool).await?;
        self.build.schema.index(&mut transaction).await?;
        transaction.commit().await?;
        self.rebuilt.filling += begun.elapsed();
        Ok(())
    }

    /// Holds the live build, reads the last records up to it, and puts the new one in force. `false`: there are too many.
    async fn swap(&mut self) -> Result<bool, ProjectorError> {
        let pool = self.build.pool.clone();
        let mut transaction = saldo_postgres::begin(&pool).await?;
        sqlx::query(LONGEST_LOCK).execute(&mut *transaction).await?;
        let (old, standing) = saldo_readmodel::lock_live(&mut transaction, self.identity).await?;
        let standing = standing.unwrap_or_default();
        if self.behind(&standing) > LEFT_FOR_THE_SWAP || (self.partial && self.is_beyond(&standing)) {
            return Ok(false);
        }
        self.fill_in(&mut transaction, &standing).await?;
        saldo_readmodel::replace(&mut transaction, &old, &self.build.schema).await?;
        transaction.commit().await?;
        old.remove(&pool).await?;
        Ok(true)
    }
}

/// The offset to read a partition to.
fn end_of(until: &[u64]) -> impl Fn(u32) -> u64 {
    move |partition| until.get(partition as usize).copied().unwrap_or(0)
}
