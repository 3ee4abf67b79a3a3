//! Messages from snapshots, by the templates of the documentation.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use saldo_catalog::{Published, Source, tenant::Unreadable};
use saldo_channels::{LastLook, Outcome, RenderError, RouteFailure};
use saldo_domain::{Rules, party::Channel};

use super::*;

const POLICY: &str = r#"
[sender]
name = "Ejemplo, S.L."
email = "cobros@example.com"
payment = "IBAN ES91 2100 0418 4502 0005 1332"
language = "es"

[contact]
min_distance_days = 3
max_per_day = 1
max_per_week = 2
backoff_minutes = [15]

[[contact.window]]
days = ["mon"]
from = "09:00"
to = "20:00"

[[step]]
name = "first-reminder"
offset_days = 7
tone = "friendly"
channel = "email"
template = "first-reminder"
"#;

const FILES: [(&str, &str); 3] = [
    ("policy.toml", POLICY),
    ("templates/first-reminder.es.toml", include_str!("../../../../docs/policy/templates/first-reminder.es.toml")),
    ("templates/first-reminder.en.toml", include_str!("../../../../docs/policy/templates/first-reminder.en.toml")),
];

fn catalog() -> TenantCatalog {
    let sources = FILES.map(|(name, text)| Source { name: name.to_owned(), text: text.to_owned() });
    let (published, faults) = Published::read(&sources);
    let published = published.unwrap_or_else(|| panic!("{faults:?}"));
    let named = published.templates.into_iter().map(|one| ((one.name.clone(), one.language.clone()), one));
    TenantCatalog {
        version: 4,
        templates: Arc::new(named.collect()),
        rules: Arc::new(Rules { policy: Some(published.policy), ..Rules::default() }),
        ..TenantCatalog::default()
    }
}

fn job() -> Job {
    Job { tenant: "acme".into(), account: "D-0042".into(), reminder: 3, version: 9, trace: None }
}

/// Takes the text of a template as it is.
struct Plain;

impl Transport for Plain {
    fn channel(&self) -> Channel {
        Channel::Sms
    }

    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    fn capacity(&self) -> usize {
        64
    }

    fn reach<'t>(&'t self, _: Option<&'t str>) -> BoxFuture<'t, Result<(), RouteFailure>> {
        Box::pin(async { Ok(()) })
    }

    fn render(&self, draft: &Draft<'_>) -> Result<Message, RenderError> {
        let text = draft.template.render(draft.variables).map_err(|error| RenderError(error.to_string()))?.text;
        Ok(Message {
            id: draft.id.to_owned(),
            from: draft.sender.name.clone(),
            to: draft.address.to_owned(),
            media_type: "text/plain",
            content: text.into_bytes(),
        })
    }

    fn hand_over<'t>(&'t self, _: &'t Message, _: LastLook) -> BoxFuture<'t, Outcome> {
        Box::pin(async { Outcome::Withdrawn })
    }
}

fn render(
    job: &Job,
    snapshot: &ContactSnapshot,
    policy_version: u64,
    catalog: &TenantCatalog,
) -> Result<Message, NoMessage> {
    message(job, snapshot, policy_version, catalog, &Plain)
}

fn day_of(year: i32, month: i32, day: i32) -> Option<v1::Date> {
    Some(v1::Date { year, month, day })
}

fn item(number: &str, currency: &str, due_date: Option<v1::Date>, open_minor: i64) -> v1::ListedItem {
    let (invoice_number, currency) = (number.to_owned(), currency.to_owned());
    v1::ListedItem { invoice_number, instalment: 1, currency, due_date, open_minor, takes_offset_days: None }
}

fn snapshot(language: &str) -> ContactSnapshot {
    ContactSnapshot {
        claim: vec![7; 16],
        saying: Some(v1::Saying {
            step: "first-reminder".into(),
            tone: v1::Tone::Friendly.into(),
            channel: v1::Channel::Email.into(),
            template: "first-reminder".into(),
        }),
        language: language.to_owned(),
        name: "Muñoz & Hijos".into(),
        address: "ana@example.com".into(),
        day: day_of(2026, 3, 2),
        items: vec![
            item("F-1", "EUR", day_of(2026, 2, 15), 123_450),
            item("F-2", "USD", day_of(2026, 3, 1), 99),
            item("F-3", "EUR", day_of(2026, 3, 7), 100_000),
        ],
        at: Some(saldo_api::Timestamp { seconds: 1_772_442_000, nanos: 0 }),
        send_before: None,
        unlisted: Vec::new(),
        unapplied: vec![v1::Money { minor_units: 5_000, currency: "EUR".into() }],
        stamp: Some(v1::MessageStamp {
            id: "1bb23c2c@example.com".into(),
            at: Some(saldo_api::Timestamp { seconds: 1_772_442_000, nanos: 0 }),
            day: day_of(2026, 3, 2),
        }),
    }
}

fn variables_of(language: &str) -> Variables {
    let (snapshot, catalog) = (snapshot(language), catalog());
    let (notice, policy) = (snapshot.saying.as_ref().expect("saying"), catalog.rules.policy.as_ref().expect("policy"));
    variables("D-0042", &snapshot, notice, Language::parse(language).expect("language"), &policy.sender)
        .expect("variables")
}

#[test]
fn amounts_and_days_are_written_as_the_language_does() {
    let spanish = variables_of("es");
    assert_eq!(spanish.today, "2 de marzo de 2026");
    let lines: Vec<_> = spanish.items.iter().map(|item| (item.due.as_str(), item.days, item.open.as_str())).collect();
    assert_eq!(
        lines,
        [
            ("15 de febrero de 2026", 15, "1.234,50 EUR"),
            ("1 de marzo de 2026", 1, "0,99 USD"),
            ("7 de marzo de 2026", -5, "1.000,00 EUR")
        ]
    );
    let english = variables_of("en");
    assert_eq!((english.today.as_str(), english.items[0].open.as_str()), ("2 March 2026", "1,234.50 EUR"));
}

#[test]
fn totals_are_by_currency_and_only_what_is_past_due_is_overdue() {
    let variables = variables_of("en");
    let totals: Vec<_> = variables.totals.iter().map(|one| (one.open.as_str(), one.overdue.as_str())).collect();
    assert_eq!(totals, [("2,234.50 EUR", "1,234.50 EUR"), ("0.99 USD", "0.99 USD")]);
    assert!(variables.overdue);
}

#[test]
fn u15_a_message_with_the_same_stamp_is_the_same_on_a_later_day() {
    let (catalog, snapshot) = (catalog(), snapshot("es"));
    let first = render(&job(), &snapshot, 4, &catalog).expect("a message");
    let later = ContactSnapshot {
        at: Some(saldo_api::Timestamp { seconds: 1_772_901_000, nanos: 0 }),
        day: day_of(2026, 3, 7),
        ..snapshot
    };
    let again = Job { reminder: 4, version: 12, ..job() };
    assert_eq!(render(&again, &later, 4, &catalog).expect("a message"), first);
    assert_eq!(first.id, "1bb23c2c");
}

#[test]
fn the_message_speaks_to_the_debtor_in_the_creditors_name() {
    let message = render(&job(), &snapshot("en"), 4, &catalog()).expect("a message");
    assert_eq!((message.from.as_str(), message.to.as_str()), ("Ejemplo, S.L.", "ana@example.com"));
    let text = String::from_utf8(message.content).expect("text");
    for part in ["Muñoz & Hijos", "1,234.50 EUR", "F-3"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn what_cannot_be_written_is_final_and_names_nobody() {
    let final_word = |snapshot: ContactSnapshot| match render(&job(), &snapshot, 4, &catalog()) {
        Err(NoMessage::Final(why)) => why,
        other => panic!("{other:?}"),
    };
    let good = snapshot("es");
    for wrong in [
        ContactSnapshot { address: String::new(), ..good.clone() },
        ContactSnapshot { name: String::new(), ..good.clone() },
        ContactSnapshot { language: "fr".into(), ..good.clone() },
        ContactSnapshot { saying: None, ..good.clone() },
        ContactSnapshot { stamp: None, ..good.clone() },
        ContactSnapshot {
            stamp: good.stamp.clone().map(|stamp| v1::MessageStamp { day: day_of(2026, 2, 30), ..stamp }),
            ..good.clone()
        },
        ContactSnapshot {
            stamp: good.stamp.clone().map(|stamp| v1::MessageStamp { at: None, ..stamp }),
            ..good.clone()
        },
        ContactSnapshot { items: vec![item("F-1", "EUR", None, 1)], ..good.clone() },
        ContactSnapshot { items: vec![item("F-1", "EUR", day_of(2026, 1, 1), i64::MAX); 2], ..good.clone() },
    ] {
        let why = final_word(wrong);
        assert!(!why.is_empty() && !why.contains("ana") && !why.contains("Muñoz"), "{why}");
    }
}

#[test]
fn a_template_that_is_gone_since_is_tried_again_under_the_new_policy() {
    let replaced = TenantCatalog { templates: Arc::default(), version: 5, ..catalog() };
    let outcome = render(&job(), &snapshot("es"), 4, &replaced);
    assert!(matches!(outcome, Err(NoMessage::NotNow(_))), "{outcome:?}");
    let parked = TenantCatalog { unreadable: Unreadable::by_fact("?"), ..catalog() };
    assert!(matches!(render(&job(), &snapshot("es"), 4, &parked), Err(NoMessage::NotNow(_))));
}

#[test]
fn what_stands_in_the_debtors_favour_is_said() {
    let variables = variables_of("en");
    let told: Vec<_> = variables.totals.iter().map(|total| (total.credit.as_deref(), total.balance.as_str())).collect();
    assert_eq!(told, [(Some("50.00 EUR"), "2,184.50 EUR"), (None, "0.99 USD")]);
}

#[test]
fn what_is_not_listed_is_counted_and_summed_up() {
    let (mut snapshot, catalog) = (snapshot("en"), catalog());
    snapshot.unlisted.push(v1::UnlistedItems {
        currency: "EUR".into(),
        items: 3,
        open_minor: 1_000,
        overdue_minor: 400,
    });
    let (notice, policy) = (snapshot.saying.as_ref().expect("saying"), catalog.rules.policy.as_ref().expect("policy"));
    let variables = variables("D-0042", &snapshot, notice, Language::English, &policy.sender).expect("variables");
    let eur = variables.totals.iter().find(|total| total.currency == "EUR").expect("euros");
    assert_eq!((variables.more, eur.open.as_str(), eur.overdue.as_str()), (3, "2,244.50 EUR", "1,238.50 EUR"));
}
