//! Services in one process: opened, started, served, and stopped in order.

pub mod belonging;
mod calls;
pub mod grpc;
mod guard;
mod incoming;
mod keys;
mod places;
pub mod resources;
pub mod service;
pub mod start;
pub mod stores;
pub mod system;
pub mod task;
pub mod telemetry;
mod transports;
mod watching;
