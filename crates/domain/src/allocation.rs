//! Where money goes: as the debtor designates, or else to the oldest due first.

use std::cmp::Ordering;

use jiff::civil::Date;

use crate::{
    account::{Account, OpenItem},
    command::Designation,
    document::{Document, DocumentKey, DocumentKind, Documents},
    event::AllocationLine,
    ids::DocumentNumber,
    money::Currency,
    refusal::Refusal,
};

/// Oldest due first; then the earlier issued, then by number and instalment, so that the order is total.
pub fn order(a: &OpenItem, b: &OpenItem) -> Ordering {
    (a.due_date, a.issue_date, &a.invoice, a.instalment).cmp(&(b.due_date, b.issue_date, &b.invoice, b.instalment))
}

/// Applies up to `amount` to `items` in their order. A line takes effect on the later of `value_date` and issue date.
pub fn oldest_first<'i>(
    items: impl Iterator<Item = &'i OpenItem>,
    mut amount: i64,
    value_date: Date,
) -> Vec<AllocationLine> {
    let mut lines = Vec::new();
    for item in items {
        if amount <= 0 {
            break;
        }
        let applied = amount.min(item.open);
        amount -= applied;
        lines.push(line(item, applied, value_date));
    }
    lines
}

/// Applies what the debtor designated, all of it or nothing.
pub fn designated(
    account: &Account,
    documents: &dyn Documents,
    designations: &[Designation],
    currency: Currency,
    available: i64,
    value_date: Date,
) -> Result<Vec<AllocationLine>, Refusal> {
    let asked: i128 = designations.iter().map(|designation| i128::from(designation.amount)).sum();
    if asked > i128::from(available) {
        return Err(Refusal::OverAllocation { what: "the payment".into(), asked, available: available.into() });
    }
    let mut items = account.items.clone();
    let mut lines: Vec<AllocationLine> = Vec::new();
    for designation in designations {
        known(documents, &designation.invoice, currency)?;
        let chosen = |item: &OpenItem| {
            item.invoice == designation.invoice
                && item.open > 0
                && designation.instalment.is_none_or(|instalment| instalment == item.instalment)
        };
        let open: i128 = items.iter().filter(|item| chosen(item)).map(|item| i128::from(item.open)).sum();
        if open == 0 {
            return Err(Refusal::ItemNotOpen {
                invoice: designation.invoice.clone(),
                instalment: designation.instalment,
            });
        }
        if i128::from(designation.amount) > open {
            return Err(Refusal::OverAllocation {
                what: format!("invoice {}", designation.invoice),
                asked: designation.amount.into(),
                available: open,
            });
        }
        let new = oldest_first(items.iter().filter(|item| chosen(item)), designation.amount, value_date);
        for line in new {
            if let Some(item) =
                items.iter_mut().find(|item| item.invoice == line.invoice && item.instalment == line.instalment)
            {
                item.open -= line.amount;
            }
            match lines.iter_mut().find(|l| l.invoice == line.invoice && l.instalment == line.instalment) {
                Some(same) => same.amount += line.amount,
                None => lines.push(line),
            }
        }
    }
    Ok(lines)
}

/// An invoice that money of this currency can go to.
fn known(documents: &dyn Documents, invoice: &DocumentNumber, currency: Currency) -> Result<(), Refusal> {
    let key = DocumentKey { kind: DocumentKind::Invoice, number: invoice.clone() };
    match documents.get(&key) {
        Some(Document::Invoice { voided: true, .. }) => Err(Refusal::InvoiceVoided { invoice: invoice.clone() }),
        Some(Document::Invoice { total, .. }) if total.currency != currency => {
            Err(Refusal::CurrencyMismatch { expected: total.currency, given: currency })
        }
        Some(Document::Invoice { .. }) => Ok(()),
        _ => Err(Refusal::InvoiceUnknown { invoice: invoice.clone() }),
    }
}

fn line(item: &OpenItem, amount: i64, value_date: Date) -> AllocationLine {
    AllocationLine {
        invoice: item.invoice.clone(),
        instalment: item.instalment,
        due_date: item.due_date,
        amount,
        effective_date: value_date.max(item.issue_date),
        issue_date: item.issue_date,
        rung: None,
    }
}
