//! `saldo attempt`: a person's decision about reminders that reached nobody for certain, or whose outcome is unknown.

mod act;
mod all;

use std::process::ExitCode;

use anstream::println;
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use self::act::{Act, NAMES};
use super::{Run, refusal, values};
use crate::{Outcome, client::Target};

/// Retry or drop reminders that need a person.
///
/// `saldo outbox` shows which reminders need one. Needs a token with the role operator, and with --all the role reader too.
#[derive(clap::Parser)]
#[command(name = "attempt")]
pub enum Attempt {
    /// Send a reminder again that certainly reached nobody, or whose outcome is unknown.
    ///
    /// Only the account's newest reminder can be sent again. The account decides again whether and when: a debtor who has
    /// paid meanwhile gets nothing. Where the outcome is unknown and nothing has changed, the message is the same one, with
    /// the same Message-ID. With --all, reminders of accounts without an address are left out.
    #[command(
        after_help = "Examples:\n  saldo attempt retry D-0001 3\n  saldo attempt retry --all --status rejected --reason 'the mail server was down' --dry-run"
    )]
    Retry(AttemptArgs),
    /// Drop a reminder that waits, was refused, or whose outcome is unknown.
    ///
    /// The reminder is not sent, or not sent again. Its steps count as taken, and the ladder goes on with the next step.
    #[command(
        after_help = "Examples:\n  saldo attempt drop D-0001 3\n  saldo attempt drop --all --status unknown --since 2026-11-27T08:00:00Z --reason 'all are in the log of the mail server'"
    )]
    Drop(AttemptArgs),
}

#[derive(Args)]
pub struct AttemptArgs {
    /// The account.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    account: Option<String>,
    /// The reminder's number, as `saldo outbox` shows it.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    reminder: Option<u64>,
    /// Every reminder of the token's tenant that needs a person.
    #[arg(long, requires = "reason")]
    all: bool,
    /// With --all: only reminders of this status. Withheld are those without an address.
    #[arg(long, value_name = "STATUS", requires = "all", conflicts_with = "account", value_parser = ["unknown", "rejected", "withheld"])]
    status: Option<String>,
    /// With --all: only reminders whose status last changed at this instant or later, such as 2026-11-27T08:00:00Z.
    #[arg(long, value_name = "INSTANT", requires = "all", conflicts_with = "account", value_parser = values::instant)]
    since: Option<Timestamp>,
    /// Why, in your words. The history keeps it, sealed.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Show what would be retried or dropped, and do nothing.
    // `requires` alone does not hold beside ACCOUNT, which conflicts with --all.
    #[arg(long, requires = "all", conflicts_with = "account")]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Run for Attempt {
    async fn run(self) -> Outcome {
        let (act, args) = match self {
            Attempt::Retry(args) => (Act::Retry, args),
            Attempt::Drop(args) => (Act::Drop, args),
        };
        let (Some(account), Some(reminder)) = (&args.account, args.reminder) else { return all::run(act, args).await };
        let clients = args.target.connect().await?;
        let done = act.ask(&clients, account, reminder, &args.reason).await;
        let done = done.map_err(|status| refusal::explained_naming(&status, NAMES))?;
        if args.json {
            println!("{}", json!({ "version": done.version, "events": done.events, "until": done.until }));
        } else {
            println!("{}", act.told(account, reminder, &done));
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Attempt;

    #[test]
    fn what_chooses_among_all_is_refused_beside_one_reminder() {
        for flag in [&["--dry-run"][..], &["--status", "unknown"], &["--since", "2026-11-27T08:00:00Z"]] {
            for act in ["retry", "drop"] {
                let one = [&["attempt", act, "D-1", "1"], flag].concat();
                assert!(Attempt::try_parse_from(one).is_err(), "{act} {flag:?} would be passed over");
                let all = [&["attempt", act, "--all", "--reason", "x"], flag].concat();
                assert!(Attempt::try_parse_from(all).is_ok(), "{act} {flag:?}");
            }
        }
    }
}
