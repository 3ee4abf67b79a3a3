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

use super::{Run, change::ask, hold, reasons, refusal::explained, sending};
use crate::{Outcome, client::Target, terminal::table};

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
        let clients = self.target.connect().await?;
        let request = v1::ListRemindersRequest {
            account_id: self.account.unwrap_or_default(),
            outbox: !self.all,
            page_size: self.most,
            ..Default::default()
        };
        let account = request.account_id.clone();
        let answer = ask(&clients, request).await?;
        let more = !answer.next_page_token.is_empty();
        let lines: Vec<Line> = answer.reminders.into_iter().map(line).collect();
        // The command service knows whether sending is on. Reminders are shown even while this service does not answer.
        let silence = clients.ask(v1::GetCatalogRequest {}).await.map(|answer| answer.silence);
        if self.json {
            let silence = silence.ok();
            println!("{}", serde_json::json!({ "reminders": lines, "more": more, "silence": silence }));
            return Ok(ExitCode::SUCCESS);
        }
        match silence {
            Ok(silence) => sending::silence(&silence).into_iter().for_each(|said| println!("{said}\n")),
            Err(status) => println!("whether sending is on is not known: {}\n", explained(&status)),
        }
        if !account.is_empty() {
            let request = v1::ListHoldsRequest { account_id: account, ..Default::default() };
            let v1::ListHoldsResponse { mut holds, as_of: today, .. } = ask(&clients, request).await?;
            holds.retain(|hold| !hold::is_over(hold, today.as_ref()));
            if !holds.is_empty() {
                println!("on hold:\n{}\n", hold::shown(&holds, today.as_ref()));
            }
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

/// Reminders as a table, and below it what a person should do about those that need one.
pub fn shown(lines: &[Line]) -> String {
    let rows = lines.iter().map(|line| {
        vec![
            line.account.clone(),
            line.reminder.to_string(),
            line.step.clone(),
            to_the_minute(&line.due_at),
            line.status.clone(),
            line.why(),
            line.until.as_deref().map(to_the_minute).unwrap_or_default(),
        ]
    });
    let header = ["account", "no.", "step", "due", "status", "why", "until"];
    let mut text = table::plain(&header, header.len(), rows).to_string();
    let advice: Vec<String> = lines.iter().filter_map(Line::told).collect();
    if !advice.is_empty() {
        text += &format!("\n\nA person should see to:\n{}", advice.join("\n"));
    }
    text
}

/// `2026-03-02T09:15:00Z` as `2026-03-02T09:15Z`.
fn to_the_minute(instant: &str) -> String {
    match instant.split_at_checked(16) {
        Some((minute, _)) => format!("{minute}Z"),
        None => instant.to_owned(),
    }
}

impl Line {
    /// Why it stands as it does, in words.
    fn why(&self) -> String {
        if self.status == "started" { "waits for the outcome".to_owned() } else { reasons::words(&self.reason) }
    }

    /// The reminder with what a person should do, where it needs one.
    fn told(&self) -> Option<String> {
        let advice = self.advice()?;
        Some(format!("  {} no. {}: {advice}", self.account, self.reminder))
    }

    /// The act that a person can choose.
    fn advice(&self) -> Option<String> {
        if !self.needs_person {
            return None;
        }
        let advice = match WithheldReason::parse(&self.reason) {
            Some(WithheldReason::NoContactPoint) => "add an address: the reminder then comes again by itself",
            _ if self.reason.starts_with("address_refused") => {
                "add another address: the reminder then comes again by itself; or retry, or drop"
            }
            _ if self.status == "unknown" => {
                let id = &self.message_id;
                return Some(format!("look for <{id}> in the log of the mail server: drop if it was sent, else retry"));
            }
            _ => "retry or drop",
        };
        Some(advice.to_owned())
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
        reason: view.reason,
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
            let message_id = "1@acme".to_owned();
            let view = v1::ReminderView { status, reason, needs_person, message_id, ..Default::default() };
            line(view).advice().unwrap_or_default()
        };
        assert!(view("withheld", "no_contact_point", true).starts_with("add an address"));
        assert!(view("rejected", "address_refused: rcpt 550", true).starts_with("add another address"));
        assert!(view("unknown", "no_outcome", true).contains("look for <1@acme>"));
        assert_eq!(view("rejected", "retries_exhausted: rcpt 451", true), "retry or drop");
        assert_eq!(view("due", "", false), "");
    }

    #[test]
    fn a_message_under_way_is_shown_with_the_time_by_which_its_outcome_is_known() {
        let send_before = saldo_api::Timestamp { seconds: 1_772_442_000, nanos: 0 };
        let (status, channel) = ("started".into(), "email".into());
        let view = v1::ReminderView { status, channel, until: Some(send_before), ..Default::default() };
        let line = line(view);
        assert_eq!(
            (line.why().as_str(), line.until.as_deref()),
            ("waits for the outcome", Some("2026-03-02T09:15:00Z"))
        );
    }

    #[test]
    fn the_outbox_fits_a_terminal_and_says_in_words_what_a_person_should_do() {
        let at = saldo_api::Timestamp { seconds: 1_772_442_000, nanos: 0 };
        let view = |status: &str, reason: &str| v1::ReminderView {
            account_id: "D-0000001".into(),
            reminder: 12,
            step: "second-reminder".into(),
            status: status.into(),
            reason: reason.into(),
            due_at: Some(at),
            until: Some(at),
            message_id: "0f5e1b9c8e3f4c1d8f0a3b5c7d9e1f20@saldo.example.com".into(),
            needs_person: status != "deferred",
            ..Default::default()
        };
        let lines = [("deferred", "budget"), ("rejected", "retries_exhausted: rcpt 451"), ("unknown", "no_outcome")];
        let lines: Vec<Line> = lines.into_iter().map(|(status, reason)| line(view(status, reason))).collect();
        let text = shown(&lines);
        let (table, advice) = text.split_once("A person should see to:").expect("advice");
        let widest = table.lines().map(|line| line.trim_end().chars().count()).max().unwrap_or_default();
        assert!(widest <= 120, "{widest}: {table}");
        assert!(table.contains("retries used up (rcpt 451)") && table.contains("2026-03-02T09:00Z"), "{table}");
        assert!(
            advice.contains("look for <0f5e1b9c") && advice.contains("D-0000001 no. 12: retry or drop"),
            "{advice}"
        );
    }
}
