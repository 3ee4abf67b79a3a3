//! An event in one line, free of personal data.

mod contacts;

use jiff::civil::Date;
use saldo_domain::{
    event::{AllocatedBy, AllocationLine, Event},
    money::{Currency, format_minor},
};

/// The day an event is true of, where it has one.
pub fn effective_date(event: &Event) -> Option<Date> {
    match event {
        Event::InvoiceIssued { issue_date, .. } => Some(*issue_date),
        Event::InvoiceCredited { credit_date, .. } => Some(*credit_date),
        Event::InvoiceVoided { void_date, .. } => Some(*void_date),
        Event::PaymentRecorded { value_date, .. } => Some(*value_date),
        Event::PaymentAllocated { lines, .. } => lines.iter().map(|line| line.effective_date).max(),
        Event::PaymentReversed { reversal_date, .. } => Some(*reversal_date),
        Event::ContactStarted(started) => Some(started.day),
        Event::ContactWithheld { took, .. } => Some(took.on),
        Event::AccountOpened(_)
        | Event::AccountAmended(_)
        | Event::ReminderDue { .. }
        | Event::ContactDeferred { .. }
        | Event::ContactAccepted { .. }
        | Event::ContactRejected { .. }
        | Event::ContactUnknown { .. } => None,
    }
}

/// What happened, for people.
pub fn summarise(event: &Event) -> String {
    match event {
        Event::AccountOpened(profile) => format!(
            "Account opened: {:?}, {}, {}, {}, {} contact points",
            profile.kind,
            profile.country,
            profile.language,
            profile.time_zone,
            profile.contact_points.len()
        )
        .replace("Consumer", "consumer")
        .replace("Business", "business"),
        Event::AccountAmended(change) => {
            let fields = [
                ("name", change.display_name.is_some()),
                ("kind", change.kind.is_some()),
                ("language", change.language.is_some()),
                ("time zone", change.time_zone.is_some()),
                ("country", change.country.is_some()),
                ("contact points", change.contact_points.is_some()),
            ];
            let changed: Vec<&str> = fields.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect();
            format!("Account amended: {}", changed.join(", "))
        }
        Event::InvoiceIssued { number, total, instalments, .. } => {
            let due = match instalments.as_slice() {
                [only] => format!("due {}", only.due_date),
                many => format!("in {} instalments", many.len()),
            };
            format!("Invoice {number} issued: {total}, {due}")
        }
        Event::InvoiceCredited { credit_note, invoice, amount, lines, .. } => {
            let rest = amount.minor - total(lines);
            format!("Credit note {credit_note} for invoice {invoice}: {amount}{}", unapplied(rest, amount.currency))
        }
        Event::InvoiceVoided { number, .. } => format!("Invoice {number} voided"),
        Event::PaymentRecorded { reference, amount, value_date, .. } => {
            format!("Payment {reference} of {amount}, value date {value_date}")
        }
        Event::PaymentAllocated { reference, currency, allocated_by, lines } => {
            let how = match allocated_by {
                AllocatedBy::Designation => "as designated",
                AllocatedBy::OldestDueFirst => "oldest due first",
            };
            let to: Vec<String> = lines
                .iter()
                .take(3)
                .map(|line| format!("{} {}", line.invoice, format_minor(line.amount, *currency)))
                .collect();
            let more = if lines.len() > 3 { format!(" and {} more", lines.len() - 3) } else { String::new() };
            format!("Payment {reference} applied {how}: {}{more}", to.join(", "))
        }
        Event::PaymentReversed { reference, amount, .. } => format!("Payment {reference} of {amount} reversed"),
        Event::ReminderDue { .. }
        | Event::ContactStarted(_)
        | Event::ContactWithheld { .. }
        | Event::ContactDeferred { .. }
        | Event::ContactAccepted { .. }
        | Event::ContactRejected { .. }
        | Event::ContactUnknown { .. } => contacts::summarise(event),
    }
}

fn total(lines: &[AllocationLine]) -> i64 {
    lines.iter().map(|line| line.amount).sum()
}

fn unapplied(rest: i64, currency: Currency) -> String {
    if rest > 0 { format!(", {} of it unapplied", format_minor(rest, currency)) } else { String::new() }
}
