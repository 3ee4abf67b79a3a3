//! The generated messages and services of `proto/collections/v1`, and the codec they travel by.

pub mod codec;

use std::{collections::HashSet, sync::LazyLock};

use prost::Message;

/// Package collections.v1. Documentation stands in the .proto files.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("collections.v1");
}

/// A request of the command service: the fields that all of them have. Implemented for each rpc of command.proto.
pub trait CommandRequest: Message + Clone + Default + 'static {
    /// The rpc's name in command.proto. Commits store it.
    const METHOD: &'static str;
    /// The client's id of the request.
    fn request_id(&self) -> &str;
    /// The account that is asked.
    fn account_id(&self) -> &str;
    /// Empties the id, which is no part of what is asked.
    fn clear_request_id(&mut self);
}

include!(concat!(env!("OUT_DIR"), "/command_rpcs.rs"));

/// The compiled descriptors with their comments, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The name of a method (`package.Service/Method`) as we have it, if we have it.
pub fn method(name: &str) -> Option<&'static str> {
    static METHODS: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let mut methods = HashSet::new();
        for file in prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default().file {
            for service in &file.service {
                let path = format!("{}.{}", file.package(), service.name());
                methods.extend(service.method.iter().map(|method| format!("{path}/{}", method.name())));
            }
        }
        methods
    });
    METHODS.get(name).map(String::as_str)
}

/// Well-known types of the messages.
pub use prost_types::{FieldMask, Timestamp};

#[cfg(test)]
mod tests {
    #[test]
    fn a_method_is_known_by_its_name() {
        let name = "collections.v1.CommandService/IssueInvoice";
        assert_eq!(super::method(name), Some(name));
        assert_eq!(super::method("collections.v1.CommandService/Ana Gil"), None);
    }
}
