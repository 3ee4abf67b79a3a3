//! The fields that values are sealed for are those of the facts.

use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};
use saldo_facts::{
    FACTS,
    sealed::{CONTACT, FIELDS, NOTE, REASON, REPLY, is_field},
};

/// The paths of the sealed fields in a stored body, as events.proto describes it.
fn sealed_fields(message: &MessageDescriptor) -> Vec<String> {
    let of_field = |field: prost_reflect::FieldDescriptor| match field.kind() {
        Kind::Message(inner) if inner.full_name() == "collections.v1.Sealed" => vec![field.name().to_owned()],
        Kind::Message(inner) => {
            sealed_fields(&inner).into_iter().map(|path| format!("{}.{path}", field.name())).collect()
        }
        _ => Vec::new(),
    };
    message.fields().flat_map(of_field).collect()
}

#[test]
fn the_fields_that_values_are_sealed_for_are_those_of_the_facts() {
    let pool = DescriptorPool::decode(saldo_api::DESCRIPTORS).expect("descriptors");
    for fact in FACTS.iter().filter(|fact| fact.kind != "contact.started") {
        let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
        let name: String = fact.kind.split(['.', '_']).map(capital).collect();
        let message = pool.get_message_by_name(&format!("collections.v1.{name}")).expect("a message");
        let declared = FIELDS.iter().find(|(kind, _)| *kind == fact.kind).map_or(&[][..], |(_, fields)| fields);
        let stored = sealed_fields(&message);
        // A failure has the provider's words in a message of its own.
        let named =
            |path: &String| declared.iter().find(|field| path == *field || path.ends_with(&format!(".{field}")));
        let found: BTreeSet<_> =
            stored.iter().map(|path| named(path).unwrap_or_else(|| panic!("{name}.{path}"))).collect();
        assert_eq!(found, declared.iter().collect(), "{name}");
    }
    assert!(FIELDS.iter().all(|(kind, _)| FACTS.iter().any(|fact| fact.kind == *kind)));
    assert!(is_field(CONTACT, REPLY) && is_field("hold.placed", NOTE));
    assert!(!is_field("hold.placed", REASON) && !is_field(CONTACT, NOTE));
}
