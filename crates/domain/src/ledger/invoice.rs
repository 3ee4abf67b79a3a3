//! Invoices: when they fall due, and how they are taken back.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{Fact, Ledger, OpenItem, Refusal, allocation, days};
use crate::{
    document::{Documents, Invoice},
    fault::FieldFault,
    ids::DocumentNumber,
    money::{Currency, Money, check_amount},
    sealed::Sealed,
};

/// One part of an invoice with a due date of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instalment {
    /// From 1, in order of due date.
    pub number: u32,
    /// The day the instalment falls due.
    pub due_date: Date,
    /// Minor units of the invoice's currency; positive.
    pub amount: i64,
}

/// invoice.issued
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceIssued {
    /// The creditor's number.
    pub number: DocumentNumber,
    /// Sum of the instalments.
    pub total: Money,
    /// From this day the invoice is owed.
    pub issue_date: Date,
    /// At least one; due dates strictly ascending.
    pub instalments: Vec<Instalment>,
    /// Free text.
    pub description: Option<Sealed>,
}

/// invoice.voided
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceVoided {
    /// The invoice taken back.
    pub number: DocumentNumber,
    /// The invoice's currency.
    pub currency: Currency,
    /// From this day the invoice is no longer owed.
    pub void_date: Date,
    /// All of its instalments, whole.
    pub instalments: Vec<Instalment>,
    /// Free text.
    pub reason: Option<Sealed>,
    /// The day the void counts from, where that is not its own date.
    pub counts_from: Option<Date>,
}

impl InvoiceVoided {
    /// The day the void counts from.
    pub fn day(&self) -> Date {
        self.counts_from.unwrap_or(self.void_date)
    }
}

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

impl Ledger {
    pub(super) fn issue(
        &self,
        documents: &dyn Documents,
        number: &DocumentNumber,
        total: Money,
        issue_date: Date,
        instalments: &[Instalment],
        description: &Option<Sealed>,
    ) -> Result<InvoiceIssued, Refusal> {
        if let Some(known) = documents.invoice(number) {
            let same_content = !known.voided
                && (known.total, known.issue_date, known.instalments.as_slice()) == (total, issue_date, instalments);
            return Err(Refusal::InvoiceNumberTaken { number: number.clone(), same_content });
        }
        self.room_for_items(instalments.len())?;
        Ok(InvoiceIssued {
            number: number.clone(),
            total,
            issue_date,
            instalments: instalments.to_vec(),
            description: description.clone(),
        })
    }

    pub(super) fn void(
        &self,
        documents: &dyn Documents,
        number: &DocumentNumber,
        (void_date, today): (Date, Date),
        reason: &Option<Sealed>,
    ) -> Result<Vec<Fact>, Refusal> {
        let invoice = standing(documents, number)?;
        if void_date < invoice.issue_date {
            return Err(Refusal::VoidBeforeIssue { issue_date: invoice.issue_date });
        }
        // An invoice that is not issued yet is voided on its issue date: then it was never owed.
        let day = days::counted(void_date, today.max(invoice.issue_date))?;
        if self.open_of(number) != i128::from(invoice.total.minor) {
            return Err(Refusal::InvoiceHasAllocations { invoice: number.clone() });
        }
        let items = || self.items.iter().filter(|item| item.invoice == *number);
        // Until then something else was applied to it.
        let day = items().map(|item| item.open_from).fold(day, Date::max);
        let mut instalments: Vec<Instalment> = items()
            .map(|item| Instalment { number: item.instalment, due_date: item.due_date, amount: item.open })
            .collect();
        instalments.sort_by_key(|instalment| instalment.number);
        let voided = InvoiceVoided {
            number: number.clone(),
            currency: invoice.total.currency,
            void_date,
            instalments,
            reason: reason.clone(),
            counts_from: days::apart(day, void_date),
        };
        Ok(vec![voided.into()])
    }

    pub(super) fn add_items(&mut self, issued: &InvoiceIssued) {
        self.currencies.insert(issued.total.currency);
        self.items.extend(issued.instalments.iter().map(|instalment| OpenItem {
            invoice: issued.number.clone(),
            instalment: instalment.number,
            currency: issued.total.currency,
            issue_date: issued.issue_date,
            due_date: instalment.due_date,
            open_from: issued.issue_date,
            open: instalment.amount,
            last_step: None,
            tried: None,
            tone_heard: None,
            held_back: None,
        }));
        self.items.sort_by(allocation::order);
    }
}

/// The invoice of a number, unless it is unknown or voided.
pub(super) fn standing(documents: &dyn Documents, number: &DocumentNumber) -> Result<Invoice, Refusal> {
    match documents.invoice(number) {
        None => Err(Refusal::InvoiceUnknown { invoice: number.clone() }),
        Some(invoice) if invoice.voided => Err(Refusal::InvoiceAlreadyVoided { invoice: number.clone() }),
        Some(invoice) => Ok(invoice),
    }
}
