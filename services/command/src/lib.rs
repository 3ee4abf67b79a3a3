//! The command service: takes a request, decides it on the account's own history, appends the decision to the log, and
//! answers when its own tail has read the commit back and found it accepted.
//!
//! - [`grpc`] speaks the protocol: who asks, what they may, errors as google.rpc details.
//! - [`edge`] turns a request into a domain command: every field checked, personal values sealed.
//! - [`counted`] says how commands end, in figures.
//! - [`catalog`] publishes policies and previews them.
//! - [`router`] feeds each partition's worker with requests and with the records of one tail.
//! - [`worker`] decides: the only place where an account's state changes.
//! - [`queue`] is what waits for a worker: bounded, and fair between tenants.
//! - [`skew`] compares this machine's clock with the log's.
//! - [`store`] is the worker's local memory, disposable at any time.

pub mod answer;
pub mod catalog;
pub mod contact;
pub mod counted;
pub mod edge;
mod failure;
pub mod grpc;
mod personal;
mod queue;
mod report;
pub mod router;
pub mod skew;
mod store;
mod violations;
mod worker;

pub use catalog::CatalogGrpc;
pub use failure::{Failure, StartError};
pub use grpc::CommandGrpc;
pub use router::{Commands, Options};
pub use store::STORE_CACHE;
pub use worker::Basis;
