//! Which scheduler works. The leader holds a lock of its database session and gives a sign of life there every second. The
//! others wait until this session is gone. They end the leader's sessions themselves once it has fallen silent, as a stopped
//! process does. A process that goes on after that finds its sessions gone, and waits like the others.

use saldo_postgres::Lock;
use sqlx::PgPool;
use tokio::time::{Duration, sleep};

/// Between two tries to become the leader.
const EVERY: Duration = Duration::from_secs(1);
/// The longest that the leader may be silent, by the database's clock.
const SILENCE: Duration = Duration::from_secs(10);

/// Waits until nobody else is the leader. Two schedulers at once would do no harm.
pub(crate) async fn lead(pool: &PgPool) -> Result<Lock, sqlx::Error> {
    let mut lock = Lock::open(pool, "saldo_scheduler").await?;
    let mut stands_by = false;
    while !lock.try_take().await? {
        if !stands_by {
            stands_by = true;
            tracing::info!("another scheduler works; this one stands by");
        }
        let ended = lock.end_holder(SILENCE).await?;
        if ended > 0 {
            tracing::warn!(sessions = ended, "the scheduler that worked has fallen silent; its sessions were ended");
        }
        sleep(EVERY).await;
    }
    tracing::info!("this scheduler is the active one");
    Ok(lock)
}
