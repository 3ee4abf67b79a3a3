//! The generated messages and services of `proto/collections/v1`, and the codec they travel by.

pub mod codec;

/// Package collections.v1. Documentation stands in the .proto files.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("collections.v1");
}

/// The compiled descriptors, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Well-known types of the messages.
pub use prost_types::{FieldMask, Timestamp};
