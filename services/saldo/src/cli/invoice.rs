//! `saldo invoice`: invoices issued by hand, voided and shown.

mod show;

use clap::{ArgGroup, Args};
use jiff::civil::Date;
use saldo_api::v1;
use saldo_domain::money::Money;
use saldo_facts::date_to_api;
use serde_json::json;

use self::show::Show;
pub use self::show::{allocation_as_json, allocations};
use super::{
    Run,
    change::Change,
    moved,
    values::{self, DueAmount},
};
use crate::{Outcome, terminal::table};

/// Issue, void or show an invoice.
///
/// To show needs a token with the role reader, all else the role writer. An invoice that was paid is corrected by a credit note
/// (`saldo credit-note`).
#[derive(clap::Parser)]
#[command(name = "invoice")]
pub enum Invoice {
    /// Issue an invoice, due at once or in instalments.
    ///
    /// Credit that waits is applied to it, the oldest first, unless the settings leave it (`saldo settings show`).
    #[command(
        after_help = "Examples:\n  saldo invoice issue D-0001 F-7 '1234.50 EUR' --issued 2026-11-27 --due 2026-12-27\n  saldo invoice issue D-0001 F-8 '100 EUR' --issued 2026-11-27 --instalment 2026-12-27=60.00 --instalment 2027-01-27=40.00"
    )]
    Issue(Issue),
    /// Void an invoice that nothing is applied to, as if it had not been issued.
    ///
    /// Otherwise take back what is applied to it first (`saldo payment deallocate`, `saldo credit-note deallocate`), or correct it
    /// with a credit note.
    #[command(after_help = "Example:\n  saldo invoice void D-0001 F-7 --on 2026-11-27 --reason 'issued twice'")]
    Void(Void),
    /// Show an invoice: its instalments, what was applied to them and when, and the messages that listed it.
    #[command(
        after_help = "Examples:\n  saldo invoice show D-0001 F-7\n  saldo invoice show D-0001 F-7 --as-of 2026-09-30\n  saldo invoice show D-0001 F-7 --known-at 2026-10-15T00:00:00Z --json"
    )]
    Show(Show),
}

#[derive(Args)]
#[command(group = ArgGroup::new("when").required(true))]
pub struct Issue {
    /// The account.
    account: String,
    /// Your number of the invoice, unique on the account.
    number: String,
    /// All of it, with its currency, for example '1234.50 EUR'.
    #[arg(value_parser = values::amount)]
    amount: Money,
    /// The issue date: from this day the invoice is owed. It may lie in the future.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = values::day)]
    issued: Date,
    /// The day on which all of it falls due.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = values::day, group = "when")]
    due: Option<Date>,
    /// One instalment, with its due date; may be repeated. The instalments add up to the whole.
    #[arg(long = "instalment", value_name = "YYYY-MM-DD=AMOUNT", value_parser = values::due_amount, group = "when")]
    instalments: Vec<DueAmount>,
    /// What it is for; it is kept sealed.
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Args)]
pub struct Void {
    /// The account.
    account: String,
    /// The invoice's number.
    number: String,
    /// From this day the invoice is no longer owed; not before its issue date.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = values::day)]
    on: Date,
    /// Free text; it is kept sealed.
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    change: Change,
}

impl Run for Invoice {
    async fn run(self) -> Outcome {
        match self {
            Invoice::Issue(issue) => issue.run().await,
            Invoice::Void(void) => void.run().await,
            Invoice::Show(show) => show.run().await,
        }
    }
}

impl Issue {
    async fn run(self) -> Outcome {
        let Money { minor, currency } = self.amount;
        let instalments = self.instalments.iter().map(|part| part.in_currency(currency)).collect::<Result<_, _>>()?;
        let changing = self.change.connect().await?;
        let request = v1::IssueInvoiceRequest {
            request_id: changing.request_id(),
            account_id: self.account.clone(),
            number: self.number.clone(),
            total: Some(v1::Money { minor_units: minor, currency: currency.to_string() }),
            issue_date: Some(date_to_api(self.issued)),
            due_date: self.due.map(date_to_api),
            instalments,
            description: self.description,
        };
        let answer = changing.send(request).await?;
        let text = format!("invoice {} of {} is issued to {}", self.number, self.amount, self.account);
        let mut fields = json!({ "invoice": self.number });
        moved::add(&mut fields, &answer);
        changing.print(&answer, fields, format!("{text}{}", moved::told(&answer, None)))
    }
}

impl Void {
    async fn run(self) -> Outcome {
        let changing = self.change.connect().await?;
        let request = v1::VoidInvoiceRequest {
            request_id: changing.request_id(),
            account_id: self.account.clone(),
            invoice_number: self.number.clone(),
            void_date: Some(date_to_api(self.on)),
            reason: self.reason,
        };
        let answer = changing.send(request).await?;
        let day = table::day(answer.effective_date.as_ref());
        let text = format!("invoice {} of {} is voided from {day} on", self.number, self.account);
        let fields = json!({ "invoice": self.number, "effective_date": day });
        changing.print(&answer, fields, text)
    }
}
