//! The debtor account: what is owed, what was paid, who owes it. Pure: no I/O, no clock, no randomness.
//!
//! [`handle`] says what a command brings about, [`evolve()`] folds what happened into the state, [`next_wakeup`] says when
//! time itself will bring something. All that is known of an account is the fold of its events.

pub mod account;
pub mod allocation;
pub mod command;
pub mod contact;
mod decide;
pub mod document;
pub mod event;
mod evolve;
pub mod fault;
pub mod ids;
pub mod invoice;
pub mod ladder;
pub mod money;
pub mod policy;
pub mod preview;
pub mod profile;
pub mod refusal;
mod speak;
mod time;

pub use command::{Context, Rules};
pub use decide::{Decision, decide, handle};
pub use evolve::evolve;
pub use time::{advance, next_wakeup};
