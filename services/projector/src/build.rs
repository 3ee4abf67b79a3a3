//! One build of the read models being written: a batch is one transaction with its checkpoints.

use saldo_keyring::Keyring;
use saldo_readmodel::{Applied, Move, Opened, Schema, apply};
use sqlx::{PgConnection, PgPool};

use crate::{ProjectorError, fold::Batch, personal};

/// A build, and how it is written.
#[derive(Clone)]
pub struct Build {
    /// The read models' database.
    pub pool: PgPool,
    /// The build's tables.
    pub schema: Schema,
    /// The key store that opens personal values; without it they are left out.
    pub keyring: Option<Keyring>,
    /// Write only while the build is the one in force.
    pub only_live: bool,
}

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// In the database.
    Yes,
    /// Another projector was there first, or another build is in force: open again.
    Overtaken,
}

impl Build {
    /// Writes a batch.
    pub async fn write(&self, batch: &Batch) -> Result<Written, ProjectorError> {
        if batch.is_empty() {
            return Ok(Written::Yes);
        }
        let mut transaction = saldo_postgres::begin(&self.pool).await?;
        // A crash of Postgres takes rows back together with their checkpoints, and they are read from the log again.
        sqlx::query("SET LOCAL synchronous_commit = off").execute(&mut *transaction).await?;
        if self.only_live && !self.schema.keep(&mut transaction).await? {
            return Ok(Written::Overtaken);
        }
        let written = self.write_in(&mut transaction, batch).await?;
        if written == Written::Yes {
            transaction.commit().await?;
        }
        Ok(written)
    }

    /// Writes a batch in a transaction of the caller's.
    pub async fn write_in(&self, transaction: &mut PgConnection, batch: &Batch) -> Result<Written, ProjectorError> {
        let opened = match &self.keyring {
            Some(keyring) => personal::open(keyring, &batch.rows.personal.sealed).await?,
            None => Opened::default(),
        };
        let moves: Vec<Move> = batch.moves.values().copied().collect();
        match apply(transaction, &self.schema, &moves, &batch.rows, &opened).await? {
            Applied::Overtaken => Ok(Written::Overtaken),
            Applied::Yes => Ok(Written::Yes),
        }
    }
}
