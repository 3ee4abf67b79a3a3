//! When an invoice falls due.

use jiff::civil::Date;

use crate::{
    event::Instalment,
    fault::FieldFault,
    money::{Money, check_amount},
};

/// Instalments one invoice can have: ten years of months.
pub const MAX_INSTALMENTS: usize = 120;

/// The instalments of an invoice: one on `due_date`, or those given, strictly ascending and summing to the total.
pub fn schedule(
    total: Money,
    issue_date: Date,
    due_date: Option<Date>,
    parts: &[(Date, i64)],
) -> Result<Vec<Instalment>, Vec<FieldFault>> {
    let fault = |field: &str, rule: &str| FieldFault { field: field.into(), rule: rule.into() };
    let parts = match (due_date, parts) {
        (Some(due), []) => vec![(due, total.minor)],
        (None, []) => return Err(vec![fault("due_date", "is required where no instalments are given")]),
        (Some(_), _) => return Err(vec![fault("due_date", "must be absent where instalments are given")]),
        (None, parts) => parts.to_vec(),
    };
    if parts.len() > MAX_INSTALMENTS {
        return Err(vec![fault("instalments", &format!("must be at most {MAX_INSTALMENTS}"))]);
    }
    let mut faults = Vec::new();
    let path = |index: usize, name: &str| match due_date {
        Some(_) => name.to_owned(),
        None => format!("instalments[{index}].{name}"),
    };
    for (index, (due, amount)) in parts.iter().enumerate() {
        if *due < issue_date {
            faults.push(fault(&path(index, "due_date"), "must not be before the issue date"));
        }
        if index > 0 && parts.get(index - 1).is_some_and(|(before, _)| before >= due) {
            faults.push(fault(&path(index, "due_date"), "must be after the due date before it"));
        }
        if let Err(rule) = check_amount(*amount) {
            faults.push(fault(&path(index, "amount_minor"), &rule.to_string()));
        }
    }
    let sum: i128 = parts.iter().map(|(_, amount)| i128::from(*amount)).sum();
    if sum != i128::from(total.minor) {
        faults.push(fault("instalments", "must sum to the total"));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let numbered = (1..).zip(parts);
    Ok(numbered.map(|(number, (due_date, amount))| Instalment { number, due_date, amount }).collect())
}
