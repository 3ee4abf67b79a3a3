//! `saldo outbox`: reminders that wait, why and until when.

use std::process::ExitCode;

use anstream::println;
use jiff::Timestamp;
use saldo_api::v1;
use saldo_domain::{
    dunning::attempt::{WithheldReason, unknown_after},
    party::Channel,
};
use saldo_facts::timestamp_from_api;
use serde::Serialize;

use super::{Run, hold, sending};
use crate::{
    Outcome,
    client::{Target, explain},
    terminal::table,
};

/// Show the reminders that wait, why and until when, and those that need a person.
///
/// Without --all: reminders that wait (due, deferred, started) or need a person (unknown, rejected, no address to write to).
/// Needs a token with the role reader.
#[derive(clap::Parser)]
#[command(
    name = "outbox",
    after_help = "Examples:\n  saldo outbox\n  saldo outbox D-0001 --all\n  saldo outbox --json"
)]
pub struct Outbox {
    /// Only this account.
    account: Option<String>,
    /// Also show reminders that were sent, withheld or given up; newest first.
    #[arg(long)]
    all: bool,
    /// The most lines.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    most: i32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Serialize)]
pub struct Line {
    pub account: String,
    pub reminder: u64,
    step: String,
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    attempts: u32,
    due_at: String,
    needs_person: bool,
    /// To be found in the log of the mail server.
    #[serde(skip_serializing_if = "String::is_empty")]
    message_id: String,
}

impl Run for Outbox {
    async fn run(self) -> Outcome {
        let mut clients = self.target.connect().await?;
        let request = v1::ListRemindersRequest {
            account_id: self.account.unwrap_or_default(),
            outbox: !self.all,
            page_size: self.most,
            ..Default::default()
        };
        let account = request.account_id.clone();
        let answer = clients.query.list_reminders(request).await.map_err(|status| explain(&status))?.into_inner();
        let more = !answer.next_page_token.is_empty();
        let lines: Vec<Line> = answer.reminders.into_iter().map(line).collect();
        // The command service knows whether sending is on. Reminders are shown even while this service does not answer.
        let silence = clients.catalog.get_catalog(v1::GetCatalogRequest {}).await;
        let silence = silence.map(|answer| answer.into_inner().silence);
        if self.json {
            let silence = silence.ok();
            println!("{}", serde_json::json!({ "reminders": lines, "more": more, "silence": silence }));
            return Ok(ExitCode::SUCCESS);
        }
        match silence {
            Ok(silence) => sending::silence(&silence).into_iter().for_each(|said| println!("{said}\n")),
            Err(status) => println!("whether sending is on is not known: {}\n", explain(&status)),
        }
        let holds = match account.is_empty() {
            true => Vec::new(),
            false => {
                let request = v1::ListHoldsRequest { account_id: account, ..Default::default() };
                clients.query.list_holds(request).await.map_err(|status| explain(&status))?.into_inner().holds
            }
        };
        if !holds.is_empty() {
            println!("on hold:\n{}\n", hold::shown(&holds));
        }
        if lines.is_empty() {
            println!("{}", if self.all { "there has been no reminder" } else { "nothing waits" });
            return Ok(ExitCode::SUCCESS);
        }
        println!("{}", shown(&lines));
        if more {
            println!("there are more; name an account, or raise --most");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Reminders as a table.
pub fn shown(lines: &[Line]) -> comfy_table::Table {
    let rows = lines.iter().map(|line| {
        vec![
            line.account.clone(),
            line.reminder.to_string(),
            line.step.clone(),
            line.due_at.clone(),
            line.status.clone(),
            line.reason.clone(),
            line.until.clone().unwrap_or_default(),
            line.message_id.clone(),
            line.advice().to_owned(),
        ]
    });
    let header = ["account", "reminder", "step", "due", "status", "why", "until", "Message-ID", "a person should"];
    table::plain(&header, 9, rows)
}

impl Line {
    /// The act that a person can choose.
    fn advice(&self) -> &'static str {
        match (self.needs_person, WithheldReason::parse(&self.reason)) {
            (false, _) => "",
            (true, Some(WithheldReason::NoContactPoint)) => "add an address: the reminder then comes again by itself",
            (true, _) if self.reason.starts_with("address_refused") => {
                "add another address: the reminder then comes again by itself; or retry, or drop"
            }
            (true, _) if self.status == "unknown" => {
                "look for the Message-ID in the log of the mail server: drop if it was sent, else retry"
            }
            (true, _) => "retry or drop",
        }
    }
}

pub fn line(view: v1::ReminderView) -> Line {
    let read = |at: Option<saldo_api::Timestamp>| timestamp_from_api(at?).ok();
    let shown = |at: Timestamp| at.round(jiff::Unit::Second).unwrap_or(at).to_string();
    let started = view.status == "started";
    // A message under way has its outcome by then.
    let patience = Channel::parse(&view.channel).filter(|_| started).map(unknown_after).unwrap_or_default();
    let until = read(view.until).map(|at| at.checked_add(patience).unwrap_or(at));
    Line {
        account: view.account_id,
        reminder: view.reminder,
        step: view.step,
        status: view.status,
        reason: if started { "waits for the outcome".to_owned() } else { view.reason },
        until: until.map(shown),
        attempts: view.attempts,
        due_at: read(view.due_at).map(shown).unwrap_or_default(),
        needs_person: view.needs_person,
        message_id: view.message_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reminder_without_an_address_asks_for_an_address() {
        let view = |status: &str, reason: &str, needs_person| {
            let (status, reason) = (status.to_owned(), reason.to_owned());
            line(v1::ReminderView { status, reason, needs_person, ..Default::default() }).advice()
        };
        assert!(view("withheld", "no_contact_point", true).starts_with("add an address"));
        assert!(view("rejected", "address_refused: rcpt 550", true).starts_with("add another address"));
        assert!(view("unknown", "no_outcome", true).contains("Message-ID"));
        assert_eq!(view("rejected", "retries_exhausted: rcpt 451", true), "retry or drop");
        assert_eq!(view("due", "", false), "");
    }

    #[test]
    fn a_message_under_way_is_shown_with_the_time_by_which_its_outcome_is_known() {
        let send_before = saldo_api::Timestamp { seconds: 1_772_442_000, nanos: 0 };
        let view = v1::ReminderView { status: "started".into(), until: Some(send_before), ..Default::default() };
        let line = line(view);
        assert_eq!(
            (line.reason.as_str(), line.until.as_deref()),
            ("waits for the outcome", Some("2026-03-02T09:15:00Z"))
        );
    }
}
