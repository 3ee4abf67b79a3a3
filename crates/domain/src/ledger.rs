//! The ledger: what is owed, what was paid and credited, and which went where.

pub mod allocation;
pub mod credit;
pub mod invoice;
pub mod payment;

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use allocation::{AllocatedBy, AllocationLine, Designation};
pub use credit::InvoiceCredited;
pub use invoice::{Instalment, InvoiceIssued, InvoiceVoided};
pub use payment::{PaymentAllocated, PaymentRecorded, PaymentReversed};

use crate::{
    document::Documents,
    dunning::{LastStep, Tone},
    event::facts,
    ids::DocumentNumber,
    money::{Currency, Money},
    refusal::refusals,
    sealed::Sealed,
};

/// Open items and unapplied credits one account can have: the limit bounds decisions, states and sums.
pub const MAX_OPEN_ITEMS: usize = 10_000;

facts!(Ledger {
    /// invoice.issued
    InvoiceIssued,
    /// invoice.credited
    InvoiceCredited,
    /// invoice.voided
    InvoiceVoided,
    /// payment.recorded
    PaymentRecorded,
    /// payment.allocated
    PaymentAllocated,
    /// payment.reversed
    PaymentReversed,
});

refusals! {
    /// Why a command about the ledger is not allowed.
    Refusal {
        AlreadyExists InvoiceNumberTaken { number: DocumentNumber, same_content: bool } = "INVOICE_NUMBER_TAKEN",
            "invoice number {number} is taken on this account{}", content(*same_content);
        AlreadyExists CreditNoteNumberTaken { number: DocumentNumber, same_content: bool } = "CREDIT_NOTE_NUMBER_TAKEN",
            "credit note number {number} is taken on this account{}", content(*same_content);
        AlreadyExists PaymentReferenceTaken { reference: DocumentNumber, same_content: bool } = "PAYMENT_REFERENCE_TAKEN",
            "payment reference {reference} is taken on this account{}", content(*same_content);
        NotFound InvoiceUnknown { invoice: DocumentNumber } = "INVOICE_UNKNOWN", "the account has no invoice {invoice}";
        FailedPrecondition InvoiceAlreadyVoided { invoice: DocumentNumber } = "INVOICE_VOIDED", "invoice {invoice} was voided";
        FailedPrecondition InvoiceHasAllocations { invoice: DocumentNumber } = "INVOICE_HAS_ALLOCATIONS",
            "invoice {invoice} has payments or credits applied; reverse the payments, or credit the invoice instead";
        FailedPrecondition VoidBeforeIssue { issue_date: Date } = "VOID_BEFORE_ISSUE",
            "an invoice is not voided before its issue date {issue_date}";
        FailedPrecondition CreditBeforeInvoice { issue_date: Date } = "CREDIT_BEFORE_INVOICE",
            "a credit note is not dated before its invoice's issue date {issue_date}";
        FailedPrecondition CurrencyMismatch { expected: Currency, given: Currency } = "CURRENCY_MISMATCH",
            "the amount is in {given}, the account's documents are in {expected}";
        FailedPrecondition OverAllocation { invoice: Option<DocumentNumber>, asked_minor: i128, available_minor: i128 } =
            "OVER_ALLOCATION", "{asked_minor} minor units are designated, but {} has only {available_minor}", source(invoice);
        FailedPrecondition ItemNotOpen { invoice: DocumentNumber, instalment: Option<u32> } = "ITEM_NOT_OPEN",
            "nothing is open on invoice {invoice}{}", part(*instalment);
        NotFound PaymentUnknown { reference: DocumentNumber } = "PAYMENT_UNKNOWN", "the account has no payment {reference}";
        FailedPrecondition PaymentAlreadyReversed { reference: DocumentNumber } = "PAYMENT_ALREADY_REVERSED",
            "payment {reference} was reversed already";
        FailedPrecondition NothingUnapplied { reference: DocumentNumber } = "NOTHING_UNAPPLIED",
            "nothing of payment {reference} is unapplied";
        FailedPrecondition NothingOpen { currency: Currency } = "NOTHING_OPEN", "nothing is open in {currency}";
        FailedPrecondition ReversalBeforePayment { value_date: Date } = "REVERSAL_BEFORE_PAYMENT",
            "a payment is not reversed before its value date {value_date}";
        FailedPrecondition TooManyOpenItems = "TOO_MANY_OPEN_ITEMS", "the account would have more than {} open items", MAX_OPEN_ITEMS;
    }
}

/// Where the same document stands already, which is no fault of a repeated import.
fn content(same: bool) -> &'static str {
    if same { ", by a document with the same content" } else { "" }
}

fn source(invoice: &Option<DocumentNumber>) -> String {
    invoice.as_ref().map_or_else(|| "the payment".to_owned(), |invoice| format!("invoice {invoice}"))
}

fn part(instalment: Option<u32>) -> String {
    instalment.map_or_else(String::new, |number| format!(", instalment {number}"))
}

/// What can be asked of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Records an invoice. The instalments ascend and sum to the total; [`invoice::schedule`] makes them so.
    IssueInvoice {
        /// The creditor's number.
        number: DocumentNumber,
        /// Sum of the instalments.
        total: Money,
        /// From this day the invoice is owed.
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
        /// The invoice that the credit note corrects.
        invoice: DocumentNumber,
        /// The whole credit.
        amount: Money,
        /// The credit note's date.
        credit_date: Date,
        /// Free text.
        reason: Option<Sealed>,
    },
    /// Takes back an invoice that nothing was applied to.
    VoidInvoice {
        /// The invoice.
        number: DocumentNumber,
        /// From this day the invoice is no longer owed.
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
        /// The day the payment counts from.
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
        /// From this day the payment no longer counts.
        reversal_date: Date,
        /// Free text.
        reason: Option<Sealed>,
    },
}

/// An instalment not fully settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenItem {
    /// The item's invoice.
    pub invoice: DocumentNumber,
    /// The instalment's number in the invoice, from 1.
    pub instalment: u32,
    /// The invoice's currency.
    pub currency: Currency,
    /// The invoice's issue date.
    pub issue_date: Date,
    /// The day the item falls due.
    pub due_date: Date,
    /// What is left, in minor units; positive.
    pub open: i64,
    /// The highest step of the dunning ladder that the item has taken.
    pub last_step: Option<LastStep>,
    /// The highest rung of the ladder that was used up since then by a reminder that reached nobody.
    pub tried: Option<LastStep>,
    /// The tone of the newest message that listed the item as overdue.
    pub tone_heard: Option<Tone>,
    /// The item's next step was withheld because of a hold, and the history says so.
    pub held_back: bool,
}

/// What kind of document left a credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CreditKind {
    /// A payment.
    Payment,
    /// A credit note.
    CreditNote,
}

/// Money received or credited and not yet applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnappliedCredit {
    /// The kind of the document.
    pub kind: CreditKind,
    /// Payment reference or credit note number.
    pub document: DocumentNumber,
    /// The document's currency.
    pub currency: Currency,
    /// What is left, in minor units; positive.
    pub remaining: i64,
}

/// What is open and what is unapplied: bounded by [`MAX_OPEN_ITEMS`], never by the length of the history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// What is open, in the order of [`allocation::order`].
    pub items: Vec<OpenItem>,
    /// What is not applied, by kind and document.
    pub credits: Vec<UnappliedCredit>,
    /// Every currency ever invoiced.
    pub currencies: BTreeSet<Currency>,
}

impl Ledger {
    /// What is open in a currency less what is unapplied, in minor units.
    pub fn balance(&self, currency: Currency) -> i128 {
        let open: i128 =
            self.items.iter().filter(|item| item.currency == currency).map(|item| i128::from(item.open)).sum();
        let credit: i128 = self
            .credits
            .iter()
            .filter(|credit| credit.currency == currency)
            .map(|credit| i128::from(credit.remaining))
            .sum();
        open - credit
    }

    /// What is open of one invoice, in minor units.
    pub fn open_of(&self, invoice: &DocumentNumber) -> i128 {
        self.items.iter().filter(|item| item.invoice == *invoice).map(|item| i128::from(item.open)).sum()
    }

    /// Decides a command about the ledger.
    pub fn decide(&self, documents: &dyn Documents, command: &Command) -> Result<Vec<Fact>, Refusal> {
        match command {
            Command::IssueInvoice { number, total, issue_date, instalments, description } => {
                self.issue(documents, number, *total, *issue_date, instalments, description)
            }
            Command::CreditInvoice { credit_note, invoice, amount, credit_date, reason } => {
                self.credit(documents, credit_note, invoice, *amount, *credit_date, reason)
            }
            Command::VoidInvoice { number, void_date, reason } => self.void(documents, number, *void_date, reason),
            Command::RecordPayment { reference, amount, value_date, designations, remittance } => {
                self.pay(documents, reference, *amount, *value_date, designations, remittance)
            }
            Command::AllocatePayment { reference, designations } => self.allocate(documents, reference, designations),
            Command::ReversePayment { reference, reversal_date, reason } => {
                self.reverse(documents, reference, *reversal_date, reason)
            }
        }
    }

    /// The ledger after a fact. Total: any fact on any ledger gives a ledger.
    pub fn evolve(&mut self, fact: &Fact) {
        match fact {
            Fact::InvoiceIssued(issued) => self.add_items(issued),
            Fact::InvoiceCredited(InvoiceCredited { credit_note, amount, lines, .. }) => {
                self.add_credit(CreditKind::CreditNote, credit_note, *amount);
                self.apply(CreditKind::CreditNote, credit_note, lines);
            }
            Fact::InvoiceVoided(InvoiceVoided { number, .. }) => self.items.retain(|item| item.invoice != *number),
            Fact::PaymentRecorded(PaymentRecorded { reference, amount, .. }) => {
                self.add_credit(CreditKind::Payment, reference, *amount);
            }
            Fact::PaymentAllocated(PaymentAllocated { reference, lines, .. }) => {
                self.apply(CreditKind::Payment, reference, lines);
            }
            Fact::PaymentReversed(reversed) => self.take_back(reversed),
        }
    }

    /// The credits stay within the limit that keeps sums of amounts within `i64`.
    fn room_for_credit(&self) -> Result<(), Refusal> {
        if self.credits.len() < MAX_OPEN_ITEMS { Ok(()) } else { Err(Refusal::TooManyOpenItems) }
    }

    fn room_for_items(&self, more: usize) -> Result<(), Refusal> {
        let fits = self.items.len().saturating_add(more) <= MAX_OPEN_ITEMS;
        if fits { Ok(()) } else { Err(Refusal::TooManyOpenItems) }
    }
}

fn same_currency(expected: Currency, given: Currency) -> Result<(), Refusal> {
    if expected == given { Ok(()) } else { Err(Refusal::CurrencyMismatch { expected, given }) }
}
