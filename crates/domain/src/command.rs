//! What can be asked of an account. A command is well-formed by construction; whether it is allowed is [`crate::decide`]'s to say.

use jiff::{Timestamp, civil::Date};

use crate::{
    event::Instalment,
    ids::DocumentNumber,
    money::Money,
    profile::{Profile, ProfileChange, Sealed},
};

/// The debtor's designation of what a payment settles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Designation {
    /// The invoice to settle.
    pub invoice: DocumentNumber,
    /// One instalment of it; absent: its open instalments, oldest first.
    pub instalment: Option<u32>,
    /// Minor units; positive.
    pub amount: i64,
}

/// One request to one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Opens the account.
    OpenAccount(Profile),
    /// Changes who it is.
    AmendAccount(ProfileChange),
    /// Records an invoice; the instalments are ascending and sum to the total (checked at the edge by [`crate::invoice::schedule`]).
    IssueInvoice {
        /// The creditor's number.
        number: DocumentNumber,
        /// Sum of the instalments.
        total: Money,
        /// From this day it is owed.
        issue_date: Date,
        /// At least one.
        instalments: Vec<Instalment>,
        /// Free text.
        description: Option<Sealed>,
    },
    /// Records a credit note against an invoice.
    CreditInvoice {
        /// The credit note's number.
        credit_note: DocumentNumber,
        /// The invoice it corrects.
        invoice: DocumentNumber,
        /// All of the credit.
        amount: Money,
        /// The credit note's date.
        credit_date: Date,
        /// Free text.
        reason: Option<Sealed>,
    },
    /// Takes back an invoice nothing was applied to.
    VoidInvoice {
        /// The invoice.
        number: DocumentNumber,
        /// From this day it is no longer owed.
        void_date: Date,
        /// Free text.
        reason: Option<Sealed>,
    },
    /// Records a payment and applies it.
    RecordPayment {
        /// The payment's reference.
        reference: DocumentNumber,
        /// What was paid.
        amount: Money,
        /// The day it counts from.
        value_date: Date,
        /// Empty: oldest due first.
        designations: Vec<Designation>,
        /// Free text.
        remittance: Option<Sealed>,
    },
    /// Applies what is unapplied of a payment.
    AllocatePayment {
        /// The payment.
        reference: DocumentNumber,
        /// Empty: oldest due first.
        designations: Vec<Designation>,
    },
    /// Takes a payment back.
    ReversePayment {
        /// The payment.
        reference: DocumentNumber,
        /// From this day it no longer counts.
        reversal_date: Date,
        /// Free text.
        reason: Option<Sealed>,
    },
    /// Only what time brings.
    AdvanceTime,
}

/// What a decision may know besides the account: never a clock of its own.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The instant of the decision.
    pub now: Timestamp,
}
