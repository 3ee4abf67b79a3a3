//! What can be asked of an account. A command is well-formed by construction; whether it is allowed is [`crate::decide()`]'s to say.

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::{
    contact::{Claim, HandOver},
    event::Instalment,
    ids::DocumentNumber,
    money::Money,
    policy::Policy,
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
    /// Asks whether a reminder may be sent now, and claims it.
    StartContactAttempt {
        /// The reminder.
        reminder: u64,
        /// Drawn for this try.
        claim: Claim,
    },
    /// Says what became of an attempt.
    RecordContactOutcome {
        /// The reminder.
        reminder: u64,
        /// The attempt.
        attempt: u32,
        /// The claim it was started with.
        claim: Claim,
        /// What became of it.
        outcome: HandOver,
    },
    /// A person has the newest reminder said again that reached nobody for certain.
    RetryContact {
        /// The reminder.
        reminder: u64,
    },
    /// A person decides that a reminder is not sent, or not sent again.
    DropContact {
        /// The reminder.
        reminder: u64,
    },
}

/// What the creditor has published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The policy in force.
    pub policy: Option<Policy>,
    /// The languages that its templates are written in.
    pub languages: Vec<String>,
    /// Whether anything is sent at all. While it is off, ladders stand still.
    pub sending: bool,
}

/// Before anything was published.
pub static NO_RULES: Rules = Rules { policy: None, languages: Vec::new(), sending: false };

impl Rules {
    /// The policy by which the debtor may be spoken to; `None` while sending is off.
    pub fn speaking(&self) -> Option<&Policy> {
        self.policy.as_ref().filter(|_| self.sending)
    }
}

/// What a decision may know besides the account: never a clock of its own.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c> {
    /// The instant of the decision.
    pub now: Timestamp,
    /// What the creditor has published.
    pub rules: &'c Rules,
    /// The time zones, by their IANA names.
    pub zones: fn(&str) -> Option<TimeZone>,
}
