//! The same decision about every reminder that needs a person.
//!
//! The list is read whole first, since each act changes it. A run that was interrupted is run again: what was settled needs no
//! person any more.

use std::process::ExitCode;

use anstream::{eprintln, println};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use saldo_api::v1;
use saldo_domain::dunning::WithheldReason;
use saldo_facts::timestamp_from_api;
use serde_json::json;

use super::{
    super::{
        change::ask,
        outbox::{self, Line},
        refusal::explained_naming,
    },
    AttemptArgs,
    act::{Act, NAMES},
};
use crate::{
    Failure, Outcome,
    client::{Clients, StatusDetails},
    terminal::progress,
};

/// Accounts asked at once: one tenant keeps room for its other commands.
const AT_ONCE: usize = 16;
/// Reminders of one page, as many as the query gives.
const PAGE: i32 = 1_000;
/// Refused reminders that are told one by one.
const MOST_TOLD: usize = 20;

pub async fn run(act: Act, args: AttemptArgs) -> Outcome {
    let clients = args.target.connect().await?;
    let lines = wanted(&clients, &args).await?;
    if args.dry_run {
        let (lines, unreachable): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| can_go(act, &line.reason));
        if args.json {
            println!("{}", json!({ "would": act.name(), "reminders": lines, "without_address": unreachable.len() }));
        } else if lines.is_empty() && unreachable.is_empty() {
            println!("no such reminder needs a person");
        } else {
            println!("{}", outbox::shown(&lines));
            println!("would {} {}", act.name(), reminders(lines.len()));
            if !unreachable.is_empty() {
                println!("{}", without_address(unreachable.len()));
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let bar = progress::records(if act == Act::Retry { "retrying" } else { "dropping" });
    bar.set_length(lines.len() as u64);
    let (clients, reason) = (&clients, args.reason.as_str());
    let asked = stream::iter(&lines)
        .map(|line| async move { (line, act.ask(clients, &line.account, line.reminder, reason).await) });
    let mut asked = std::pin::pin!(asked.buffer_unordered(AT_ONCE));
    let (mut done, mut settled, mut unreachable, mut refused) = (0, 0, 0, Vec::new());
    while let Some((line, answer)) = asked.next().await {
        bar.inc(1);
        match answer {
            Ok(_) => done += 1,
            Err(status) => match StatusDetails::of(&status).reason.as_str() {
                // Somebody, or the account itself, was faster.
                "NOTHING_TO_SETTLE" | "ATTEMPT_UNDER_WAY" => settled += 1,
                // The reminder stays in the outbox, which says that an address is missing.
                "NO_CONTACT_POINT" => unreachable += 1,
                _ => refused.push((line, explained_naming(&status, NAMES))),
            },
        }
    }
    bar.finish_and_clear();
    if args.json {
        let refused: Vec<_> = (refused.iter())
            .map(|(line, why)| json!({ "account": line.account, "reminder": line.reminder, "why": why }))
            .collect();
        let told = json!({
            "act": act.name(),
            "done": done,
            "settled_meanwhile": settled,
            "without_address": unreachable,
            "refused": refused,
        });
        println!("{told}");
    } else {
        let verb = if act == Act::Retry { "retried" } else { "dropped" };
        println!("{verb} {}; {settled} settled meanwhile, {} refused", reminders(done), refused.len());
        if unreachable > 0 {
            println!("{}", without_address(unreachable));
        }
        for (line, why) in refused.iter().take(MOST_TOLD) {
            eprintln!("refused: reminder {} of {}: {why}", line.reminder, line.account);
        }
        if refused.len() > MOST_TOLD {
            eprintln!("and {} more; --json lists all", refused.len() - MOST_TOLD);
        }
    }
    Ok(if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// The reminders that need a person and that the flags name.
async fn wanted(clients: &Clients, args: &AttemptArgs) -> Result<Vec<Line>, Failure> {
    let mut request = v1::ListRemindersRequest { outbox: true, page_size: PAGE, ..Default::default() };
    let mut found = Vec::new();
    loop {
        let page = ask(clients, request.clone()).await?;
        found.extend(page.reminders.into_iter().filter(|view| is_wanted(view, args.status.as_deref(), args.since)));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(found.into_iter().map(outbox::line).collect());
        }
    }
}

fn is_wanted(view: &v1::ReminderView, status: Option<&str>, since: Option<Timestamp>) -> bool {
    let changed_at = view.changed_at.and_then(|at| timestamp_from_api(at).ok());
    view.needs_person
        && status.is_none_or(|status| view.status == status)
        && since.is_none_or(|since| changed_at.is_some_and(|at| at >= since))
}

/// A reminder that had no address cannot be retried: with an address on its channel a newer one takes its place.
fn can_go(act: Act, reason: &str) -> bool {
    act != Act::Retry || reason != WithheldReason::NoContactPoint.name()
}

fn without_address(count: usize) -> String {
    format!("{} left out: the account has no address; `saldo account amend` adds one", reminders(count))
}

fn reminders(count: usize) -> String {
    if count == 1 { "1 reminder".to_owned() } else { format!("{count} reminders") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o3_all_are_those_that_need_a_person_and_that_the_flags_name() {
        let at = |seconds| Some(saldo_api::Timestamp { seconds, nanos: 0 });
        let view = v1::ReminderView {
            status: "unknown".into(),
            needs_person: true,
            changed_at: at(100),
            ..Default::default()
        };
        let since = |second| Some(Timestamp::constant(second, 0));
        assert!(is_wanted(&view, None, None));
        assert!(is_wanted(&view, Some("unknown"), since(100)));
        assert!(!is_wanted(&view, Some("rejected"), None));
        assert!(!is_wanted(&view, None, since(101)));
        assert!(!is_wanted(&v1::ReminderView { needs_person: false, ..view }, None, None));
        assert!(!can_go(Act::Retry, "no_contact_point") && can_go(Act::Drop, "no_contact_point"));
        assert!(can_go(Act::Retry, "refused: rcpt 550"));
    }
}
