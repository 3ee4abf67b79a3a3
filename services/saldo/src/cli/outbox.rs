//! `saldo outbox`: reminders that wait, why and until when.

use std::process::ExitCode;

use anstream::println;
use saldo_api::v1;
use saldo_domain::dunning::attempt::WithheldReason;
use saldo_facts::timestamp_from_api;
use serde::Serialize;

use super::{Run, hold};
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
struct Line {
    account: String,
    reminder: u64,
    step: String,
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    attempts: u32,
    due_at: String,
    needs_person: bool,
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
        if self.json {
            println!("{}", serde_json::json!({ "reminders": lines, "more": more }));
            return Ok(ExitCode::SUCCESS);
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
        let rows = lines.iter().map(|line| {
            vec![
                line.account.clone(),
                line.reminder.to_string(),
                line.step.clone(),
                line.due_at.clone(),
                line.status.clone(),
                line.reason.clone(),
                line.until.clone().unwrap_or_default(),
                line.advice().to_owned(),
            ]
        });
        let header = ["account", "reminder", "step", "due", "status", "why", "until", "a person should"];
        println!("{}", table::plain(&header, 8, rows));
        if more {
            println!("there are more; name an account, or raise --most");
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Line {
    /// The act that a person can choose.
    fn advice(&self) -> &'static str {
        match (self.needs_person, WithheldReason::parse(&self.reason)) {
            (false, _) => "",
            (true, Some(WithheldReason::NoContactPoint)) => "add an address",
            (true, _) => "retry or drop",
        }
    }
}

fn line(view: v1::ReminderView) -> Line {
    let instant = |at: Option<saldo_api::Timestamp>| {
        let at = at.and_then(|at| timestamp_from_api(at).ok())?;
        Some(at.round(jiff::Unit::Second).unwrap_or(at).to_string())
    };
    Line {
        account: view.account_id,
        reminder: view.reminder,
        step: view.step,
        status: view.status,
        reason: view.reason,
        until: instant(view.until),
        attempts: view.attempts,
        due_at: instant(view.due_at).unwrap_or_default(),
        needs_person: view.needs_person,
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
        assert_eq!(view("withheld", "no_contact_point", true), "add an address");
        assert_eq!(view("unknown", "", true), "retry or drop");
        assert_eq!(view("due", "", false), "");
    }
}
