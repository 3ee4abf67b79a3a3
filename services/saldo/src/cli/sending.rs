//! `saldo sending`: switches sending on or off for one tenant, over gRPC; holds and releases it for all, in the log itself.

use std::process::ExitCode;

use anstream::println;
use clap::Args;
use saldo_api::v1;
use saldo_catalog::operator;
use saldo_clock::Clock;
use saldo_domain::dunning::Silence;
use serde_json::json;
use uuid::Uuid;

use super::{Run, refusal::explained};
use crate::{
    Failure, Outcome,
    client::Target,
    config::{Config, Overrides},
    run::stores::Stores,
};

/// Switch sending on or off.
///
/// Sending is off until it is switched on. The switch is for the tenant of the token. Needs a token with the role operator. Besides,
/// sending can be held for all tenants at once.
#[derive(clap::Parser)]
#[command(name = "sending")]
pub enum Sending {
    /// From now on, let reminders fall due and send them.
    #[command(after_help = "Example:\n  saldo sending on")]
    On(SwitchArgs),
    /// From now on, send nothing: no reminder falls due, and ladders stand still.
    #[command(after_help = "Example:\n  saldo sending off")]
    Off(SwitchArgs),
    /// Send nothing for any tenant until it is released, whatever their switches say.
    ///
    /// Works on the log itself and needs no token. `saldo log accept --older-log` does it too.
    #[command(
        after_help = "Example:\n  saldo sending hold --reason 'the mail server is moved' --config /etc/saldo/saldo.toml"
    )]
    Hold(HoldArgs),
    /// Release sending that is held for all tenants: their switches count again.
    ///
    /// After an older log was restored, compare `saldo outbox` with the log of the mail server first: the restored log does not know
    /// what was sent since. Works on the log itself and needs no token.
    #[command(
        after_help = "Example:\n  saldo sending release --reason 'compared with the mail log of 3 March' --config /etc/saldo/saldo.toml"
    )]
    Release(HoldArgs),
}

#[derive(Args)]
pub struct HoldArgs {
    /// Why; it stands in the history of the catalog. No personal data.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Overrides,
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
            Sending::Hold(args) => hold(true, args).await,
            Sending::Release(args) => hold(false, args).await,
        }
    }
}

/// The actor of a hold or release in the history of the catalog.
const OPERATOR: &str = "saldo sending";
/// The longest reason, in bytes.
const MAX_REASON: usize = 500;

async fn hold(on: bool, args: HoldArgs) -> Outcome {
    if args.reason.trim().is_empty() || args.reason.len() > MAX_REASON {
        return Err(format!("--reason: say why, in at most {MAX_REASON} bytes").into());
    }
    let config = Config::load(&args.settings)?;
    let stores = Stores::open_for_tool(&config, false).await?;
    let changed = hold_in(&stores, &config, on, args.reason).await;
    stores.close().await;
    let changed = changed?;
    if args.json {
        println!("{}", json!({ "held": on, "changed": changed }));
        return Ok(ExitCode::SUCCESS);
    }
    match (on, changed) {
        (true, true) => println!("sending is held for every tenant; `saldo sending release` lets it go on"),
        (true, false) => println!("sending was held already"),
        (false, true) => println!("sending is released: the switch of each tenant counts again"),
        (false, false) => println!("sending was not held"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether it was otherwise before.
async fn hold_in(stores: &Stores, config: &Config, on: bool, reason: String) -> Result<bool, Failure> {
    let catalog = stores.identities(config, false).await?.catalog;
    let before = operator::read(stores.catalog_log.clone(), &catalog).await?;
    if before.system().held.is_some() == on {
        return Ok(false);
    }
    let now = Clock::system().now();
    operator::hold_sending(stores.catalog_log.clone(), &catalog, on, reason, OPERATOR, now).await?;
    Ok(true)
}

async fn switch(on: bool, args: SwitchArgs) -> Outcome {
    let clients = args.target.connect().await?;
    let request = v1::SetSendingRequest { request_id: Uuid::new_v4().to_string(), on };
    let answer = clients.ask_patiently(request).await.map_err(|status| explained(&status))?;
    if args.json {
        println!("{}", json!({ "version": answer.version, "sending": answer.sending, "silence": answer.silence }));
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "sending is switched {} for this creditor, as version {} of what it has published",
        if on { "on" } else { "off" },
        answer.version
    );
    // A person who switches sending off need not be told that nothing is sent.
    if let Some(silence) = silence(&answer.silence).filter(|_| on) {
        println!("{silence}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Why nothing is sent at all, and what to do, by the name that the service gives it; `None` where sending is on.
pub fn silence(name: &str) -> Option<String> {
    match Silence::parse(name) {
        Some(silence) => Some(silence.to_string()),
        None if name.is_empty() => None,
        // A newer service may have other reasons.
        None => Some(format!("nothing is sent: {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_in_which_nothing_is_sent_names_the_command_that_ends_it() {
        for (name, command) in [
            ("held", "`saldo sending release --reason TEXT`"),
            ("no_policy", "`saldo policy publish DIR`"),
            ("switched_off", "`saldo sending on`"),
        ] {
            assert!(silence(name).is_some_and(|said| said.contains(command)), "{name}");
        }
        assert_eq!(silence("of_a_newer_release").as_deref(), Some("nothing is sent: of_a_newer_release"));
        assert_eq!(silence(""), None);
    }
}
