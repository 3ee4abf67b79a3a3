//! Which of several processes works: the one whose session holds an advisory lock. The lock only saves work.
//!
//! A process that was stopped, or whose host has vanished, keeps its sessions: the lock, and the rows that a transaction of its
//! pool has locked. The process that takes over ends all of them. If the former process goes on after that, it finds its
//! sessions gone and waits like the others.

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::Instant;

use crate::session::PREFIX;

/// Between two signs of life.
const SIGN_EVERY: Duration = Duration::from_secs(1);

/// Ends the session that holds the lock, if it was silent for so long by the database's clock; and with it all sessions under
/// its name. A process with a session that works, or has worked just now, is slow and was not stopped: it is left alone. A
/// session that waits for its client does not work. `pg_locks` shows a lock's key in two halves.
const END: &str = "
    WITH holder AS MATERIALIZED (
        SELECT a.pid, a.application_name AS name FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.datname = current_database()
          AND (l.classid::bigint << 32) | l.objid::bigint = hashtext($1)
          AND a.state_change <= clock_timestamp() - make_interval(secs => $2)),
    named AS MATERIALIZED (
        SELECT a.pid, a.state_change > clock_timestamp() - interval '5 seconds'
                      OR (a.state = 'active' AND a.wait_event_type IS DISTINCT FROM 'Client') AS works
        FROM pg_stat_activity AS a JOIN holder
          ON a.pid = holder.pid
          OR (a.application_name = holder.name AND starts_with(a.application_name, $3) AND a.datname = current_database()
              AND a.application_name <> current_setting('application_name')))
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM named WHERE NOT (SELECT bool_or(works) FROM named)";

/// A lock of the database, and the session that holds it or asks for it.
pub struct Lock {
    session: PgConnection,
    name: &'static str,
    last_sign: Instant,
}

impl Lock {
    /// Opens a session that can ask for the lock, under the name of the pool's sessions.
    pub async fn open(pool: &PgPool, name: &'static str) -> Result<Self, sqlx::Error> {
        let session = PgConnection::connect_with(&pool.connect_options()).await?;
        Ok(Self { session, name, last_sign: Instant::now() })
    }

    /// The session.
    pub fn session(&mut self) -> &mut PgConnection {
        &mut self.session
    }

    /// Whether the lock is ours now.
    pub async fn try_take(&mut self) -> Result<bool, sqlx::Error> {
        let statement = "SELECT pg_try_advisory_lock(hashtext($1))";
        sqlx::query_scalar(statement).bind(self.name).fetch_one(&mut self.session).await
    }

    /// Ends the sessions of the process that holds the lock, if none of them works and the lock's own session was silent for
    /// so long. Returns how many.
    pub async fn end_holder(&mut self, silent_for: Duration) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(END)
            .bind(self.name)
            .bind(silent_for.as_secs_f64())
            .bind(PREFIX)
            .fetch_one(&mut self.session)
            .await
    }

    /// Gives a sign of life if it is time. Fails if the session is gone, and the lock with it.
    pub async fn keep(&mut self) -> Result<(), sqlx::Error> {
        if self.last_sign.elapsed() >= SIGN_EVERY {
            self.session.ping().await?;
            self.last_sign = Instant::now();
        }
        Ok(())
    }
}
