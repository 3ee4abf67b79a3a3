//! How much is in a process at once: bounded, and fair between tenants.
//!
//! A [`Gate`] stands before a gRPC service and behind the check of tokens, which say whose a request is. So capacity is for
//! callers with a token alone, and no tenant takes up all of it.

mod capacity;
mod fair_semaphore;
mod gate;
mod request_body;
mod response_body;

pub use capacity::{Admission, Limits};
pub use fair_semaphore::FairSemaphore;
pub use gate::Gate;
