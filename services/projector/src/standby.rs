//! Whose turn it is. Two projectors at once are harmless, since whoever moves a checkpoint first wins; but the other has to
//! begin again from there, and both would do little else. So one works, under a lock of its session, and the others stand
//! by: until it is gone, or until it stands still while there is something to read, as a stopped process does.

use std::time::Duration;

use saldo_log::{Log, ends, genesis::Identity};
use saldo_readmodel::ReadModelError;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::{Instant, sleep};

use crate::{ProjectorError, metrics::Metrics};

/// Between two looks.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// The longest that whoever works may stand still.
pub(crate) const STANDSTILL: Duration = Duration::from_secs(10);

/// The right to work, while it is kept. Nothing rests on it but thrift.
pub struct Turn(#[expect(dead_code, reason = "the lock ends with its session")] PgConnection);

/// Waits for it.
pub async fn turn(
    log: &dyn Log,
    identity: &Identity,
    pool: &PgPool,
    metrics: &Metrics,
) -> Result<Turn, ProjectorError> {
    let mut connection = PgConnection::connect_with(&pool.connect_options()).await?;
    let (mut last, mut since) = (None, Instant::now());
    loop {
        let locked = "SELECT pg_try_advisory_lock(hashtext('saldo_projector'))";
        if sqlx::query_scalar(locked).fetch_one(&mut connection).await? {
            return Ok(Turn(connection));
        }
        if last.is_none() {
            tracing::info!("another projector works; this one stands by");
        }
        let done = done(identity, &mut connection).await?;
        metrics.looks_on(done);
        if last != Some(done) || done >= ends(log, identity).await?.iter().sum() {
            (last, since) = (Some(done), Instant::now());
        }
        if since.elapsed() >= STANDSTILL {
            tracing::warn!("the projector that works stands still; this one takes over");
            return Ok(Turn(connection));
        }
        sleep(LOOK).await;
    }
}

/// Records that the live build has come past.
async fn done(identity: &Identity, connection: &mut PgConnection) -> Result<u64, ProjectorError> {
    let schema = saldo_readmodel::live(connection).await?;
    let standing = schema.standing(connection, identity, false).await?.ok_or(ReadModelError::OtherLog)?;
    Ok(standing.iter().sum())
}
