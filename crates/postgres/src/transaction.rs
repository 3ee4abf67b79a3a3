//! Transactions that nobody cuts short, and that nobody keeps open for long.

use sqlx::{PgPool, Postgres, Transaction};

/// Between two statements of a transaction little happens in its process. One that stays silent for so long was stopped, and
/// keeps its locks from everybody.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '15s'";
const BEGIN_LONG: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0";

/// Begins a transaction. Postgres ends it if its process falls silent for 15 seconds.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    begin_with(pool, BEGIN).await
}

/// Begins a transaction whose process does other work between two statements, such as reading the log.
pub async fn begin_long(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    begin_with(pool, BEGIN_LONG).await
}

/// In a task of its own. A future may be dropped while the driver waits for the answer to `BEGIN`. The transaction would then
/// stay open on its connection, which goes back to the pool, and what others write over it is never committed.
async fn begin_with(pool: &PgPool, statement: &'static str) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.begin_with(statement).await }).await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}
