//! The facts of the ledger.

use saldo_api::v1;
use saldo_domain::{
    dunning::LastStep,
    ledger::{
        AllocatedBy, AllocationLine, CreditKind, CreditNoteAllocated, CreditNoteDeallocated, CreditRefunded,
        Instalment, InvoiceCredited, InvoiceIssued, InvoiceVoided, PaymentAllocated, PaymentDeallocated,
        PaymentRecorded, PaymentReversed,
    },
    money::{Currency, format_minor},
};

use crate::{
    DecodeError,
    declare::{fact, message},
    rules,
    wire::{Decoded, Field, Fields},
};

impl Field for AllocatedBy {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        let stored = match self {
            AllocatedBy::Designation => v1::AllocatedBy::Designation,
            AllocatedBy::OldestDueFirst => v1::AllocatedBy::OldestDueFirst,
            AllocatedBy::ItemArose => v1::AllocatedBy::ItemArose,
        };
        (stored as u32).put(tag, out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        match v1::AllocatedBy::try_from(u32::get(fields, tag, name)? as i32) {
            Ok(v1::AllocatedBy::Designation) => Ok(AllocatedBy::Designation),
            Ok(v1::AllocatedBy::OldestDueFirst) => Ok(AllocatedBy::OldestDueFirst),
            Ok(v1::AllocatedBy::ItemArose) => Ok(AllocatedBy::ItemArose),
            _ => Err(DecodeError::malformed(name, "unknown")),
        }
    }

    fn sample() -> Self {
        AllocatedBy::Designation
    }
}

impl Field for CreditKind {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        let stored = match self {
            CreditKind::Payment => v1::CreditKind::Payment,
            CreditKind::CreditNote => v1::CreditKind::CreditNote,
        };
        (stored as u32).put(tag, out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        match v1::CreditKind::try_from(u32::get(fields, tag, name)? as i32) {
            Ok(v1::CreditKind::Payment) => Ok(CreditKind::Payment),
            Ok(v1::CreditKind::CreditNote) => Ok(CreditKind::CreditNote),
            _ => Err(DecodeError::malformed(name, "unknown")),
        }
    }

    fn sample() -> Self {
        CreditKind::CreditNote
    }
}

message!(Instalment { 1 => number [rules::instalment], 2 => due_date, 3 => amount [rules::positive] });

message!(LastStep { 1 => offset_days, 2 => on });

message!(AllocationLine {
    1 => invoice,
    2 => instalment [rules::instalment],
    3 => due_date,
    4 => amount [rules::positive],
    5 => effective_date,
    6 => issue_date,
    7 => last_step,
});

fact! {
    "invoice.issued" [1] InvoiceIssued {
        1 => number,
        (2, 3) => total,
        4 => issue_date,
        5 => instalments,
        6 => description,
    }
    date: |fact| Some(fact.issue_date),
    summary: |InvoiceIssued { number, total, instalments, .. }| {
        let due = match instalments.as_slice() {
            [only] => format!("due {}", only.due_date),
            many => format!("in {} instalments", many.len()),
        };
        format!("Invoice {number} issued: {total}, {due}")
    },
}

fact! {
    "invoice.credited" [1, 2] InvoiceCredited {
        1 => credit_note,
        2 => invoice,
        (3, 4) => amount,
        5 => credit_date,
        6 => lines,
        7 => reason,
        8 since 2 => counts_from,
    }
    date: |fact| Some(fact.day()),
    summary: |InvoiceCredited { credit_note, invoice, amount, lines, .. }| {
        let applied: i64 = lines.iter().map(|line| line.amount).sum();
        let rest = unapplied(amount.minor - applied, amount.currency);
        format!("Credit note {credit_note} for invoice {invoice}: {amount}{rest}")
    },
}

fact! {
    "invoice.voided" [1, 2] InvoiceVoided {
        1 => number,
        2 => currency,
        3 => void_date,
        4 => instalments,
        5 => reason,
        6 since 2 => counts_from,
    }
    date: |fact| Some(fact.day()),
    summary: |fact| format!("Invoice {} voided", fact.number),
}

fact! {
    "payment.recorded" [1, 2] PaymentRecorded {
        1 => reference,
        (2, 3) => amount,
        4 => value_date,
        5 => remittance,
        6 since 2 => counts_from,
        7 since 2 => kept,
    }
    date: |fact| Some(fact.day()),
    summary: |PaymentRecorded { reference, amount, value_date, kept, .. }| {
        let kept = if *kept { ", kept unapplied" } else { "" };
        format!("Payment {reference} of {amount}, value date {value_date}{kept}")
    },
}

fact! {
    "payment.allocated" [1, 2] PaymentAllocated {
        1 => reference,
        2 => currency,
        3 => allocated_by,
        4 => lines,
        5 since 2 => decided_on,
    }
    date: |fact| fact.lines.iter().map(|line| line.effective_date).max(),
    summary: |PaymentAllocated { reference, currency, allocated_by, lines, .. }| {
        format!("Payment {reference} applied {}: {}", how(*allocated_by), to(lines, *currency))
    },
}

fact! {
    "credit_note.allocated" [2] CreditNoteAllocated {
        1 => credit_note,
        2 => currency,
        3 => allocated_by,
        4 => lines,
        5 => decided_on,
    }
    date: |fact| fact.lines.iter().map(|line| line.effective_date).max(),
    summary: |CreditNoteAllocated { credit_note, currency, allocated_by, lines, .. }| {
        format!("Credit note {credit_note} applied {}: {}", how(*allocated_by), to(lines, *currency))
    },
}

fact! {
    "payment.deallocated" [2] PaymentDeallocated {
        1 => reference,
        2 => currency,
        3 => deallocation_date,
        4 => lines,
        5 => reason,
    }
    date: |fact| Some(fact.deallocation_date),
    summary: |PaymentDeallocated { reference, currency, lines, .. }| {
        format!("Payment {reference} no longer applied: {}", to(lines, *currency))
    },
}

fact! {
    "credit_note.deallocated" [2] CreditNoteDeallocated {
        1 => credit_note,
        2 => currency,
        3 => deallocation_date,
        4 => lines,
        5 => reason,
    }
    date: |fact| Some(fact.deallocation_date),
    summary: |CreditNoteDeallocated { credit_note, currency, lines, .. }| {
        format!("Credit note {credit_note} no longer applied: {}", to(lines, *currency))
    },
}

fact! {
    "credit.refunded" [2] CreditRefunded {
        1 => reference,
        2 => kind,
        3 => document,
        (4, 5) => amount,
        6 => refund_date,
        7 => reason,
        8 => counts_from,
    }
    date: |fact| Some(fact.day()),
    summary: |CreditRefunded { reference, kind, document, amount, .. }| {
        let of = kind.name().replace('_', " ");
        format!("Refund {reference}: {amount} of {of} {document} paid out")
    },
}

fact! {
    "payment.reversed" [1, 2] PaymentReversed {
        1 => reference,
        (2, 3) => amount,
        4 => reversal_date,
        5 => lines,
        6 => unapplied [rules::not_negative],
        7 => reason,
        8 since 2 => counts_from,
    }
    date: |fact| Some(fact.day()),
    summary: |fact| format!("Payment {} of {} reversed", fact.reference, fact.amount),
}

fn how(allocated_by: AllocatedBy) -> &'static str {
    match allocated_by {
        AllocatedBy::Designation => "as designated",
        AllocatedBy::OldestDueFirst => "oldest due first",
        AllocatedBy::ItemArose => "to what fell open",
    }
}

fn to(lines: &[AllocationLine], currency: Currency) -> String {
    let first: Vec<String> =
        lines.iter().take(3).map(|line| format!("{} {}", line.invoice, format_minor(line.amount, currency))).collect();
    let more = if lines.len() > 3 { format!(" and {} more", lines.len() - 3) } else { String::new() };
    format!("{}{more}", first.join(", "))
}

fn unapplied(rest: i64, currency: Currency) -> String {
    if rest > 0 { format!(", {} of it unapplied", format_minor(rest, currency)) } else { String::new() }
}
