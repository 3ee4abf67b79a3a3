//! Reads the fields of a request, and notes every rule that one of them breaks: the client hears of all at once.

use jiff::civil::Date;
use saldo_api::v1;
use saldo_domain::{
    ids::DocumentNumber,
    ledger::Designation,
    money::{Currency, Money, check_amount},
    sealed::Sealed,
};
use saldo_facts::{REQUEST_DAY_RULE, day_from_request, sealed::is_field};

use super::seal::{Personal, Seal};
use crate::{
    failure::Failure,
    violations::{MAX_LISTED, Violation},
};

/// Longest free text, in characters.
const MAX_FREE_TEXT: usize = 2_000;
/// Most designations of one payment.
const MAX_DESIGNATIONS: usize = 1_000;

/// The fields of one request, as they are read. A method returns `None` where it has noted a broken rule.
pub struct Fields<'s> {
    violations: Vec<Violation>,
    pub(super) seal: &'s mut dyn Seal,
}

impl<'s> Fields<'s> {
    /// None is read yet.
    pub fn new(seal: &'s mut dyn Seal) -> Self {
        Self { violations: Vec::new(), seal }
    }

    /// Notes a broken rule. No more are kept than an answer lists.
    pub fn add(&mut self, field: impl Into<String>, rule: impl ToString) {
        if self.violations.len() >= MAX_LISTED {
            return;
        }
        self.violations.push(Violation { field: field.into(), rule: rule.to_string() });
    }

    /// The value, or a note.
    pub fn check<T, E: ToString>(&mut self, field: impl Into<String>, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, error)).ok()
    }

    /// The names in a mask of these fields. Each name may stand there once, since its field is read and sealed for each time.
    pub fn mask<'m>(&mut self, mask: Option<&'m prost_types::FieldMask>, known: &[&str]) -> Option<&'m [String]> {
        let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
        let is_repeated = |(index, path): (usize, &String)| paths.iter().take(index).any(|before| before == path);
        let rule = if paths.is_empty() {
            "must name at least one of"
        } else if paths.len() > known.len() || paths.iter().enumerate().any(is_repeated) {
            "must name each field once at most, and only"
        } else if paths.iter().any(|path| !known.contains(&path.as_str())) {
            "must name only"
        } else {
            return Some(paths);
        };
        self.add("update_mask", format!("{rule} {}", known.join(", ")));
        None
    }

    /// A field that must be given.
    pub fn required<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.add(field, "is required");
        }
        value
    }

    /// An invoice or credit note number, or a payment reference.
    pub fn number(&mut self, field: &str, text: &str) -> Option<DocumentNumber> {
        self.check(field, DocumentNumber::new(text))
    }

    /// A day that must be given.
    pub fn date(&mut self, field: &str, date: Option<v1::Date>) -> Option<Date> {
        let date = self.required(field, date)?;
        self.check(field, day_from_request(date).ok_or(REQUEST_DAY_RULE))
    }

    /// A day that may be given.
    pub fn optional_date(&mut self, field: &str, date: Option<v1::Date>) -> Option<Option<Date>> {
        match date {
            Some(date) => self.date(field, Some(date)).map(Some),
            None => Some(None),
        }
    }

    /// An amount that must be given.
    pub fn amount(&mut self, field: &str, money: Option<&v1::Money>) -> Option<Money> {
        let money = self.required(field, money)?;
        let currency = self.check(format!("{field}.currency"), Currency::new(&money.currency));
        let checked = self.check(format!("{field}.minor_units"), check_amount(money.minor_units));
        checked?;
        Some(Money { minor: money.minor_units, currency: currency? })
    }

    /// The items that a payment is to settle.
    pub fn designations(&mut self, allocations: &[v1::Allocation]) -> Option<Vec<Designation>> {
        if allocations.len() > MAX_DESIGNATIONS {
            self.add("allocations", format!("must be at most {MAX_DESIGNATIONS}"));
            return None;
        }
        let mut designations = Vec::with_capacity(allocations.len());
        for (index, allocation) in allocations.iter().enumerate() {
            let path = format!("allocations[{index}]");
            let invoice = self.number(&format!("{path}.invoice_number"), &allocation.invoice_number);
            let amount = self.check(format!("{path}.amount_minor"), check_amount(allocation.amount_minor));
            if allocation.instalment == Some(0) {
                self.add(format!("{path}.instalment"), "must be 1 or more");
                continue;
            }
            if let (Some(invoice), Some(())) = (invoice, amount) {
                designations.push(Designation {
                    invoice,
                    instalment: allocation.instalment,
                    amount: allocation.amount_minor,
                });
            }
        }
        (designations.len() == allocations.len()).then_some(designations)
    }

    /// Items that a payment is applied to; an invoice without an instalment stands for all of its instalments.
    pub fn allocated_items(
        &mut self,
        field: &str,
        items: &[v1::AllocatedItem],
    ) -> Option<Vec<(DocumentNumber, Option<u32>)>> {
        if items.len() > MAX_DESIGNATIONS {
            self.add(field, format!("must be at most {MAX_DESIGNATIONS}"));
            return None;
        }
        let mut read = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let invoice = self.number(&format!("{field}[{index}].invoice_number"), &item.invoice_number);
            if item.instalment == Some(0) {
                self.add(format!("{field}[{index}].instalment"), "must be 1 or more");
                continue;
            }
            read.extend(invoice.map(|invoice| (invoice, item.instalment)));
        }
        (read.len() == items.len()).then_some(read)
    }

    /// Free text, sealed for this field of this event; empty is absent. Line breaks and tabs are allowed, other control
    /// characters are not.
    pub fn free_text(&mut self, path: &str, event_type: &str, field: &str, text: &str) -> Option<Option<Sealed>> {
        if text.is_empty() {
            return Some(None);
        }
        if text.chars().count() > MAX_FREE_TEXT {
            self.add(path, format!("must be at most {MAX_FREE_TEXT} characters"));
            return None;
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.add(path, "must not hold control characters other than line breaks and tabs");
            return None;
        }
        Some(Some(self.seal(path, event_type, field, text)))
    }

    /// A personal value, sealed for this field of this event.
    pub fn seal(&mut self, path: &str, event_type: &str, field: &str, text: &str) -> Sealed {
        debug_assert!(is_field(event_type, field), "{event_type} has no sealed field {field}");
        self.seal.seal(Personal { path, event_type, field, text })
    }

    /// All that was noted.
    pub fn into_violations(self) -> Vec<Violation> {
        self.violations
    }

    /// Fails where anything was noted.
    pub fn into_result(self) -> Result<(), Failure> {
        if self.violations.is_empty() { Ok(()) } else { Err(Failure::Invalid(self.violations)) }
    }
}
