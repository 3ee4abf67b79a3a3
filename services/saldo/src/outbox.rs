//! `saldo outbox` and `saldo attempt`: what waits to be said, why and until when; and what a person decides of it.

use std::process::ExitCode;

use anstream::println;
use clap::{Args, Subcommand};
use saldo_api::v1;
use saldo_facts::timestamp_from_api;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    Outcome,
    client::{Target, explain, patiently},
    table,
};

/// What `outbox` takes.
#[derive(Debug, Args)]
pub struct OutboxArgs {
    /// Only this account.
    account: Option<String>,
    /// What was sent, withheld and given up too, newest first.
    #[arg(long)]
    all: bool,
    /// Lines at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    most: i32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where and as whom.
    #[command(flatten)]
    target: Target,
}

/// What a person can decide of a reminder.
#[derive(Debug, Subcommand)]
pub enum Attempt {
    /// Have a reminder said again that reached nobody for certain.
    ///
    /// It must be the account's newest. The account decides anew when it is sent, and whether: who has paid meanwhile gets
    /// nothing.
    #[command(after_help = "Example:\n  saldo attempt retry D-0001 3")]
    Retry(AttemptArgs),
    /// Do not send a reminder that waits, or do not send it again.
    ///
    /// Again: where it stands as unknown, or was refused. The ladder goes on with the next step.
    #[command(after_help = "Example:\n  saldo attempt drop D-0001 3")]
    Drop(AttemptArgs),
}

/// What `attempt` takes.
#[derive(Debug, Args)]
pub struct AttemptArgs {
    /// The account.
    account: String,
    /// The reminder's number; `saldo outbox` shows it.
    reminder: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where and as whom.
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

/// Prints what waits.
pub async fn run(args: OutboxArgs) -> Outcome {
    let mut clients = args.target.connect().await?;
    let request = v1::ListRemindersRequest {
        account_id: args.account.unwrap_or_default(),
        outbox: !args.all,
        page_size: args.most,
        ..Default::default()
    };
    let answer = clients.query.list_reminders(request).await.map_err(|status| explain(&status))?.into_inner();
    let more = !answer.next_page_token.is_empty();
    let lines: Vec<Line> = answer.reminders.into_iter().map(line).collect();
    if args.json {
        println!("{}", serde_json::json!({ "reminders": lines, "more": more }));
        return Ok(ExitCode::SUCCESS);
    }
    if lines.is_empty() {
        println!("{}", if args.all { "there was never a reminder" } else { "nothing waits" });
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
            if line.needs_person { "retry or drop".to_owned() } else { String::new() },
        ]
    });
    let header = ["account", "reminder", "step", "due", "status", "why", "until", "a person should"];
    println!("{}", table::plain(&header, 8, rows));
    if more {
        println!("there are more; name an account, or raise --most");
    }
    Ok(ExitCode::SUCCESS)
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

/// Carries out what a person decided.
pub async fn attempt(attempt: Attempt) -> Outcome {
    let (retry, args) = match attempt {
        Attempt::Retry(args) => (true, args),
        Attempt::Drop(args) => (false, args),
    };
    let clients = args.target.connect().await?;
    let (request_id, account_id, reminder) = (Uuid::new_v4().to_string(), args.account.clone(), args.reminder);
    let answer = patiently(|| {
        let (mut command, request_id, account_id) = (clients.command.clone(), request_id.clone(), account_id.clone());
        async move {
            if retry {
                command.retry_contact(v1::RetryContactRequest { request_id, account_id, reminder }).await
            } else {
                command.drop_contact(v1::DropContactRequest { request_id, account_id, reminder }).await
            }
        }
    });
    let answer = answer.await.map_err(|status| explain(&status))?.into_inner();
    if args.json {
        println!("{}", serde_json::json!({ "version": answer.version, "events": answer.event_types }));
    } else if retry {
        println!("reminder {reminder} of {account_id} will be said again as soon as it may");
    } else {
        println!("reminder {reminder} of {account_id} is dropped");
    }
    Ok(ExitCode::SUCCESS)
}
