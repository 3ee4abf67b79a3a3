//! Making the read models anew from the log: beside the live ones, then swapped in one transaction.

use saldo_keyring::Keyring;
use saldo_log::{Log, genesis::Identity};
use saldo_readmodel::Schema;
use sqlx::PgPool;

use crate::{
    ProjectorError,
    fold::{Fold, Written},
    live::BATCH,
};

/// How far a rebuild or a check is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Records read.
    pub done: u64,
    /// Records there were when it was last looked.
    pub total: u64,
}

/// Builds the read models anew and puts them in force. Returns how many records were read.
pub async fn rebuild(
    log: &dyn Log,
    identity: &Identity,
    pool: &PgPool,
    keyring: &Keyring,
    mut progress: impl FnMut(Progress),
) -> Result<u64, ProjectorError> {
    saldo_readmodel::ensure(pool, identity).await?;
    let schema = Schema::build(pool, identity).await?;
    let built = fill_and_swap(log, identity, pool, keyring, &schema, &mut progress).await;
    if built.is_err() {
        // The error that ended it says more than one of tidying up.
        if let Err(error) = schema.remove(pool).await {
            tracing::warn!(%error, schema = schema.name(), "an unfinished build is left behind");
        }
    }
    built
}

async fn fill_and_swap(
    log: &dyn Log,
    identity: &Identity,
    pool: &PgPool,
    keyring: &Keyring,
    schema: &Schema,
    progress: &mut impl FnMut(Progress),
) -> Result<u64, ProjectorError> {
    let mut fold = Fold::open(pool, schema.clone(), identity, keyring, false).await?;
    let mut tail = fold.tail(log).await?;
    loop {
        let mut total = 0;
        for partition in 0..identity.partitions {
            total += log.end(partition).await?;
        }
        let done = |fold: &Fold| (0..identity.partitions).map(|partition| fold.next(partition)).sum::<u64>();
        while done(&fold) < total {
            let records = tail.next(BATCH).await?;
            if fold.write(&records).await? == Written::Overtaken {
                return Err(saldo_readmodel::ReadModelError::OtherLog.into());
            }
            progress(Progress { done: done(&fold), total });
        }
        if let Some(old) = saldo_readmodel::swap(pool, identity, schema).await? {
            old.remove(pool).await?;
            return Ok(done(&fold));
        }
    }
}
