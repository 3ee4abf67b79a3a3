//! Credit of a payment or a credit note: applied, taken back, paid out, and shown. Both kinds have the same acts.

use std::process::ExitCode;

use anstream::println;
use clap::Args;
use jiff::civil::Date;
use saldo_api::v1::{self, refund_credit_request::Credit};
use saldo_domain::{
    ledger::CreditKind,
    money::{Currency, Money},
};
use saldo_facts::date_to_api;
use serde_json::{Value, json};

use super::{
    change::{Change, Changing, ask},
    invoice::{allocation_as_json, allocations},
    moved,
    values::{self, AsOf, Part},
};
use crate::{
    Failure, Outcome,
    client::{Clients, Target},
    terminal::table,
};

/// What the credit came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Payment,
    CreditNote,
}

impl Source {
    /// As the services name it, and as a field of JSON.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Payment => CreditKind::Payment.name(),
            Self::CreditNote => CreditKind::CreditNote.name(),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::CreditNote => "credit note",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Payment => "saldo payment",
            Self::CreditNote => "saldo credit-note",
        }
    }
}

#[derive(Args)]
pub struct Allocate {
    /// The account.
    account: String,
    /// The payment's reference, or the credit note's number.
    number: String,
    /// Settle this invoice, or one instalment of it, with this part; may be repeated.
    #[arg(long, value_name = "INVOICE[#INSTALMENT]=AMOUNT", value_parser = values::part)]
    to: Vec<Part>,
    /// The day that the allocation counts from, not before the day of the credit; absent: today.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = values::day)]
    on: Option<Date>,
    #[command(flatten)]
    change: Change,
}

#[derive(Args)]
pub struct Deallocate {
    /// The account.
    account: String,
    /// The payment's reference, or the credit note's number.
    number: String,
    /// Only what settles this invoice, or one instalment of it; may be repeated. Without it all of the credit.
    #[arg(long, value_name = "INVOICE[#INSTALMENT]", value_parser = values::item)]
    from: Vec<v1::AllocatedItem>,
    /// From this day the credit is unapplied again, not before the day of the credit; absent: today.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = values::day)]
    on: Option<Date>,
    /// Free text; it is kept sealed.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Args)]
pub struct Refund {
    /// The account.
    account: String,
    /// The payment's reference, or the credit note's number.
    number: String,
    /// What was paid out, with its currency, for example '25.00 EUR'.
    #[arg(value_parser = values::amount)]
    amount: Money,
    /// The refund's own reference, unique on the account.
    #[arg(long, value_name = "REFERENCE")]
    refund: String,
    /// The day the money left.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = values::day)]
    on: Date,
    /// Free text; it is kept sealed.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Args)]
pub struct Show {
    /// The account.
    account: String,
    /// The payment's reference, or the credit note's number.
    number: String,
    #[command(flatten)]
    view: AsOf,
    /// Print JSON, amounts in minor units.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// What is to be settled, in minor units of this currency.
pub fn designations(parts: &[Part], currency: Currency) -> Result<Vec<v1::Allocation>, String> {
    parts.iter().map(|part| part.of_payment_in(currency)).collect()
}

impl Allocate {
    pub async fn run(self, source: Source) -> Outcome {
        let changing = self.change.connect().await?;
        let (account_id, number) = (self.account.clone(), self.number.clone());
        let allocations = match self.to.is_empty() {
            true => Vec::new(),
            false => {
                // The request names minor units of the credit's currency.
                let amount = look(&changing.clients, source, &account_id, &number, AsOf::default()).await?.amount;
                let currency = Currency::new(&amount.unwrap_or_default().currency).map_err(|rule| rule.to_string())?;
                designations(&self.to, currency)?
            }
        };
        let (request_id, allocation_date) = (changing.request_id(), self.on.map(date_to_api));
        let answer = match source {
            Source::Payment => {
                let reference = number;
                let request =
                    v1::AllocatePaymentRequest { request_id, account_id, reference, allocations, allocation_date };
                changing.send(request).await?
            }
            Source::CreditNote => {
                let request = v1::AllocateCreditNoteRequest {
                    request_id,
                    account_id,
                    credit_note_number: number,
                    allocations,
                    allocation_date,
                };
                changing.send(request).await?
            }
        };
        let text = format!("{} {} of {} is applied", source.words(), self.number, self.account);
        moved_and_printed(&changing, &answer, (source, &self.number), &text)
    }
}

impl Deallocate {
    pub async fn run(self, source: Source) -> Outcome {
        let changing = self.change.connect().await?;
        let (request_id, account_id, items) = (changing.request_id(), self.account.clone(), self.from);
        let (deallocation_date, reason) = (self.on.map(date_to_api), self.reason);
        let answer = match source {
            Source::Payment => {
                let reference = self.number.clone();
                let request = v1::DeallocatePaymentRequest {
                    request_id,
                    account_id,
                    reference,
                    items,
                    deallocation_date,
                    reason,
                };
                changing.send(request).await?
            }
            Source::CreditNote => {
                let credit_note_number = self.number.clone();
                let request = v1::DeallocateCreditNoteRequest {
                    request_id,
                    account_id,
                    credit_note_number,
                    items,
                    deallocation_date,
                    reason,
                };
                changing.send(request).await?
            }
        };
        let text = format!(
            "allocations of {} {} of {} are taken back; it stays unapplied until `{} allocate {} {}`",
            source.words(),
            self.number,
            self.account,
            source.command(),
            self.account,
            self.number
        );
        moved_and_printed(&changing, &answer, (source, &self.number), &text)
    }
}

impl Refund {
    pub async fn run(self, source: Source) -> Outcome {
        let Money { minor, currency } = self.amount;
        let changing = self.change.connect().await?;
        let credit = match source {
            Source::Payment => Credit::PaymentReference(self.number.clone()),
            Source::CreditNote => Credit::CreditNoteNumber(self.number.clone()),
        };
        let request = v1::RefundCreditRequest {
            request_id: changing.request_id(),
            account_id: self.account.clone(),
            reference: self.refund.clone(),
            amount: Some(v1::Money { minor_units: minor, currency: currency.to_string() }),
            refund_date: Some(date_to_api(self.on)),
            reason: self.reason,
            credit: Some(credit),
        };
        let answer = changing.send_naming(request, &[("reference", "--refund")]).await?;
        let day = table::day(answer.effective_date.as_ref());
        let text = format!(
            "refund {} of {} out of {} {} is recorded from {day} on",
            self.refund,
            self.amount,
            source.words(),
            self.number
        );
        let fields = json!({ source.kind(): self.number, "refund": self.refund, "effective_date": day });
        changing.print(&answer, fields, text)
    }
}

/// Prints what a command did to the credit of a document, with where it went.
pub fn moved_and_printed(
    changing: &Changing,
    answer: &v1::CommandResponse,
    (source, number): (Source, &str),
    text: &str,
) -> Outcome {
    let mut fields = json!({ source.kind(): number });
    moved::add(&mut fields, answer);
    changing.print(answer, fields, format!("{text}{}", moved::told(answer, Some((source, number)))))
}

/// Prints a payment or a credit note that was recorded just now: where it went, and what is left of it.
pub fn recorded_and_printed(
    changing: &Changing,
    answer: &v1::CommandResponse,
    (source, account, number): (Source, &str, &str),
    (amount, day): (Money, Date),
    text: &str,
) -> Outcome {
    let left = moved::unapplied(amount.minor, answer);
    let counts_from = answer.effective_date.filter(|from| *from != date_to_api(day));
    let from = counts_from.map(|from| format!("; it counts from {}", table::day(Some(&from)))).unwrap_or_default();
    let unapplied = match Money::positive(left, amount.currency) {
        Ok(left) => {
            format!("{left} of it is unapplied; `{} allocate {account} {number}` applies it", source.command())
        }
        Err(_) => "all of it is applied".to_owned(),
    };
    let mut fields = json!({ source.kind(): number, "unapplied_minor": left, "currency": amount.currency.code() });
    moved::add(&mut fields, answer);
    let tables = moved::told(answer, Some((source, number)));
    changing.print(answer, fields, format!("{text}{from}{tables}\n\n{unapplied}"))
}

/// A payment or a credit note as it stands.
struct Standing {
    source: Source,
    account: String,
    number: String,
    amount: Option<v1::Money>,
    day: Option<v1::Date>,
    /// The invoice that a credit note corrects.
    invoice: Option<String>,
    reversed_on: Option<v1::Date>,
    unapplied_minor: i64,
    allocations: Vec<v1::AllocationView>,
    refunds: Vec<v1::RefundView>,
    as_of: Option<v1::Date>,
}

async fn look(clients: &Clients, source: Source, account: &str, number: &str, view: AsOf) -> Result<Standing, Failure> {
    let (account_id, as_of, known_at) = (account.to_owned(), view.day(), view.instant());
    match source {
        Source::Payment => {
            let reference = number.to_owned();
            let request = v1::GetPaymentRequest { account_id, reference, as_of, known_at, ..Default::default() };
            let found = ask(clients, request).await?;
            Ok(Standing {
                source,
                account: found.account_id,
                number: found.reference,
                amount: found.amount,
                day: found.value_date,
                invoice: None,
                reversed_on: found.reversed_on,
                unapplied_minor: found.unapplied_minor,
                allocations: found.allocations,
                refunds: found.refunds,
                as_of: found.as_of,
            })
        }
        Source::CreditNote => {
            let number = number.to_owned();
            let request = v1::GetCreditNoteRequest { account_id, number, as_of, known_at, ..Default::default() };
            let found = ask(clients, request).await?;
            Ok(Standing {
                source,
                account: found.account_id,
                number: found.number,
                amount: found.amount,
                day: found.credit_date,
                invoice: Some(found.invoice_number),
                reversed_on: None,
                unapplied_minor: found.unapplied_minor,
                allocations: found.allocations,
                refunds: found.refunds,
                as_of: found.as_of,
            })
        }
    }
}

impl Show {
    pub async fn run(self, source: Source) -> Outcome {
        let clients = self.target.connect().await?;
        let found = look(&clients, source, &self.account, &self.number, self.view).await?;
        println!("{}", if self.json { found.as_json().to_string() } else { found.shown() });
        Ok(ExitCode::SUCCESS)
    }
}

impl Standing {
    fn currency(&self) -> &str {
        self.amount.as_ref().map_or("", |amount| &amount.currency)
    }

    /// The name of its own day.
    fn day_name(&self) -> &'static str {
        match self.source {
            Source::Payment => "value date",
            Source::CreditNote => "credit date",
        }
    }

    fn shown(&self) -> String {
        let currency = self.currency();
        let unapplied = v1::Money { minor_units: self.unapplied_minor, currency: currency.to_owned() };
        let mut facts = vec![(self.source.words(), self.number.clone()), ("account", self.account.clone())];
        facts.extend(self.invoice.iter().map(|invoice| ("for invoice", invoice.clone())));
        facts.extend([
            ("amount", table::money(self.amount.as_ref())),
            (self.day_name(), table::day(self.day.as_ref())),
            ("as of", table::day(self.as_of.as_ref())),
            ("unapplied", table::money(Some(&unapplied))),
        ]);
        facts.extend(self.reversed_on.iter().map(|day| ("reversed on", table::day(Some(day)))));
        let mut text = format!("{}\n\nApplied:\n{}", table::named(&facts), allocations(&self.allocations, currency));
        if !self.refunds.is_empty() {
            let rows = self.refunds.iter().map(|refund| {
                vec![
                    refund.reference.clone(),
                    table::day(refund.refund_date.as_ref()),
                    table::instant(refund.known_at.as_ref()),
                    table::major(refund.amount_minor, currency),
                ]
            });
            text += &format!("\n\nPaid out:\n{}", table::plain(&["refund", "on", "recorded", "amount"], 3, rows));
        }
        text
    }

    fn as_json(&self) -> Value {
        let day = |date: Option<&v1::Date>| date.map(|date| table::day(Some(date)));
        let refund = |refund: &v1::RefundView| {
            json!({
                "refund": refund.reference, "amount_minor": refund.amount_minor,
                "refund_date": day(refund.refund_date.as_ref()),
                "known_at": table::instant(refund.known_at.as_ref()),
            })
        };
        let mut said = json!({
            "account": self.account,
            self.source.kind(): self.number,
            "currency": self.currency(),
            "amount_minor": self.amount.as_ref().map(|amount| amount.minor_units),
            self.day_name().replace(' ', "_"): day(self.day.as_ref()),
            "unapplied_minor": self.unapplied_minor,
            "as_of": day(self.as_of.as_ref()),
            "allocations": self.allocations.iter().map(allocation_as_json).collect::<Vec<_>>(),
            "refunds": self.refunds.iter().map(refund).collect::<Vec<_>>(),
        });
        match self.source {
            Source::Payment => said["reversed_on"] = day(self.reversed_on.as_ref()).into(),
            Source::CreditNote => said["invoice"] = self.invoice.clone().into(),
        }
        said
    }
}
