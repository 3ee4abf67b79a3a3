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
    keys::LogKeys,
};

const LOG_ID: [u8; 16] = [7; 16];
const SECRET: [u8; 32] = [3; 32];

fuzz_target!(|data: &[u8]| {
    one_encoding(data);
    acceptance(data);
});

fn one_encoding(data: &[u8]) {
    let Ok(read) = Frame::parse(data) else { return };
    let written = [read.before_authenticator().as_slice(), &read.authenticator].concat();
    assert_eq!(written, data, "a second encoding of one frame");
    assert_eq!(Frame::parse(&written), Ok(read));
}

/// Two accounts; each instruction extends one of their chains, misses by its version or parent, stands under the other's
/// key, is written under another log key, or is noise. A model that knows no frames says what counts.
fn acceptance(data: &[u8]) {
    let keys = LogKeys::fixed(SECRET);
    let mut acceptor = Acceptor::new(&Identity { log_id: LOG_ID, partitions: 1, keys: keys.clone() }, 0);
    let genesis = GenesisPayload { log_id: LOG_ID.to_vec(), partition: 0, partition_count: 1, format: 1 };
    let value = frame::encode(Kind::Genesis, "", "", 0, [0; 32], &genesis.encode_to_vec(), &keys);
    assert_eq!(acceptor.judge(&record(0, GENESIS_KEY, value)), Ok(Verdict::Genesis));
    let mut model: HashMap<&str, ([u8; 32], u64)> = HashMap::new();
    for (offset, instruction) in (1..).zip(data.chunks_exact(2).take(64)) {
        let [kind, noise] = [instruction[0], instruction[1]];
        let accounts = if kind & 1 == 0 { ["acme/A", "acme/B"] } else { ["acme/B", "acme/A"] };
        let key = accounts[0];
        let (head, version) = *model.entry(key).or_insert_with(|| (first_parent(&LOG_ID, key), 0));
        let (mut parent, mut next, mut stands_under, mut counts) = (head, version + 1, key, true);
        match kind >> 1 & 7 {
            0 => (parent, counts) = ([noise; 32], [noise; 32] == head),
            1 => (next, counts) = (u64::from(noise), u64::from(noise) == version + 1),
            2 => (stands_under, counts) = (accounts[1], false),
            _ => {}
        }
        let mut under = keys.clone();
        if kind & 0x40 != 0 {
            (under, counts) = (LogKeys::fixed([noise; 32]), counts && [noise; 32] == SECRET);
        }
        let mut value = frame::encode(Kind::Commit, "acme", &key["acme/".len()..], next, parent, &[noise], &under);
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
