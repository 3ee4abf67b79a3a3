//! `saldo replay`: an account's commits and its state at any moment on either time axis, straight from the log.

use std::{collections::BTreeMap, process::ExitCode};

use anstream::println;
use jiff::{Timestamp, civil::Date};
use saldo_domain::{ids::AccountKey, money::format_minor};
use saldo_facts::Commit;
use saldo_log::{
    Log,
    acceptor::{Acceptor, Verdict},
    frame::partition_of,
    genesis::Identity,
    same::hex,
};
use saldo_readmodel::{Accepted, CommitPosition, Owner, Rows};

use super::{Run, values};
use crate::{
    Outcome,
    config::{Config, Overrides},
    run::{stores::Stores, telemetry},
    terminal::{progress, table},
};

/// Show an account's commits and its state at any moment, straight from the log.
///
/// Reads the account's partition and applies the acceptance rule itself, without any service or read model. Needs the
/// configuration, and no token.
#[derive(clap::Parser)]
#[command(
    name = "replay",
    after_help = "Examples:\n  saldo replay acme/D-0001\n  saldo replay acme/D-0001 --until 2026-03-01T12:00:00Z --as-of 2026-02-28\n  saldo replay acme/D-0001 --config /etc/saldo/saldo.toml --json"
)]
pub struct Replay {
    /// The account, with its tenant.
    #[arg(value_name = "TENANT/ACCOUNT", value_parser = key)]
    account: AccountKey,
    /// Use only what was known at this instant; absent: everything.
    #[arg(long, value_name = "INSTANT", value_parser = values::instant)]
    until: Option<Timestamp>,
    /// Show the state that was true on this day; absent: with every fact that is known.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = values::day)]
    as_of: Option<Date>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Overrides,
}

/// The log holds the accounts of many tenants, so the tenant must be named.
fn key(text: &str) -> Result<AccountKey, String> {
    if !text.contains('/') {
        return Err("must name the tenant too, for example acme/D-0001".to_owned());
    }
    AccountKey::parse(text).map_err(|rule| format!("tenant and account {rule}"))
}

struct Link {
    offset: u64,
    version: u64,
    hash: String,
    known_at: Timestamp,
    commit: Result<Commit, String>,
}

impl Run for Replay {
    async fn run(self) -> Outcome {
        let config = Config::load(&self.settings)?;
        telemetry::start(&config.tracing)?;
        let stores = Stores::open_for_tool(&config, false).await?;
        let identity = stores.identities(&config, false).await?.accounts;
        let text = self.account.to_string();
        let chain = read(stores.log.as_ref(), &identity, &text).await;
        stores.close().await;
        let mut chain = chain?;
        let Some(first) = chain.first().map(|link| link.known_at) else {
            return Err(format!(
                "the log has no account {text}; are tenant and account right? `saldo aging` lists the accounts of a tenant"
            )
            .into());
        };
        chain.retain(|link| self.until.is_none_or(|until| link.known_at <= until));
        if chain.is_empty() {
            return Err(format!("--until: the log knows {text} from {first} on, and not before").into());
        }
        let owner = Owner { tenant: self.account.tenant.to_string(), account: self.account.account.to_string() };
        let mut rows = Rows::default();
        for link in &chain {
            if let Ok(commit) = &link.commit {
                let (offset, version, known_at) = (link.offset, link.version, link.known_at);
                let position = CommitPosition { partition: 0, offset, version, known_at };
                rows.add(&Accepted { owner: &owner, position, trace: None, commit });
            }
        }
        let state = state(&rows, self.as_of);
        if self.json {
            print_json(&text, &chain, &state)?
        } else {
            print(&text, &chain, &rows, &state, &self)
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads the account's partition up to its present end.
async fn read(
    log: &dyn Log,
    identity: &Identity,
    key: &str,
) -> Result<Vec<Link>, Box<dyn std::error::Error + Send + Sync>> {
    let partition = partition_of(key, identity.partitions);
    let end = log.end(partition).await?;
    let mut acceptor = Acceptor::new(identity, partition);
    let mut tail = log.tail(&[(partition, 0)]).await?;
    let bar = progress::records("reading the log");
    bar.set_length(end);
    let mut known: Option<Timestamp> = None;
    let mut chain = Vec::new();
    let mut next = 0;
    while next < end {
        for record in tail.next(5_000).await? {
            next = record.offset + 1;
            let Verdict::Accepted { frame, hash } = acceptor.judge(&record)? else { continue };
            known = known.max(Commit::recorded_at(frame.payload));
            if frame.key() == key {
                chain.push(Link {
                    offset: record.offset,
                    version: frame.version,
                    hash: hex(&hash),
                    known_at: known.unwrap_or(record.appended_at),
                    commit: Commit::decode(frame.payload).map_err(|error| error.to_string()),
                });
            }
        }
        bar.set_position(next);
    }
    bar.finish_and_clear();
    Ok(chain)
}

/// Kind, document, instalment, currency, due date -> open minor units.
type State = BTreeMap<(&'static str, String, u32, String, Option<Date>), i64>;

fn state(rows: &Rows, as_of: Option<Date>) -> State {
    let mut state = State::new();
    for row in rows.ledger.rows.iter().filter(|row| as_of.is_none_or(|day| row.effective_date <= day)) {
        let item = &row.item;
        let key = (item.kind, item.document.clone(), item.instalment, row.currency.to_string(), row.due_date);
        *state.entry(key).or_default() += row.amount;
    }
    state.retain(|_, open| *open != 0);
    state
}

fn print(key: &str, chain: &[Link], rows: &Rows, state: &State, args: &Replay) {
    println!("{key}: {} commit{}", chain.len(), if chain.len() == 1 { "" } else { "s" });
    for link in chain {
        match &link.commit {
            Ok(commit) => {
                println!(
                    "  v{} @{}  {}  {} by {}  {}",
                    link.version,
                    link.offset,
                    commit.recorded_at,
                    commit.method,
                    commit.actor,
                    &link.hash[..16]
                );
                for row in rows.history.rows.iter().filter(|row| row.position.version == link.version) {
                    println!("       {}  {}", row.kind, row.summary);
                }
            }
            Err(why) => println!("  v{} @{}  PARKED: {why}", link.version, link.offset),
        }
    }
    let day = args.as_of.map(|day| format!(" as true on {day}")).unwrap_or_default();
    let known = args.until.map(|at| format!(", as known at {at}")).unwrap_or_default();
    println!("State{day}{known}:");
    let lines = state.iter().map(|((kind, document, instalment, currency, due), open)| {
        vec![
            (*kind).to_owned(),
            document.clone(),
            instalment.to_string(),
            due.map(|due| due.to_string()).unwrap_or_default(),
            format!("{} {currency}", table::major(*open, currency)),
        ]
    });
    println!("{}", table::plain(&["kind", "document", "part", "due", "open"], 4, lines));
}

fn print_json(key: &str, chain: &[Link], state: &State) -> serde_json::Result<()> {
    let commits: Vec<_> = chain
        .iter()
        .map(|link| {
            let mut one = serde_json::json!({
                "version": link.version, "offset": link.offset, "hash": link.hash,
                "known_at": link.known_at.to_string(),
            });
            match &link.commit {
                Ok(commit) => {
                    one["method"] = commit.method.clone().into();
                    one["actor"] = commit.actor.clone().into();
                    one["recorded_at"] = commit.recorded_at.to_string().into();
                    one["request_id"] = commit.request_id.clone().into();
                    one["events"] = commit.events.iter().map(saldo_facts::summarise).collect();
                    one["refusal"] = commit.refusal.as_ref().map(|refusal| refusal.reason.clone()).into();
                }
                Err(why) => one["parked"] = why.clone().into(),
            }
            one
        })
        .collect();
    let items: Vec<_> = state
        .iter()
        .map(|((kind, document, instalment, currency, due), open)| {
            let major = saldo_domain::money::Currency::new(currency).map(|c| format_minor(*open, c)).ok();
            serde_json::json!({
                "kind": kind, "document": document, "instalment": instalment, "currency": currency,
                "due_date": due.map(|due| due.to_string()), "open_minor": open, "open": major,
            })
        })
        .collect();
    println!("{}", serde_json::to_string(&serde_json::json!({ "account": key, "commits": commits, "state": items }))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_named_with_its_tenant() {
        assert_eq!(key("acme/D-1").map(|key| key.to_string()), Ok("acme/D-1".to_owned()));
        assert!(key("D-1").expect_err("no tenant").contains("tenant"));
        assert!(key("acme/Ana Gil").is_err());
    }
}
