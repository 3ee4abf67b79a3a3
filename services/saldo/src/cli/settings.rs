//! `saldo settings`: how the creditor's organisation works, over gRPC.

use std::process::ExitCode;

use anstream::println;
use clap::{ArgGroup, Args};
use saldo_api::v1;
use serde_json::json;
use uuid::Uuid;

use super::{Run, change::ask, refusal::explained};
use crate::{
    Failure, Outcome,
    client::{Clients, Target},
    terminal::table,
};

/// Show or set how the creditor's organisation works: name, time zone, languages, fiscal year, what becomes of credit.
#[derive(clap::Parser)]
#[command(name = "settings")]
pub enum Settings {
    /// Show the settings in force.
    #[command(after_help = "Examples:\n  saldo settings show\n  saldo settings show --json")]
    Show(ShowArgs),
    /// Put settings in force. A setting that is not named stays as it is.
    ///
    /// Needs a token with the role operator, and a log that may hold settings (`saldo log upgrade`).
    #[command(
        after_help = "Examples:\n  saldo settings set --time-zone America/Chicago\n  saldo settings set --name 'Ejemplo, S.L.' --language es --language en --fiscal-year-start 04-01\n  saldo settings set --apply-credit leave"
    )]
    Set(SetArgs),
}

#[derive(Args)]
pub struct ShowArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub struct SetArgs {
    /// The creditor's name.
    #[arg(long, group = "change")]
    name: Option<String>,
    /// The time zone whose calendar says which day it is, for example Europe/Madrid.
    #[arg(long, value_name = "ZONE", group = "change")]
    time_zone: Option<String>,
    /// A language that the creditor works in (ISO 639-1); can be given several times, the preferred one first.
    #[arg(long = "language", value_name = "CODE", group = "change")]
    languages: Vec<String>,
    /// The first day of the fiscal year, for example 04-01.
    #[arg(long, value_name = "MM-DD", value_parser = month_and_day, group = "change")]
    fiscal_year_start: Option<v1::FiscalYearStart>,
    /// What becomes of unapplied credit when an invoice is issued or open again: it is applied, the oldest first, or left until
    /// an allocation names it.
    #[arg(long, value_name = "RULE", value_parser = [OLDEST_FIRST, LEAVE], group = "change")]
    apply_credit: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

const OLDEST_FIRST: &str = "oldest-first";
const LEAVE: &str = "leave";

fn month_and_day(text: &str) -> Result<v1::FiscalYearStart, String> {
    let parts = text.split_once('-').and_then(|(month, day)| Some((month.parse().ok()?, day.parse().ok()?)));
    let (month, day) = parts.ok_or("must be a month and a day, for example 04-01")?;
    Ok(v1::FiscalYearStart { month, day })
}

impl Run for Settings {
    async fn run(self) -> Outcome {
        match self {
            Settings::Show(args) => show(args).await,
            Settings::Set(args) => set(args).await,
        }
    }
}

async fn show(args: ShowArgs) -> Outcome {
    let clients = args.target.connect().await?;
    let settings = in_force(&clients).await?;
    println!("{}", if args.json { as_json(&settings).to_string() } else { as_text(&settings) });
    Ok(ExitCode::SUCCESS)
}

async fn set(args: SetArgs) -> Outcome {
    let clients = args.target.connect().await?;
    let former = in_force(&clients).await?;
    let settings = v1::TenantSettings {
        name: args.name.unwrap_or(former.name),
        time_zone: args.time_zone.unwrap_or(former.time_zone),
        languages: if args.languages.is_empty() { former.languages } else { args.languages },
        fiscal_year_start: args.fiscal_year_start.or(former.fiscal_year_start),
        apply_credit: match args.apply_credit.as_deref() {
            None => former.apply_credit,
            Some(LEAVE) => v1::ApplyCredit::Leave.into(),
            Some(_) => v1::ApplyCredit::OldestFirst.into(),
        },
    };
    let request_id = Uuid::new_v4().to_string();
    let request = v1::PublishSettingsRequest { request_id, settings: Some(settings.clone()) };
    let answer = clients.ask_patiently(request).await.map_err(|status| explained(&status))?;
    if args.json {
        println!("{}", json!({ "version": answer.version, "settings": as_json(&settings) }));
    } else {
        println!(
            "{}\nthese settings are in force from now on, as version {} of what this creditor has published",
            as_text(&settings),
            answer.version
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn in_force(clients: &Clients) -> Result<v1::TenantSettings, Failure> {
    Ok(ask(clients, v1::GetCatalogRequest {}).await?.settings.unwrap_or_default())
}

fn fiscal_year_start(settings: &v1::TenantSettings) -> String {
    let start = settings.fiscal_year_start.unwrap_or(v1::FiscalYearStart { month: 1, day: 1 });
    format!("{:02}-{:02}", start.month, start.day)
}

fn apply_credit(settings: &v1::TenantSettings) -> &'static str {
    if settings.apply_credit() == v1::ApplyCredit::Leave { LEAVE } else { OLDEST_FIRST }
}

fn as_json(settings: &v1::TenantSettings) -> serde_json::Value {
    json!({
        "name": settings.name, "time_zone": settings.time_zone, "languages": settings.languages,
        "fiscal_year_start": fiscal_year_start(settings), "apply_credit": apply_credit(settings),
    })
}

fn as_text(settings: &v1::TenantSettings) -> String {
    let or_none = |text: &str| if text.is_empty() { "(none)".to_owned() } else { text.to_owned() };
    table::named(&[
        ("name", or_none(&settings.name)),
        ("time zone", settings.time_zone.clone()),
        ("languages", or_none(&settings.languages.join(", "))),
        ("fiscal year start", fiscal_year_start(settings)),
        ("apply credit", apply_credit(settings).to_owned()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fiscal_years_first_day_is_a_month_and_a_day() {
        assert_eq!(month_and_day("04-01"), Ok(v1::FiscalYearStart { month: 4, day: 1 }));
        for text in ["", "4", "april-1", "04-01-2026"] {
            assert!(month_and_day(text).is_err(), "{text:?}");
        }
    }
}
