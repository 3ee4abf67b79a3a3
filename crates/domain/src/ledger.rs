//! The ledger: what is owed, what was paid and credited, and which went where.

pub mod allocation;
pub mod arising;
pub mod balance;
pub mod credit;
pub mod days;
pub mod deallocation;
pub mod invoice;
pub mod moved;
pub mod payment;
pub mod refund;

use std::{collections::BTreeSet, fmt};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use allocation::{AllocatedBy, AllocationLine, Designation, Excess};
pub use arising::ApplyCredit;
pub use balance::{AppliedAhead, Owed};
pub use credit::{CreditNoteAllocated, CreditNoteDeallocated, InvoiceCredited};
pub use invoice::{Instalment, InvoiceIssued, InvoiceVoided};
pub use moved::MovedCredit;
pub use payment::{PaymentAllocated, PaymentDeallocated, PaymentRecorded, PaymentReversed};
pub use refund::CreditRefunded;

use crate::{
    command::Context,
    document::Documents,
    dunning::{LastStep, Tone, attempt::MAX_LISTED},
    event::facts,
    ids::DocumentNumber,
    money::{Currency, Money, format_minor},
    named::named,
    refusal::refusals,
    sealed::Sealed,
};

/// Open items and unapplied credits one account can have: the limit bounds decisions, states and sums.
pub const MAX_OPEN_ITEMS: usize = 10_000;

/// Settled items whose tone an account remembers: as many as one message lists.
pub const MAX_SETTLED_TONES: usize = MAX_LISTED;

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
    /// payment.deallocated
    PaymentDeallocated,
    /// credit_note.allocated
    CreditNoteAllocated,
    /// credit_note.deallocated
    CreditNoteDeallocated,
    /// credit.refunded
    CreditRefunded,
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
            "invoice {invoice} has payments or credits applied; deallocate or reverse the payments, or credit the invoice instead";
        FailedPrecondition VoidBeforeIssue { issue_date: Date } = "VOID_BEFORE_ISSUE",
            "an invoice is not voided before its issue date {issue_date}";
        FailedPrecondition CreditBeforeInvoice { issue_date: Date } = "CREDIT_BEFORE_INVOICE",
            "a credit note is not dated before its invoice's issue date {issue_date}";
        FailedPrecondition DateInFuture { day: Date, latest: Date } = "DATE_IN_FUTURE",
            "{day} lies in the future; give the day on which it happened, {latest} at the latest";
        FailedPrecondition CurrencyMismatch { expected: Currencies, given: Currency } = "CURRENCY_MISMATCH",
            "the amount is in {given}, the account's documents are in {expected}";
        FailedPrecondition OverAllocation {
            invoice: Option<DocumentNumber>,
            currency: Currency,
            asked_minor: i128,
            available_minor: i128,
        } = "OVER_ALLOCATION",
            "{} {currency} is designated, but {}",
            major(*asked_minor, *currency), limit(invoice, *available_minor, *currency);
        FailedPrecondition BeforeCredit { counts_from: Date } = "BEFORE_CREDIT",
            "the credit counts from {counts_from}; it is not applied, taken back or refunded before that day";
        FailedPrecondition ItemNotOpen { invoice: DocumentNumber, instalment: Option<u32> } = "ITEM_NOT_OPEN",
            "nothing is open on invoice {invoice}{}", part(*instalment);
        NotFound PaymentUnknown { reference: DocumentNumber } = "PAYMENT_UNKNOWN", "the account has no payment {reference}";
        FailedPrecondition PaymentAlreadyReversed { reference: DocumentNumber } = "PAYMENT_ALREADY_REVERSED",
            "payment {reference} was reversed already";
        FailedPrecondition PaymentRefunded { reference: DocumentNumber } = "PAYMENT_REFUNDED",
            "payment {reference} was refunded, in part or whole, and can no longer be reversed; record what is owed again as an invoice";
        NotFound CreditNoteUnknown { credit_note: DocumentNumber } = "CREDIT_NOTE_UNKNOWN",
            "the account has no credit note {credit_note}";
        FailedPrecondition NothingUnapplied { reference: DocumentNumber } = "NOTHING_UNAPPLIED",
            "nothing of {reference} is unapplied";
        FailedPrecondition NothingAllocated { reference: DocumentNumber } = "NOTHING_ALLOCATED",
            "nothing of {reference} is applied";
        NotFound AllocationUnknown {
            document: DocumentNumber,
            invoice: DocumentNumber,
            instalment: Option<u32>,
        } = "ALLOCATION_UNKNOWN",
            "{document} is not applied to invoice {invoice}{}", part(*instalment);
        AlreadyExists RefundReferenceTaken { reference: DocumentNumber, same_content: bool } = "REFUND_REFERENCE_TAKEN",
            "refund reference {reference} is taken on this account{}", content(*same_content);
        FailedPrecondition RefundExceedsCredit { asked: Money, available_minor: i64 } = "REFUND_EXCEEDS_CREDIT",
            "{asked} is to be refunded, but only {} is unapplied", format_minor(*available_minor, asked.currency);
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

/// Currencies of an account, for people: `EUR, USD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Currencies(pub BTreeSet<Currency>);

impl fmt::Display for Currencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codes: Vec<&str> = self.0.iter().map(Currency::code).collect();
        f.write_str(&codes.join(", "))
    }
}

/// A sum as people write it.
fn major(minor: i128, currency: Currency) -> String {
    format_minor(minor.try_into().unwrap_or(i64::MAX), currency)
}

/// What an amount is too much for: what is open on the invoice, or without one the credit itself.
fn limit(invoice: &Option<DocumentNumber>, available_minor: i128, currency: Currency) -> String {
    let available = major(available_minor, currency);
    match invoice {
        Some(invoice) => format!("invoice {invoice} has only {available} {currency}"),
        None => format!("only {available} {currency} can be applied"),
    }
}

fn part(instalment: Option<u32>) -> String {
    instalment.map_or_else(String::new, |number| format!(", instalment {number}"))
}

/// The commands of the ledger.
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
        /// The amount of the payment.
        amount: Money,
        /// The day the payment counts from.
        value_date: Date,
        /// Empty: oldest due first.
        designations: Vec<Designation>,
        /// The rule for designated amounts that do not fit.
        excess: Excess,
        /// Nothing is applied until an allocation names the payment.
        keep_unapplied: bool,
        /// Free text.
        remittance: Option<Sealed>,
    },
    /// Applies what is unapplied of a payment.
    AllocatePayment {
        /// The payment.
        reference: DocumentNumber,
        /// Empty: oldest due first.
        designations: Vec<Designation>,
        /// The day that the allocation counts from; absent: the creditor's day of the decision.
        allocation_date: Option<Date>,
    },
    /// Takes allocations of a payment back: its money is unapplied again, and the items are open again.
    DeallocatePayment {
        /// The payment.
        reference: DocumentNumber,
        /// The invoices and instalments whose allocations are taken back; an invoice alone means all of its instalments. Empty:
        /// every allocation.
        items: Vec<(DocumentNumber, Option<u32>)>,
        /// From this day the money is unapplied again; absent: the creditor's day of the decision.
        deallocation_date: Option<Date>,
        /// Free text.
        reason: Option<Sealed>,
    },
    /// Applies what is unapplied of a credit note.
    AllocateCreditNote {
        /// The credit note.
        credit_note: DocumentNumber,
        /// Empty: oldest due first.
        designations: Vec<Designation>,
        /// The day that the allocation counts from; absent: the creditor's day of the decision.
        allocation_date: Option<Date>,
    },
    /// Takes allocations of a credit note back: its credit is unapplied again, and the items are open again.
    DeallocateCreditNote {
        /// The credit note.
        credit_note: DocumentNumber,
        /// As in [`Command::DeallocatePayment`].
        items: Vec<(DocumentNumber, Option<u32>)>,
        /// From this day the credit is unapplied again; absent: the creditor's day of the decision.
        deallocation_date: Option<Date>,
        /// Free text.
        reason: Option<Sealed>,
    },
    /// Records that unapplied credit was paid out to the debtor.
    RefundCredit {
        /// The refund's reference.
        reference: DocumentNumber,
        /// The kind of the credit's document.
        kind: CreditKind,
        /// Payment reference or credit note number.
        document: DocumentNumber,
        /// The amount that was paid out.
        amount: Money,
        /// The day the money left.
        refund_date: Date,
        /// Free text.
        reason: Option<Sealed>,
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
    /// From this day all that is open is open: from the issue date, or from the newest day on which something was taken back.
    pub open_from: Date,
    /// The rest, in minor units; positive.
    pub open: i64,
    /// The highest step of the dunning ladder that the item has taken.
    pub last_step: Option<LastStep>,
    /// The highest rung of the ladder that was used up since then by a reminder that reached nobody.
    pub tried: Option<LastStep>,
    /// The tone of the newest message that listed the item as overdue.
    pub tone_heard: Option<Tone>,
    /// The newest step, by its days after the due date, that was withheld because of the holds as they stand; the history says
    /// so.
    pub held_back: Option<i32>,
}

named!(
    /// The kind of document that left a credit.
    #[derive(PartialOrd, Ord)]
    CreditKind {
        /// A payment.
        Payment = "payment",
        /// A credit note.
        CreditNote = "credit_note",
    }
);

/// Money received or credited and not yet applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnappliedCredit {
    /// The kind of the document.
    pub kind: CreditKind,
    /// Payment reference or credit note number.
    pub document: DocumentNumber,
    /// The document's currency.
    pub currency: Currency,
    /// The day the credit counts from: all of it, where a part was taken back from items.
    pub date: Date,
    /// The rest, in minor units; positive.
    pub remaining: i64,
    /// The credit is left alone until an allocation names it.
    pub kept: bool,
}

/// The state of the ledger: open items and unapplied credit. [`MAX_OPEN_ITEMS`] bounds it, however long the history is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The open items, in the order of [`allocation::order`].
    pub items: Vec<OpenItem>,
    /// The credit that is not applied, by kind and document.
    pub credits: Vec<UnappliedCredit>,
    /// The credit that is applied to items that were not issued on the day of the decision.
    pub ahead: Vec<AppliedAhead>,
    /// Every currency ever invoiced.
    pub currencies: BTreeSet<Currency>,
    /// The firm and formal tones that settled items have heard, newest last, and [`MAX_SETTLED_TONES`] at most: a payment that
    /// is taken back opens its items again.
    pub settled_tones: Vec<(DocumentNumber, u32, Tone)>,
}

impl Ledger {
    /// The open items of a currency less its unapplied credit, in minor units.
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

    /// The open amount of one invoice, in minor units.
    pub fn open_of(&self, invoice: &DocumentNumber) -> i128 {
        self.items.iter().filter(|item| item.invoice == *invoice).map(|item| i128::from(item.open)).sum()
    }

    /// Decides a command about the ledger.
    pub fn decide(
        &self,
        documents: &dyn Documents,
        command: &Command,
        context: &Context<'_>,
    ) -> Result<Vec<Fact>, Refusal> {
        let today = context.today();
        match command {
            Command::IssueInvoice { number, total, issue_date, instalments, description } => {
                let issued = self.issue(documents, number, *total, *issue_date, instalments, description)?;
                Ok(self.with_credit_applied(vec![issued.into()], *issue_date, context))
            }
            Command::CreditInvoice { credit_note, invoice, amount, credit_date, reason } => {
                self.credit(documents, credit_note, invoice, *amount, (*credit_date, today), reason)
            }
            Command::VoidInvoice { number, void_date, reason } => {
                self.void(documents, number, (*void_date, today), reason)
            }
            Command::RecordPayment {
                reference,
                amount,
                value_date,
                designations,
                excess,
                keep_unapplied,
                remittance,
            } => {
                let to = (!keep_unapplied).then_some((designations.as_slice(), *excess));
                self.pay(documents, reference, *amount, (*value_date, today), to, remittance)
            }
            Command::AllocatePayment { reference, designations, allocation_date } => {
                let payment = payment::standing(documents, reference)?;
                let day = days::of_credit(*allocation_date, payment.free_from, today)?;
                self.allocate(documents, (CreditKind::Payment, reference), designations, (day, today))
            }
            Command::DeallocatePayment { reference, items, deallocation_date, reason } => {
                let deallocated = self.deallocate(documents, reference, items, (*deallocation_date, today), reason)?;
                let day = deallocated.deallocation_date;
                Ok(self.with_credit_applied(vec![deallocated.into()], day, context))
            }
            Command::AllocateCreditNote { credit_note, designations, allocation_date } => {
                let note = credit::known(documents, credit_note)?;
                let day = days::of_credit(*allocation_date, note.free_from, today)?;
                self.allocate(documents, (CreditKind::CreditNote, credit_note), designations, (day, today))
            }
            Command::DeallocateCreditNote { credit_note, items, deallocation_date, reason } => {
                let days = (*deallocation_date, today);
                let deallocated = self.deallocate_note(documents, credit_note, items, days, reason)?;
                let day = deallocated.deallocation_date;
                Ok(self.with_credit_applied(vec![deallocated.into()], day, context))
            }
            Command::RefundCredit { reference, kind, document, amount, refund_date, reason } => {
                self.refund(documents, reference, (*kind, document), *amount, (*refund_date, today), reason)
            }
            Command::ReversePayment { reference, reversal_date, reason } => {
                let reversed = self.reverse(documents, reference, (*reversal_date, today), reason)?;
                let day = reversed.day();
                Ok(self.with_credit_applied(vec![reversed.into()], day, context))
            }
        }
    }

    /// The ledger after a fact. Total: any fact on any ledger gives a ledger.
    pub fn evolve(&mut self, fact: &Fact) {
        match fact {
            Fact::InvoiceIssued(issued) => self.add_items(issued),
            Fact::InvoiceCredited(credited @ InvoiceCredited { credit_note, amount, lines, .. }) => {
                self.add_credit(CreditKind::CreditNote, credit_note, *amount, credited.day(), false);
                self.apply(CreditKind::CreditNote, credit_note, lines);
            }
            Fact::InvoiceVoided(InvoiceVoided { number, .. }) => self.items.retain(|item| item.invoice != *number),
            Fact::PaymentRecorded(recorded @ PaymentRecorded { reference, amount, kept, .. }) => {
                self.add_credit(CreditKind::Payment, reference, *amount, recorded.day(), *kept);
            }
            Fact::PaymentAllocated(PaymentAllocated { reference, currency, lines, decided_on, .. }) => {
                self.apply_as_decided((CreditKind::Payment, reference), *currency, lines, *decided_on);
            }
            Fact::CreditNoteAllocated(CreditNoteAllocated { credit_note, currency, lines, decided_on, .. }) => {
                self.apply_as_decided((CreditKind::CreditNote, credit_note), *currency, lines, *decided_on);
            }
            Fact::PaymentDeallocated(PaymentDeallocated { reference, currency, lines, deallocation_date, .. }) => {
                self.unapply((CreditKind::Payment, reference), *currency, lines, *deallocation_date);
            }
            Fact::CreditNoteDeallocated(CreditNoteDeallocated {
                credit_note,
                currency,
                lines,
                deallocation_date,
                ..
            }) => {
                self.unapply((CreditKind::CreditNote, credit_note), *currency, lines, *deallocation_date);
            }
            Fact::CreditRefunded(CreditRefunded { kind, document, amount, .. }) => {
                self.pay_out(*kind, document, amount.minor);
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
    let mismatch = || Refusal::CurrencyMismatch { expected: Currencies(BTreeSet::from([expected])), given };
    if expected == given { Ok(()) } else { Err(mismatch()) }
}
