//! The domain from outside.

mod account;
mod holds;
mod hours;
mod invariants;
mod ladder;
mod policy;
mod speaking;
mod world;
