//! The facts of an account's history.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{
    ids::DocumentNumber,
    money::{Currency, Money},
    profile::{ContactPoint, Profile, ProfileChange, Sealed},
};

/// One part of an invoice with its own due date, numbered from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instalment {
    /// From 1, in order of due date.
    pub number: u32,
    /// The day it falls due.
    pub due_date: Date,
    /// Minor units of the invoice's currency; positive.
    pub amount: i64,
}

/// Part of a payment or credit applied to one instalment; holds all that its reversal needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationLine {
    /// The invoice applied to.
    pub invoice: DocumentNumber,
    /// Its instalment.
    pub instalment: u32,
    /// The instalment's due date.
    pub due_date: Date,
    /// Minor units; positive.
    pub amount: i64,
    /// The later of the value date and the invoice's issue date: from this day the item is smaller.
    pub effective_date: Date,
    /// The invoice's issue date.
    pub issue_date: Date,
}

/// Who decided where a payment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AllocatedBy {
    /// The request named the items.
    Designation,
    /// Nobody did: the oldest due date first.
    OldestDueFirst,
}

/// One fact. Names are stable and stored; see `saldo-commit` for the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// account.opened
    AccountOpened(Profile),
    /// account.amended
    AccountAmended(ProfileChange),
    /// invoice.issued
    InvoiceIssued {
        /// The creditor's number.
        number: DocumentNumber,
        /// Sum of the instalments.
        total: Money,
        /// From this day it is owed.
        issue_date: Date,
        /// At least one; due dates strictly ascending.
        instalments: Vec<Instalment>,
        /// Free text.
        description: Option<Sealed>,
    },
    /// invoice.credited
    InvoiceCredited {
        /// The credit note's number.
        credit_note: DocumentNumber,
        /// The invoice it corrects.
        invoice: DocumentNumber,
        /// All of the credit; what the lines do not take stays unapplied.
        amount: Money,
        /// The credit note's date.
        credit_date: Date,
        /// Where it went.
        lines: Vec<AllocationLine>,
        /// Free text.
        reason: Option<Sealed>,
    },
    /// invoice.voided
    InvoiceVoided {
        /// The invoice taken back.
        number: DocumentNumber,
        /// Its currency.
        currency: Currency,
        /// From this day it is no longer owed.
        void_date: Date,
        /// All of its instalments, whole.
        instalments: Vec<Instalment>,
        /// Free text.
        reason: Option<Sealed>,
    },
    /// payment.recorded
    PaymentRecorded {
        /// The payment's reference.
        reference: DocumentNumber,
        /// What was paid.
        amount: Money,
        /// The day it counts from.
        value_date: Date,
        /// Free text of the remittance.
        remittance: Option<Sealed>,
    },
    /// payment.allocated
    PaymentAllocated {
        /// The payment applied.
        reference: DocumentNumber,
        /// Its currency.
        currency: Currency,
        /// Who decided.
        allocated_by: AllocatedBy,
        /// Where it went; at least one.
        lines: Vec<AllocationLine>,
    },
    /// payment.reversed
    PaymentReversed {
        /// The payment taken back.
        reference: DocumentNumber,
        /// All of it.
        amount: Money,
        /// From this day it no longer counts.
        reversal_date: Date,
        /// The allocations taken back.
        lines: Vec<AllocationLine>,
        /// What had stayed unapplied, in minor units.
        unapplied: i64,
        /// Free text.
        reason: Option<Sealed>,
    },
}

impl Event {
    /// The contact points an event brings, where it brings any.
    pub fn contact_points(&self) -> &[ContactPoint] {
        match self {
            Event::AccountOpened(profile) => &profile.contact_points,
            Event::AccountAmended(change) => change.contact_points.as_deref().unwrap_or_default(),
            _ => &[],
        }
    }
}
