//! Values of flags, as people write them. What cannot be read is answered with an example of the right form.

use clap::Args;
use jiff::{Timestamp, civil::Date};
use saldo_api::v1;
use saldo_domain::money::{Currency, InvalidDecimal, Money, parse_decimal};
use saldo_facts::{date_to_api, timestamp_to_api};

/// The flags of a query on both axes of time.
#[derive(Default, Args)]
pub struct AsOf {
    /// Show what was true on this day; absent: today.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    as_of: Option<Date>,
    /// Use only what was known at this instant; absent: everything known now.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    known_at: Option<Timestamp>,
}

impl AsOf {
    pub fn day(&self) -> Option<v1::Date> {
        self.as_of.map(date_to_api)
    }

    pub fn instant(&self) -> Option<saldo_api::Timestamp> {
        self.known_at.map(timestamp_to_api)
    }
}

pub fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "must be an instant such as 2026-11-27T00:00:00Z or 2026-11-27T09:30:00+01:00".to_owned())
}

pub fn day(text: &str) -> Result<Date, String> {
    text.parse().map_err(|_| "must be a day such as 2026-11-27".to_owned())
}

/// An amount with its currency: `1234.50 EUR`, `EUR 1,234.50`, `1.234,50 EUR`.
pub fn amount(text: &str) -> Result<Money, String> {
    const RULE: &str = "must be an amount with the three letters of its currency, such as '1234.50 EUR'";
    let (number, code) = apart(text);
    let currency = Currency::new(&code.ok_or(RULE)?.to_uppercase()).map_err(|_| RULE)?;
    Money::positive(minor_units(number, currency)?, currency).map_err(|rule| rule.to_string())
}

/// A part of a payment and the item that it settles: `F-7=60.00`, `F-7#2=60.00` for the second instalment. The currency may
/// be named, `F-7='60.00 EUR'`, and is then checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    item: v1::AllocatedItem,
    amount: String,
}

/// An invoice, `F-7`, or one instalment of it, `F-7#2`.
pub fn item(text: &str) -> Result<v1::AllocatedItem, String> {
    let (invoice, instalment) = match text.rsplit_once('#').map(|(invoice, number)| (invoice, number.parse().ok())) {
        Some((invoice, Some(number))) => (invoice, Some(number)),
        _ => (text, None),
    };
    if invoice.is_empty() {
        return Err("must be an invoice, such as F-7, or F-7#2 for its second instalment".to_owned());
    }
    Ok(v1::AllocatedItem { invoice_number: invoice.to_owned(), instalment })
}

pub fn part(text: &str) -> Result<Part, String> {
    const RULE: &str = "must be an invoice and an amount, such as F-7=60.00, or F-7#2=60.00 for its second instalment";
    let (item, amount) = text.rsplit_once('=').ok_or(RULE)?;
    if amount.trim().is_empty() {
        return Err(RULE.to_owned());
    }
    Ok(Part { item: self::item(item).map_err(|_| RULE)?, amount: amount.to_owned() })
}

/// An instalment of a new invoice: its due date and its amount, `2026-12-27=60.00`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueAmount {
    due: Date,
    amount: String,
}

pub fn due_amount(text: &str) -> Result<DueAmount, String> {
    const RULE: &str = "must be a due date and an amount, such as 2026-12-27=60.00";
    let (due, amount) = text.split_once('=').filter(|(_, amount)| !amount.trim().is_empty()).ok_or(RULE)?;
    Ok(DueAmount { due: day(due.trim()).map_err(|_| RULE)?, amount: amount.to_owned() })
}

impl DueAmount {
    /// The instalment of an invoice in this currency.
    pub fn in_currency(&self, currency: Currency) -> Result<v1::Instalment, String> {
        let amount_minor =
            minor_in(&self.amount, currency, "invoice").map_err(|rule| format!("--instalment {}: {rule}", self.due))?;
        Ok(v1::Instalment { due_date: Some(date_to_api(self.due)), amount_minor })
    }
}

/// Minor units of an amount whose currency need not be named. A currency that is named must be that of `what`.
fn minor_in(amount: &str, currency: Currency, what: &str) -> Result<i64, String> {
    let (number, code) = apart(amount);
    match code.filter(|code| !code.eq_ignore_ascii_case(currency.code())) {
        Some(code) => Err(format!("the {what} is in {currency}, not in {code}")),
        None => minor_units(number, currency),
    }
}

impl Part {
    /// The part of a payment in this currency.
    pub fn of_payment_in(&self, currency: Currency) -> Result<v1::Allocation, String> {
        let amount_minor = minor_in(&self.amount, currency, "money")
            .map_err(|rule| format!("--to {}: {rule}", self.item.invoice_number))?;
        let v1::AllocatedItem { invoice_number, instalment } = self.item.clone();
        Ok(v1::Allocation { invoice_number, instalment, amount_minor })
    }
}

/// The number of an amount, and the letters before or behind it.
fn apart(text: &str) -> (&str, Option<&str>) {
    let text = text.trim();
    let is_letter = |letter: char| letter.is_alphabetic();
    let number = text.trim_start_matches(is_letter);
    if number.len() < text.len() {
        return (number.trim(), Some(&text[..text.len() - number.len()]));
    }
    let number = text.trim_end_matches(is_letter);
    let code = Some(&text[number.len()..]).filter(|code| !code.is_empty());
    (number.trim(), code)
}

/// Minor units of a number in major units. The mark before the decimals is a point or a comma. Thousands may stand apart by
/// the other mark or by a space. One mark before three digits can be read in two ways, and is refused.
fn minor_units(number: &str, currency: Currency) -> Result<i64, String> {
    let marks: Vec<(usize, char)> = number.char_indices().filter(|(_, letter)| matches!(letter, '.' | ',')).collect();
    let space = Some(' ').filter(|space| number.contains(*space));
    let other = |mark: char| if mark == '.' { ',' } else { '.' };
    let (decimal, group) = match marks.as_slice() {
        [] => ('.', space),
        [(at, mark)] => {
            let decimals = number.len() - at - 1;
            if decimals == 3 && !(currency.decimals() == 3 && *mark == '.') {
                let (whole, plain) = (number.replace(*mark, ""), number.replace(*mark, "."));
                return Err(format!("{number:?} can be read in two ways: write {whole} or {}", shortened(&plain)));
            }
            (*mark, space)
        }
        [(_, first), .., (_, last)] if first == last => (other(*first), Some(*first)),
        [(_, first), .., (_, last)] => (*last, Some(*first)),
    };
    parse_decimal(number, decimal, group, currency).map_err(|rule| match rule {
        InvalidDecimal::NotANumber => format!("{number:?} is no amount; write it as 1234.50"),
        rule => format!("{number:?} {rule}"),
    })
}

/// `1.234` as `1.23`: what somebody may have meant who wrote a digit too many.
fn shortened(number: &str) -> &str {
    number.get(..number.len() - 1).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_as_people_write_it() {
        for (text, minor, code) in [
            ("100 EUR", 10_000, "EUR"),
            ("EUR 100", 10_000, "EUR"),
            ("100.5 eur", 10_050, "EUR"),
            ("1234.50EUR", 123_450, "EUR"),
            ("1,234.50 EUR", 123_450, "EUR"),
            ("1.234,50 EUR", 123_450, "EUR"),
            ("1 234,50 EUR", 123_450, "EUR"),
            ("1,234,567 EUR", 123_456_700, "EUR"),
            ("1500 JPY", 1_500, "JPY"),
            ("1.234 KWD", 1_234, "KWD"),
        ] {
            let read = amount(text).map(|money| (money.minor, money.currency.to_string()));
            assert_eq!(read, Ok((minor, code.to_owned())), "{text}");
        }
    }

    #[test]
    fn an_amount_that_can_be_read_in_two_ways_is_refused_and_so_is_what_is_none() {
        for (text, says) in [
            ("1.234 EUR", "two ways: write 1234 or 1.23"),
            ("1,234 JPY", "two ways"),
            ("100", "three letters of its currency"),
            ("100 euros", "three letters"),
            ("€100", "three letters"),
            ("ten EUR", "three letters"),
            ("-5 EUR", "greater than zero"),
            ("0 EUR", "greater than zero"),
            ("1.2345 EUR", "at most 2 decimals"),
            ("1,23,4.50 EUR", "write it as 1234.50"),
            ("", "three letters"),
        ] {
            let error = amount(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn an_instalment_names_its_due_date_and_its_amount() {
        let eur = Currency::new("EUR").expect("a currency");
        let read = |text: &str| due_amount(text)?.in_currency(eur);
        let part = v1::Instalment { due_date: Some(v1::Date { year: 2026, month: 12, day: 27 }), amount_minor: 6_050 };
        assert_eq!(read("2026-12-27=60,50 EUR"), Ok(part));
        for (text, says) in [
            ("2026-12-27", "such as 2026-12-27=60.00"),
            ("27.12.2026=60", "such as"),
            ("2026-12-27=", "such as"),
            ("2026-12-27=60 USD", "--instalment 2026-12-27: the invoice is in EUR, not in USD"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_part_names_an_invoice_perhaps_an_instalment_and_an_amount() {
        let eur = Currency::new("EUR").expect("a currency");
        let read = |text: &str| part(text)?.of_payment_in(eur);
        let expected = |invoice: &str, instalment, amount_minor| {
            Ok(v1::Allocation { invoice_number: invoice.to_owned(), instalment, amount_minor })
        };
        assert_eq!(read("F-7=60.00"), expected("F-7", None, 6_000));
        assert_eq!(read("F-7#2=60,5 EUR"), expected("F-7", Some(2), 6_050));
        assert_eq!(read("2026/17=A#b=1"), expected("2026/17=A#b", None, 100));
        for (text, says) in
            [("F-7", "such as F-7=60.00"), ("=5", "such as"), ("F-7=", "such as"), ("F-7=5 USD", "in EUR, not in USD")]
        {
            let error = read(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
