//! `saldo credit-note`: credit notes issued by hand, applied, taken back, paid out and shown.

use clap::Args;
use jiff::civil::Date;
use saldo_api::v1;
use saldo_domain::money::Money;
use saldo_facts::date_to_api;

use super::{
    Run,
    change::Change,
    credit::{Allocate, Deallocate, Refund, Show, Source, recorded_and_printed},
    values,
};
use crate::Outcome;

/// Issue, apply, take back, pay out or show a credit note.
///
/// To show needs a token with the role reader, all else the role writer.
#[derive(clap::Parser)]
#[command(name = "credit-note")]
pub enum CreditNote {
    /// Issue a credit note for an invoice.
    ///
    /// It is applied to what is open of that invoice. The rest is unapplied, and is applied to what falls open next, unless the
    /// settings leave it (`saldo settings show`).
    #[command(
        after_help = "Example:\n  saldo credit-note issue D-0001 C-12 '25.00 EUR' --invoice F-7 --on 2026-11-27 --reason 'two boxes were damaged'"
    )]
    Issue(Issue),
    /// Apply what is unapplied of a credit note: as --to says, or else to what is due longest.
    ///
    /// With --to the token needs the role reader too.
    #[command(
        after_help = "Examples:\n  saldo credit-note allocate D-0001 C-12\n  saldo credit-note allocate D-0001 C-12 --to F-9=25.00"
    )]
    Allocate(Allocate),
    /// Take allocations of a credit note back. The invoices are open again, and the credit is unapplied until it is allocated.
    #[command(
        after_help = "Examples:\n  saldo credit-note deallocate D-0001 C-12\n  saldo credit-note deallocate D-0001 C-12 --from F-7 --reason 'meant for F-9'"
    )]
    Deallocate(Deallocate),
    /// Record that unapplied credit of a credit note was paid out to the debtor.
    #[command(
        after_help = "Example:\n  saldo credit-note refund D-0001 C-12 '25.00 EUR' --refund OUT-12 --on 2026-11-27"
    )]
    Refund(Refund),
    /// Show a credit note: where its credit went and when, and what is unapplied.
    #[command(
        after_help = "Examples:\n  saldo credit-note show D-0001 C-12\n  saldo credit-note show D-0001 C-12 --as-of 2026-09-30 --json"
    )]
    Show(Show),
}

#[derive(Args)]
pub struct Issue {
    /// The account.
    account: String,
    /// Your number of the credit note, unique on the account.
    number: String,
    /// All of it, with its currency, for example '25.00 EUR'.
    #[arg(value_parser = values::amount)]
    amount: Money,
    /// The invoice that it corrects.
    #[arg(long, value_name = "NUMBER")]
    invoice: String,
    /// The day the credit counts from; not before the invoice's issue date.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = values::day)]
    on: Date,
    /// Free text; it is kept sealed.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    change: Change,
}

impl Run for CreditNote {
    async fn run(self) -> Outcome {
        match self {
            CreditNote::Issue(issue) => issue.run().await,
            CreditNote::Allocate(allocate) => allocate.run(Source::CreditNote).await,
            CreditNote::Deallocate(deallocate) => deallocate.run(Source::CreditNote).await,
            CreditNote::Refund(refund) => refund.run(Source::CreditNote).await,
            CreditNote::Show(show) => show.run(Source::CreditNote).await,
        }
    }
}

impl Issue {
    async fn run(self) -> Outcome {
        let Money { minor, currency } = self.amount;
        let changing = self.change.connect().await?;
        let request = v1::CreditInvoiceRequest {
            request_id: changing.request_id(),
            account_id: self.account.clone(),
            credit_note_number: self.number.clone(),
            invoice_number: self.invoice.clone(),
            amount: Some(v1::Money { minor_units: minor, currency: currency.to_string() }),
            credit_date: Some(date_to_api(self.on)),
            reason: self.reason,
        };
        let answer = changing.send_naming(request, &[("invoice_number", "--invoice")]).await?;
        let text = format!(
            "credit note {} of {} for invoice {} is issued to {}",
            self.number, self.amount, self.invoice, self.account
        );
        let document = (Source::CreditNote, self.account.as_str(), self.number.as_str());
        recorded_and_printed(&changing, &answer, document, (self.amount, self.on), &text)
    }
}
