//! `saldo invoice show`: an invoice, what was applied to it, and the messages that listed it.

use std::process::ExitCode;

use anstream::println;
use clap::Args;
use saldo_api::v1;
use serde_json::{Value, json};

use crate::{
    Outcome,
    cli::{change::ask, values::AsOf},
    client::Target,
    terminal::table,
};

#[derive(Args)]
pub struct Show {
    /// The account.
    account: String,
    /// The invoice's number.
    number: String,
    #[command(flatten)]
    view: AsOf,
    /// Print JSON, amounts in minor units.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Show {
    pub async fn run(self) -> Outcome {
        let clients = self.target.connect().await?;
        let request = v1::GetInvoiceRequest {
            account_id: self.account,
            number: self.number,
            as_of: self.view.day(),
            known_at: self.view.instant(),
            ..Default::default()
        };
        let invoice = ask(&clients, request).await?;
        println!("{}", if self.json { as_json(&invoice).to_string() } else { shown(&invoice) });
        Ok(ExitCode::SUCCESS)
    }
}

fn currency(invoice: &v1::GetInvoiceResponse) -> &str {
    invoice.total.as_ref().map_or("", |total| &total.currency)
}

/// How the invoice stands, in a word or two.
fn state(invoice: &v1::GetInvoiceResponse) -> String {
    let day = |date: Option<&v1::Date>| table::day(date);
    let open: i64 = invoice.instalments.iter().map(|part| part.open_minor).sum();
    if invoice.voided_on.is_some() {
        format!("voided on {}", day(invoice.voided_on.as_ref()))
    } else if day(invoice.as_of.as_ref()) < day(invoice.issue_date.as_ref()) {
        "not issued yet".to_owned()
    } else if open == 0 {
        "settled".to_owned()
    } else {
        let money = v1::Money { minor_units: open, currency: currency(invoice).to_owned() };
        format!("{} open", table::money(Some(&money)))
    }
}

fn shown(invoice: &v1::GetInvoiceResponse) -> String {
    let currency = currency(invoice);
    let head = table::named(&[
        ("invoice", invoice.number.clone()),
        ("account", invoice.account_id.clone()),
        ("total", table::money(invoice.total.as_ref())),
        ("issued", table::day(invoice.issue_date.as_ref())),
        ("as of", table::day(invoice.as_of.as_ref())),
        ("state", state(invoice)),
    ]);
    let parts = invoice.instalments.iter().map(|part| {
        let amounts = [part.amount_minor, part.open_minor].map(|minor| table::major(minor, currency));
        [vec![part.instalment.to_string(), table::day(part.due_date.as_ref())], amounts.to_vec()].concat()
    });
    let mut text = format!("{head}\n\n{}", table::plain(&["instalment", "due", "amount", "open"], 2, parts));
    if !invoice.allocations.is_empty() {
        text += &format!("\n\nApplied to it:\n{}", allocations(&invoice.allocations, currency));
    }
    if !invoice.listed_in.is_empty() {
        let rows = invoice.listed_in.iter().map(|listed| {
            vec![
                format!("{}.{}", listed.reminder, listed.attempt),
                table::instant(listed.started_at.as_ref()),
                listed.step.clone(),
                listed.channel.clone(),
                listed.status.clone(),
                listed.instalment.to_string(),
                table::major(listed.open_minor, currency),
            ]
        });
        let header = ["reminder", "when", "step", "by", "outcome", "instalment", "open"];
        text += &format!("\n\nMessages that list it:\n{}", table::plain(&header, 6, rows));
    }
    text
}

fn as_json(invoice: &v1::GetInvoiceResponse) -> Value {
    let day = |date: Option<&v1::Date>| date.map(|date| table::day(Some(date)));
    let part = |part: &v1::InstalmentView| {
        json!({
            "instalment": part.instalment, "due_date": day(part.due_date.as_ref()), "amount_minor": part.amount_minor,
            "open_minor": part.open_minor,
        })
    };
    let listed = |listed: &v1::ListedInView| {
        json!({
            "reminder": listed.reminder, "attempt": listed.attempt, "step": listed.step, "channel": listed.channel,
            "status": listed.status, "started_at": table::instant(listed.started_at.as_ref()),
            "instalment": listed.instalment, "open_minor": listed.open_minor,
        })
    };
    json!({
        "account": invoice.account_id,
        "invoice": invoice.number,
        "currency": currency(invoice),
        "total_minor": invoice.total.as_ref().map(|total| total.minor_units),
        "issue_date": day(invoice.issue_date.as_ref()),
        "voided_on": day(invoice.voided_on.as_ref()),
        "as_of": day(invoice.as_of.as_ref()),
        "instalments": invoice.instalments.iter().map(part).collect::<Vec<_>>(),
        "allocations": invoice.allocations.iter().map(allocation_as_json).collect::<Vec<_>>(),
        "listed_in": invoice.listed_in.iter().map(listed).collect::<Vec<_>>(),
    })
}

/// What was applied and taken back.
pub fn allocations(allocations: &[v1::AllocationView], currency: &str) -> comfy_table::Table {
    let rows = allocations.iter().map(|line| {
        vec![
            line.kind.replace('_', " "),
            line.document.clone(),
            line.invoice_number.clone(),
            line.instalment.to_string(),
            table::day(line.effective_date.as_ref()),
            table::instant(line.known_at.as_ref()),
            table::major(line.amount_minor, currency),
        ]
    });
    table::plain(&["by", "number", "invoice", "instalment", "from", "recorded", "applied"], 6, rows)
}

/// A line of what was applied as JSON.
pub fn allocation_as_json(line: &v1::AllocationView) -> Value {
    json!({
        "kind": line.kind, "document": line.document, "invoice": line.invoice_number, "instalment": line.instalment,
        "amount_minor": line.amount_minor, "effective_date": table::day(line.effective_date.as_ref()),
        "known_at": table::instant(line.known_at.as_ref()), "version": line.version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i32) -> Option<v1::Date> {
        Some(v1::Date { year: 2026, month: 11, day })
    }

    #[test]
    fn an_invoice_is_open_settled_voided_or_not_issued_yet() {
        let invoice = |open_minor, issued, voided_on| v1::GetInvoiceResponse {
            total: Some(v1::Money { minor_units: 10_000, currency: "EUR".into() }),
            issue_date: day(issued),
            voided_on,
            instalments: vec![v1::InstalmentView { instalment: 1, open_minor, ..Default::default() }],
            as_of: day(15),
            ..Default::default()
        };
        assert_eq!(state(&invoice(2_050, 1, None)), "20.50 EUR open");
        assert_eq!(state(&invoice(0, 1, None)), "settled");
        assert_eq!(state(&invoice(0, 1, day(3))), "voided on 2026-11-03");
        assert_eq!(state(&invoice(0, 20, None)), "not issued yet");
    }
}
