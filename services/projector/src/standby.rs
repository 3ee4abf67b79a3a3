//! Whose turn it is. Two projectors at once are harmless, since whoever moves a checkpoint first wins; but the other has to
//! begin again from there, and both would do little else. So one works, under a lock of its session, and the others stand by.
//! One of them takes over when the first is gone, or stands still while there is something to read, as a stopped process does.
//! The projector that takes over ends the sessions of the other one, whose transaction may have locked the rows.

use std::time::Duration;

use saldo_log::{Log, ends, genesis::Identity};
use saldo_postgres::Lock;
use saldo_readmodel::ReadModelError;
use sqlx::{PgConnection, PgPool};
use tokio::time::{Instant, sleep};

use crate::{ProjectorError, metrics::Metrics};

/// Between two looks.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// The longest that whoever works may stand still.
pub(crate) const STANDSTILL: Duration = Duration::from_secs(10);

/// The right to be the active projector, while it is kept. The lock only saves work.
pub struct Active(#[expect(dead_code, reason = "the lock ends with its session")] Lock);

/// Waits until this projector is the active one.
pub async fn become_active(
    log: &dyn Log,
    identity: &Identity,
    pool: &PgPool,
    metrics: &Metrics,
) -> Result<Active, ProjectorError> {
    let mut lock = Lock::open(pool, "saldo_projector").await?;
    let (mut last, mut since) = (None, Instant::now());
    while !lock.try_take().await? {
        if last.is_none() {
            tracing::info!("another projector works; this one stands by");
        }
        let done = done(identity, lock.session()).await?;
        metrics.looks_on(done);
        if last != Some(done) || done >= ends(log, identity).await?.iter().sum() {
            (last, since) = (Some(done), Instant::now());
        }
        if since.elapsed() >= STANDSTILL {
            let sessions = lock.end_holder(Duration::ZERO).await?;
            if sessions > 0 {
                tracing::warn!(sessions, "the projector that worked stands still: its sessions were ended");
            }
        }
        sleep(LOOK).await;
    }
    tracing::info!("this projector is the active one");
    Ok(Active(lock))
}

/// Records that the live build has come past.
async fn done(identity: &Identity, connection: &mut PgConnection) -> Result<u64, ProjectorError> {
    let schema = saldo_readmodel::live(connection).await?;
    let standing = schema.standing(connection, identity, false).await?.ok_or(ReadModelError::OtherLog)?;
    Ok(standing.iter().sum())
}
