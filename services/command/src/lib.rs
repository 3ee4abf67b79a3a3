//! The command service takes a request, decides it on the account's own history, and appends the decision to the log. It
//! answers when its own tail has read the commit back and found it accepted.
//!
//! - [`grpc`] speaks the protocol: who asks, what they may, errors as google.rpc details.
//! - [`edge`] declares the rpcs, by subject, and turns a request into a domain command.
//! - [`pipeline`] decides, appends, reads back and answers.
//! - [`answer`] is what a command is answered with, [`Failure`] why it has no answer.
//! - [`skew`] judges this machine's clock by the log's.
//! - [`catalog`] publishes policies and previews them.
//! - [`counted`] counts how commands end.

pub mod answer;
pub mod catalog;
pub mod counted;
pub mod edge;
mod failure;
pub mod grpc;
mod metrics;
pub mod pipeline;
pub mod skew;
mod violations;

pub use catalog::CatalogGrpc;
pub use failure::{Failure, StartError};
pub use grpc::CommandGrpc;
pub use pipeline::{Basis, Commands, Options, Running, STORE_CACHE};
