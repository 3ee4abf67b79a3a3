//! The machine behind every read model: how tables and views are declared, made, written, compared and put in force.
//!
//! Nothing here knows a single model. Each model has its one file in `models`.

mod batch;
mod build;
mod compare;
mod declare;
mod live;
mod value;
mod writer;

pub use batch::{Applied, EngineRows, Move, PARKED_TABLE, Parked, apply};
pub use build::{Checkpoint, Models, Schema, Unread, all_models};
pub use declare::{Column, Declaration, Expected, Kind, Shown, Table, View, comment_on_column};
pub use live::{
    MadeFrom, begin_anew, ensure, existing, forget, keep, live, lock_live, made_from, only_rebuild, replace,
};
pub use value::Value;
pub use writer::{Arrays, TableRows, Writer};
