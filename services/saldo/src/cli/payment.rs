//! `saldo payment`: payments recorded, applied, taken back and shown.

use std::cmp::Ordering;

use clap::Args;
use jiff::civil::Date;
use saldo_api::v1;
use saldo_domain::money::Money;
use saldo_facts::date_to_api;

use super::{
    Run,
    change::Change,
    credit::{Allocate, Deallocate, Refund, Show, Source, designations, moved_and_printed, recorded_and_printed},
    values::{self, Part},
};
use crate::{Outcome, terminal::table};

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
        after_help = "Example:\n  saldo payment refund D-0001 BANK-77 '25.00 EUR' --refund OUT-12 --on 2026-11-27"
    )]
    Refund(Refund),
    /// Take a payment back: a bounced debit, or a mistake. What the payment had settled is open again.
    #[command(
        after_help = "Example:\n  saldo payment reverse D-0001 BANK-77 --on 2026-11-27 --reason 'debit returned by the bank'"
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
pub struct Reverse {
    /// The account.
    account: String,
    /// The payment's reference.
    reference: String,
    /// From this day the payment no longer counts; not before its value date.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = values::day)]
    on: Date,
    /// Free text; it is kept sealed.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    change: Change,
}

impl Run for Payment {
    async fn run(self) -> Outcome {
        match self {
            Payment::Record(record) => record.run().await,
            Payment::Allocate(allocate) => allocate.run(Source::Payment).await,
            Payment::Deallocate(deallocate) => deallocate.run(Source::Payment).await,
            Payment::Refund(refund) => refund.run(Source::Payment).await,
            Payment::Reverse(reverse) => reverse.run().await,
            Payment::Show(show) => show.run(Source::Payment).await,
        }
    }
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
        let text = format!("payment {} of {} is recorded on {}", self.reference, self.amount, self.account);
        let document = (Source::Payment, self.account.as_str(), self.reference.as_str());
        recorded_and_printed(&changing, &answer, document, (self.amount, self.value_date), &text)
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
        let counts_from = answer.effective_date.unwrap_or_else(|| date_to_api(self.on));
        let (day, asked) = (table::day(Some(&counts_from)), self.on.to_string());
        let why = match day.cmp(&asked) {
            Ordering::Equal => "",
            Ordering::Less => ", the creditor's day: the other one has not begun",
            Ordering::Greater => ": until then it was applied to what was taken back from it",
        };
        let text = format!("payment {} of {} is reversed from {day} on{why}", self.reference, self.account);
        moved_and_printed(&changing, &answer, (Source::Payment, &self.reference), &text)
    }
}
