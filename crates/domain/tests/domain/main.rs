//! The domain from outside.

mod account;
mod credit;
mod days;
mod holds;
mod invariants;
mod ladder;
mod policy;
mod speaking;
mod world;
