//! A small made-up portfolio. It is the same in every run, except for the dates, which lie around today.

use jiff::{ToSpan, civil::Date};
use saldo_api::FieldMask;
use saldo_api::v1;
use saldo_facts::{date_from_api, date_to_api};

pub const ACCOUNTS: u32 = 24;
const FIRST: [&str; 8] =
    ["Talleres", "Panadería", "Imprenta", "Viveros", "Muebles", "Ferretería", "Bodegas", "Librería"];
const LAST: [&str; 6] = ["del Norte", "Sol", "Miramar", "Ríos", "La Vega", "Castaño"];

/// A command of the portfolio. The steps of one account must be sent in their order.
#[derive(Debug, Clone)]
pub enum Step {
    Open(v1::OpenAccountRequest),
    Invoice(v1::IssueInvoiceRequest),
    Credit(v1::CreditInvoiceRequest),
    Pay(v1::RecordPaymentRequest),
    Reverse(v1::ReversePaymentRequest),
    /// Amends the profile, on a day.
    Amend(v1::AmendAccountRequest, Date),
}

impl Step {
    pub fn account_id(&self) -> &str {
        match self {
            Step::Open(request) => &request.account_id,
            Step::Invoice(request) => &request.account_id,
            Step::Credit(request) => &request.account_id,
            Step::Pay(request) => &request.account_id,
            Step::Reverse(request) => &request.account_id,
            Step::Amend(request, _) => &request.account_id,
        }
    }

    /// `None` for an opening, which comes before every other step.
    pub fn day(&self) -> Option<Date> {
        let day = match self {
            Step::Open(_) => None,
            Step::Invoice(request) => request.issue_date,
            Step::Credit(request) => request.credit_date,
            Step::Pay(request) => request.value_date,
            Step::Reverse(request) => request.reversal_date,
            Step::Amend(_, day) => return Some(*day),
        };
        day.and_then(date_from_api)
    }
}

/// The account whose e-mail address is missing for some weeks, so that a reminder is withheld.
pub const UNREACHABLE: u32 = 7;

pub fn accounts(today: Date) -> Vec<Vec<Step>> {
    (1..=ACCOUNTS).map(|number| account(number, today)).collect()
}

pub fn id(number: u32) -> String {
    format!("D-{number:04}")
}

pub fn address(number: u32) -> String {
    format!("cuentas{number}@example.com")
}

fn account(number: u32, today: Date) -> Vec<Step> {
    let account_id = id(number);
    let request = |name: &str| format!("demo-{account_id}-{name}");
    let spanish = !number.is_multiple_of(3);
    let (language, zone, country, currency) =
        if spanish { ("es", "Europe/Madrid", "ES", "EUR") } else { ("en", "Europe/London", "GB", "GBP") };
    let pick =
        |list: &[&str], step: u32| list.get((step as usize) % list.len()).copied().unwrap_or_default().to_owned();
    let mut steps = vec![Step::Open(v1::OpenAccountRequest {
        request_id: request("open"),
        account_id: account_id.clone(),
        profile: Some(v1::Profile {
            display_name: format!("{} {}", pick(&FIRST, number), pick(&LAST, number / 2)),
            kind: if number.is_multiple_of(5) { v1::DebtorKind::Consumer } else { v1::DebtorKind::Business }.into(),
            language: language.into(),
            time_zone: zone.into(),
            country: country.into(),
            contact_points: vec![v1::ContactPoint { channel: v1::Channel::Email.into(), address: address(number) }],
        }),
    })];
    for index in 0..(2 + number % 4) {
        let total = i64::from(12_500 + (number * 7_919 + index * 104_729) % 480_000);
        let money = |minor_units: i64| Some(v1::Money { minor_units, currency: currency.into() });
        let issued = back(today, 20 + (number * 13 + index * 37) % 150);
        let invoice = format!("F-{number:04}-{}", index + 1);
        let instalments = if (number + index).is_multiple_of(6) {
            let half = total / 2;
            vec![(30, half), (60, total - half)]
        } else {
            Vec::new()
        };
        let due_date = instalments.is_empty().then(|| date_to_api(forward(issued, 30)));
        steps.push(Step::Invoice(v1::IssueInvoiceRequest {
            request_id: request(&invoice),
            account_id: account_id.clone(),
            number: invoice.clone(),
            total: money(total),
            issue_date: Some(date_to_api(issued)),
            due_date,
            instalments: instalments
                .into_iter()
                .map(|(days, amount_minor)| v1::Instalment {
                    due_date: Some(date_to_api(forward(issued, days))),
                    amount_minor,
                })
                .collect(),
            description: String::new(),
        }));
        let paid = forward(issued, 25 + (number * index) % 40).min(today);
        let reference = format!("P-{number:04}-{}", index + 1);
        let pay = |amount: i64| {
            Step::Pay(v1::RecordPaymentRequest {
                request_id: request(&reference),
                account_id: account_id.clone(),
                reference: reference.clone(),
                amount: money(amount),
                value_date: Some(date_to_api(paid)),
                ..Default::default()
            })
        };
        match (number + index * 3) % 7 {
            0 | 1 => steps.push(pay(total)),
            2 => steps.push(pay(total / 3)),
            3 if index == 1 => steps.push(pay(total + 5_000)),
            4 if index == 0 => {
                steps.push(pay(total));
                steps.push(Step::Reverse(v1::ReversePaymentRequest {
                    request_id: request("reversal"),
                    account_id: account_id.clone(),
                    reference: reference.clone(),
                    reversal_date: Some(date_to_api(forward(paid, 3).min(today).max(paid))),
                    reason: "Recibo devuelto por el banco".into(),
                }));
            }
            5 if index == 1 => steps.push(Step::Credit(v1::CreditInvoiceRequest {
                request_id: request("credit"),
                account_id: account_id.clone(),
                credit_note_number: format!("A-{number:04}"),
                invoice_number: invoice.clone(),
                amount: money(total / 10),
                credit_date: Some(date_to_api(paid)),
                reason: "Género devuelto".into(),
            })),
            _ => {}
        }
    }
    if number == UNREACHABLE {
        let email = |points: Vec<v1::ContactPoint>, name: &str, day: Date| {
            let profile = Some(v1::Profile { contact_points: points, ..Default::default() });
            let update_mask = Some(FieldMask { paths: vec!["contact_points".into()] });
            let request = v1::AmendAccountRequest {
                request_id: request(name),
                account_id: account_id.clone(),
                profile,
                update_mask,
                ..Default::default()
            };
            Step::Amend(request, day)
        };
        let known = vec![v1::ContactPoint { channel: v1::Channel::Email.into(), address: address(number) }];
        steps.push(email(Vec::new(), "address-lost", back(today, 40)));
        steps.push(email(known, "address-found", back(today, 15)));
    }
    steps.sort_by_key(Step::day);
    steps
}

/// The portfolio's days stay far inside the calendar, so nothing saturates.
fn forward(day: Date, days: u32) -> Date {
    day.saturating_add(i64::from(days).days())
}

fn back(day: Date, days: u32) -> Date {
    day.saturating_sub(i64::from(days).days())
}
