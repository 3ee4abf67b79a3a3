//! A command's way from its queue to its answer. Each module uses those named before it and none that is named after it:
//!
//! - [`queue`]: the requests that wait for one partition, bounded and fair between tenants.
//! - [`request`]: one request on its way to its answer.
//! - [`clock_check`]: whether this machine's clock may decide.
//! - [`store`]: a partition's local memory on disk, disposable at any time.
//! - [`fold`]: folds one accepted commit.
//! - [`account`]: an account in memory, its commits in flight and its requests.
//! - [`chain`]: decides what waits for one account as one chain of commits.
//! - [`partition`]: the accounts of one partition, as the log has them.
//! - [`batch`]: the chains that were appended together and are not read back yet.
//! - [`worker`]: decides, appends and answers: one thread a partition, the only place where accounts change.
//! - [`feed`]: hands the records of one tail to the workers.
//! - [`commands`]: starts it all, and is the way in.

mod account;
mod batch;
mod chain;
mod clock_check;
mod commands;
mod feed;
mod fold;
mod partition;
mod queue;
mod request;
mod store;
mod worker;

pub use self::{
    commands::{Commands, Options, Running},
    request::{Draft, NewCommand},
    store::STORE_CACHE,
    worker::Basis,
};
