//! The common part of all users of Postgres: sessions that do not outlive their process for long, transactions that nobody cuts
//! short, and the lock of the one process that works.

mod lock;
mod session;
mod transaction;

pub use lock::Lock;
pub use session::{as_session, others};
pub use transaction::{begin, begin_long};
