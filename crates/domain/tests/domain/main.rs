//! The domain from outside.

mod account;
mod invariants;
mod policy;
mod world;
