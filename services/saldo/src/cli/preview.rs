//! `saldo preview`: the messages that an account would get and when, under the policy in force or a draft.

use std::{path::PathBuf, process::ExitCode};

use anstream::println;
use jiff::{Timestamp, tz::TimeZone};
use saldo_api::v1;
use saldo_facts::{timestamp_from_api, timestamp_to_api, tone_from_api};
use serde::Serialize;

use super::{Run, change::ask, reasons, sending, values};
use crate::{Outcome, cli::policy::folder, client::Target, terminal::table};

/// Show what would be sent to an account and when, if nothing is paid.
///
/// Uses the policy in force, as if sending were on, or a draft on disk. Sends nothing and records nothing. Needs a token with the
/// role reader, and for a draft the role operator.
#[derive(clap::Parser)]
#[command(
    name = "preview",
    after_help = "Examples:\n  saldo preview D-0001\n  saldo preview D-0001 --policy docs/policy\n  saldo preview D-0001 --policy docs/policy --from 2026-03-01T08:00:00Z --json"
)]
pub struct Preview {
    /// The account.
    account: String,
    /// Folder of a draft, as docs/policy.md describes it; absent: the policy in force.
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    /// Begin the preview at this instant; absent: now.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    from: Option<Timestamp>,
    /// The most messages.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=500))]
    most: i32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// A planned message.
#[derive(Debug, Serialize)]
struct Planned {
    at: Timestamp,
    /// In the zone of the policy's windows.
    local: String,
    step: String,
    tone: String,
    template: String,
    language: String,
    /// Why the message would be withheld; empty: it would be sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    withheld: String,
    /// Invoice and instalment of each item that takes a step with the message.
    items: Vec<String>,
}

impl Run for Preview {
    async fn run(self) -> Outcome {
        let draft = self.policy.as_deref().map(folder::files).transpose()?.unwrap_or_default();
        let is_draft = !draft.is_empty();
        let clients = self.target.connect().await?;
        let request = v1::PreviewContactsRequest {
            account_id: self.account.clone(),
            draft,
            from: self.from.map(timestamp_to_api),
            most: self.most,
        };
        let answer = ask(&clients, request).await?;
        let zone = &answer.time_zone;
        let time_zone = TimeZone::get(zone).map_err(|error| format!("time zone {zone}: {error}"))?;
        let planned: Vec<Planned> =
            answer.contacts.into_iter().filter_map(|contact| planned(contact, &time_zone)).collect();
        if self.json {
            let (version, sending) = (answer.policy_version, answer.sending);
            let balance = |money: &v1::Money| serde_json::json!({ "currency": money.currency, "balance_minor": money.minor_units });
            let nothing_owed: Vec<_> = answer.nothing_owed.iter().map(balance).collect();
            let said = serde_json::json!({
                "account": self.account, "time_zone": zone, "policy_version": version, "sending": sending, "contacts": planned,
                "nothing_owed": nothing_owed, "silence": answer.silence,
            });
            println!("{said}");
            return Ok(ExitCode::SUCCESS);
        }
        let under = if is_draft { "the draft".to_owned() } else { format!("policy version {}", answer.policy_version) };
        println!("What would be sent to {} under {under}, if nothing is paid; times in {zone}:", self.account);
        let lines = planned.iter().map(|one| {
            let what = match one.withheld.as_str() {
                "" => one.items.join(", "),
                code => format!("not sent: {}", reasons::words(code)),
            };
            vec![one.local.clone(), one.step.clone(), one.tone.clone(), one.language.clone(), what]
        });
        println!("{}", table::plain(&["when", "step", "tone", "in", "items that take a step"], 5, lines));
        for balance in &answer.nothing_owed {
            let sum = table::money(Some(balance));
            println!("The balance in {} is {sum}: nothing of it is chased.", balance.currency);
        }
        if let Some(silence) = sending::silence(&answer.silence) {
            println!("Now {silence}.");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn planned(contact: v1::PlannedContact, zone: &TimeZone) -> Option<Planned> {
    let at = timestamp_from_api(contact.at?).ok()?;
    let saying = contact.saying?;
    let takes = contact.items.iter().filter(|item| item.takes_offset_days.is_some());
    Some(Planned {
        at,
        local: zone.to_datetime(at).strftime("%a %Y-%m-%d %H:%M").to_string(),
        tone: tone_from_api(saying.tone).map(|tone| format!("{tone:?}").to_lowercase()).unwrap_or_default(),
        step: saying.step,
        template: saying.template,
        language: contact.language,
        withheld: contact.withheld,
        items: takes.map(|item| format!("{}/{}", item.invoice_number, item.instalment)).collect(),
    })
}
