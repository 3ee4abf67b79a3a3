//! `saldo preview`: what a draft policy would say to an account and when, if nothing is paid in the meantime.

use std::{path::PathBuf, process::ExitCode};

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use saldo_api::v1;
use saldo_command::Clock;
use saldo_commit::date_from_api;
use saldo_domain::{
    ladder::{Contact, Item, next_contact, take},
    policy::{DEBTOR_ZONE, Policy, Tone},
};
use serde::Serialize;

use crate::{
    Outcome,
    client::{Target, explain},
    policy::Folder,
    table,
};

/// What `preview` takes.
#[derive(Debug, clap::Args)]
pub struct PreviewArgs {
    /// The account.
    account: String,
    /// Folder of the draft; docs/policy.md describes it.
    #[arg(long, value_name = "DIR")]
    policy: PathBuf,
    /// As if it began at this instant; absent: now.
    #[arg(long, value_name = "INSTANT")]
    from: Option<Timestamp>,
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
    tone: Tone,
    template: String,
    /// Invoice and instalment of each item that takes a step with it.
    items: Vec<String>,
}

/// Contacts shown at most: two years of the closest policy.
const MOST: usize = 500;
/// After a contact the next is looked for from here.
const AFTER: SignedDuration = SignedDuration::from_secs(1);
/// How long a contact counts in the budget of a week, in any zone.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(8 * 24);

/// Prints what would be said.
pub async fn run(args: PreviewArgs) -> Outcome {
    let folder = Folder::sound(&args.policy)?;
    let mut clients = args.target.connect().await?;
    let account_id = || args.account.clone();
    let who = v1::GetAccountRequest { account_id: account_id(), ..Default::default() };
    let who = clients.query.get_account(who).await.map_err(|status| explain(&status))?.into_inner();
    let open = v1::ListOpenItemsRequest { account_id: account_id(), ..Default::default() };
    let open = clients.query.list_open_items(open).await.map_err(|status| explain(&status))?.into_inner().items;
    let contact = &folder.policy.contact;
    let zone = if contact.time_zone == DEBTOR_ZONE { &who.time_zone } else { &contact.time_zone };
    let time_zone = TimeZone::get(zone).map_err(|error| format!("time zone {zone}: {error}"))?;
    let from = args.from.unwrap_or_else(|| Clock::system().now());
    let items: Vec<(String, Date)> = open
        .iter()
        .filter(|item| item.kind() == v1::open_item::Kind::Invoice)
        .filter_map(|item| Some((format!("{}/{}", item.document, item.instalment), date_from_api(item.due_date?)?)))
        .collect();
    let planned = plan(&folder.policy, &time_zone, &items, from);
    if args.json {
        println!("{}", serde_json::json!({ "account": args.account, "time_zone": zone, "contacts": planned }));
        return Ok(ExitCode::SUCCESS);
    }
    println!("What would be said to {} from {from} on, if nothing is paid; times of {zone}:", args.account);
    let lines = planned.iter().map(|one| {
        vec![one.local.clone(), one.step.clone(), format!("{:?}", one.tone).to_lowercase(), one.items.join(", ")]
    });
    println!("{}", table::plain(&["when", "step", "tone", "items that take a step"], 4, lines));
    Ok(ExitCode::SUCCESS)
}

/// Lives through the ladder. Nothing has been said to the account before: this release sends nothing.
fn plan(policy: &Policy, zone: &TimeZone, open: &[(String, Date)], from: Timestamp) -> Vec<Planned> {
    let fresh = |due_date: Date| Item { due_date, taken: 0, last_taken: None };
    let mut items: Vec<Item> = open.iter().map(|(_, due)| fresh(*due)).collect();
    let mut contacts: Vec<Contact> = Vec::new();
    let mut now = from;
    while contacts.len() < MOST {
        let recent: Vec<Timestamp> =
            contacts.iter().map(|contact| contact.at).filter(|at| now.duration_since(*at) < REMEMBERED).collect();
        let Some(contact) = next_contact(policy, zone, &items, &recent, now) else { break };
        take(&mut items, &contact, zone.to_datetime(contact.at).date());
        now = contact.at + AFTER;
        contacts.push(contact);
    }
    let planned = contacts.into_iter().filter_map(|contact| {
        let step = policy.steps.get(contact.step)?;
        let names = contact.takes.iter().filter_map(|(item, _)| open.get(*item)).map(|(name, _)| name.clone());
        Some(Planned {
            at: contact.at,
            local: zone.to_datetime(contact.at).strftime("%a %Y-%m-%d %H:%M").to_string(),
            step: step.name.clone(),
            tone: step.tone,
            template: step.template.clone(),
            items: names.collect(),
        })
    });
    planned.collect()
}
