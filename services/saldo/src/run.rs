//! Services in one process: opened, started, served, and stopped in order.

mod calls;
pub mod grpc;
mod incoming;
pub mod resources;
pub mod service;
pub mod start;
pub mod stores;
pub mod system;
pub mod task;
pub mod telemetry;
mod transports;
