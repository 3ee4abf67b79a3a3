//! The domain from outside.

mod account;
mod credit;
mod days;
mod holds;
mod hours;
mod invariants;
mod ladder;
mod outcomes;
mod policy;
mod reaching;
mod retries;
mod speaking;
mod standing;
mod tone;
mod tries;
mod whatever_happens;
mod world;
