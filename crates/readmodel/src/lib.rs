//! The read models in Postgres: tables that are the fold of the log, and `bi`, their public face.
//!
//! The tables of one build stand in a schema of their own, `rm_<n>`; `saldo.live` names the one in force. A rebuild
//! fills the next one beside it and swaps. Nothing decides anything from here.

mod engine;
mod models;
mod tenants;

pub use engine::{
    Applied, Checkpoint, Expected, MadeFrom, Models, Move, PARKED_TABLE, Parked, Schema, Unread, all_models, apply,
    begin_anew, ensure, existing, forget, keep, live, lock_live, made_from, only_rebuild, replace,
};
pub use models::{
    Accepted, CommitPosition, DECLARATIONS, Owner, Rows,
    ledger::ItemChange,
    personal::{Opened, SealedValues},
};
pub use tenants::{TenantRow, day_of, write_clock, write_tenants};

/// Why the database did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ReadModelError {
    /// From the driver.
    #[error("the read models' database: {0}")]
    Database(#[from] sqlx::Error),
    /// A checkpoint that no reader wrote.
    #[error("the read models' checkpoint of partition {0} is damaged: run `saldo rebuild`")]
    Damaged(i32),
    /// The checkpoints belong to another log.
    #[error("the read models are of another log: run `saldo rebuild`, or name the right database")]
    OtherLog,
    /// A newer release made them.
    #[error(
        "the read models have the form {0} of a newer release: start that release, or let this one make them anew from the log after `DELETE FROM saldo.live`"
    )]
    Newer(i32),
    /// A newer release made one of them, or is making it.
    #[error(
        "the read model `{0}` has the form of a newer release: start that release, or let this one make all of them anew from the log after `DELETE FROM saldo.live`"
    )]
    NewerModel(String),
    /// An earlier release made them.
    #[error(
        "the read models have the form {0} of an earlier release: use that release's `saldo`, or run this one's `saldo rebuild`, which makes them anew from the log"
    )]
    Older(i32),
    /// An earlier release made one of them.
    #[error(
        "the read model `{0}` is missing or has the form of an earlier release: this release's projector makes it anew from the log, and so does `saldo rebuild`"
    )]
    OlderModel(&'static str),
    /// Nobody has made any.
    #[error("there are no read models in this database: start `saldo projector`, or correct database.url")]
    Missing,
}

impl ReadModelError {
    /// Whether a lock was not given in the time that the transaction waits for one.
    pub fn is_lock_timeout(&self) -> bool {
        /// As SQLSTATE names it.
        const LOCK_NOT_AVAILABLE: &str = "55P03";
        let Self::Database(error) = self else { return false };
        error.as_database_error().is_some_and(|error| error.code().as_deref() == Some(LOCK_NOT_AVAILABLE))
    }
}
