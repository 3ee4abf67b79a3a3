//! A policy's files are read, or their faults are named. An account can go through the ladder of a policy without fault: each
//! contact is within the policy's budget, and the tones never get milder.
//!
//! Input: `policy.toml`, then the name and text of each template, parted by NUL.
#![no_main]

use jiff::{Timestamp, civil::date};
use libfuzzer_sys::fuzz_target;
use saldo_catalog::{Published, Source, sources::POLICY, zone};
use saldo_domain::{
    Context, Rules,
    account::Account,
    dunning::preview::preview,
    event::Event,
    evolve,
    ids::DocumentNumber,
    money::{Currency, Money},
    ledger::{self, Instalment, InvoiceIssued},
    party::{self, AccountOpened, Channel, ContactPoint, DebtorKind, Profile},
    sealed::Sealed,
};
use saldo_templates::{Language, samples};

const MOST: usize = 30;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.split('\0').map(str::to_owned);
    let mut sources = vec![Source { name: POLICY.into(), text: parts.next().unwrap_or_default() }];
    while let (Some(name), Some(text)) = (parts.next(), parts.next()) {
        sources.push(Source { name: format!("templates/{name}.toml"), text });
    }
    let (published, faults) = Published::read(&sources);
    // The fold of the catalog reads them again, and must not find them otherwise.
    assert_eq!(Published::read(&sources), (published.clone(), faults.clone()));
    let Some(published) = published.filter(|_| faults.is_empty()) else { return };
    for template in &published.templates {
        let language = Language::parse(&template.language).expect("a language that was found sound");
        for letter in samples(language) {
            template.render(&letter).expect("a template that was found sound");
        }
    }
    let rules = Rules { languages: published.languages(), policy: Some(published.policy), sending: true, ..Rules::default() };
    let now: Timestamp = "2026-03-02T08:00:00Z".parse().expect("an instant");
    let planned = preview(&account(), &Context { now, rules: &rules, zones: zone }, MOST);
    assert!(planned.len() <= MOST);
    assert!(planned.is_sorted_by_key(|contact| contact.at), "time goes back");
});

/// Two invoices, one long overdue and one to come.
fn account() -> Account {
    let sealed = || Sealed(vec![1; 8]);
    let mut account = Account::default();
    let point = ContactPoint { channel: Channel::Email, address: sealed(), digest: [7; 32] };
    evolve(
        &mut account,
        &Event::Party(party::Fact::AccountOpened(AccountOpened(Profile {
            display_name: sealed(),
            kind: DebtorKind::Consumer,
            language: "es".into(),
            time_zone: "Europe/Madrid".into(),
            country: "ES".into(),
            contact_points: vec![point],
        }))),
    );
    let currency = Currency::new("EUR").expect("EUR");
    for (number, due_date) in [("F-1", date(2025, 12, 1)), ("F-2", date(2026, 3, 20))] {
        evolve(
            &mut account,
            &Event::Ledger(ledger::Fact::InvoiceIssued(InvoiceIssued {
                number: DocumentNumber::new(number).expect("a number"),
                total: Money::positive(1_000, currency).expect("an amount"),
                issue_date: date(2025, 11, 1),
                instalments: vec![Instalment { number: 1, due_date, amount: 1_000 }],
                description: None,
            })),
        );
    }
    account
}
