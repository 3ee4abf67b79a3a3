//! Values of flags whose own errors do not say what is right.

use jiff::{Timestamp, civil::Date};

pub fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "must be an instant such as 2026-11-27T00:00:00Z or 2026-11-27T09:30:00+01:00".to_owned())
}

pub fn day(text: &str) -> Result<Date, String> {
    text.parse().map_err(|_| "must be a day such as 2026-11-27".to_owned())
}
