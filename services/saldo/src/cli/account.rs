//! `saldo account`: who owes, how the debtor is reached, and what is open.

mod contacts;

use std::process::ExitCode;

use anstream::println;
use clap::Args;
use saldo_api::{FieldMask, v1};
use saldo_facts::channel_from_api;
use serde_json::json;

use self::contacts::{Edits, NewContacts};
use super::{
    Run, aging,
    change::{Change, ask},
    hold,
    values::AsOf,
};
use crate::{
    Failure, Outcome,
    client::{Clients, Target},
    terminal::table,
};

/// Open, show or amend the account of a debtor.
///
/// To open and amend needs a token with the role writer, to show the role reader. An amendment of contact points needs both.
#[derive(clap::Parser)]
#[command(name = "account")]
pub enum Account {
    /// Open an account.
    ///
    /// The id is yours and opaque. It must not be a name or an address.
    #[command(
        after_help = "Example:\n  saldo account open D-0001 --name 'Ana Gil' --kind consumer --language es --time-zone Europe/Madrid --country ES --email ana@example.com --phone +34600000000"
    )]
    Open(Open),
    /// Show who owes, how the debtor is reached, what is open, and what is on hold.
    #[command(
        after_help = "Examples:\n  saldo account show D-0001\n  saldo account show D-0001 --history\n  saldo account show D-0001 --as-of 2026-09-30 --known-at 2026-10-15T00:00:00Z"
    )]
    Show(Show),
    /// Change who owes or how the debtor is reached. What is not named stays as it is.
    ///
    /// An address that is added comes last. Messages go to the first usable address of a channel.
    #[command(
        after_help = "Examples:\n  saldo account amend D-0001 --add-email office@example.com\n  saldo account amend D-0001 --change ana@example.com ana@example.org\n  saldo account amend D-0001 --remove +34600000000 --language en"
    )]
    Amend(Amend),
}

#[derive(Args)]
pub struct Open {
    /// The account's id: letters, digits, points, hyphens and underscores, at most 64.
    account: String,
    /// The debtor's name.
    #[arg(long)]
    name: String,
    /// What the debtor is in law; rules differ.
    #[arg(long, value_parser = ["consumer", "business"])]
    kind: String,
    /// The debtor's language, for example es.
    #[arg(long, value_name = "CODE")]
    language: String,
    /// The debtor's time zone, for example Europe/Madrid.
    #[arg(long, value_name = "ZONE")]
    time_zone: String,
    /// The debtor's country, for example ES.
    #[arg(long, value_name = "CODE")]
    country: String,
    #[command(flatten)]
    contacts: NewContacts,
    #[command(flatten)]
    change: Change,
}

#[derive(Args)]
pub struct Show {
    /// The account.
    account: String,
    #[command(flatten)]
    view: AsOf,
    /// Also show everything that happened on the account.
    #[arg(long)]
    history: bool,
    /// Print JSON, amounts in minor units.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub struct Amend {
    /// The account.
    account: String,
    /// Another name.
    #[arg(long)]
    name: Option<String>,
    /// What the debtor is in law.
    #[arg(long, value_parser = ["consumer", "business"])]
    kind: Option<String>,
    /// Another language, for example es.
    #[arg(long, value_name = "CODE")]
    language: Option<String>,
    /// Another time zone, for example Europe/Madrid.
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Another country, for example ES.
    #[arg(long, value_name = "CODE")]
    country: Option<String>,
    #[command(flatten)]
    contacts: Edits,
    #[command(flatten)]
    change: Change,
}

impl Run for Account {
    async fn run(self) -> Outcome {
        match self {
            Account::Open(open) => open.run().await,
            Account::Show(show) => show.run().await,
            Account::Amend(amend) => amend.run().await,
        }
    }
}

fn kind_to_api(kind: &str) -> v1::DebtorKind {
    if kind == "consumer" { v1::DebtorKind::Consumer } else { v1::DebtorKind::Business }
}

impl Open {
    async fn run(self) -> Outcome {
        let changing = self.change.connect().await?;
        let profile = v1::Profile {
            display_name: self.name,
            kind: kind_to_api(&self.kind).into(),
            language: self.language,
            time_zone: self.time_zone,
            country: self.country,
            contact_points: self.contacts.points(),
        };
        let request = v1::OpenAccountRequest {
            request_id: changing.request_id(),
            account_id: self.account.clone(),
            profile: Some(profile),
        };
        let answer = changing.send(request).await?;
        changing.print(&answer, json!({ "account": self.account }), format!("account {} is open", self.account))
    }
}

impl Amend {
    async fn run(self) -> Outcome {
        let mut paths: Vec<&str> = [
            ("display_name", self.name.is_some()),
            ("kind", self.kind.is_some()),
            ("language", self.language.is_some()),
            ("time_zone", self.time_zone.is_some()),
            ("country", self.country.is_some()),
        ]
        .into_iter()
        .filter_map(|(path, given)| given.then_some(path))
        .collect();
        if paths.is_empty() && self.contacts.is_empty() {
            return Err("name what is to change: --name, --kind, --language, --time-zone, --country, --add-email, \
                 --add-phone, --add-sms, --add-whatsapp, --add-post, --change or --remove"
                .into());
        }
        let changing = self.change.connect().await?;
        let (mut contact_points, mut seen) = (Vec::new(), None);
        if !self.contacts.is_empty() {
            let request = v1::GetAccountRequest { account_id: self.account.clone(), ..Default::default() };
            let points = contacts::standing(ask(&changing.clients, request).await?.contact_points)?;
            contact_points = self.contacts.apply(points.clone())?;
            seen = Some(v1::SeenContactPoints { points });
            paths.push("contact_points");
        }
        let request = v1::AmendAccountRequest {
            request_id: changing.request_id(),
            account_id: self.account.clone(),
            profile: Some(v1::Profile {
                display_name: self.name.unwrap_or_default(),
                kind: self.kind.as_deref().map_or(v1::DebtorKind::Unspecified, kind_to_api).into(),
                language: self.language.unwrap_or_default(),
                time_zone: self.time_zone.unwrap_or_default(),
                country: self.country.unwrap_or_default(),
                contact_points,
            }),
            update_mask: Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
            seen_contact_points: seen,
        };
        let answer = changing.send(request).await?;
        let text = format!("account {} is amended", self.account);
        changing.print(&answer, json!({ "account": self.account }), text)
    }
}

impl Show {
    async fn run(self) -> Outcome {
        let mut clients = self.target.connect().await?;
        let account_id = self.account;
        let who = ask(&clients, v1::GetAccountRequest { account_id: account_id.clone(), ..Default::default() }).await?;
        let known_at = self.view.instant();
        let request = v1::GetAgingRequest {
            as_of: self.view.day(),
            known_at,
            account_id: account_id.clone(),
            ..Default::default()
        };
        let figures = aging::fetch(&mut clients, request).await.map_err(|status| super::refusal::explained(&status))?;
        // Figures and items speak of one day, even if the day ends between the two questions.
        let items = v1::ListOpenItemsRequest {
            account_id: account_id.clone(),
            as_of: figures.as_of,
            known_at,
            ..Default::default()
        };
        let items = ask(&clients, items).await?.items;
        let holds = v1::ListHoldsRequest {
            account_id: account_id.clone(),
            as_of: figures.as_of,
            page_size: 1_000,
            ..Default::default()
        };
        // A hold that was over on that day held nothing.
        let is_over = |hold: &v1::HoldView| hold::is_over(hold, figures.as_of.as_ref());
        let holds: Vec<_> = ask(&clients, holds).await?.holds.into_iter().filter(|hold| !is_over(hold)).collect();
        let history = if self.history { history(&clients, &account_id).await? } else { Vec::new() };
        let as_of = table::day(figures.as_of.as_ref());
        let kind = match who.kind() {
            v1::DebtorKind::Consumer => "consumer",
            v1::DebtorKind::Business => "business",
            v1::DebtorKind::Unspecified => "",
        };
        if self.json {
            let mut said = json!({
                "account": account_id, "name": who.display_name, "kind": kind, "language": who.language,
                "time_zone": who.time_zone, "country": who.country, "version": who.version, "as_of": as_of,
                "contact_points": who.contact_points.iter().map(contact_as_json).collect::<Vec<_>>(),
                "figures": figures.rows.iter().map(aging::as_json).collect::<Vec<_>>(),
                "open_items": items.iter().map(item_as_json).collect::<Vec<_>>(),
                "holds": holds.iter().map(|hold| hold::as_json(hold, figures.as_of.as_ref())).collect::<Vec<_>>(),
            });
            if self.history {
                said["history"] = history.iter().map(entry_as_json).collect();
            }
            println!("{said}");
            return Ok(ExitCode::SUCCESS);
        }
        let contacts: Vec<String> = who.contact_points.iter().map(contact).collect();
        println!(
            "{}\n",
            table::named(&[
                ("account", account_id),
                ("name", who.display_name),
                ("kind", kind.to_owned()),
                ("language", who.language),
                ("time zone", who.time_zone),
                ("country", who.country),
                ("reached by", if contacts.is_empty() { "(no address)".to_owned() } else { contacts.join("\n") }),
            ])
        );
        println!("Owed as of {as_of}:\n{}", table::aging(&figures.rows, &[]));
        println!("\nOpen:\n{}", table::open_items(&items));
        if !holds.is_empty() {
            println!("\nOn hold:\n{}", hold::shown(&holds, figures.as_of.as_ref()));
        }
        if self.history {
            println!("\nHistory:\n{}", table::history(&history));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Every page of an account's history.
async fn history(clients: &Clients, account_id: &str) -> Result<Vec<v1::HistoryEntry>, Failure> {
    let (mut entries, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListHistoryRequest {
            account_id: account_id.to_owned(),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = ask(clients, request).await?;
        entries.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(entries);
        }
    }
}

fn channel(point: &v1::ContactPointView) -> &'static str {
    channel_from_api(point.channel).map_or("", |channel| channel.name())
}

fn contact(point: &v1::ContactPointView) -> String {
    let address = if point.address.is_empty() { "(erased)" } else { &point.address };
    format!("{:<8}  {address}", channel(point))
}

fn contact_as_json(point: &v1::ContactPointView) -> serde_json::Value {
    json!({ "channel": channel(point), "address": point.address })
}

fn item_as_json(item: &v1::OpenItem) -> serde_json::Value {
    json!({
        "document": item.document, "instalment": item.instalment, "currency": item.currency,
        "issue_date": table::day(item.issue_date.as_ref()),
        "due_date": item.due_date.as_ref().map(|day| table::day(Some(day))),
        "original_minor": item.original_minor, "open_minor": item.open_minor,
    })
}

fn entry_as_json(entry: &v1::HistoryEntry) -> serde_json::Value {
    json!({
        "version": entry.version, "index": entry.index, "type": entry.r#type,
        "effective_date": entry.effective_date.as_ref().map(|day| table::day(Some(day))),
        "recorded_at": table::instant(entry.recorded_at.as_ref()), "actor": entry.actor, "summary": entry.summary,
    })
}
