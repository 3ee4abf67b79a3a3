//! The projector proper: follows the log and keeps the live build at its end.

use std::{sync::Arc, time::Duration};

use saldo_keyring::Keyring;
use saldo_log::{Log, genesis::Identity};
use saldo_telemetry::span::{Links, linked};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    ProjectorError,
    fold::{Fold, Written},
};

/// Records of one transaction.
pub(crate) const BATCH: usize = 5_000;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Runs until `cancel`, or until the log turns out to be another one. Trouble with Postgres, the log or the key store
/// is waited out. Two projectors at once are harmless: whoever moves a checkpoint first wins, the other begins again from there.
pub async fn run(
    log: Arc<dyn Log>,
    identity: Identity,
    pool: PgPool,
    keyring: Keyring,
    cancel: CancellationToken,
) -> Result<(), ProjectorError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let outcome = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            outcome = follow(log.as_ref(), &identity, &pool, &keyring, &mut pause) => outcome,
        };
        match outcome {
            Ok(()) => {}
            Err(error) if error.is_transient() => {
                warn!(%error, "the projector goes on when it can");
                tokio::select! {
                    () = cancel.cancelled() => return Ok(()),
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Follows the log until overtaken.
async fn follow(
    log: &dyn Log,
    identity: &Identity,
    pool: &PgPool,
    keyring: &Keyring,
    pause: &mut Duration,
) -> Result<(), ProjectorError> {
    let schema = saldo_readmodel::ensure(pool, identity).await?;
    let mut fold = Fold::open(pool, schema, identity, keyring, true).await?;
    let mut tail = fold.tail(log).await?;
    loop {
        let records = tail.next(BATCH).await?;
        let mut links = Links::default();
        records.iter().for_each(|record| links.note(record.trace.as_deref()));
        if linked("project", links, fold.write(&records), |_| None).await? == Written::Overtaken {
            return Ok(());
        }
        *pause = FIRST_PAUSE;
    }
}
