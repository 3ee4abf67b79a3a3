//! The read models in Postgres: tables that are the fold of the log, and `bi`, their public face.
//!
//! The tables of one build stand in a schema of their own, `rm_<n>`; `saldo.live` names the one in force. A rebuild
//! fills the next one beside it and swaps. Nothing decides anything from here.

mod bi;
mod rows;
mod schema;
mod tenants;
mod write;

pub use rows::{ItemChange, Owner, Personal, Place, Rows};
pub use schema::{COMPARED, Checkpoint, Schema, ensure, ensure_any, existing, hold, live, only_rebuild, replace};
pub use tenants::{TenantRow, day_of, write_clock, write_tenants};
pub use write::{Applied, Move, Opened, apply};

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
    /// An earlier release made them.
    #[error(
        "the read models have the form {0} of an earlier release: use that release's `saldo`, or run this one's `saldo rebuild`, which makes them anew from the log"
    )]
    Older(i32),
    /// Nobody has made any.
    #[error("there are no read models in this database: start `saldo projector`, or correct database.url")]
    Missing,
}
