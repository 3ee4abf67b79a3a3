//! `saldo payment`: payments recorded, applied, taken back and shown.

use std::process::ExitCode;

use anstream::println;
use clap::Args;
use jiff::civil::Date;
use saldo_api::v1;
use saldo_domain::money::{Currency, Money, format_minor};
use saldo_facts::date_to_api;
use serde_json::{Value, json};

use super::{
    Run,
    change::{Change, ask},
    invoice::{allocation_as_json, allocations},
    values::{self, AsOf, Part},
};
use crate::{Outcome, client::Target, terminal::table};

/// Record, apply, take back or show a payment.
///
/// To show needs a token with the role reader, all else the role writer.
#[derive(clap::Parser)]
#[command(name = "payment")]
pub enum Payment {
    /// Record a payment and apply it: as --to says, or else to what is due longest.
    ///
    /// What is not applied stands as unapplied, and `saldo payment allocate` applies it later.
    #[command(
        after_help = "Examples:\n  saldo payment record D-0001 BANK-77 '1234.50 EUR' --value-date 2026-11-27\n  saldo payment record D-0001 BANK-78 '100 EUR' --value-date 2026-11-27 --to F-7=60.00 --to 'F-8#2=40.00' --remittance 'F-7 and F-8'"
    )]
    Record(Record),
    /// Apply what is unapplied of a payment: as --to says, or else to what is due longest.
    ///
    /// With --to the token needs the role reader too.
    #[command(
        after_help = "Examples:\n  saldo payment allocate D-0001 BANK-77\n  saldo payment allocate D-0001 BANK-77 --to F-9=25.00"
    )]
    Allocate(Allocate),
    /// Take allocations of a payment back. The invoices are open again, and the money is unapplied until it is allocated.
    #[command(
        after_help = "Examples:\n  saldo payment deallocate D-0001 BANK-77\n  saldo payment deallocate D-0001 BANK-77 --from F-7 --from 'F-8#2' --reason 'meant for F-9'"
    )]
    Deallocate(Deallocate),
    /// Record that unapplied money of a payment was paid out to the debtor.
    #[command(
        after_help = "Example:\n  saldo payment refund D-0001 BANK-77 '25.00 EUR' --refund OUT-12 --on 2026-11-30"
    )]
    Refund(Refund),
    /// Take a payment back: a bounced debit, or a mistake. What the payment had settled is open again.
    #[command(
        after_help = "Example:\n  saldo payment reverse D-0001 BANK-77 --on 2026-11-30 --reason 'debit returned by the bank'"
    )]
    Reverse(Reverse),
    /// Show a payment: where its money went and when, and what is unapplied.
    #[command(
        after_help = "Examples:\n  saldo payment show D-0001 BANK-77\n  saldo payment show D-0001 BANK-77 --as-of 2026-09-30 --json"
    )]
    Show(Show),
}

#[derive(Args)]
pub struct Record {
    /// The account.
    account: String,
    /// The bank's or your reference, unique on the account.
    reference: String,
    /// What was paid, with its currency, for example '1234.50 EUR'.
    #[arg(value_parser = values::amount)]
    amount: Money,
    /// The day the payment counts from.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = values::day)]
    value_date: Date,
    /// Settle this invoice, or one instalment of it, with this part; may be repeated.
    #[arg(long, value_name = "INVOICE[#INSTALMENT]=AMOUNT", value_parser = values::part)]
    to: Vec<Part>,
    /// Keep unapplied what does not fit at the invoices of --to, instead of refusing the payment.
    #[arg(long, requires = "to")]
    keep_excess: bool,
    /// Apply nothing of it, now or by itself later: the money stays unapplied until `saldo payment allocate`.
    #[arg(long, conflicts_with = "to")]
    keep_unapplied: bool,
    /// What the debtor wrote with the payment; it is kept sealed.
    #[arg(long, default_value = "", hide_default_value = true)]
    remittance: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Args)]
pub struct Allocate {
    /// The account.
    account: String,
    /// The payment's reference.
    reference: String,
    /// Settle this invoice, or one instalment of it, with this part; may be repeated.
    #[arg(long, value_name = "INVOICE[#INSTALMENT]=AMOUNT", value_parser = values::part)]
    to: Vec<Part>,
    /// The day that the allocation counts from, not before the value date; absent: today.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = values::day)]
    on: Option<Date>,
    #[command(flatten)]
    change: Change,
}

#[derive(Args)]
pub struct Deallocate {
    /// The account.
    account: String,
    /// The payment's reference.
    reference: String,
    /// Only what settles this invoice, or one instalment of it; may be repeated. Without it all of the payment.
    #[arg(long, value_name = "INVOICE[#INSTALMENT]", value_parser = values::item)]
    from: Vec<v1::AllocatedItem>,
    /// From this day the money is unapplied again, not before the value date; absent: today.
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
    /// The payment's reference.
    reference: String,
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
pub struct Reverse {
    /// The account.
    account: String,
    /// The payment's reference.
    reference: String,
    /// From this day the payment no longer counts.
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
    /// The payment's reference.
    reference: String,
    #[command(flatten)]
    view: AsOf,
    /// Print JSON, amounts in minor units.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Run for Payment {
    async fn run(self) -> Outcome {
        match self {
            Payment::Record(record) => record.run().await,
            Payment::Allocate(allocate) => allocate.run().await,
            Payment::Deallocate(deallocate) => deallocate.run().await,
            Payment::Refund(refund) => refund.run().await,
            Payment::Reverse(reverse) => reverse.run().await,
            Payment::Show(show) => show.run().await,
        }
    }
}

fn designations(parts: &[Part], currency: Currency) -> Result<Vec<v1::Allocation>, String> {
    parts.iter().map(|part| part.of_payment_in(currency)).collect()
}

impl Record {
    async fn run(self) -> Outcome {
        let Money { minor, currency } = self.amount;
        let allocations = designations(&self.to, currency)?;
        let changing = self.change.connect().await?;
        let request = v1::RecordPaymentRequest {
            request_id: changing.request_id(),
            account_id: self.account.clone(),
            reference: self.reference.clone(),
            amount: Some(v1::Money { minor_units: minor, currency: currency.to_string() }),
            value_date: Some(date_to_api(self.value_date)),
            allocations,
            keep_excess_unapplied: self.keep_excess,
            keep_unapplied: self.keep_unapplied,
            remittance: self.remittance,
        };
        let answer = changing.send(request).await?;
        let unapplied = minor - applied_minor(&answer);
        let text = format!(
            "payment {} of {} is recorded on {}\n{}\n{} {currency} of it stay unapplied",
            self.reference,
            self.amount,
            self.account,
            applied(&answer, currency),
            format_minor(unapplied, currency)
        );
        let fields = json!({
            "payment": self.reference, "allocations": applied_as_json(&answer), "unapplied_minor": unapplied,
            "currency": currency.code(),
        });
        changing.print(&answer, fields, text)
    }
}

impl Allocate {
    async fn run(self) -> Outcome {
        let changing = self.change.connect().await?;
        let payment = v1::GetPaymentRequest {
            account_id: self.account.clone(),
            reference: self.reference.clone(),
            ..Default::default()
        };
        // The request names minor units of the payment's currency.
        let currency = match self.to.is_empty() {
            true => None,
            false => {
                ask(&changing.clients, payment).await?.amount.and_then(|money| Currency::new(&money.currency).ok())
            }
        };
        let allocations = currency.map_or(Ok(Vec::new()), |currency| designations(&self.to, currency))?;
        let request = v1::AllocatePaymentRequest {
            request_id: changing.request_id(),
            account_id: self.account.clone(),
            reference: self.reference.clone(),
            allocations,
            allocation_date: self.on.map(date_to_api),
        };
        let answer = changing.send(request).await?;
        let text = format!("payment {} of {} is applied", self.reference, self.account);
        changing.print(&answer, json!({ "payment": self.reference, "allocations": applied_as_json(&answer) }), text)
    }
}

impl Deallocate {
    async fn run(self) -> Outcome {
        let changing = self.change.connect().await?;
        let request = v1::DeallocatePaymentRequest {
            request_id: changing.request_id(),
            account_id: self.account.clone(),
            reference: self.reference.clone(),
            items: self.from,
            deallocation_date: self.on.map(date_to_api),
            reason: self.reason,
        };
        let answer = changing.send(request).await?;
        let text = format!("allocations of payment {} of {} are taken back", self.reference, self.account);
        changing.print(&answer, json!({ "payment": self.reference }), text)
    }
}

impl Refund {
    async fn run(self) -> Outcome {
        let Money { minor, currency } = self.amount;
        let changing = self.change.connect().await?;
        let request = v1::RefundCreditRequest {
            request_id: changing.request_id(),
            account_id: self.account.clone(),
            reference: self.refund.clone(),
            amount: Some(v1::Money { minor_units: minor, currency: currency.to_string() }),
            refund_date: Some(date_to_api(self.on)),
            reason: self.reason,
            credit: Some(v1::refund_credit_request::Credit::PaymentReference(self.reference.clone())),
        };
        let answer = changing.send(request).await?;
        let text = format!("refund {} of {} out of payment {} is recorded", self.refund, self.amount, self.reference);
        changing.print(&answer, json!({ "payment": self.reference, "refund": self.refund }), text)
    }
}

impl Reverse {
    async fn run(self) -> Outcome {
        let changing = self.change.connect().await?;
        let request = v1::ReversePaymentRequest {
            request_id: changing.request_id(),
            account_id: self.account.clone(),
            reference: self.reference.clone(),
            reversal_date: Some(date_to_api(self.on)),
            reason: self.reason,
        };
        let answer = changing.send(request).await?;
        let text =
            format!("payment {} of {} is reversed; `saldo payment show` names the day", self.reference, self.account);
        changing.print(&answer, json!({ "payment": self.reference }), text)
    }
}

impl Show {
    async fn run(self) -> Outcome {
        let clients = self.target.connect().await?;
        let request = v1::GetPaymentRequest {
            account_id: self.account,
            reference: self.reference,
            as_of: self.view.day(),
            known_at: self.view.instant(),
            ..Default::default()
        };
        let payment = ask(&clients, request).await?;
        println!("{}", if self.json { as_json(&payment).to_string() } else { shown(&payment) });
        Ok(ExitCode::SUCCESS)
    }
}

fn applied_minor(answer: &v1::CommandResponse) -> i64 {
    answer.allocations.iter().map(|line| line.amount_minor).sum()
}

/// Where the money of a payment that was recorded or applied went.
fn applied(answer: &v1::CommandResponse, currency: Currency) -> comfy_table::Table {
    let rows = answer.allocations.iter().map(|line| {
        vec![
            line.invoice_number.clone(),
            line.instalment.to_string(),
            table::day(line.due_date.as_ref()),
            table::day(line.effective_date.as_ref()),
            format_minor(line.amount_minor, currency),
        ]
    });
    table::plain(&["invoice", "instalment", "due", "from", "applied"], 4, rows)
}

fn applied_as_json(answer: &v1::CommandResponse) -> Vec<Value> {
    let line = |line: &v1::AllocationLine| {
        json!({
            "invoice": line.invoice_number, "instalment": line.instalment, "due_date": table::day(line.due_date.as_ref()),
            "effective_date": table::day(line.effective_date.as_ref()), "amount_minor": line.amount_minor,
        })
    };
    answer.allocations.iter().map(line).collect()
}

fn currency(payment: &v1::GetPaymentResponse) -> &str {
    payment.amount.as_ref().map_or("", |amount| &amount.currency)
}

fn shown(payment: &v1::GetPaymentResponse) -> String {
    let currency = currency(payment);
    let unapplied = v1::Money { minor_units: payment.unapplied_minor, currency: currency.to_owned() };
    let mut facts = vec![
        ("payment", payment.reference.clone()),
        ("account", payment.account_id.clone()),
        ("amount", table::money(payment.amount.as_ref())),
        ("value date", table::day(payment.value_date.as_ref())),
        ("as of", table::day(payment.as_of.as_ref())),
        ("unapplied", table::money(Some(&unapplied))),
    ];
    if payment.reversed_on.is_some() {
        facts.push(("reversed on", table::day(payment.reversed_on.as_ref())));
    }
    let mut text = format!("{}\n\nApplied:\n{}", table::named(&facts), allocations(&payment.allocations, currency));
    if !payment.refunds.is_empty() {
        let rows = payment.refunds.iter().map(|refund| {
            let amount = table::major(refund.amount_minor, currency);
            vec![
                refund.reference.clone(),
                table::day(refund.refund_date.as_ref()),
                table::instant(refund.known_at.as_ref()),
                amount,
            ]
        });
        text += &format!("\n\nPaid out:\n{}", table::plain(&["refund", "on", "recorded", "amount"], 3, rows));
    }
    text
}

fn as_json(payment: &v1::GetPaymentResponse) -> Value {
    let day = |date: Option<&v1::Date>| date.map(|date| table::day(Some(date)));
    let refund = |refund: &v1::RefundView| {
        json!({
            "refund": refund.reference, "amount_minor": refund.amount_minor,
            "refund_date": day(refund.refund_date.as_ref()),
            "known_at": table::instant(refund.known_at.as_ref()),
        })
    };
    json!({
        "account": payment.account_id,
        "payment": payment.reference,
        "currency": currency(payment),
        "amount_minor": payment.amount.as_ref().map(|amount| amount.minor_units),
        "value_date": day(payment.value_date.as_ref()),
        "reversed_on": day(payment.reversed_on.as_ref()),
        "unapplied_minor": payment.unapplied_minor,
        "as_of": day(payment.as_of.as_ref()),
        "allocations": payment.allocations.iter().map(allocation_as_json).collect::<Vec<_>>(),
        "refunds": payment.refunds.iter().map(refund).collect::<Vec<_>>(),
    })
}
