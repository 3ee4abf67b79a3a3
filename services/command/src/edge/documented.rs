//! The comments of command.proto say of each rpc what its declaration says: roles and reasons.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::FileDescriptorSet;
use saldo_auth::Role;
use saldo_domain::refusal::Refusal;

use super::RPCS;

/// The comment on the service, and on each rpc.
fn comments() -> (String, BTreeMap<String, String>) {
    let files = FileDescriptorSet::decode(saldo_api::DESCRIPTORS).expect("our own descriptors").file;
    let file = files.into_iter().find(|file| file.name().ends_with("v1/command.proto")).expect("command.proto");
    let comment = |path: &[i32]| {
        let locations = &file.source_code_info.as_ref().expect("compiled with comments").location;
        let location = locations.iter().find(|location| location.path == path).expect("a location");
        location.leading_comments().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let service = &file.service[0];
    assert_eq!((file.service.len(), service.name()), (1, "CommandService"));
    // Field 6 of FileDescriptorProto are its services, field 2 of ServiceDescriptorProto its methods.
    let of_method = |(index, method): (usize, &prost_types::MethodDescriptorProto)| {
        (method.name().to_owned(), comment(&[6, 0, 2, index as i32]))
    };
    (comment(&[6, 0]), service.method.iter().enumerate().map(of_method).collect())
}

/// The sentence that begins so, without its beginning and its end.
fn sentence<'c>(comment: &'c str, begin: &str) -> Option<&'c str> {
    let (_, rest) = comment.split_once(begin)?;
    rest.split('.').next()
}

fn roles(sentence: &str) -> Vec<Role> {
    sentence.split(" or ").map(|name| Role::parse(name.trim_matches([',', ' '])).expect("a role")).collect()
}

#[test]
fn every_rpc_is_documented_as_it_is_declared() {
    let (service, comments) = comments();
    let all = sentence(&service, "Role ").and_then(|all| all.strip_suffix(" unless the rpc says otherwise"));
    let all = roles(all.expect("the roles of most rpcs"));
    for declared in RPCS {
        let comment = comments.get(declared.method).expect("an rpc of command.proto");
        let documented = sentence(comment, "Role ").map_or_else(|| all.clone(), roles);
        assert_eq!(documented, declared.roles, "the roles of {}, in command.proto and as declared", declared.method);
        let documented: Vec<&str> =
            sentence(comment, "Reasons: ").map_or(Vec::new(), |list| list.split(", ").collect());
        assert_eq!(
            documented, declared.refusals,
            "the reasons of {}, in command.proto and as declared",
            declared.method
        );
    }
    assert_eq!(RPCS.len(), comments.len());
}

#[test]
fn every_refusal_of_the_domain_is_declared_by_an_rpc_and_no_other_is() {
    let known: Vec<&str> = Refusal::reasons().map(|(reason, _)| reason).collect();
    for declared in RPCS {
        for reason in declared.refusals {
            assert!(known.contains(reason), "{} declares {reason}, which no subject refuses with", declared.method);
        }
    }
    for reason in known {
        // The edge answers ACCOUNT_UNKNOWN itself, whatever the rpc.
        let declared = reason == "ACCOUNT_UNKNOWN" || RPCS.iter().any(|rpc| rpc.refusals.contains(&reason));
        assert!(declared, "no rpc declares {reason}");
    }
}
