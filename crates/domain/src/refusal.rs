//! "No", said by the domain. A refusal is an answer; a failure of the system is none of these.

use jiff::civil::Date;

use crate::{account::MAX_OPEN_ITEMS, ids::DocumentNumber, money::Currency};

/// What class of "no" it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// What was named is not there.
    NotFound,
    /// What was to be made is there already.
    AlreadyExists,
    /// The state does not allow it.
    FailedPrecondition,
}

/// Why a command is not allowed on the account as it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each means; fields are named for what they hold")]
pub enum Refusal {
    #[error("the account does not exist; open it first")]
    AccountUnknown,
    #[error("the account is open already; amend it instead")]
    AccountAlreadyOpen,
    #[error("invoice number {number} is taken on this account")]
    InvoiceNumberTaken { number: DocumentNumber, same_content: bool },
    #[error("credit note number {number} is taken on this account")]
    CreditNoteNumberTaken { number: DocumentNumber, same_content: bool },
    #[error("payment reference {reference} is taken on this account")]
    PaymentReferenceTaken { reference: DocumentNumber, same_content: bool },
    #[error("the account has no invoice {invoice}")]
    InvoiceUnknown { invoice: DocumentNumber },
    #[error("invoice {invoice} was voided")]
    InvoiceVoided { invoice: DocumentNumber },
    #[error("invoice {invoice} has payments or credits applied; reverse the payments, or credit the invoice instead")]
    InvoiceHasAllocations { invoice: DocumentNumber },
    #[error("an invoice is not voided before its issue date {issue_date}")]
    VoidBeforeIssue { issue_date: Date },
    #[error("a credit note is not dated before its invoice's issue date {issue_date}")]
    CreditBeforeInvoice { issue_date: Date },
    #[error("the amount is in {given}, the account's documents are in {expected}")]
    CurrencyMismatch { expected: Currency, given: Currency },
    #[error("{asked} minor units are designated, but {what} has only {available}")]
    OverAllocation { what: String, asked: i128, available: i128 },
    #[error("nothing is open on invoice {invoice}{}", instalment.map(|n| format!(", instalment {n}")).unwrap_or_default())]
    ItemNotOpen { invoice: DocumentNumber, instalment: Option<u32> },
    #[error("the account has no payment {reference}")]
    PaymentUnknown { reference: DocumentNumber },
    #[error("payment {reference} was reversed already")]
    PaymentAlreadyReversed { reference: DocumentNumber },
    #[error("nothing of payment {reference} is unapplied")]
    NothingUnapplied { reference: DocumentNumber },
    #[error("nothing is open in {currency}")]
    NothingOpen { currency: Currency },
    #[error("a payment is not reversed before its value date {value_date}")]
    ReversalBeforePayment { value_date: Date },
    #[error("the account would have more than {MAX_OPEN_ITEMS} open items")]
    TooManyOpenItems,
    #[error("the account has no reminder {reminder}")]
    ReminderUnknown { reminder: u64 },
    #[error("attempt {attempt} of reminder {reminder} is not this caller's, or has its outcome already")]
    AttemptClosed { reminder: u64, attempt: u32 },
    #[error("reminder {reminder} is on its way; its outcome comes first")]
    AttemptUnderWay { reminder: u64 },
    #[error("reminder {reminder} is not open, and not the newest that reached nobody for certain")]
    NothingToSettle { reminder: u64 },
    #[error("sending is off, or no policy is published; switch it on first")]
    SendingOff,
}

impl Refusal {
    /// A stable name for machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::AccountUnknown => "ACCOUNT_UNKNOWN",
            Refusal::AccountAlreadyOpen => "ACCOUNT_ALREADY_OPEN",
            Refusal::InvoiceNumberTaken { .. } => "INVOICE_NUMBER_TAKEN",
            Refusal::CreditNoteNumberTaken { .. } => "CREDIT_NOTE_NUMBER_TAKEN",
            Refusal::PaymentReferenceTaken { .. } => "PAYMENT_REFERENCE_TAKEN",
            Refusal::InvoiceUnknown { .. } => "INVOICE_UNKNOWN",
            Refusal::InvoiceVoided { .. } => "INVOICE_VOIDED",
            Refusal::InvoiceHasAllocations { .. } => "INVOICE_HAS_ALLOCATIONS",
            Refusal::VoidBeforeIssue { .. } => "VOID_BEFORE_ISSUE",
            Refusal::CreditBeforeInvoice { .. } => "CREDIT_BEFORE_INVOICE",
            Refusal::CurrencyMismatch { .. } => "CURRENCY_MISMATCH",
            Refusal::OverAllocation { .. } => "OVER_ALLOCATION",
            Refusal::ItemNotOpen { .. } => "ITEM_NOT_OPEN",
            Refusal::PaymentUnknown { .. } => "PAYMENT_UNKNOWN",
            Refusal::PaymentAlreadyReversed { .. } => "PAYMENT_ALREADY_REVERSED",
            Refusal::NothingUnapplied { .. } => "NOTHING_UNAPPLIED",
            Refusal::NothingOpen { .. } => "NOTHING_OPEN",
            Refusal::ReversalBeforePayment { .. } => "REVERSAL_BEFORE_PAYMENT",
            Refusal::TooManyOpenItems => "TOO_MANY_OPEN_ITEMS",
            Refusal::ReminderUnknown { .. } => "REMINDER_UNKNOWN",
            Refusal::AttemptClosed { .. } => "ATTEMPT_CLOSED",
            Refusal::AttemptUnderWay { .. } => "ATTEMPT_UNDER_WAY",
            Refusal::NothingToSettle { .. } => "NOTHING_TO_SETTLE",
            Refusal::SendingOff => "SENDING_OFF",
        }
    }

    /// The class of a reason, also one read back from the log.
    pub fn kind_of(reason: &str) -> RefusalKind {
        match reason {
            "ACCOUNT_UNKNOWN" | "INVOICE_UNKNOWN" | "PAYMENT_UNKNOWN" | "REMINDER_UNKNOWN" => RefusalKind::NotFound,
            "ACCOUNT_ALREADY_OPEN"
            | "INVOICE_NUMBER_TAKEN"
            | "CREDIT_NOTE_NUMBER_TAKEN"
            | "PAYMENT_REFERENCE_TAKEN" => RefusalKind::AlreadyExists,
            _ => RefusalKind::FailedPrecondition,
        }
    }

    /// Its class.
    pub fn kind(&self) -> RefusalKind {
        Self::kind_of(self.reason())
    }

    /// Named details for machines.
    pub fn details(&self) -> Vec<(&'static str, String)> {
        match self {
            Refusal::InvoiceNumberTaken { number, same_content }
            | Refusal::CreditNoteNumberTaken { number, same_content } => {
                vec![("number", number.to_string()), ("same_content", same_content.to_string())]
            }
            Refusal::PaymentReferenceTaken { reference, same_content } => {
                vec![("reference", reference.to_string()), ("same_content", same_content.to_string())]
            }
            Refusal::InvoiceUnknown { invoice }
            | Refusal::InvoiceVoided { invoice }
            | Refusal::InvoiceHasAllocations { invoice } => vec![("invoice", invoice.to_string())],
            Refusal::VoidBeforeIssue { issue_date } | Refusal::CreditBeforeInvoice { issue_date } => {
                vec![("issue_date", issue_date.to_string())]
            }
            Refusal::CurrencyMismatch { expected, given } => {
                vec![("expected", expected.to_string()), ("given", given.to_string())]
            }
            Refusal::OverAllocation { asked, available, .. } => {
                vec![("asked_minor", asked.to_string()), ("available_minor", available.to_string())]
            }
            Refusal::ItemNotOpen { invoice, instalment } => {
                let mut details = vec![("invoice", invoice.to_string())];
                details.extend(instalment.map(|number| ("instalment", number.to_string())));
                details
            }
            Refusal::PaymentUnknown { reference }
            | Refusal::PaymentAlreadyReversed { reference }
            | Refusal::NothingUnapplied { reference } => vec![("reference", reference.to_string())],
            Refusal::NothingOpen { currency } => vec![("currency", currency.to_string())],
            Refusal::ReversalBeforePayment { value_date } => vec![("value_date", value_date.to_string())],
            Refusal::ReminderUnknown { reminder }
            | Refusal::AttemptUnderWay { reminder }
            | Refusal::NothingToSettle { reminder } => vec![("reminder", reminder.to_string())],
            Refusal::AttemptClosed { reminder, attempt } => {
                vec![("reminder", reminder.to_string()), ("attempt", attempt.to_string())]
            }
            Refusal::AccountUnknown | Refusal::AccountAlreadyOpen | Refusal::TooManyOpenItems | Refusal::SendingOff => {
                Vec::new()
            }
        }
    }
}
