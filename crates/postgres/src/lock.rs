//! Which of several processes works: the one whose session stands in the row of the lock, for as long as this session lives. The
//! lock only saves work.
//!
//! It is a row and no advisory lock. Whoever may connect to a database can take any advisory lock in it, so an analyst could keep
//! every process from working.
//!
//! A process that was stopped, or whose host has vanished, keeps its sessions: the lock, and the rows that a transaction of its
//! pool has locked. The process that takes over ends all of them. If the former process goes on after that, it finds its
//! sessions gone and waits like the others.

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::Instant;

use crate::{session::PREFIX, tables};

/// Between two signs of life.
const SIGN_EVERY: Duration = Duration::from_secs(1);

/// Puts this session into the row, if the session there is gone. A session is told by its process and by when it began. When a
/// session of another user began is hidden: such a session counts as alive.
const TAKE: &str = "
    INSERT INTO saldo.locks AS l (name, pid, began)
    SELECT $1, pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()
    ON CONFLICT (name) DO UPDATE SET pid = excluded.pid, began = excluded.began
      WHERE (l.pid, l.began) = (excluded.pid, excluded.began)
         OR NOT EXISTS (SELECT FROM pg_stat_activity AS a
                        WHERE a.pid = l.pid AND coalesce(a.backend_start, l.began) = l.began)";

/// Ends the session that holds the lock, if it was silent for so long by the database's clock; and with it all sessions under
/// its name. A process with a session that works, or has worked just now, is slow and was not stopped: it is left alone. A
/// session that waits for its client does not work. Anybody can give a session any name, so sessions of other users do not count.
const END: &str = "
    WITH ours AS MATERIALIZED (
        SELECT * FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user),
    holder AS MATERIALIZED (
        SELECT a.pid, a.application_name AS name
        FROM saldo.locks AS l JOIN ours AS a ON (a.pid, a.backend_start) = (l.pid, l.began)
        WHERE l.name = $1 AND a.state_change <= clock_timestamp() - make_interval(secs => $2)),
    named AS MATERIALIZED (
        SELECT a.pid, a.state_change > clock_timestamp() - interval '5 seconds'
                      OR (a.state = 'active' AND a.wait_event_type IS DISTINCT FROM 'Client') AS works
        FROM ours AS a JOIN holder
          ON a.pid = holder.pid
          OR (a.application_name = holder.name AND starts_with(a.application_name, $3)
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
        let mut session = PgConnection::connect_with(&pool.connect_options()).await?;
        tables::make(&mut session).await?;
        Ok(Self { session, name, last_sign: Instant::now() })
    }

    /// The session.
    pub fn session(&mut self) -> &mut PgConnection {
        &mut self.session
    }

    /// Whether the lock is ours now.
    pub async fn try_take(&mut self) -> Result<bool, sqlx::Error> {
        let taken = sqlx::query(TAKE).bind(self.name).execute(&mut self.session).await?;
        Ok(taken.rows_affected() > 0)
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
