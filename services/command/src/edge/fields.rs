//! Fields that many requests share.

use jiff::civil::Date;
use saldo_api::v1;
use saldo_domain::{ids::DocumentNumber, sealed::Sealed};
use saldo_facts::{REQUEST_DAY_RULE, day_from_request};

use crate::{
    personal::{Personal, Seal},
    violations::Violations,
};

/// Longest free text, in characters.
const MAX_FREE_TEXT: usize = 2_000;

/// An invoice or credit note number, or a payment reference.
pub fn number(field: &str, text: &str, rules: &mut Violations) -> Option<DocumentNumber> {
    rules.check(field, DocumentNumber::new(text))
}

/// A day that must be given.
pub fn date(field: &str, date: Option<v1::Date>, rules: &mut Violations) -> Option<Date> {
    let Some(date) = date else {
        rules.add(field, "is required");
        return None;
    };
    match day_from_request(date) {
        Some(day) => Some(day),
        None => {
            rules.add(field, REQUEST_DAY_RULE);
            None
        }
    }
}

/// Free text, sealed; empty is absent. Line breaks and tabs are allowed, other control characters are not.
pub fn free_text(
    path: &str,
    event_type: &str,
    field: &str,
    text: &str,
    rules: &mut Violations,
    seal: &mut dyn Seal,
) -> Option<Option<Sealed>> {
    if text.is_empty() {
        return Some(None);
    }
    if text.chars().count() > MAX_FREE_TEXT {
        rules.add(path, format!("must be at most {MAX_FREE_TEXT} characters"));
        return None;
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        rules.add(path, "must not hold control characters other than line breaks and tabs");
        return None;
    }
    Some(Some(seal.seal(Personal { path, event_type, field, text })))
}
