//! The generated messages and services of `proto/collections/v1`, and the codec they travel by.

pub mod codec;

use std::{
    collections::{BTreeMap, HashSet},
    sync::LazyLock,
};

use prost::Message;

/// Package collections.v1. Documentation stands in the .proto files.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("collections.v1");
}

/// A request of any service. Implemented for each rpc of the proto files.
pub trait ApiRequest: Message + Clone + Default + 'static {
    /// The service's name.
    const SERVICE: &'static str;
    /// The rpc's name. Commits store it.
    const METHOD: &'static str;
    /// The answer of the rpc.
    type Answer: Message + Default + 'static;
    /// The account that is asked; empty where the request names none.
    fn account_id(&self) -> &str;
}

/// A request of the command service.
pub trait CommandRequest: ApiRequest {
    /// The client's id of the request.
    fn request_id(&self) -> &str;
    /// Empties the id, which is no part of what is asked.
    fn clear_request_id(&mut self);
}

/// A request of the query service.
pub trait QueryRequest: ApiRequest {
    /// The position that the read models must have passed; empty: none.
    fn consistency_token(&self) -> &str;
}

include!(concat!(env!("OUT_DIR"), "/rpcs.rs"));

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

/// The comments of a service, each in one line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comments {
    /// On the service itself.
    pub service: String,
    /// On its rpcs, by name.
    pub rpcs: BTreeMap<String, String>,
}

/// The comments of the proto files on this service.
pub fn comments(service: &str) -> Comments {
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default().file;
    for file in &files {
        let Some((index, found)) = file.service.iter().enumerate().find(|(_, one)| one.name() == service) else {
            continue;
        };
        let comment = |path: &[i32]| {
            let mut locations = file.source_code_info.iter().flat_map(|info| &info.location);
            let location = locations.find(|location| location.path == path);
            let text = location.map(|location| location.leading_comments()).unwrap_or_default();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        // Field 6 of FileDescriptorProto are its services, field 2 of ServiceDescriptorProto its methods.
        let service = [6, index as i32];
        let rpc = |(method, rpc): (usize, &prost_types::MethodDescriptorProto)| {
            (rpc.name().to_owned(), comment(&[service[0], service[1], 2, method as i32]))
        };
        return Comments { service: comment(&service), rpcs: found.method.iter().enumerate().map(rpc).collect() };
    }
    Comments::default()
}

/// Well-known types of the messages.
pub use prost_types::{FieldMask, Timestamp};

/// Bytes as people read them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_service_and_every_rpc_has_a_comment() {
        for service in ["CommandService", "QueryService", "CatalogService"] {
            let comments = super::comments(service);
            assert!(!comments.service.is_empty() && !comments.rpcs.is_empty(), "{service}");
            for (rpc, comment) in comments.rpcs {
                assert!(!comment.is_empty(), "{service}/{rpc}");
            }
        }
    }

    #[test]
    fn a_method_is_known_by_its_name() {
        let name = "collections.v1.CommandService/IssueInvoice";
        assert_eq!(super::method(name), Some(name));
        assert_eq!(super::method("collections.v1.CommandService/Ana Gil"), None);
    }
}
