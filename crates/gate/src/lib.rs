//! How much is in a process at once: bounded, and fair between tenants.
//!
//! A [`Gate`] stands before a gRPC service and behind the check of tokens, which say whose a request is. So nobody without a
//! token takes up room, and no tenant takes up all of it.

mod arriving;
mod gate;
mod leaving;
mod places;
mod room;

pub use gate::Gate;
pub use places::Places;
pub use room::{Held, Limits};
