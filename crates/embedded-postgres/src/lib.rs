//! A Postgres server of our own, for one machine: fetched on first use, started and stopped with the process.
//!
//! The server refuses to run as root and outlives whoever started it. So it belongs to a hidden child process, the
//! same binary run again with arguments that lead to [`run_child`]:
//!
//! - the child runs under an unprivileged user when the parent is root;
//! - it installs the server into a cache that all users can read, creates the cluster, and starts the server;
//! - it stops the server when its standard input closes, which also happens when the parent is killed.
//!
//! The data directory holds `cluster` (the server's own files), `password` (mode 0600), `port` (where the server was reached
//! last) and `lock` (held by the child for as long as the server may run).

mod child;
mod cluster;
mod install;
mod parent;
mod privileges;
mod protocol;

pub use child::run_child;
pub use cluster::is_made;
pub use install::POSTGRES_VERSION;
pub use parent::{ChildCommand, EmbeddedPostgres, Options, PrivilegeError, StartError, StopError};
pub use protocol::StartStep;
