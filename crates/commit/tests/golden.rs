//! Every stored event version, byte for byte: old history must always decode. A new version gets a new file; a file is
//! never changed. `SALDO_WRITE_GOLDEN=1` writes the missing ones.

use std::path::PathBuf;

use jiff::civil::Date;
use prost::Message;
use saldo_api::v1;
use saldo_commit::{DecodeError, decode_event, encode_event};
use saldo_domain::{
    event::{AllocatedBy, AllocationLine, Event, Instalment},
    ids::DocumentNumber,
    money::{Currency, Money},
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

#[test]
fn every_stored_event_version_stays_as_it_is() {
    for event in samples() {
        let stored = encode_event(&event);
        let name = format!("{}.v{}.hex", stored.r#type, stored.version);
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(&name);
        let hex: String = stored.body.iter().map(|byte| format!("{byte:02x}")).collect();
        if std::env::var_os("SALDO_WRITE_GOLDEN").is_some() && !path.exists() {
            std::fs::write(&path, format!("{hex}\n")).expect("written");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(hex, golden.trim(), "{name}");
        assert_eq!(decode_event(&stored), Ok(event), "{name}");
    }
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
fn damaged_bytes_are_malformed() {
    for event in samples() {
        let mut stored = encode_event(&event);
        stored.body.truncate(stored.body.len() - 1);
        assert!(matches!(decode_event(&stored), Err(DecodeError::Malformed { .. })), "{}", stored.r#type);
    }
}
