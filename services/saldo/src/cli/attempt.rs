//! `saldo attempt`: a person's decision about a reminder.

use std::process::ExitCode;

use anstream::println;
use clap::Args;
use saldo_api::v1;
use uuid::Uuid;

use super::Run;
use crate::{
    Outcome,
    client::{Target, explain, patiently},
};

/// Retry or drop a reminder that needs a person.
///
/// `saldo outbox` shows which reminders need one. Needs a token with the role operator.
#[derive(clap::Parser)]
#[command(name = "attempt")]
pub enum Attempt {
    /// Send a reminder again that certainly reached nobody, or whose outcome is unknown.
    ///
    /// Only the account's newest reminder can be sent again. The account decides again whether and when: a debtor who has
    /// paid meanwhile gets nothing.
    #[command(after_help = "Example:\n  saldo attempt retry D-0001 3")]
    Retry(AttemptArgs),
    /// Drop a reminder that waits, was refused, or whose outcome is unknown.
    ///
    /// The reminder is not sent, or not sent again. The ladder goes on with the next step.
    #[command(after_help = "Example:\n  saldo attempt drop D-0001 3")]
    Drop(AttemptArgs),
}

#[derive(Args)]
pub struct AttemptArgs {
    /// The account.
    account: String,
    /// The reminder's number, as `saldo outbox` shows it.
    reminder: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Run for Attempt {
    async fn run(self) -> Outcome {
        let (retry, args) = match self {
            Attempt::Retry(args) => (true, args),
            Attempt::Drop(args) => (false, args),
        };
        let clients = args.target.connect().await?;
        let (request_id, account_id, reminder) = (Uuid::new_v4().to_string(), args.account.clone(), args.reminder);
        let answer = patiently(|| {
            let (mut command, request_id, account_id) =
                (clients.command.clone(), request_id.clone(), account_id.clone());
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
            println!("reminder {reminder} of {account_id} will be sent again as soon as the policy permits");
        } else {
            println!("reminder {reminder} of {account_id} is dropped");
        }
        Ok(ExitCode::SUCCESS)
    }
}
