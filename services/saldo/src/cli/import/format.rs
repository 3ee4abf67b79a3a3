//! The format of a file: how text becomes amounts and days, and how to say so to the person who wrote it.

use encoding_rs::Encoding;
use jiff::civil::Date;
use saldo_domain::money::{
    Currency, InvalidDecimal, InvalidMoney, MAX_AMOUNT_MINOR, Money, format_minor, parse_decimal,
};
use saldo_facts::{REQUEST_DAY_RULE, date_to_api, day_from_request};
use serde::Deserialize;

use super::{template::Template, text};

/// Delimiters that files have.
const DELIMITERS: [char; 4] = [';', ',', '\t', '|'];
/// Forms of days that files have, to name the likely one where a day cannot be read.
const DAYS: [&str; 8] = ["%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y%m%d", "%d.%m.%y", "%Y/%m/%d"];

/// How text becomes values.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    /// strftime, for example `%m/%d/%Y`.
    pub date: String,
    /// `.` or `,`.
    #[serde(default = "dot")]
    pub decimal: char,
    /// Between thousands; absent: no such character.
    pub group: Option<char>,
    /// Between columns.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// The file's encoding; absent: UTF-8, or as a byte order mark says.
    pub encoding: Option<String>,
    /// ISO 4217, or a template.
    pub currency: Template,
}

fn dot() -> char {
    '.'
}

fn comma() -> char {
    ','
}

/// Whether a day that was written in this format can be read back.
fn holds_a_day(format: &str) -> bool {
    let day = Date::constant(2026, 12, 31);
    let written = jiff::fmt::strtime::format(format, day);
    written.is_ok_and(|text| Date::strptime(format, text).is_ok_and(|read| read == day))
}

impl Format {
    /// Checks that rows can be read by this format at all.
    pub fn check(&self) -> Result<(), String> {
        let rules = [
            (holds_a_day(&self.date), "format.date must name year, month and day, for example %d.%m.%Y"),
            (matches!(self.decimal, '.' | ','), "format.decimal must be . or ,"),
            (self.group != Some(self.decimal), "format.group and format.decimal must not be the same"),
            (
                !self.group.is_some_and(|group| group.is_ascii_digit() || matches!(group, '-' | '+')),
                "format.group must not be a digit or a sign",
            ),
            (
                self.delimiter.is_ascii() && !matches!(self.delimiter, '"' | '\r' | '\n'),
                "format.delimiter must be an ASCII character other than a quote or a line break",
            ),
        ];
        if let Some((_, rule)) = rules.into_iter().find(|(kept, _)| !kept) {
            return Err(rule.to_owned());
        }
        self.encoding().map_err(|why| format!("format.encoding: {why}"))?;
        match self.currency.constant().map(Currency::new) {
            Some(Err(rule)) => Err(format!("format.currency {rule}")),
            _ => Ok(()),
        }
    }

    pub fn encoding(&self) -> Result<Option<&'static Encoding>, String> {
        self.encoding.as_deref().map(text::encoding).transpose()
    }

    /// An amount in minor units, or what is wrong with the text.
    pub fn amount(&self, text: &str, currency: Currency) -> Result<i64, String> {
        let minor = parse_decimal(text, self.decimal, self.group, currency).map_err(|rule| match rule {
            InvalidDecimal::NotANumber => {
                format!("must be a number such as {}{}", self.example(currency), self.other_separators(text, currency))
            }
            InvalidDecimal::TooManyDecimals { .. } => {
                format!("{rule}, such as {}{}", self.example(currency), self.other_separators(text, currency))
            }
            InvalidDecimal::TooLarge => rule.to_string(),
        })?;
        Ok(minor)
    }

    /// The same, above zero and within the limit of one document.
    pub fn positive(&self, text: &str, currency: Currency) -> Result<i64, String> {
        self.money(self.amount(text, currency)?, currency).map(|money| money.minor)
    }

    /// The amount of a document, or the rule that it breaks.
    pub fn money(&self, minor: i64, currency: Currency) -> Result<Money, String> {
        Money::positive(minor, currency).map_err(|rule| match rule {
            InvalidMoney::TooLarge => format!("must be at most {}", self.write(MAX_AMOUNT_MINOR, currency)),
            rule => rule.to_string(),
        })
    }

    /// A day, or what is wrong with the text.
    pub fn day(&self, text: &str) -> Result<Date, String> {
        let day = Date::strptime(&self.date, text).map_err(|_| {
            let likely = DAYS.iter().find(|form| **form != self.date && Date::strptime(form, text).is_ok());
            let hint =
                likely.map(|form| format!("; it looks like {form}, which would be format.date")).unwrap_or_default();
            let example = jiff::fmt::strtime::format(&self.date, Date::constant(2026, 12, 31)).unwrap_or_default();
            format!("must be a date such as {example}{hint}")
        })?;
        day_from_request(date_to_api(day)).ok_or_else(|| REQUEST_DAY_RULE.to_owned())
    }

    /// An amount as the file should write it.
    fn example(&self, currency: Currency) -> String {
        match currency.decimals() {
            0 => self.write(1234, currency),
            decimals => self.write(12345 * 10_i64.saturating_pow(decimals - 1), currency),
        }
    }

    /// An amount as the file writes it.
    pub fn write(&self, minor: i64, currency: Currency) -> String {
        let plain = format_minor(minor, currency);
        let (sign, digits) = plain.strip_prefix('-').map_or(("", plain.as_str()), |digits| ("-", digits));
        let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, part)| (whole, Some(part)));
        let mut text = sign.to_owned();
        for (index, digit) in whole.chars().enumerate() {
            if index > 0 && (whole.len() - index) % 3 == 0 {
                text.extend(self.group);
            }
            text.push(digit);
        }
        if let Some(fraction) = fraction {
            text.push(self.decimal);
            text.push_str(fraction);
        }
        text
    }

    /// A hint where the text is an amount with other separators.
    fn other_separators(&self, text: &str, currency: Currency) -> String {
        let forms = [('.', None), (',', None), ('.', Some(',')), (',', Some('.')), ('.', Some(' ')), (',', Some(' '))];
        let fits = |(decimal, group): &(char, Option<char>)| {
            (*decimal, *group) != (self.decimal, self.group) && parse_decimal(text, *decimal, *group, currency).is_ok()
        };
        match forms.into_iter().find(fits) {
            Some((decimal, Some(group))) => {
                format!("; does the file have format.decimal = {decimal:?} and format.group = {group:?}?")
            }
            Some((decimal, None)) => format!("; does the file have format.decimal = {decimal:?}?"),
            None => String::new(),
        }
    }

    /// A hint where the columns stand between other delimiters.
    pub fn other_delimiter(&self, column: &str, present: &[String]) -> String {
        let header = present.join(&self.delimiter.to_string());
        let divides = |other: &char| header.split(*other).any(|name| name.trim().trim_matches('"') == column);
        match DELIMITERS.iter().find(|other| **other != self.delimiter && divides(other)) {
            Some(other) => format!("; the columns stand between {other:?}, which would be format.delimiter"),
            None if present.len() == 1 => "; does format.delimiter fit the file?".to_owned(),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn format(decimal: char, group: Option<char>, date: &str) -> Format {
        Format {
            date: date.to_owned(),
            decimal,
            group,
            delimiter: ';',
            encoding: None,
            currency: Template::try_from("EUR".to_owned()).expect("valid"),
        }
    }

    fn eur() -> Currency {
        Currency::new("EUR").expect("known")
    }

    #[test]
    fn an_amount_that_is_none_is_answered_in_the_format_of_the_file_with_the_likely_cause() {
        let german = format(',', Some('.'), "%d.%m.%Y");
        let plain = format('.', None, "%F");
        for (format, text, answer) in [
            (&german, "12x", "must be a number such as 1.234,50"),
            (&german, "1,234.50", "such as 1.234,50; does the file have format.decimal = '.' and format.group = ','?"),
            (&german, "99.5", "such as 1.234,50; does the file have format.decimal = '.'?"),
            (&german, "-5", "must be greater than zero"),
            (&german, "1.000.000.000.000,01", "must be at most 1.000.000.000.000,00"),
            (
                &plain,
                "1.234",
                "at most 2 decimals in EUR, such as 1234.50; does the file have format.decimal = ',' and format.group = '.'?",
            ),
            (&plain, "12,50", "such as 1234.50; does the file have format.decimal = ','?"),
        ] {
            let why = format.positive(text, eur()).expect_err(text);
            assert!(why.contains(answer), "{text}: {why}");
        }
        assert_eq!(german.positive("1.234,5", eur()), Ok(123_450));
    }

    #[test]
    fn a_day_of_another_form_is_answered_with_the_form_that_it_has() {
        let german = format(',', None, "%d.%m.%Y");
        assert_eq!(
            german.day("2026-03-01").expect_err("other"),
            "must be a date such as 31.12.2026; it looks like %Y-%m-%d, which would be format.date"
        );
        assert_eq!(german.day("31.02.2026").expect_err("no day"), "must be a date such as 31.12.2026");
        assert!(german.day("01.03.0026").expect_err("too early").contains("1900"), "a mistyped year");
    }

    #[test]
    fn a_wrong_delimiter_is_answered_with_the_one_that_divides() {
        let format = format(',', None, "%F");
        let hint = format.other_delimiter("no", &["customer,no,amount".to_owned()]);
        assert!(hint.contains("','") && hint.contains("format.delimiter"), "{hint}");
        assert_eq!(format.other_delimiter("no", &["a".into(), "b".into()]), "");
    }

    proptest! {
        #[test]
        fn an_amount_is_read_as_it_is_written(
            minor in -10_000_000_000_i64..10_000_000_000,
            code in prop::sample::select(vec!["EUR", "JPY", "KWD"]),
            separators in prop::sample::select(vec![('.', None), (',', Some('.')), ('.', Some(',')), (',', Some('\u{a0}'))]),
        ) {
            let (format, currency) = (format(separators.0, separators.1, "%F"), Currency::new(code).expect("known"));
            prop_assert_eq!(format.amount(&format.write(minor, currency), currency), Ok(minor));
        }
    }
}
