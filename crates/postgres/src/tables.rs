//! Making tables, one process after the other: processes start together, and `IF NOT EXISTS` alone can still collide.

use sqlx::{PgConnection, PgPool, Postgres, Transaction};

use crate::begin;

/// The rows of the locks. Readers of the database have no right to this schema. The second of two that make it at once finds
/// that the first one has.
const LOCKS: &str = "DO $$ BEGIN
    IF to_regclass('saldo.locks') IS NULL THEN
      CREATE SCHEMA IF NOT EXISTS saldo;
      CREATE TABLE IF NOT EXISTS saldo.locks (name text PRIMARY KEY, pid int, began timestamptz);
    END IF;
  EXCEPTION WHEN unique_violation OR duplicate_schema OR duplicate_table THEN NULL;
  END $$";

/// The row that whoever makes tables holds.
const TURN: [&str; 2] = [
    "INSERT INTO saldo.locks (name) VALUES ('tables') ON CONFLICT DO NOTHING",
    "SELECT FROM saldo.locks WHERE name = 'tables' FOR UPDATE",
];

pub(crate) async fn make(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(LOCKS).execute(session).await.map(drop)
}

/// Begins a transaction that makes tables. Others that make some wait for its end.
pub async fn begin_making(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    make(&mut *pool.acquire().await?).await?;
    let mut transaction = begin(pool).await?;
    for statement in TURN {
        sqlx::query(statement).execute(&mut *transaction).await?;
    }
    Ok(transaction)
}
