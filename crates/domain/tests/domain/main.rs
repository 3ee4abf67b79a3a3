//! The domain from outside.

mod account;
mod invariants;
mod ladder;
mod policy;
mod world;
