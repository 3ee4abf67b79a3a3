//! Amounts and days as people of a language write them.

use jiff::civil::Date;
use saldo_domain::money::{Currency, format_minor};

/// A language that messages can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Spanish.
    Spanish,
    /// English.
    English,
}

const SPANISH: [&str; 12] = [
    "enero",
    "febrero",
    "marzo",
    "abril",
    "mayo",
    "junio",
    "julio",
    "agosto",
    "septiembre",
    "octubre",
    "noviembre",
    "diciembre",
];
const ENGLISH: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

impl Language {
    /// ISO 639-1 codes of them all.
    pub const NAMES: [&'static str; 2] = ["es", "en"];

    /// The language of an ISO 639-1 code.
    pub fn parse(code: &str) -> Option<Self> {
        match code {
            "es" => Some(Self::Spanish),
            "en" => Some(Self::English),
            _ => None,
        }
    }
}

/// `31 de octubre de 2026`, `31 October 2026`.
pub fn day(date: Date, language: Language) -> String {
    let month = usize::from(date.month().unsigned_abs()) - 1;
    match language {
        Language::Spanish => format!("{} de {} de {}", date.day(), SPANISH[month], date.year()),
        Language::English => format!("{} {} {}", date.day(), ENGLISH[month], date.year()),
    }
}

/// `-1.234,50 EUR`, `-1,234.50 EUR`: minor units in major ones, thousands in groups.
pub fn amount(minor: i64, currency: Currency, language: Language) -> String {
    let plain = format_minor(minor, currency);
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain.as_str()), |digits| ("-", digits));
    let (major, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (group, decimal) = match language {
        Language::Spanish => ('.', ','),
        Language::English => (',', '.'),
    };
    let mut text = sign.to_owned();
    for (at, digit) in major.chars().enumerate() {
        if at > 0 && (major.len() - at) % 3 == 0 {
            text.push(group);
        }
        text.push(digit);
    }
    if !fraction.is_empty() {
        text.push(decimal);
        text.push_str(fraction);
    }
    format!("{text} {currency}")
}
