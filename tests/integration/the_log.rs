//! The log as an outsider reads it: a parser and an acceptance rule of the tests' own, so that the project's are not
//! their own witness.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use saldo_api::v1;
use saldo_log::{Log, Record};
use sha2::{Digest, Sha256};

use crate::Failure;

/// Everything the log says.
#[derive(Default)]
pub struct TheLog {
    /// Accepted commits by `tenant/account`, in order.
    pub chains: BTreeMap<String, Vec<v1::CommitPayload>>,
    /// Where each accepted commit stands: (partition, offset) to account and version.
    pub places: HashMap<(u32, u64), (String, u64)>,
    /// The newest commit of each account: the hash of its record, and its version.
    pub heads: BTreeMap<String, (Vec<u8>, u64)>,
    /// Records that do not count.
    pub void: u64,
}

/// Reads the whole log.
pub async fn read(log: &dyn Log) -> Result<TheLog, Failure> {
    let partitions = log.partition_count().await?.ok_or("no log")?;
    let mut whole = TheLog::default();
    let mut log_id = Vec::new();
    for partition in 0..partitions {
        let end = log.end(partition).await?;
        let mut tail = log.tail(&[(partition, 0)]).await?;
        let mut next = 0;
        while next < end {
            for record in tail.next(1_000).await? {
                assert_eq!(record.offset, next, "offsets have no gaps");
                next += 1;
                let Some((kind, key, version, parent, payload)) = parse(&record) else {
                    // With such a record an instance asks for the log's clock.
                    assert_eq!(record.key.as_ref(), b"clock", "a malformed record");
                    whole.void += 1;
                    continue;
                };
                if kind == 0 {
                    log_id = v1::GenesisPayload::decode(payload)?.log_id;
                    continue;
                }
                let first = Sha256::digest([b"saldo/first/1", log_id.as_slice(), key.as_bytes()].concat()).to_vec();
                let (head, newest) = whole.heads.get(&key).cloned().unwrap_or((first, 0));
                if parent != head || version != newest + 1 {
                    whole.void += 1;
                    continue;
                }
                whole.heads.insert(key.clone(), (Sha256::digest(&record.value).to_vec(), version));
                whole.places.insert((partition, record.offset), (key.clone(), version));
                whole.chains.entry(key).or_default().push(v1::CommitPayload::decode(payload)?);
            }
        }
    }
    Ok(whole)
}

/// Kind, `tenant/account`, version, parent and payload.
type Parsed<'r> = (u8, String, u64, Vec<u8>, &'r [u8]);

fn parse(record: &Record) -> Option<Parsed<'_>> {
    let bytes = record.value.as_ref();
    let tenant_len = usize::from(*bytes.get(6)?);
    let tenant = bytes.get(7..7 + tenant_len)?;
    let at = 7 + tenant_len;
    let account_len = usize::from(*bytes.get(at)?);
    let account = bytes.get(at + 1..at + 1 + account_len)?;
    let at = at + 1 + account_len;
    let version = u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
    let parent = bytes.get(at + 8..at + 40)?.to_vec();
    let length = u32::from_be_bytes(bytes.get(at + 40..at + 44)?.try_into().ok()?) as usize;
    let payload = bytes.get(at + 44..at + 44 + length)?;
    // The number of the log key and the authenticator end it. An outsider cannot check them.
    bytes.get(at + 44 + length..).filter(|rest| rest.len() == 36)?;
    let key = format!("{}/{}", std::str::from_utf8(tenant).ok()?, std::str::from_utf8(account).ok()?);
    (bytes.get(..5)? == b"SALD\x02").then_some((*bytes.get(5)?, key, version, parent, payload))
}

impl TheLog {
    /// How often each number stands in events of this type, over all accounts.
    pub fn numbers(&self, event_type: &str) -> Result<BTreeMap<String, u32>, Failure> {
        let mut counts = BTreeMap::new();
        for event in self.chains.values().flatten().flat_map(|commit| &commit.events) {
            if event.r#type == event_type {
                let number = match event_type {
                    "invoice.issued" => v1::InvoiceIssued::decode(event.body.as_slice())?.number,
                    _ => v1::PaymentRecorded::decode(event.body.as_slice())?.reference,
                };
                *counts.entry(number).or_default() += 1;
            }
        }
        Ok(counts)
    }
}
