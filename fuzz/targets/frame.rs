//! A frame has one encoding, and the acceptance rule takes exactly what extends a chain.
//!
//! The input is taken for a frame as it stands, and for instructions that append records to a partition.
#![no_main]

use std::collections::HashMap;

use bytes::Bytes;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use saldo_api::v1::GenesisPayload;
use saldo_log::{
    Record,
    acceptor::{Acceptor, Verdict},
    frame::{self, Frame, GENESIS_KEY, Kind, first_parent},
    genesis::Identity,
};

const IDENTITY: Identity = Identity { log_id: [7; 16], partitions: 1 };

fuzz_target!(|data: &[u8]| {
    one_encoding(data);
    acceptance(data);
});

fn one_encoding(data: &[u8]) {
    let Ok(read) = Frame::parse(data) else { return };
    let written = frame::encode(read.kind, read.tenant, read.account, read.version, read.parent, read.payload);
    assert_eq!(written, data, "a second encoding of one frame");
    assert_eq!(Frame::parse(&written), Ok(read));
}

/// Two accounts; each instruction extends one of their chains, misses by its version or parent, stands under the other's
/// key, or is noise. A model that knows no frames says what counts.
fn acceptance(data: &[u8]) {
    let mut acceptor = Acceptor::new(&IDENTITY, 0);
    let genesis = GenesisPayload { log_id: IDENTITY.log_id.to_vec(), partition: 0, partition_count: 1, format: 1 };
    let value = frame::encode(Kind::Genesis, "", "", 0, [0; 32], &genesis.encode_to_vec());
    assert_eq!(acceptor.judge(&record(0, GENESIS_KEY, value)), Ok(Verdict::Genesis));
    let mut model: HashMap<&str, ([u8; 32], u64)> = HashMap::new();
    for (offset, instruction) in (1..).zip(data.chunks_exact(2).take(64)) {
        let [kind, noise] = [instruction[0], instruction[1]];
        let accounts = if kind & 1 == 0 { ["acme/A", "acme/B"] } else { ["acme/B", "acme/A"] };
        let key = accounts[0];
        let (head, version) = *model.entry(key).or_insert_with(|| (first_parent(&IDENTITY.log_id, key), 0));
        let (mut parent, mut next, mut stands_under, mut counts) = (head, version + 1, key, true);
        match kind >> 1 & 7 {
            0 => (parent, counts) = ([noise; 32], [noise; 32] == head),
            1 => (next, counts) = (u64::from(noise), u64::from(noise) == version + 1),
            2 => (stands_under, counts) = (accounts[1], false),
            _ => {}
        }
        let mut value = frame::encode(Kind::Commit, "acme", &key["acme/".len()..], next, parent, &[noise]);
        if kind & 0x80 != 0 {
            value.truncate(value.len() - 1);
            counts = false;
        }
        let record = record(offset, stands_under, value);
        let accepted = matches!(acceptor.judge(&record), Ok(Verdict::Accepted { .. }));
        // Version 0 makes no commit frame at all.
        assert_eq!(accepted, counts, "{kind:#x} {noise:#x}");
        if accepted {
            model.insert(key, (frame::hash(&record.value), next));
        }
    }
}

fn record(offset: u64, key: &str, value: Vec<u8>) -> Record {
    let key = Bytes::copy_from_slice(key.as_bytes());
    Record { partition: 0, offset, key, value: value.into(), appended_at: Timestamp::UNIX_EPOCH, trace: None }
}
