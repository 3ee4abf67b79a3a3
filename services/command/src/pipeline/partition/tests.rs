use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use saldo_api::v1;
use saldo_domain::{
    agreement::HoldPlaced,
    event::Event,
    ledger::InvoiceIssued,
    party::{AccountAmended, AccountOpened},
};
use saldo_facts::{CatalogVersions, Commit, DecodeError, FACTS, declare::Fact, decode_event_as};
use saldo_log::{
    frame::{self, GENESIS_KEY, Kind},
    genesis::Identity,
    keys::LogKeys,
};

use super::*;

const KEY: &str = "acme/D-1";
const LOG_ID: [u8; 16] = [7; 16];

fn keys() -> LogKeys {
    LogKeys::fixed([3; 32])
}

/// Knows no holds.
fn older_release(payload: &[u8]) -> Result<Commit, DecodeError> {
    let stored = v1::CommitPayload::decode(payload).expect("our own bytes");
    stored.events.iter().try_for_each(|event| decode_event_as(1, event).map(|_| ()))?;
    Commit::decode(payload)
}

fn sample<F: Fact>() -> Event {
    let declaration = FACTS.iter().find(|declaration| declaration.kind == F::TYPE).expect("a fact");
    (declaration.sample)()
}

/// The records of one account: a Genesis, and a commit for each event.
struct History {
    records: Vec<Record>,
    head: Head,
}

impl History {
    fn new() -> Self {
        let log_id = LOG_ID.to_vec();
        let payload = v1::GenesisPayload { log_id, partition: 0, partition_count: 1, format: 1 };
        let value = frame::encode(Kind::Genesis, "", "", 0, [0; 32], &payload.encode_to_vec(), &keys());
        let head = Head { hash: frame::first_parent(&LOG_ID, KEY), version: 0 };
        let mut history = Self { records: Vec::new(), head };
        history.push(GENESIS_KEY, value);
        history
    }

    fn push(&mut self, key: &'static str, value: Vec<u8>) {
        self.records.push(Record {
            partition: 0,
            offset: self.records.len() as u64,
            key: Bytes::from_static(key.as_bytes()),
            value: value.into(),
            appended_at: Timestamp::UNIX_EPOCH,
            trace: None,
        });
    }

    fn commit(&mut self, event: Event) {
        let version = self.head.version + 1;
        let commit = Commit {
            request_id: format!("request-{version}"),
            method: "Any".into(),
            fingerprint: [1; 32],
            command: Vec::new(),
            sealed: Vec::new(),
            actor: "somebody".into(),
            actor_roles: Vec::new(),
            recorded_at: Timestamp::UNIX_EPOCH,
            catalog: CatalogVersions::default(),
            next_wakeup: None,
            refusal: None,
            events: vec![event],
        };
        let value = frame::encode(Kind::Commit, "acme", "D-1", version, self.head.hash, &commit.encode(), &keys());
        self.head = Head { hash: frame::hash(&value), version };
        self.push(KEY, value);
    }
}

fn open(path: &Path, decode: Decoder) -> Partition {
    let identity = Identity { log_id: LOG_ID, partitions: 1, keys: keys() };
    Partition::open(path, &identity, 0, decode, CommandMetrics::new()).expect("opened")
}

fn stored(partition: &mut Partition) -> crate::pipeline::store::StoredAccount {
    partition.account(KEY).expect("the store is there").stored.clone()
}

#[test]
fn an_account_that_an_older_release_parked_is_read_again_by_one_that_understands_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("partition-0.redb");
    let mut history = History::new();
    for event in [sample::<AccountOpened>(), sample::<InvoiceIssued>()] {
        history.commit(event);
    }
    for event in [sample::<HoldPlaced>(), sample::<AccountAmended>()] {
        history.commit(event);
    }
    let mut whole = open(&dir.path().join("whole.redb"), Commit::decode);
    whole.read(&history.records, |_| ()).expect("read");

    let mut older = open(&path, older_release);
    older.read(&history.records[..4], |_| ()).expect("read");
    older.save().expect("saved");
    older.read(&history.records[4..], |_| ()).expect("read");
    let parked = stored(&mut older);
    assert!(parked.parked.is_some_and(|why| why.contains("hold.placed")) && older.parked == 1);
    older.save().expect("saved");
    drop(older);

    // Another start of the same release changes nothing.
    let mut older = open(&path, older_release);
    assert!(stored(&mut older).parked.is_some() && older.parked == 1);
    assert_eq!(older.head(KEY), history.head);
    older.save().expect("saved");
    drop(older);

    for start in ["the first", "and a later one, from what was saved"] {
        let mut newer = open(&path, Commit::decode);
        let (read, expected) = (stored(&mut newer), stored(&mut whole));
        assert_eq!((&read.parked, newer.parked), (&None, 0), "{start}");
        assert_eq!(read.account, expected.account, "{start}");
        assert_eq!(newer.head(KEY), history.head, "{start}");
        for request in ["request-3", "request-4"] {
            let answer = newer.store.answer(KEY, request).expect("the store is there");
            let expected = whole.store.answer(KEY, request).expect("the store is there");
            assert_eq!(answer.map(|known| known.answer), expected.map(|known| known.answer), "{start}: {request}");
        }
        newer.save().expect("saved");
        assert!(newer.store.unread(KEY).expect("the store is there").is_empty());
    }
}

#[test]
fn a_state_is_stored_by_subject_and_comes_back_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("partition-0.redb");
    let mut history = History::new();
    FACTS.iter().for_each(|declaration| history.commit((declaration.sample)()));
    let mut partition = open(&path, Commit::decode);
    // Each commit is saved for itself, so that a part is written whenever it has changed, and not only in the end.
    for index in 0..history.records.len() {
        let from = partition.start() as usize;
        partition.read(&history.records[from..=index], |_| ()).expect("read");
        let before = stored(&mut partition);
        partition.save().expect("saved");
        drop(partition);
        partition = open(&path, Commit::decode);
        assert_eq!(stored(&mut partition).account, before.account, "offset {index}");
    }
    assert_eq!(partition.head(KEY), history.head);
}
