//! `saldo preview`: what would be said to an account and when, under the policy in force or a draft.

use std::{path::PathBuf, process::ExitCode};

use anstream::println;
use jiff::{Timestamp, tz::TimeZone};
use saldo_api::v1;
use saldo_facts::{timestamp_from_api, timestamp_to_api, tone_from_api};
use serde::Serialize;

use crate::{
    Outcome,
    client::{Target, explain},
    policy::folder,
    table,
};

/// What `preview` takes.
#[derive(Debug, clap::Args)]
pub struct PreviewArgs {
    /// The account.
    account: String,
    /// Folder of a draft, which docs/policy.md describes; absent: the policy in force.
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    /// As if it began at this instant; absent: now.
    #[arg(long, value_name = "INSTANT")]
    from: Option<Timestamp>,
    /// Contacts at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=500))]
    most: i32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where and as whom.
    #[command(flatten)]
    target: Target,
}

/// A contact to come.
#[derive(Debug, Serialize)]
struct Planned {
    at: Timestamp,
    /// In the zone of the policy's windows.
    local: String,
    step: String,
    tone: String,
    template: String,
    language: String,
    /// Why nothing would be sent, where nothing would.
    #[serde(skip_serializing_if = "String::is_empty")]
    withheld: String,
    /// Invoice and instalment of each item that takes a step with it.
    items: Vec<String>,
}

/// Prints what would be said.
pub async fn run(args: PreviewArgs) -> Outcome {
    let draft = args.policy.as_deref().map(folder::files).transpose()?.unwrap_or_default();
    let is_draft = !draft.is_empty();
    let mut clients = args.target.connect().await?;
    let request = v1::PreviewContactsRequest {
        account_id: args.account.clone(),
        draft,
        from: args.from.map(timestamp_to_api),
        most: args.most,
    };
    let answer = clients.catalog.preview_contacts(request).await.map_err(|status| explain(&status))?.into_inner();
    let zone = &answer.time_zone;
    let time_zone = TimeZone::get(zone).map_err(|error| format!("time zone {zone}: {error}"))?;
    let planned: Vec<Planned> =
        answer.contacts.into_iter().filter_map(|contact| planned(contact, &time_zone)).collect();
    if args.json {
        let (version, sending) = (answer.policy_version, answer.sending);
        let said = serde_json::json!({
            "account": args.account, "time_zone": zone, "policy_version": version, "sending": sending, "contacts": planned
        });
        println!("{said}");
        return Ok(ExitCode::SUCCESS);
    }
    let under = if is_draft { "the draft".to_owned() } else { format!("policy version {}", answer.policy_version) };
    println!("What would be said to {} under {under}, if nothing is paid; times of {zone}:", args.account);
    let lines = planned.iter().map(|one| {
        let what = if one.withheld.is_empty() { one.items.join(", ") } else { format!("not sent: {}", one.withheld) };
        vec![one.local.clone(), one.step.clone(), one.tone.clone(), one.language.clone(), what]
    });
    println!("{}", table::plain(&["when", "step", "tone", "in", "items that take a step"], 5, lines));
    if !answer.sending {
        println!("Sending is off: none of it happens until `saldo sending on`.");
    }
    Ok(ExitCode::SUCCESS)
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
