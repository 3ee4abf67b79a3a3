//! What a template can speak of: the debtor, the creditor, and every open item by currency.

use jiff::{ToSpan, civil::Date};
use saldo_domain::{dunning::Tone, money::Currency};
use serde::Serialize;

use crate::words::{Language, amount, day};

/// One message's content. Amounts and days are text in the letter's language already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Letter {
    /// Who owes.
    pub debtor: Party,
    /// Who is owed.
    pub creditor: Party,
    /// How to pay.
    pub payment: String,
    /// The debtor's account with the creditor.
    pub account: String,
    /// The step's name.
    pub step: String,
    /// The step's tone.
    pub tone: Tone,
    /// The day it is written.
    pub today: String,
    /// What is open, oldest due first.
    pub items: Vec<Line>,
    /// How many open items there are beyond these.
    pub more: u32,
    /// Sums by currency.
    pub totals: Vec<Total>,
    /// Whether anything is past due.
    pub overdue: bool,
}

/// The names that [`Letter`] has, with those of its parts that are not in lists.
pub(crate) const VARIABLES: [&str; 15] = [
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

/// A name and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Party {
    /// As it wants to be called.
    pub name: String,
    /// Its e-mail address.
    pub email: String,
}

/// An open item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The invoice's number.
    pub document: String,
    /// The instalment's number, from 1.
    pub instalment: u32,
    /// The day it falls due.
    pub due: String,
    /// Days past due; 0 or less is not due.
    pub days: i64,
    /// What is left.
    pub open: String,
}

/// The sums of one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Total {
    /// ISO 4217.
    pub currency: String,
    /// All that is open.
    pub open: String,
    /// What of it is past due.
    pub overdue: String,
    /// What stands in the debtor's favour and is not applied yet; absent where nothing does.
    pub credit: Option<String>,
    /// What is open less what is not applied yet.
    pub balance: String,
}

/// Letters of every kind that a template meets: before the due date and after it, one item and many, one currency and
/// two, names with everything that needs escaping.
pub fn samples(language: Language) -> Vec<Letter> {
    let today = Date::constant(2026, 3, 2);
    let currencies: Vec<Currency> = ["EUR", "USD"].iter().filter_map(|code| Currency::new(code).ok()).collect();
    let letter = |tone, name: &str, items: &[(i64, i64, usize)]| {
        let of = |index: &usize| currencies.get(*index).copied();
        let lines = items.iter().enumerate().filter_map(|(number, (days, minor, index))| {
            let due = today.checked_sub(days.days()).unwrap_or(today);
            Some(Line {
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
            // The letter of several items has something in the debtor's favour.
            let credit = if items.len() == 3 { 5_000 } else { 0 };
            (open != 0).then(|| Total {
                currency: currency.to_string(),
                open: amount(open, *currency, language),
                overdue: amount(overdue, *currency, language),
                credit: (credit != 0).then(|| amount(credit, *currency, language)),
                balance: amount(open - credit, *currency, language),
            })
        });
        Letter {
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
        letter(Tone::Friendly, "Ana Gil", &[(-3, 123_450, 0)]),
        letter(Tone::Friendly, "Ana Gil", &[(0, 123_450, 0)]),
        letter(Tone::Firm, "Muñoz & <Hijos> \"S.A.\"", &[(15, 123_450, 0), (2, 99, 1), (-5, 100_000_000, 0)]),
        letter(Tone::Formal, "O'Neil", &many),
    ]
}
