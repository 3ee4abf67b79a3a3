//! A commit stays the same however often it is written and read, and every fold takes it without a panic.
//!
//! Input: 0 and a payload as it stands; or 1 and events, each a byte for its type, two for its length, and its body.
#![no_main]

use std::collections::HashMap;

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use saldo_api::v1;
use saldo_facts::{CATALOG_FACTS, FACTS, CatalogEvent, Commit, StoredEvent, timestamp_to_api};
use saldo_domain::{
    Context,
    account::Account,
    command::NO_RULES,
    document::{Document, DocumentKey},
    evolve, next_wakeup,
};
use saldo_readmodel::{Accepted, CommitPosition, Owner, Rows};

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else { return };
    let payload = if *mode == 0 { rest.to_vec() } else { events(rest) };
    let _ = Commit::recorded_at(&payload);
    let _ = stable::<CatalogEvent>(&payload);
    if let Some(commit) = stable(&payload) {
        fold(&commit);
    }
});

fn events(mut rest: &[u8]) -> Vec<u8> {
    let mut events = Vec::new();
    while let [kind, high, low, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(behind.len());
        let (body, next) = behind.split_at(length);
        // The catalog's facts stand behind the accounts'.
        let kind = usize::from(*kind) % (FACTS.len() + CATALOG_FACTS.len());
        let (kind, formats) = match FACTS.get(kind) {
            Some(declaration) => (declaration.kind, declaration.formats),
            None => (CATALOG_FACTS[kind - FACTS.len()].kind, CATALOG_FACTS[kind - FACTS.len()].formats),
        };
        let version = formats.len() as u32;
        events.push(v1::Event { r#type: kind.to_owned(), version, body: body.to_vec() });
        rest = next;
    }
    let recorded_at = Some(timestamp_to_api(Timestamp::constant(1_772_352_000, 0)));
    v1::CommitPayload { fingerprint: vec![1; 32], recorded_at, events, ..Default::default() }.encode_to_vec()
}

fn stable<E: StoredEvent + Clone + PartialEq + std::fmt::Debug>(payload: &[u8]) -> Option<Commit<E>> {
    let read = Commit::<E>::decode(payload).ok()?;
    let written = read.encode();
    let again = Commit::<E>::decode(&written).expect("what was read can be written and read");
    assert_eq!(again, read);
    assert_eq!(again.encode(), written);
    Some(read)
}

/// The work of the projector, the command service and a query on the commit, twice over, as the chain may go on.
fn fold(commit: &Commit) {
    let owner = Owner { tenant: "acme".into(), account: "A".into() };
    let (mut rows, mut account) = (Rows::default(), Account::default());
    let mut documents: HashMap<DocumentKey, Document> = HashMap::new();
    for version in 1..=2 {
        let position = CommitPosition { partition: 0, offset: version, version, known_at: commit.recorded_at };
        rows.add(&Accepted { owner: &owner, position, trace: Some("trace"), commit });
        for event in &commit.events {
            evolve(&mut account, event);
            for key in Document::touched(event) {
                if let Some(after) = Document::evolve(&key, documents.get(&key).cloned(), event) {
                    documents.insert(key, after);
                }
            }
        }
    }
    let zones = |_: &str| None;
    let _ =
        next_wakeup(&account, &Context { now: commit.recorded_at.max(Timestamp::UNIX_EPOCH), rules: &NO_RULES, zones });
}
