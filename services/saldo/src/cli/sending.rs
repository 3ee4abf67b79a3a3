//! `saldo sending`: switches sending on or off, over gRPC.

use std::process::ExitCode;

use anstream::println;
use clap::Args;
use saldo_api::v1;
use serde_json::json;
use uuid::Uuid;

use super::Run;
use crate::{
    Outcome,
    client::{Target, explain, patiently},
};

/// Switch sending on or off.
///
/// Sending is off until it is switched on. The switch is for the tenant of the token. Needs a token with the role operator.
#[derive(clap::Parser)]
#[command(name = "sending")]
pub enum Sending {
    /// From now on, let reminders fall due and send them.
    #[command(after_help = "Example:\n  saldo sending on")]
    On(SwitchArgs),
    /// From now on, send nothing: no reminder falls due, and ladders stand still.
    #[command(after_help = "Example:\n  saldo sending off")]
    Off(SwitchArgs),
}

#[derive(Args)]
pub struct SwitchArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Run for Sending {
    async fn run(self) -> Outcome {
        match self {
            Sending::On(args) => switch(true, args).await,
            Sending::Off(args) => switch(false, args).await,
        }
    }
}

async fn switch(on: bool, args: SwitchArgs) -> Outcome {
    let clients = args.target.connect().await?;
    let request = v1::SetSendingRequest { request_id: Uuid::new_v4().to_string(), on };
    let answer = patiently(|| {
        let (mut catalog, request) = (clients.catalog.clone(), request.clone());
        async move { catalog.set_sending(request).await }
    });
    let answer = answer.await.map_err(|status| explain(&status))?.into_inner();
    if args.json {
        println!("{}", json!({ "version": answer.version, "sending": answer.sending }));
    } else {
        println!("sending is {}, policy version {}", if answer.sending { "on" } else { "off" }, answer.version);
    }
    Ok(ExitCode::SUCCESS)
}
