//! What a command brings about on the account as it stands.

use jiff::civil::Date;

use crate::{
    account::{Account, CreditKind, MAX_OPEN_ITEMS},
    allocation,
    command::{Command, Context, Designation},
    contact::Rung,
    document::{Document, DocumentKey, DocumentKind, Documents},
    event::{AllocatedBy, AllocationLine, Event, Instalment},
    evolve::evolve,
    ids::DocumentNumber,
    money::{Currency, Money},
    profile::Sealed,
    refusal::Refusal,
    speak,
    time::advance,
};

/// What one commit will say: what time brought, then what the command did, or why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// In order.
    pub events: Vec<Event>,
    /// Present where the command itself was refused; what time brought stands.
    pub refusal: Option<Refusal>,
}

/// Lets happen what is due at `context.now`, then decides the command on what that leaves.
pub fn handle(account: &Account, documents: &dyn Documents, command: &Command, context: &Context<'_>) -> Decision {
    let mut events = advance(account, context);
    let mut now = account.clone();
    events.iter().for_each(|event| evolve(&mut now, event));
    match decide(&now, documents, command, context) {
        Ok(new) => {
            events.extend(new);
            Decision { events, refusal: None }
        }
        Err(refusal) => Decision { events, refusal: Some(refusal) },
    }
}

/// Decides the command alone.
pub fn decide(
    account: &Account,
    documents: &dyn Documents,
    command: &Command,
    context: &Context<'_>,
) -> Result<Vec<Event>, Refusal> {
    match (command, &account.profile) {
        (Command::OpenAccount(_), Some(_)) => return Err(Refusal::AccountAlreadyOpen),
        (Command::OpenAccount(profile), None) => return Ok(vec![Event::AccountOpened(profile.clone())]),
        (_, None) => return Err(Refusal::AccountUnknown),
        _ => {}
    }
    match command {
        Command::OpenAccount(_) | Command::AdvanceTime => Ok(Vec::new()),
        Command::AmendAccount(change) => Ok(vec![Event::AccountAmended(change.clone())]),
        Command::IssueInvoice { number, total, issue_date, instalments, description } => {
            issue(account, documents, number, *total, *issue_date, instalments, description)
        }
        Command::CreditInvoice { credit_note, invoice, amount, credit_date, reason } => {
            credit(account, documents, credit_note, invoice, *amount, *credit_date, reason)
        }
        Command::VoidInvoice { number, void_date, reason } => void(account, documents, number, *void_date, reason),
        Command::RecordPayment { reference, amount, value_date, designations, remittance } => {
            pay(account, documents, reference, *amount, *value_date, designations, remittance)
        }
        Command::AllocatePayment { reference, designations } => allocate(account, documents, reference, designations),
        Command::ReversePayment { reference, reversal_date, reason } => {
            reverse(account, documents, reference, *reversal_date, reason)
        }
        Command::StartContactAttempt { reminder, claim } => speak::start(account, *reminder, *claim, context),
        Command::RecordContactOutcome { reminder, attempt, claim, outcome } => {
            speak::settle(account, (*reminder, *attempt, *claim), outcome, context)
        }
        Command::RetryContact { reminder } => speak::retry(account, *reminder, context),
        Command::DropContact { reminder } => speak::give_up(account, *reminder, context),
    }
}

fn look(documents: &dyn Documents, kind: DocumentKind, number: &DocumentNumber) -> Option<Document> {
    documents.get(&DocumentKey { kind, number: number.clone() })
}

fn issue(
    account: &Account,
    documents: &dyn Documents,
    number: &DocumentNumber,
    total: Money,
    issue_date: Date,
    instalments: &[Instalment],
    description: &Option<Sealed>,
) -> Result<Vec<Event>, Refusal> {
    if let Some(known) = look(documents, DocumentKind::Invoice, number) {
        let same_content = matches!(&known,
            Document::Invoice { total: t, issue_date: d, instalments: i, voided: false, .. }
                if *t == total && *d == issue_date && i == instalments);
        return Err(Refusal::InvoiceNumberTaken { number: number.clone(), same_content });
    }
    if account.items.len().saturating_add(instalments.len()) > MAX_OPEN_ITEMS {
        return Err(Refusal::TooManyOpenItems);
    }
    Ok(vec![Event::InvoiceIssued {
        number: number.clone(),
        total,
        issue_date,
        instalments: instalments.to_vec(),
        description: description.clone(),
    }])
}

fn credit(
    account: &Account,
    documents: &dyn Documents,
    credit_note: &DocumentNumber,
    invoice: &DocumentNumber,
    amount: Money,
    credit_date: Date,
    reason: &Option<Sealed>,
) -> Result<Vec<Event>, Refusal> {
    if let Some(known) = look(documents, DocumentKind::CreditNote, credit_note) {
        let new = Document::CreditNote { invoice: invoice.clone(), amount, credit_date };
        return Err(Refusal::CreditNoteNumberTaken { number: credit_note.clone(), same_content: known == new });
    }
    let (total, issue_date) = standing_invoice(documents, invoice)?;
    same_currency(total.currency, amount.currency)?;
    if credit_date < issue_date {
        return Err(Refusal::CreditBeforeInvoice { issue_date });
    }
    room_for_credit(account)?;
    let items = account.items.iter().filter(|item| item.invoice == *invoice);
    let lines = allocation::oldest_first(items, amount.minor, credit_date);
    Ok(vec![Event::InvoiceCredited {
        credit_note: credit_note.clone(),
        invoice: invoice.clone(),
        amount,
        credit_date,
        lines,
        reason: reason.clone(),
    }])
}

fn void(
    account: &Account,
    documents: &dyn Documents,
    number: &DocumentNumber,
    void_date: Date,
    reason: &Option<Sealed>,
) -> Result<Vec<Event>, Refusal> {
    let (total, issue_date) = standing_invoice(documents, number)?;
    if void_date < issue_date {
        return Err(Refusal::VoidBeforeIssue { issue_date });
    }
    if account.open_of(number) != i128::from(total.minor) {
        return Err(Refusal::InvoiceHasAllocations { invoice: number.clone() });
    }
    let items = account.items.iter().filter(|item| item.invoice == *number);
    let mut instalments: Vec<Instalment> =
        items.map(|item| Instalment { number: item.instalment, due_date: item.due_date, amount: item.open }).collect();
    instalments.sort_by_key(|instalment| instalment.number);
    Ok(vec![Event::InvoiceVoided {
        number: number.clone(),
        currency: total.currency,
        void_date,
        instalments,
        reason: reason.clone(),
    }])
}

fn pay(
    account: &Account,
    documents: &dyn Documents,
    reference: &DocumentNumber,
    amount: Money,
    value_date: Date,
    designations: &[Designation],
    remittance: &Option<Sealed>,
) -> Result<Vec<Event>, Refusal> {
    if let Some(known) = look(documents, DocumentKind::Payment, reference) {
        let same_content = matches!(&known,
            Document::Payment { amount: a, value_date: d, lines, reversed: false }
                if *a == amount && *d == value_date && designations.iter().all(|one| stands(lines, one)));
        return Err(Refusal::PaymentReferenceTaken { reference: reference.clone(), same_content });
    }
    if let (false, Some(expected)) = (account.currencies.contains(&amount.currency), account.currencies.first()) {
        return Err(Refusal::CurrencyMismatch { expected: *expected, given: amount.currency });
    }
    room_for_credit(account)?;
    let (allocated_by, lines) = place(account, documents, designations, amount.currency, amount.minor, value_date)?;
    let mut events = vec![Event::PaymentRecorded {
        reference: reference.clone(),
        amount,
        value_date,
        remittance: remittance.clone(),
    }];
    if !lines.is_empty() {
        events.push(Event::PaymentAllocated {
            reference: reference.clone(),
            currency: amount.currency,
            allocated_by,
            lines,
        });
    }
    Ok(events)
}

/// Whether what was designated is among what was applied.
fn stands(lines: &[AllocationLine], designation: &Designation) -> bool {
    let of_it = lines.iter().filter(|line| {
        line.invoice == designation.invoice && designation.instalment.is_none_or(|number| number == line.instalment)
    });
    of_it.map(|line| i128::from(line.amount)).sum::<i128>() >= i128::from(designation.amount)
}

fn allocate(
    account: &Account,
    documents: &dyn Documents,
    reference: &DocumentNumber,
    designations: &[Designation],
) -> Result<Vec<Event>, Refusal> {
    let (amount, value_date, _) = standing_payment(documents, reference)?;
    let available = unapplied(account, reference);
    if available == 0 {
        return Err(Refusal::NothingUnapplied { reference: reference.clone() });
    }
    let (allocated_by, lines) = place(account, documents, designations, amount.currency, available, value_date)?;
    if lines.is_empty() {
        return Err(Refusal::NothingOpen { currency: amount.currency });
    }
    Ok(vec![Event::PaymentAllocated { reference: reference.clone(), currency: amount.currency, allocated_by, lines }])
}

fn reverse(
    account: &Account,
    documents: &dyn Documents,
    reference: &DocumentNumber,
    reversal_date: Date,
    reason: &Option<Sealed>,
) -> Result<Vec<Event>, Refusal> {
    let (amount, value_date, lines) = standing_payment(documents, reference)?;
    if reversal_date < value_date {
        return Err(Refusal::ReversalBeforePayment { value_date });
    }
    if account.items.len().saturating_add(lines.len()) > MAX_OPEN_ITEMS {
        return Err(Refusal::TooManyOpenItems);
    }
    let lines = lines.into_iter().map(|line| AllocationLine { rung: rung(documents, &line), ..line });
    Ok(vec![Event::PaymentReversed {
        reference: reference.clone(),
        amount,
        reversal_date,
        lines: lines.collect(),
        unapplied: unapplied(account, reference),
        reason: reason.clone(),
    }])
}

/// Where money goes, and who decided.
fn place(
    account: &Account,
    documents: &dyn Documents,
    designations: &[Designation],
    currency: Currency,
    available: i64,
    value_date: Date,
) -> Result<(AllocatedBy, Vec<AllocationLine>), Refusal> {
    if designations.is_empty() {
        let items = account.items.iter().filter(|item| item.currency == currency);
        return Ok((AllocatedBy::OldestDueFirst, allocation::oldest_first(items, available, value_date)));
    }
    let lines = allocation::designated(account, documents, designations, currency, available, value_date)?;
    Ok((AllocatedBy::Designation, lines))
}

/// Where an instalment that opens again goes on with the ladder.
fn rung(documents: &dyn Documents, line: &AllocationLine) -> Option<Rung> {
    match look(documents, DocumentKind::Invoice, &line.invoice) {
        Some(Document::Invoice { rungs, .. }) => {
            rungs.iter().find(|(instalment, _)| *instalment == line.instalment).map(|(_, rung)| *rung)
        }
        _ => None,
    }
}

fn standing_invoice(documents: &dyn Documents, number: &DocumentNumber) -> Result<(Money, Date), Refusal> {
    match look(documents, DocumentKind::Invoice, number) {
        Some(Document::Invoice { voided: true, .. }) => Err(Refusal::InvoiceVoided { invoice: number.clone() }),
        Some(Document::Invoice { total, issue_date, .. }) => Ok((total, issue_date)),
        _ => Err(Refusal::InvoiceUnknown { invoice: number.clone() }),
    }
}

fn standing_payment(
    documents: &dyn Documents,
    reference: &DocumentNumber,
) -> Result<(Money, Date, Vec<AllocationLine>), Refusal> {
    match look(documents, DocumentKind::Payment, reference) {
        Some(Document::Payment { reversed: true, .. }) => {
            Err(Refusal::PaymentAlreadyReversed { reference: reference.clone() })
        }
        Some(Document::Payment { amount, value_date, lines, .. }) => Ok((amount, value_date, lines)),
        _ => Err(Refusal::PaymentUnknown { reference: reference.clone() }),
    }
}

/// Sums of amounts stay within `i64`: the number of credits is limited as that of items is.
fn room_for_credit(account: &Account) -> Result<(), Refusal> {
    if account.credits.len() < MAX_OPEN_ITEMS { Ok(()) } else { Err(Refusal::TooManyOpenItems) }
}

fn unapplied(account: &Account, reference: &DocumentNumber) -> i64 {
    let mut own =
        account.credits.iter().filter(|credit| credit.kind == CreditKind::Payment && credit.document == *reference);
    own.next().map_or(0, |credit| credit.remaining)
}

fn same_currency(expected: Currency, given: Currency) -> Result<(), Refusal> {
    if expected == given { Ok(()) } else { Err(Refusal::CurrencyMismatch { expected, given }) }
}
