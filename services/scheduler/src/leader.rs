//! Which scheduler works. The leader holds a lock of its database session and gives a sign of life there every second. The
//! others wait until this session is gone. They end the session themselves once it has fallen silent, as the session of a
//! stopped process does. A process that goes on after that finds its session gone, and waits like the others.

use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::{Duration, Instant, sleep};

/// Between two signs of life, and between two tries to become the leader.
const EVERY: Duration = Duration::from_secs(1);
const TAKE: &str = "SELECT pg_try_advisory_lock(hashtext('saldo_scheduler'))";
/// Ends the session that holds the lock if it was silent for ten seconds, by the database's clock. `pg_locks` shows a lock's
/// key in two halves.
const END_SILENT: &str = "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND datname = current_database()
      AND (classid::bigint << 32) | objid::bigint = hashtext('saldo_scheduler')
      AND state_change < clock_timestamp() - interval '10 seconds'";

/// The lock of the scheduler that works. It only saves work: two schedulers at once would do no harm.
pub(crate) struct Leadership {
    session: PgConnection,
    last_sign: Instant,
}

impl Leadership {
    /// Waits until nobody else is the leader.
    pub(crate) async fn wait(pool: &PgPool) -> Result<Self, sqlx::Error> {
        let mut session = PgConnection::connect_with(&pool.connect_options()).await?;
        while !sqlx::query_scalar::<_, bool>(TAKE).fetch_one(&mut session).await? {
            if sqlx::query_scalar(END_SILENT).fetch_optional(&mut session).await? == Some(true) {
                tracing::warn!("the scheduler that works has fallen silent; its session is ended");
            }
            sleep(EVERY).await;
        }
        Ok(Self { session, last_sign: Instant::now() })
    }

    /// Gives a sign of life if it is time. Fails if the session is gone, and the lock with it.
    pub(crate) async fn keep(&mut self) -> Result<(), sqlx::Error> {
        if self.last_sign.elapsed() >= EVERY {
            self.session.ping().await?;
            self.last_sign = Instant::now();
        }
        Ok(())
    }
}
