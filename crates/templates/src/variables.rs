//! The variables that a template may use: the debtor, the creditor, and every open item by currency.

use jiff::{ToSpan, civil::Date};
use saldo_domain::{dunning::Tone, money::Currency};
use serde::Serialize;

use crate::words::{Language, amount, day};

/// The values for one message. Amounts and days are text in the message's language already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Variables {
    /// The debtor.
    pub debtor: Party,
    /// The creditor.
    pub creditor: Party,
    /// How to pay.
    pub payment: String,
    /// The id of the debtor's account.
    pub account: String,
    /// The step's name.
    pub step: String,
    /// The step's tone.
    pub tone: Tone,
    /// The day the message is written.
    pub today: String,
    /// The open items, oldest due first.
    pub items: Vec<Item>,
    /// How many more open items there are.
    pub more: u32,
    /// Sums by currency.
    pub totals: Vec<Total>,
    /// Whether anything is past due.
    pub overdue: bool,
}

/// The names of all [`Variables`], with the fields of those that are no lists.
pub(crate) const NAMES: [&str; 15] = [
    "debtor",
    "debtor.name",
    "debtor.email",
    "creditor",
    "creditor.name",
    "creditor.email",
    "payment",
    "account",
    "step",
    "tone",
    "today",
    "items",
    "more",
    "totals",
    "overdue",
];

/// The sender or the recipient of the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Party {
    /// The name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
}

/// An open item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The invoice's number.
    pub document: String,
    /// The instalment's number, from 1.
    pub instalment: u32,
    /// The day it falls due.
    pub due: String,
    /// Days past due; 0 or less is not due.
    pub days: i64,
    /// The unpaid rest.
    pub open: String,
}

/// The sums of one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Total {
    /// ISO 4217.
    pub currency: String,
    /// All open items.
    pub open: String,
    /// The overdue part of these.
    pub overdue: String,
    /// Payments and credits that are not applied to an item yet; absent where there are none.
    pub credit: Option<String>,
    /// The open items less these payments and credits.
    pub balance: String,
}

/// Values of every kind that a template meets: before the due date and after it, one item and many, one currency and two,
/// names with every character that needs escaping.
pub fn samples(language: Language) -> Vec<Variables> {
    let today = Date::constant(2026, 3, 2);
    let currencies: Vec<Currency> = ["EUR", "USD"].iter().filter_map(|code| Currency::new(code).ok()).collect();
    let sample = |tone, name: &str, items: &[(i64, i64, usize)]| {
        let of = |index: &usize| currencies.get(*index).copied();
        let lines = items.iter().enumerate().filter_map(|(number, (days, minor, index))| {
            let due = today.checked_sub(days.days()).unwrap_or(today);
            Some(Item {
                document: format!("F-2026/{:03}", number + 1),
                instalment: 1,
                due: day(due, language),
                days: *days,
                open: amount(*minor, of(index)?, language),
            })
        });
        let totals = currencies.iter().enumerate().filter_map(|(index, currency)| {
            let sum = |past: bool| -> i64 {
                let mine = items.iter().filter(|(days, _, of)| *of == index && (!past || *days > 0));
                mine.map(|(_, minor, _)| minor).sum()
            };
            let (open, overdue) = (sum(false), sum(true));
            // The sample with three items has something in the debtor's favour.
            let credit = if items.len() == 3 { 5_000 } else { 0 };
            (open != 0).then(|| Total {
                currency: currency.to_string(),
                open: amount(open, *currency, language),
                overdue: amount(overdue, *currency, language),
                credit: (credit != 0).then(|| amount(credit, *currency, language)),
                balance: amount(open - credit, *currency, language),
            })
        });
        Variables {
            debtor: Party { name: name.to_owned(), email: "ana@example.com".to_owned() },
            creditor: Party { name: "Ejemplo, S.L.".to_owned(), email: "cobros@example.com".to_owned() },
            payment: "IBAN ES91 2100 0418 4502 0005 1332".to_owned(),
            account: "D-0042".to_owned(),
            step: "sample".to_owned(),
            tone,
            today: day(today, language),
            items: lines.collect(),
            more: if items.len() > 100 { 7 } else { 0 },
            totals: totals.collect(),
            overdue: items.iter().any(|(days, ..)| *days > 0),
        }
    };
    let many: Vec<(i64, i64, usize)> = (0..200).map(|n| (n - 20, 1_000 + n, 0)).collect();
    vec![
        sample(Tone::Friendly, "Ana Gil", &[(-3, 123_450, 0)]),
        sample(Tone::Friendly, "Ana Gil", &[(0, 123_450, 0)]),
        sample(Tone::Firm, "Muñoz & <Hijos> \"S.A.\"", &[(15, 123_450, 0), (2, 99, 1), (-5, 100_000_000, 0)]),
        sample(Tone::Formal, "O'Neil", &many),
    ]
}
