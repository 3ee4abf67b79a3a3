//! `saldo aging`: receivables by age, over gRPC.

use std::{collections::BTreeMap, process::ExitCode};

use anstream::println;
use saldo_api::v1;

use super::{Run, refusal::explained, values::AsOf};
use crate::{
    Outcome,
    client::{Clients, Target},
    terminal::table,
};

/// Show receivables by age.
///
/// One line for each account and currency: what was true on a day, as it was known at an instant. Needs a token with the
/// role reader.
#[derive(clap::Parser)]
#[command(
    name = "aging",
    after_help = "Examples:\n  saldo aging\n  saldo aging --as-of 2013-06-30\n  saldo aging --as-of 2013-06-30 --known-at 2013-07-15T00:00:00Z --json\n  saldo aging --account D-0001"
)]
pub struct Aging {
    #[command(flatten)]
    view: AsOf,
    /// Only this account.
    #[arg(long)]
    account: Option<String>,
    /// Print JSON, amounts in minor units.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Fetches every page of an ageing report, and adds up the totals, so that the service computes each account once. Each page is of
/// the first page's day, also over midnight.
pub async fn fetch(
    clients: &mut Clients,
    mut request: v1::GetAgingRequest,
) -> Result<v1::GetAgingResponse, tonic::Status> {
    let mut whole: Option<v1::GetAgingResponse> = None;
    let mut page_token = String::new();
    loop {
        let page = v1::GetAgingRequest { page_size: 1_000, page_token, without_totals: true, ..request.clone() };
        let page = clients.query.get_aging(page).await?.into_inner();
        page_token = page.next_page_token.clone();
        request.as_of = request.as_of.or(page.as_of);
        match &mut whole {
            None => whole = Some(page),
            Some(whole) => whole.rows.extend(page.rows),
        }
        if page_token.is_empty() {
            let mut whole = whole.unwrap_or_default();
            whole.totals = totals(&whole.rows);
            return Ok(whole);
        }
    }
}

/// The sums of rows by currency.
fn totals(rows: &[v1::AgingRow]) -> Vec<v1::AgingRow> {
    let mut totals: BTreeMap<&str, v1::AgingRow> = BTreeMap::new();
    for row in rows {
        let sum = totals.entry(&row.currency).or_default();
        sum.currency.clone_from(&row.currency);
        for (sum, figure) in [
            (&mut sum.not_due, row.not_due),
            (&mut sum.d1_30, row.d1_30),
            (&mut sum.d31_60, row.d31_60),
            (&mut sum.d61_90, row.d61_90),
            (&mut sum.d91_plus, row.d91_plus),
            (&mut sum.unapplied, row.unapplied),
            (&mut sum.balance, row.balance),
        ] {
            *sum = sum.saturating_add(figure);
        }
    }
    totals.into_values().collect()
}

impl Run for Aging {
    async fn run(self) -> Outcome {
        let mut clients = self.target.connect().await?;
        let request = v1::GetAgingRequest {
            as_of: self.view.day(),
            known_at: self.view.instant(),
            account_id: self.account.unwrap_or_default(),
            ..Default::default()
        };
        let report = fetch(&mut clients, request).await.map_err(|status| explained(&status))?;
        if self.json {
            let rows: Vec<_> = report.rows.iter().map(as_json).collect();
            let totals: Vec<_> = report.totals.iter().map(as_json).collect();
            let as_of = table::day(report.as_of.as_ref());
            println!(
                "{}",
                serde_json::json!({ "as_of": as_of, "rows": rows, "totals": totals, "parked_accounts": report.parked_accounts })
            );
        } else {
            println!("Ageing as of {}", table::day(report.as_of.as_ref()));
            println!("{}", table::aging(&report.rows, &report.totals));
            if report.parked_accounts > 0 {
                println!("INCOMPLETE: {} accounts are parked (bi.parked says why)", report.parked_accounts);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The figures of one account and currency as JSON, in minor units.
pub fn as_json(row: &v1::AgingRow) -> serde_json::Value {
    serde_json::json!({
        "account": row.account_id, "currency": row.currency, "not_due": row.not_due, "d1_30": row.d1_30,
        "d31_60": row.d31_60, "d61_90": row.d61_90, "d91_plus": row.d91_plus, "unapplied": row.unapplied,
        "balance": row.balance,
    })
}
