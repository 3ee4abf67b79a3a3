//! Channels: how a message leaves the house, and what is known for certain afterwards.
//!
//! [`Transport`] is the port. The dispatcher knows this port and a registry of its implementations, [`Transports`]; it
//! knows no protocol and no format of any channel. A transport does three things:
//!
//! - [`Transport::render`] makes the bytes to send. It is a pure function of a [`Draft`], which the account's decision
//!   fixes, so a second attempt hands over the same bytes.
//! - [`Transport::reach`] says whether the provider can be reached at all, before an account is asked for a message.
//! - [`Transport::hand_over`] gives these bytes to the channel's provider and says what became of them.
//!
//! # Adding a channel
//!
//! 1. A folder beside [`email`] with a type that implements [`Transport`]. The folder holds everything that the channel
//!    alone knows: its format, its protocol, the names of its stages.
//! 2. The settings that the transport needs, in the configuration.
//! 3. One line where the process fills its registry (`services/saldo/src/run/transports.rs`).

pub mod email;
mod port;
mod registry;

pub use port::{Concerns, Draft, LastLook, Message, Outcome, RenderError, RouteFailure, Stage, Transport};
pub use registry::Transports;
