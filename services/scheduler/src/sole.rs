//! Whose turn it is. One scheduler works, under a lock of its session, and is heard there every second. The others wait until
//! its session is gone, and end it themselves once it has fallen silent, as that of a stopped process does. If it goes on
//! after that it finds its session gone, and waits like them.

use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::{Duration, Instant, sleep};

/// Between two signs of life, and two tries to become the one that works.
const EVERY: Duration = Duration::from_secs(1);
const TAKE: &str = "SELECT pg_try_advisory_lock(hashtext('saldo_scheduler'))";
/// Ends the session that has the lock where nothing was heard of it for ten seconds, by the database's clock. A key of one
/// number stands in two halves.
const END_SILENT: &str = "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND datname = current_database()
      AND (classid::bigint << 32) | objid::bigint = hashtext('saldo_scheduler')
      AND state_change < clock_timestamp() - interval '10 seconds'";

/// The right to be the one that works. Nothing rests on it but thrift.
pub(crate) struct Sole {
    session: PgConnection,
    heard: Instant,
}

impl Sole {
    /// Waits until nobody else has it.
    pub(crate) async fn wait(pool: &PgPool) -> Result<Self, sqlx::Error> {
        let mut session = PgConnection::connect_with(&pool.connect_options()).await?;
        while !sqlx::query_scalar::<_, bool>(TAKE).fetch_one(&mut session).await? {
            if sqlx::query_scalar(END_SILENT).fetch_optional(&mut session).await? == Some(true) {
                tracing::warn!("the scheduler that works has fallen silent; its session is ended");
            }
            sleep(EVERY).await;
        }
        Ok(Self { session, heard: Instant::now() })
    }

    /// Gives a sign of life where it is time. Fails where the session, and the lock with it, is gone.
    pub(crate) async fn keep(&mut self) -> Result<(), sqlx::Error> {
        if self.heard.elapsed() >= EVERY {
            self.session.ping().await?;
            self.heard = Instant::now();
        }
        Ok(())
    }
}
