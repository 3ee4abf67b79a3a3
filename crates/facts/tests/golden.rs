//! Every stored version of every fact, byte for byte: old history must always decode. A new version gets a new file; a file is
//! never changed. `SALDO_WRITE_GOLDEN=1 cargo test -p saldo-facts` writes the files that are missing, from the facts' samples.

use std::{fs, path::PathBuf};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use saldo_api::v1;
use saldo_domain::{
    dunning::{self, ContactStarted, ItemStep, ReminderDue, attempt::MAX_LISTED},
    event::Event,
    ids::DocumentNumber,
};
use saldo_facts::{
    CATALOG_FACTS, CatalogEvent, CatalogVersions, Commit, DecodeError, FACTS, Format, NEWEST_FORMAT, Refusal,
    StoredEvent, decode_event, decode_event_as, encode_event, event_type, needed_format,
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.trim().as_bytes();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).expect("hex"), 16).expect("hex")).collect()
}

/// Every golden file of a fact: its name without ending, its type, its version and its body.
fn golden() -> Vec<(String, String, u32, Vec<u8>)> {
    let files = fs::read_dir(folder()).expect("golden files").map(|file| file.expect("a file").path());
    let mut golden: Vec<_> = files
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            let (kind, version) = name.rsplit_once(".v")?;
            let (kind, version) = (kind.to_owned(), version.split('.').next()?.parse().ok()?);
            let body = bytes(&fs::read_to_string(&path).expect("read"));
            Some((name, kind, version, body))
        })
        .collect();
    golden.sort();
    golden
}

fn stored(kind: &str, version: u32, body: &[u8]) -> v1::Event {
    v1::Event { r#type: kind.to_owned(), version, body: body.to_vec() }
}

fn is_catalogs(kind: &str) -> bool {
    CATALOG_FACTS.iter().any(|declaration| declaration.kind == kind)
}

/// The stored sample of every fact, and how many versions the fact has.
fn samples() -> Vec<(v1::Event, usize)> {
    let accounts = FACTS.iter().map(|fact| (encode_event(&(fact.sample)()), fact.formats.len()));
    let catalog = CATALOG_FACTS.iter().map(|fact| (StoredEvent::encode(&(fact.sample)()), fact.formats.len()));
    accounts.chain(catalog).collect()
}

/// Compares with the file of that name, or writes it where that was asked for and it is missing.
fn check(name: &str, bytes: &[u8]) {
    let path = folder().join(format!("{name}.hex"));
    if std::env::var_os("SALDO_WRITE_GOLDEN").is_some() && !path.exists() {
        fs::write(&path, format!("{}\n", hex(bytes))).expect("written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(hex(bytes), golden.trim(), "{name}");
}

#[test]
fn every_stored_version_of_every_fact_reads_and_writes_as_it_stands() {
    for (sample, versions) in samples() {
        assert_eq!(sample.version as usize, versions, "a sample has every field of the newest version");
        let path = folder().join(format!("{}.v{}.hex", sample.r#type, sample.version));
        if std::env::var_os("SALDO_WRITE_GOLDEN").is_some() && !path.exists() {
            fs::write(&path, format!("{}\n", hex(&sample.body))).expect("written");
        }
    }
    let golden = golden();
    for (sample, versions) in samples() {
        for version in 1..=versions as u32 {
            let known = golden.iter().any(|(_, kind, one, _)| (kind, *one) == (&sample.r#type, version));
            assert!(known, "{} version {version} has no golden file", sample.r#type);
        }
    }
    for (name, kind, version, body) in &golden {
        let stored = stored(kind, *version, body);
        if is_catalogs(kind) {
            let event = CatalogEvent::decode(&stored).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(StoredEvent::encode(&event), stored, "{name}");
            continue;
        }
        let event = decode_event(&stored).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(encode_event(&event), stored, "{name}");
    }
}

/// `invoice.issued` is `InvoiceIssued`.
fn message_name(kind: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    kind.split(['.', '_']).map(capital).collect()
}

/// Readers outside have only the .proto file.
#[test]
fn the_proto_files_describe_every_stored_body() {
    let pool = DescriptorPool::decode(saldo_api::DESCRIPTORS).expect("descriptors");
    let describes = |kind: &str, body: &[u8]| {
        let name = format!("collections.v1.{}", message_name(kind));
        let message = pool.get_message_by_name(&name).unwrap_or_else(|| panic!("{name} is not in events.proto"));
        let fields = message.fields().len();
        let message = DynamicMessage::decode(message, body).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(message.unknown_fields().count(), 0, "{name} lacks a field");
        assert_eq!(hex(&message.encode_to_vec()), hex(body), "{name}");
        (message.fields().count(), fields)
    };
    for (_, kind, _, body) in golden() {
        describes(&kind, &body);
    }
    for (sample, _) in samples() {
        let (present, described) = describes(&sample.r#type, &sample.body);
        assert_eq!(present, described, "{}: events.proto has a field that is never written", sample.r#type);
    }
}

#[test]
fn a_newer_type_version_or_format_is_never_guessed() {
    let mut stored = encode_event(&(FACTS[2].sample)());
    stored.version = 2;
    assert!(matches!(decode_event(&stored), Err(DecodeError::UnknownVersion { version: 2, .. })));
    stored.version = 0;
    assert!(matches!(decode_event(&stored), Err(DecodeError::UnknownVersion { .. })));
    (stored.version, stored.r#type) = (1, "invoice.sung".into());
    assert!(matches!(decode_event(&stored), Err(DecodeError::UnknownVersion { .. })));
    for declaration in FACTS {
        let event = (declaration.sample)();
        let (needs, stored) = (needed_format(&event), encode_event(&event));
        assert!((1..=NEWEST_FORMAT).contains(&needs), "{}", declaration.kind);
        assert_eq!(decode_event_as(needs, &stored), Ok(event));
        assert!(matches!(decode_event_as(needs - 1, &stored), Err(DecodeError::UnknownVersion { .. })));
    }
    for declaration in CATALOG_FACTS {
        let event = (declaration.sample)();
        let (needs, stored) = (event.format(), StoredEvent::encode(&event));
        assert!((Format::FIRST..=Format::NEWEST).contains(&needs), "{}", declaration.kind);
        assert_eq!(CatalogEvent::decode_as(needs, &stored), Ok(event));
        let older = Format::new(needs.number() - 1);
        assert!(matches!(CatalogEvent::decode_as(older, &stored), Err(DecodeError::UnknownVersion { .. })));
    }
}

#[test]
fn damaged_bytes_are_malformed() {
    for declaration in FACTS {
        let mut stored = encode_event(&(declaration.sample)());
        stored.body.truncate(stored.body.len() - 1);
        assert!(matches!(decode_event(&stored), Err(DecodeError::Malformed { .. })), "{}", stored.r#type);
    }
}

/// Far below a commit's 900,000 bytes, so that a message's bytes, or two such events, have room beside it.
#[test]
fn a_contact_about_all_that_one_can_list_is_small() {
    let number = DocumentNumber::new("N".repeat(64)).expect("a number");
    for declaration in FACTS {
        let event = match (declaration.sample)() {
            Event::Dunning(dunning::Fact::ReminderDue(due)) => {
                let takes = vec![ItemStep { invoice: number.clone(), ..due.takes[0].clone() }; MAX_LISTED];
                ReminderDue { takes, ..due }.into()
            }
            Event::Dunning(dunning::Fact::ContactStarted(started)) => {
                let mut item = started.items[0].clone();
                (item.invoice, item.open) = (number.clone(), 999_999_999_999);
                ContactStarted { items: vec![item; MAX_LISTED], ..started }.into()
            }
            other => other,
        };
        assert!(encode_event(&event).body.len() < 120_000, "{}", event_type(&event));
    }
}

const FIRST_FACTS: [&str; 8] = [
    "account.opened",
    "account.amended",
    "invoice.issued",
    "invoice.credited",
    "invoice.voided",
    "payment.recorded",
    "payment.allocated",
    "payment.reversed",
];

/// A commit with everything that one can have.
fn commit() -> Commit {
    Commit {
        request_id: "r-1".into(),
        method: "IssueInvoice".into(),
        fingerprint: [1; 32],
        command: vec![2; 3],
        sealed: vec![v1::SealedField { path: "description".into(), value: None }],
        actor: "somebody".into(),
        actor_roles: vec!["writer".into()],
        recorded_at: "2026-03-09T08:00:00.000001Z".parse().expect("an instant"),
        catalog: CatalogVersions { tenant: 3, system: 0 },
        next_wakeup: Some("2026-03-12T08:00:00Z".parse().expect("an instant")),
        refusal: Some(Refusal {
            reason: "NO".into(),
            message: "no".into(),
            details: vec![("invoice".into(), "F-1".into())],
        }),
        events: FIRST_FACTS
            .iter()
            .map(|kind| {
                let (_, _, version, body) =
                    golden().into_iter().find(|(name, ..)| name == &format!("{kind}.v1")).expect("a golden file");
                decode_event(&stored(kind, version, &body)).expect("an event")
            })
            .collect(),
    }
}

#[test]
fn a_commits_payload_stays_as_it_is() {
    let bytes = commit().encode();
    check("commit", &bytes);
    assert_eq!(Commit::decode(&bytes), Ok(commit()));
}

#[test]
fn a_genesis_payload_stays_as_it_is() {
    let payload = v1::GenesisPayload { log_id: vec![9; 16], partition: 3, partition_count: 16, format: 1 };
    check("genesis", &payload.encode_to_vec());
}
