//! The facts of an account's history.

use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

use crate::{
    contact::{Deferred, Failed, Handed, ItemStep, Rejected, Rung, Saying, Started, Took, Unknown, Withheld},
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
    /// Where the instalment goes on with the ladder: of a payment that is taken back, absent in any other line.
    pub rung: Option<Rung>,
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
    /// reminder.due
    ReminderDue {
        /// Its number on the account, from 1.
        reminder: u64,
        /// How it will speak, as far as is known now.
        saying: Saying,
        /// The items whose step is due.
        takes: Vec<ItemStep>,
        /// The reminder that a person asked to say again.
        retry_of: Option<u64>,
    },
    /// contact.started
    ContactStarted(Box<Started>),
    /// contact.withheld
    ContactWithheld {
        /// The reminder.
        reminder: u64,
        /// Why.
        reason: Withheld,
        /// The steps that are behind their items all the same.
        took: Took,
    },
    /// contact.deferred
    ContactDeferred {
        /// The reminder.
        reminder: u64,
        /// The attempt that failed; 0 where none was started.
        attempt: u32,
        /// Why.
        reason: Deferred,
        /// From this instant it is due again.
        until: Timestamp,
        /// Where and how the hand-over failed.
        failed: Option<Failed>,
    },
    /// contact.accepted
    ContactAccepted {
        /// The reminder.
        reminder: u64,
        /// The attempt.
        attempt: u32,
        /// What the provider has.
        handed: Handed,
        /// The provider's words.
        reply: Option<Sealed>,
        /// The steps that its items took; none where they took them when it was unknown.
        took: Took,
    },
    /// contact.rejected
    ContactRejected {
        /// The reminder.
        reminder: u64,
        /// The attempt.
        attempt: u32,
        /// Why.
        reason: Rejected,
        /// Where and how.
        failed: Failed,
        /// What was handed over, where it came to that.
        handed: Option<Handed>,
        /// The steps that its items took; none where they took them when it was unknown.
        took: Took,
    },
    /// contact.unknown
    ContactUnknown {
        /// The reminder.
        reminder: u64,
        /// The attempt.
        attempt: u32,
        /// Why.
        reason: Unknown,
        /// What was on its way, where it is known.
        handed: Option<Handed>,
        /// The steps that its items took.
        took: Took,
    },
}

impl Event {
    /// The steps of the ladder that an event leaves behind its items.
    pub fn took(&self) -> Option<&Took> {
        match self {
            Event::ContactWithheld { took, .. }
            | Event::ContactAccepted { took, .. }
            | Event::ContactRejected { took, .. }
            | Event::ContactUnknown { took, .. } => Some(took),
            _ => None,
        }
    }

    /// The contact points an event brings, where it brings any.
    pub fn contact_points(&self) -> &[ContactPoint] {
        match self {
            Event::AccountOpened(profile) => &profile.contact_points,
            Event::AccountAmended(change) => change.contact_points.as_deref().unwrap_or_default(),
            _ => &[],
        }
    }
}
