//! The domain from outside.

mod account;
mod holds;
mod invariants;
mod ladder;
mod policy;
mod reaching;
mod speaking;
mod world;
