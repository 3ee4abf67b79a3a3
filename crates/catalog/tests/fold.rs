//! The fold of the catalog: two kinds of chains, the gate, and chains that an older release cannot read.

use std::collections::HashMap;

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use saldo_api::v1;
use saldo_catalog::{CHAIN, State};
use saldo_domain::{ids::SYSTEM_TENANT, ledger::ApplyCredit};
use saldo_facts::{
    CatalogEvent, CatalogVersions, Commit, Format, FormatRaised, KeyStoreBound, PolicyPublished, SendingHeld,
    SendingReleased, SendingSet, Settings, SettingsPublished, StoredEvent, TemplatePublished,
};
use saldo_log::{
    Record,
    acceptor::Acceptor,
    frame::{self, GENESIS_KEY, Kind, first_parent},
    genesis::Identity,
    keys::LogKeys,
};

const LOG_ID: [u8; 16] = [7; 16];

fn keys() -> LogKeys {
    LogKeys::fixed([3; 32])
}

/// A catalog's log in memory.
struct Written {
    records: Vec<Record>,
    heads: HashMap<String, ([u8; 32], u64)>,
}

impl Written {
    fn new() -> Self {
        let payload = v1::GenesisPayload { log_id: LOG_ID.to_vec(), partition: 0, partition_count: 1, format: 1 };
        let genesis = frame::encode(Kind::Genesis, "", "", 0, [0; 32], &payload.encode_to_vec(), &keys());
        let mut written = Self { records: Vec::new(), heads: HashMap::new() };
        written.append(GENESIS_KEY, genesis);
        written
    }

    fn append(&mut self, key: &str, value: Vec<u8>) {
        self.records.push(Record {
            partition: 0,
            offset: self.records.len() as u64,
            key: Bytes::from(key.to_owned()),
            value: value.into(),
            appended_at: Timestamp::UNIX_EPOCH,
            trace: None,
        });
    }

    /// A commit on a chain, with the events as they are stored.
    fn stored(mut self, tenant: &str, events: Vec<v1::Event>) -> Self {
        let key = format!("{tenant}/{CHAIN}");
        let (parent, version) = *self.heads.entry(key.clone()).or_insert((first_parent(&LOG_ID, &key), 0));
        let commit = Commit::<CatalogEvent> {
            request_id: format!("r-{version}"),
            method: "Publish".into(),
            fingerprint: [0; 32],
            command: Vec::new(),
            sealed: Vec::new(),
            actor: "somebody".into(),
            actor_roles: Vec::new(),
            recorded_at: Timestamp::UNIX_EPOCH,
            catalog: CatalogVersions::default(),
            next_wakeup: None,
            refusal: None,
            events: Vec::new(),
        };
        let mut payload = v1::CommitPayload::decode(commit.encode().as_slice()).expect("a payload");
        payload.events = events;
        let value = frame::encode(Kind::Commit, tenant, CHAIN, version + 1, parent, &payload.encode_to_vec(), &keys());
        self.heads.insert(key.clone(), (frame::hash(&value), version + 1));
        self.append(&key, value);
        self
    }

    fn publish(self, tenant: &str, event: CatalogEvent) -> Self {
        self.stored(tenant, vec![event.encode()])
    }

    /// The fold by a release that knows no fact beyond `format`.
    fn read_as(&self, format: Format) -> State {
        let identity = Identity { log_id: LOG_ID, partitions: 1, keys: keys() };
        let (mut state, mut acceptor) = (State::read_as(format), Acceptor::new(&identity, 0));
        for record in &self.records {
            state.read(&mut acceptor, record).expect("one log");
        }
        state
    }

    fn read(&self) -> State {
        self.read_as(Format::NEWEST)
    }
}

fn settings() -> CatalogEvent {
    SettingsPublished(Settings { time_zone: "America/Chicago".into(), ..Settings::default() }).into()
}

fn sending(on: bool) -> CatalogEvent {
    SendingSet { on }.into()
}

fn raised(format: Format) -> CatalogEvent {
    FormatRaised { format }.into()
}

fn policy() -> Vec<v1::Event> {
    let policy = include_str!("../../../docs/policy/policy.toml").to_owned();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/policy/templates");
    let mut events = vec![CatalogEvent::from(PolicyPublished { source: policy }).encode()];
    for entry in std::fs::read_dir(folder).expect("the example's templates") {
        let entry = entry.expect("a file");
        let file = entry.file_name().into_string().expect("a name");
        let (name, language) = file.trim_end_matches(".toml").split_once('.').expect("name and language");
        let source = std::fs::read_to_string(entry.path()).expect("a template");
        let (name, language) = (name.to_owned(), language.to_owned());
        events.push(CatalogEvent::from(TemplatePublished { name, language, source }).encode());
    }
    events
}

#[test]
fn a_creditors_chain_and_the_operators_have_versions_of_their_own() {
    let state = Written::new()
        .publish(SYSTEM_TENANT, raised(Format::new(2)))
        .publish("acme", sending(true))
        .publish("acme", settings())
        .read();
    let in_force = state.in_force("acme");
    assert_eq!(in_force.read(), CatalogVersions { tenant: 2, system: 1 });
    assert_eq!(in_force.understood(), in_force.read());
    assert_eq!(
        (in_force.system.format, in_force.tenant.settings.time_zone.as_str()),
        (Format::new(2), "America/Chicago")
    );
    assert_eq!(state.in_force("nobody").read(), CatalogVersions { tenant: 0, system: 1 });
    let creditors: Vec<&str> = state.tenants().map(|(tenant, _)| tenant).collect();
    assert_eq!(creditors, ["acme"], "the reserved tenant is no creditor");
}

#[test]
fn the_gate_lets_newer_facts_through_once_the_format_is_raised() {
    let (older, newer) = (sending(true), settings());
    let before = Written::new().read();
    assert_eq!(before.system().format, Format::FIRST);
    assert_eq!(before.system().admit(std::slice::from_ref(&older)), Ok(()));
    let refused = before.system().admit(&[older, newer.clone()]).expect_err("a newer fact");
    assert_eq!((refused.fact, refused.needed, refused.allowed), ("settings.published", Format::new(2), Format::FIRST));
    assert!(refused.to_string().contains("saldo log upgrade"), "{refused}");
    let after = Written::new().publish(SYSTEM_TENANT, raised(Format::new(2))).read();
    assert_eq!(after.system().admit(&[newer]), Ok(()));
}

#[test]
fn a_format_never_goes_back() {
    let state = Written::new()
        .publish(SYSTEM_TENANT, raised(Format::new(3)))
        .publish(SYSTEM_TENANT, raised(Format::new(2)))
        .read();
    assert_eq!(state.system().format, Format::new(3));
}

#[test]
fn a_chain_parked_by_an_older_release_is_read_by_the_one_that_understands_it() {
    let log = Written::new().publish("acme", sending(true)).publish("acme", settings()).publish("acme", sending(false));
    let older = log.read_as(Format::FIRST).in_force("acme");
    assert!(older.parked().is_some_and(|why| why.contains("settings.published")), "{:?}", older.parked());
    assert_eq!((older.read().tenant, older.understood().tenant), (3, 1), "decisions rest on what came before");
    assert!(!older.tenant.rules.sending, "the switch works whatever else cannot be read");
    let newer = log.read().in_force("acme");
    assert_eq!((newer.parked(), newer.understood().tenant), (None, 3));
}

#[test]
fn a_format_that_was_raised_behind_an_unknown_fact_is_left_to_the_release_that_knows_it() {
    let unknown = v1::Event { r#type: "calendar.published".into(), version: 1, body: Vec::new() };
    let log = Written::new().publish(SYSTEM_TENANT, raised(Format::new(2))).stored(SYSTEM_TENANT, vec![unknown]);
    let state = log.publish(SYSTEM_TENANT, raised(Format::new(3))).read();
    assert!(state.system().parked().is_some_and(|why| why.contains("calendar.published")));
    assert_eq!(state.system().format, Format::new(2));
}

#[test]
fn another_policy_does_not_hide_a_fact_that_this_release_does_not_know() {
    let unknown = v1::Event { r#type: "pauses.published".into(), version: 1, body: Vec::new() };
    let state = Written::new().stored("acme", vec![unknown]).stored("acme", policy()).read();
    let in_force = state.in_force("acme");
    assert!(in_force.tenant.rules.policy.is_some(), "it is read");
    assert!(in_force.parked().is_some_and(|why| why.contains("pauses.published")), "{:?}", in_force.parked());
    assert_eq!(in_force.understood().tenant, 0);
}

#[test]
fn a_policy_with_faults_is_replaced_by_one_without() {
    let faulty = PolicyPublished { source: "[from.a.newer.release]".into() }.into();
    let log = Written::new().publish("acme", faulty);
    let parked = log.read().in_force("acme");
    assert!(parked.parked().is_some_and(|why| why.contains("policy.toml")), "{:?}", parked.parked());
    assert_eq!((parked.read().tenant, parked.understood().tenant), (1, 0));
    let replaced = log.stored("acme", policy()).read().in_force("acme");
    assert_eq!((replaced.parked(), replaced.understood().tenant), (None, 2));
}

#[test]
fn while_a_chain_is_parked_money_is_decided_by_the_settings_and_nobody_is_spoken_to() {
    let leave =
        Settings { time_zone: "America/Chicago".into(), apply_credit: ApplyCredit::Leave, ..Settings::default() };
    let faulty = PolicyPublished { source: "[from.a.newer.release]".into() };
    let log = Written::new().publish("acme", sending(true)).publish("acme", SettingsPublished(leave).into());
    let parked = log.publish("acme", faulty.into()).read().in_force("acme");
    assert!(parked.parked().is_some());
    let rules = parked.tenant.silent.as_ref();
    assert_eq!((rules.time_zone.as_str(), rules.apply_credit), ("America/Chicago", ApplyCredit::Leave));
    assert!(rules.policy.is_none() && rules.speaking().is_err());
}

#[test]
fn a_fact_on_the_wrong_chain_parks_it() {
    let log = Written::new().publish(SYSTEM_TENANT, sending(true)).publish("acme", raised(Format::new(2)));
    let state = log.read();
    assert_eq!(state.system().format, Format::FIRST, "a creditor raises nothing");
    assert!(state.system().parked().is_some());
    assert!(state.tenant("acme").parked().is_some());
}

#[test]
fn o4_sending_that_is_held_for_all_is_held_for_each_until_it_is_released() {
    let held = Written::new()
        .publish(SYSTEM_TENANT, raised(Format::NEWEST))
        .publish("acme", sending(true))
        .publish(SYSTEM_TENANT, SendingHeld { reason: "an older log was restored".into() }.into());
    let state = held.read();
    assert_eq!(state.system().held.as_deref(), Some("an older log was restored"));
    assert!(state.in_force("acme").tenant.rules.held && state.in_force("other").tenant.rules.held);
    assert!(state.in_force("acme").tenant.rules.sending, "the creditor's own switch stays");
    let state = held.publish(SYSTEM_TENANT, SendingReleased { reason: "checked".into() }.into()).read();
    assert_eq!((state.system().held.as_ref(), state.system().version), (None, 3));
    assert!(state.in_force("acme").tenant.rules.sending && !state.in_force("acme").tenant.rules.held);
    assert!(!state.in_force("other").tenant.rules.sending, "a switch that was never on stays off");
}

#[test]
fn o1_the_newest_key_store_that_was_bound_counts() {
    let bound = |store: u8| KeyStoreBound { accounts_log: [1; 16], key_store: [store; 16] };
    let written = Written::new()
        .publish(SYSTEM_TENANT, raised(Format::NEWEST))
        .publish(SYSTEM_TENANT, bound(2).into())
        .publish(SYSTEM_TENANT, bound(3).into());
    assert_eq!(written.read().system().bound, Some(bound(3)));
    let state = written.publish("acme", bound(4).into()).read();
    assert_eq!(state.system().bound, Some(bound(3)));
    assert!(state.tenant("acme").parked().is_some(), "it does not belong on a creditor's chain");
}
