//! Money: integer minor units with a currency; never a float.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The largest amount in one document, in minor units. Far above any invoice, and sums of
/// [`crate::ledger::MAX_OPEN_ITEMS`] of them still fit `i64`.
pub const MAX_AMOUNT_MINOR: i64 = 100_000_000_000_000;

/// An ISO 4217 currency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// Looks `code` up in ISO 4217. Codes without a minor unit (metals, testing) are no currency of invoices.
    pub fn new(code: &str) -> Result<Self, InvalidMoney> {
        let known = iso_currency::Currency::from_code(code).ok_or(InvalidMoney::UnknownCurrency)?;
        known.exponent().ok_or(InvalidMoney::UnknownCurrency)?;
        let bytes = code.as_bytes().try_into().map_err(|_| InvalidMoney::UnknownCurrency)?;
        Ok(Self(bytes))
    }

    /// The three letters.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }

    /// Decimals of the minor unit: 2 for EUR, 0 for JPY, 3 for KWD.
    pub fn decimals(&self) -> u32 {
        iso_currency::Currency::from_code(self.code()).and_then(|known| known.exponent()).map_or(2, u32::from)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl TryFrom<String> for Currency {
    type Error = InvalidMoney;
    fn try_from(code: String) -> Result<Self, InvalidMoney> {
        Self::new(&code)
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.code().to_owned()
    }
}

/// A positive amount of one document, at most [`MAX_AMOUNT_MINOR`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Minor units; 1 to [`MAX_AMOUNT_MINOR`].
    pub minor: i64,
    /// The currency they are units of.
    pub currency: Currency,
}

impl Money {
    /// Checks the amount.
    pub fn positive(minor: i64, currency: Currency) -> Result<Self, InvalidMoney> {
        check_amount(minor)?;
        Ok(Self { minor, currency })
    }
}

/// `1234.50 EUR`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", format_minor(self.minor, self.currency), self.currency)
    }
}

/// Checks that `minor` is an amount a document can have.
pub fn check_amount(minor: i64) -> Result<(), InvalidMoney> {
    if minor <= 0 {
        Err(InvalidMoney::NotPositive)
    } else if minor > MAX_AMOUNT_MINOR {
        Err(InvalidMoney::TooLarge)
    } else {
        Ok(())
    }
}

/// Minor units as a plain decimal of the currency: `-1234.50`.
pub fn format_minor(minor: i64, currency: Currency) -> String {
    let decimals = currency.decimals() as usize;
    let sign = if minor < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", minor.unsigned_abs(), width = decimals + 1);
    let (major, fraction) = digits.split_at(digits.len() - decimals);
    if decimals == 0 { format!("{sign}{major}") } else { format!("{sign}{major}.{fraction}") }
}

/// Why a value is not an amount of money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMoney {
    /// Not in ISO 4217.
    #[error("must be an ISO 4217 currency code such as EUR")]
    UnknownCurrency,
    /// Zero or less.
    #[error("must be greater than zero")]
    NotPositive,
    /// Above [`MAX_AMOUNT_MINOR`].
    #[error("must be at most {MAX_AMOUNT_MINOR} minor units")]
    TooLarge,
}

/// Why a text is not an amount in a currency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDecimal {
    /// Not a number as the format writes it.
    #[error("must be a number such as 1234.50 in the format given")]
    NotANumber,
    /// More decimals than the currency has.
    #[error("must have at most {decimals} decimals in {currency}")]
    TooManyDecimals {
        /// Those the currency has.
        decimals: u32,
        /// The currency.
        currency: Currency,
    },
    /// Beyond 64 bits.
    #[error("is too large")]
    TooLarge,
}

/// Reads a decimal in major units as minor units: `1.234,5` with separators `,` and `.` in EUR is 123450. Fewer
/// decimals than the currency has are fine, more are refused.
pub fn parse_decimal(
    text: &str,
    decimal: char,
    group: Option<char>,
    currency: Currency,
) -> Result<i64, InvalidDecimal> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once(decimal).unwrap_or((digits, ""));
    let decimals = currency.decimals();
    if fraction.len() > decimals as usize && fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidDecimal::TooManyDecimals { decimals, currency });
    }
    let has_digit = digits.bytes().any(|b| b.is_ascii_digit());
    if !has_digit || !well_grouped(whole, group) {
        return Err(InvalidDecimal::NotANumber);
    }
    let mut minor: i64 = 0;
    let padding = (decimals as usize).saturating_sub(fraction.len());
    let whole = whole.chars().filter(|c| Some(*c) != group);
    for c in whole.chain(fraction.chars()).chain(std::iter::repeat_n('0', padding)) {
        let digit = c.to_digit(10).ok_or(InvalidDecimal::NotANumber)?;
        minor = minor
            .checked_mul(10)
            .and_then(|minor| minor.checked_add(i64::from(digit)))
            .ok_or(InvalidDecimal::TooLarge)?;
    }
    Ok(if negative { -minor } else { minor })
}

/// Groups have three digits, except the first. `1,23` with `,` between groups is a slip, not a hundred and twenty-three.
fn well_grouped(whole: &str, group: Option<char>) -> bool {
    let Some(group) = group.filter(|group| whole.contains(*group)) else { return true };
    let mut parts = whole.split(group);
    let first = parts.next().unwrap_or_default();
    (1..=3).contains(&first.len()) && parts.all(|part| part.len() == 3)
}
