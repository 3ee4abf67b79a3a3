//! Nothing starts before the read models have reached the end that the log had at the start. While the read models are being
//! filled, every old reminder looks due for a moment.

use std::time::Duration;

use saldo_log::genesis::Identity;
use sqlx::{AssertSqlSafe, PgPool, Row};
use tokio::time::sleep;
use tracing::info;

use crate::{Dispatcher, DispatcherError, leases};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits until the live read models have reached the log's ends. The ends are those of the first call, which keeps them in
/// `ends`.
pub(crate) async fn open(dispatcher: &Dispatcher, ends: &mut Option<Vec<u64>>) -> Result<(), DispatcherError> {
    let Dispatcher { pool, log, identity, .. } = dispatcher;
    leases::ensure(pool).await?;
    let ends = match ends {
        Some(ends) => ends,
        None => ends.insert(saldo_log::ends(log.as_ref(), identity).await?),
    };
    let mut is_announced = false;
    loop {
        let behind = ends.len() - reached(pool, identity, ends).await?;
        if behind == 0 {
            return Ok(());
        }
        if !is_announced {
            is_announced = true;
            info!(behind, "nothing is sent until the read models have reached the log's end in every partition");
        }
        sleep(PAUSE).await;
    }
}

/// The number of partitions in which the read models have reached the end.
async fn reached(pool: &PgPool, identity: &Identity, ends: &[u64]) -> Result<usize, DispatcherError> {
    let build = leases::live(pool).await?;
    let statement = format!("SELECT partition, next_offset, log_id FROM rm_{build}.checkpoints");
    let mut reached = 0;
    for row in sqlx::query(AssertSqlSafe(statement)).fetch_all(pool).await? {
        if row.try_get::<Vec<u8>, _>(2)? != identity.log_id {
            return Err(DispatcherError::OtherLog);
        }
        let (partition, next) = (row.try_get::<i32, _>(0)? as usize, row.try_get::<i64, _>(1)? as u64);
        reached += usize::from(ends.get(partition).is_some_and(|end| next >= *end));
    }
    Ok(reached)
}
