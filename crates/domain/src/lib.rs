//! The debtor's account: who owes, what is owed and paid, what is said about it and what is agreed.
//!
//! The domain is pure: it has no I/O, no clock and no randomness. [`handle`] says what a command brings about, [`evolve`] folds
//! what happened into the state, [`next_wakeup`] says when time itself will bring something. All that is known of an account is
//! the fold of its events.
//!
//! Each subject owns its state, commands, facts and refusals: [`party`], [`ledger`], [`dunning`], [`agreement`]. [`account`]
//! composes them.

pub mod account;
pub mod agreement;
pub mod command;
pub mod document;
pub mod dunning;
pub mod event;
pub mod fault;
pub mod ids;
pub mod ledger;
pub mod line;
pub mod money;
mod named;
pub mod party;
pub mod refusal;
pub mod sealed;

pub use account::{Decision, advance, decide, evolve, handle, next_wakeup};
pub use command::{Context, Rules};
