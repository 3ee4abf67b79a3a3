//! Every stored event version, byte for byte: old history must always decode. A new version gets a new file; a file is
//! never changed. `SALDO_WRITE_GOLDEN=1` writes the missing ones.

use std::path::PathBuf;

use jiff::{Timestamp, civil::Date};
use prost::Message;
use saldo_api::v1;
use saldo_commit::{
    CatalogEvent, CatalogVersions, Commit, DecodeError, FiscalYearStart, Format, Refusal, Settings, StoredEvent,
    decode_event, encode_event, event_type,
};
use saldo_domain::{
    contact::{
        Claim, Deferred, Failed, Handed, ItemStep, ListedItem, MAX_LISTED, Rejected, Rung, Saying, Started, Took,
        Unknown, Withheld,
    },
    event::{AllocatedBy, AllocationLine, Event, Instalment},
    ids::DocumentNumber,
    money::{Currency, Money},
    policy::Tone,
    profile::{Channel, ContactPoint, DebtorKind, Profile, ProfileChange, Sealed},
};

fn sealed(byte: u8) -> Sealed {
    let message =
        v1::Sealed { key_id: vec![byte; 16], nonce: vec![2; 24], ciphertext: vec![3; 5], commitment: vec![4; 32] };
    Sealed(message.encode_to_vec())
}

fn samples() -> Vec<Event> {
    let number = |text: &str| DocumentNumber::new(text).expect("a number");
    let eur = Currency::new("EUR").expect("EUR");
    let money = |minor| Money::positive(minor, eur).expect("positive");
    let day = |day| Date::new(2026, 2, day).expect("a day");
    let point = ContactPoint { channel: Channel::Email, address: sealed(9), digest: [7; 32] };
    let instalments = vec![
        Instalment { number: 1, due_date: day(10), amount: 600 },
        Instalment { number: 2, due_date: day(20), amount: 400 },
    ];
    let lines = vec![AllocationLine {
        invoice: number("F-1"),
        instalment: 1,
        due_date: day(10),
        amount: 600,
        effective_date: day(12),
        issue_date: day(1),
        rung: None,
    }];
    vec![
        Event::AccountOpened(Profile {
            display_name: sealed(1),
            kind: DebtorKind::Consumer,
            language: "es".into(),
            time_zone: "Europe/Madrid".into(),
            country: "ES".into(),
            contact_points: vec![point.clone()],
        }),
        Event::AccountAmended(ProfileChange {
            kind: Some(DebtorKind::Business),
            language: Some("en".into()),
            contact_points: Some(vec![point]),
            ..ProfileChange::default()
        }),
        Event::InvoiceIssued {
            number: number("F-1"),
            total: money(1_000),
            issue_date: day(1),
            instalments: instalments.clone(),
            description: Some(sealed(5)),
        },
        Event::InvoiceCredited {
            credit_note: number("A-1"),
            invoice: number("F-1"),
            amount: money(700),
            credit_date: day(12),
            lines: lines.clone(),
            reason: None,
        },
        Event::InvoiceVoided {
            number: number("F-1"),
            currency: eur,
            void_date: day(3),
            instalments,
            reason: Some(sealed(6)),
        },
        Event::PaymentRecorded {
            reference: number("P-1"),
            amount: money(650),
            value_date: day(12),
            remittance: Some(sealed(8)),
        },
        Event::PaymentAllocated {
            reference: number("P-1"),
            currency: eur,
            allocated_by: AllocatedBy::Designation,
            lines: lines.clone(),
        },
        Event::PaymentReversed {
            reference: number("P-1"),
            amount: money(650),
            reversal_date: day(15),
            lines,
            unapplied: 50,
            reason: None,
        },
    ]
}

/// A payment taken back whose instalment goes on with the ladder, and every event of a contact.
fn contacts() -> Vec<Event> {
    let number = |text: &str| DocumentNumber::new(text).expect("a number");
    let eur = Currency::new("EUR").expect("EUR");
    let day = |day| Date::new(2026, 3, day).expect("a day");
    let at = |text: &str| text.parse::<Timestamp>().expect("an instant");
    let saying = Saying {
        step: "first-reminder".into(),
        tone: Tone::Firm,
        channel: Channel::Email,
        template: "first-reminder".into(),
    };
    let steps = vec![ItemStep { invoice: number("F-1"), instalment: 1, offset_days: -3 }];
    let took = Took { steps: steps.clone(), on: day(9) };
    let handed = Handed { message_id: "0a@example.com".into(), sha256: [8; 32], message: sealed(4) };
    let failed = Failed { stage: "rcpt".into(), code: 550, reply: Some(sealed(5)) };
    vec![
        Event::PaymentReversed {
            reference: number("P-1"),
            amount: Money::positive(650, eur).expect("positive"),
            reversal_date: day(15),
            lines: vec![AllocationLine {
                invoice: number("F-1"),
                instalment: 1,
                due_date: day(10),
                amount: 650,
                effective_date: day(12),
                issue_date: day(1),
                rung: Some(Rung { offset_days: 7, on: day(11) }),
            }],
            unapplied: 0,
            reason: None,
        },
        Event::ReminderDue { reminder: 2, saying: saying.clone(), takes: steps, retry_of: Some(1) },
        Event::ContactStarted(Box::new(Started {
            reminder: 2,
            attempt: 1,
            claim: Claim([6; 16]),
            saying,
            language: "es".into(),
            name: sealed(1),
            address: sealed(2),
            recipient: [7; 32],
            at: at("2026-03-09T08:00:00.000001Z"),
            day: day(9),
            send_before: at("2026-03-09T08:02:00.000001Z"),
            items: vec![ListedItem {
                invoice: number("F-1"),
                instalment: 1,
                currency: eur,
                due_date: day(12),
                open: 650,
                takes: Some(-3),
            }],
            unlisted: Vec::new(),
            unapplied: vec![(eur, 20)],
        })),
        Event::ContactWithheld { reminder: 2, reason: Withheld::NoContactPoint, took: took.clone() },
        Event::ContactDeferred {
            reminder: 2,
            attempt: 1,
            reason: Deferred::HandOverFailed,
            until: at("2026-03-09T08:15:00Z"),
            failed: Some(failed.clone()),
        },
        Event::ContactAccepted {
            reminder: 2,
            attempt: 1,
            handed: handed.clone(),
            reply: Some(sealed(3)),
            took: took.clone(),
        },
        Event::ContactRejected {
            reminder: 2,
            attempt: 1,
            reason: Rejected::Refused,
            failed,
            handed: Some(handed.clone()),
            took: took.clone(),
        },
        Event::ContactUnknown { reminder: 2, attempt: 1, reason: Unknown::NoOutcome, handed: Some(handed), took },
    ]
}

fn published() -> Vec<CatalogEvent> {
    vec![
        CatalogEvent::PolicyPublished { source: "[sender]\n".into() },
        CatalogEvent::TemplatePublished {
            name: "first".into(),
            language: "es".into(),
            source: "subject = 'x'\n".into(),
        },
        CatalogEvent::SendingSet { on: true },
        CatalogEvent::SettingsPublished(Settings {
            name: "Ejemplo, S.L.".into(),
            time_zone: "America/Chicago".into(),
            languages: vec!["es".into(), "en".into()],
            fiscal_year_start: FiscalYearStart { month: 4, day: 1 },
        }),
        CatalogEvent::FormatRaised { format: Format::new(2) },
    ]
}

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
        events: samples(),
    }
}

/// Compares with the file of that name, or writes it where that was asked for and it is missing.
fn check(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if std::env::var_os("SALDO_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, format!("{hex}\n")).expect("written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(hex, golden.trim(), "{name}");
}

#[test]
fn every_stored_event_version_stays_as_it_is() {
    for event in samples().into_iter().chain(contacts()) {
        let stored = encode_event(&event);
        let suffix = match &event {
            Event::PaymentReversed { lines, .. } if lines[0].rung.is_some() => ".on-the-ladder",
            _ => "",
        };
        let name = format!("{}.v{}{suffix}", stored.r#type, stored.version);
        check(&name, &stored.body);
        assert_eq!(decode_event(&stored), Ok(event), "{name}");
    }
    for event in published() {
        let stored = StoredEvent::encode(&event);
        let name = format!("{}.v{}", stored.r#type, stored.version);
        check(&name, &stored.body);
        assert_eq!(CatalogEvent::format_of(&stored), Some(event.format()), "{name}");
        assert_eq!(CatalogEvent::decode(&stored), Ok(event), "{name}");
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

#[test]
fn a_newer_version_is_never_guessed() {
    let mut stored = encode_event(&samples()[2]);
    stored.version = 2;
    assert!(matches!(decode_event(&stored), Err(DecodeError::UnknownVersion { version: 2, .. })));
    stored.version = 1;
    stored.r#type = "invoice.sung".into();
    assert!(matches!(decode_event(&stored), Err(DecodeError::UnknownVersion { .. })));
}

#[test]
fn a_reader_of_an_older_format_does_not_know_its_newer_facts() {
    for event in published() {
        let stored = StoredEvent::encode(&event);
        let read = CatalogEvent::decode_as(Format::FIRST, &stored);
        match event.format() {
            Format::FIRST => assert_eq!(read, Ok(event)),
            _ => assert!(matches!(read, Err(DecodeError::UnknownVersion { .. })), "{}", stored.r#type),
        }
    }
    for event in samples().into_iter().chain(contacts()).filter(|event| event.format() == Format::FIRST) {
        assert_eq!(Event::decode_as(Format::FIRST, &StoredEvent::encode(&event)), Ok(event));
    }
}

#[test]
fn damaged_bytes_are_malformed() {
    for event in samples().into_iter().chain(contacts()) {
        let mut stored = encode_event(&event);
        stored.body.truncate(stored.body.len() - 1);
        assert!(matches!(decode_event(&stored), Err(DecodeError::Malformed { .. })), "{}", stored.r#type);
    }
}

/// Far below a commit's 900,000 bytes, so that a message's bytes, or two such events, have room beside it.
#[test]
fn a_contact_about_all_that_one_can_list_is_small() {
    let number = DocumentNumber::new("N".repeat(64)).expect("a number");
    for event in contacts() {
        let event = match event {
            Event::ReminderDue { reminder, saying, takes, retry_of } => {
                let takes = vec![ItemStep { invoice: number.clone(), ..takes[0].clone() }; MAX_LISTED];
                Event::ReminderDue { reminder, saying, takes, retry_of }
            }
            Event::ContactStarted(mut started) => {
                let item = ListedItem { invoice: number.clone(), open: 999_999_999_999, ..started.items[0].clone() };
                started.items = vec![item; MAX_LISTED];
                Event::ContactStarted(started)
            }
            other => other,
        };
        assert!(encode_event(&event).body.len() < 120_000, "{}", event_type(&event));
    }
}
