//! `saldo log`: making a log, and raising the format that it allows.

use std::process::ExitCode;

use anstream::println;
use clap::{Args, Subcommand};
use saldo_catalog::upgrade::{Upgraded, allowed, upgrade};
use saldo_clock::Clock;
use saldo_commit::Format;
use serde_json::json;

use crate::{
    Failure, Outcome,
    config::{Config, Overrides},
    stores::{Identities, Stores, holds_commits},
};

/// Who raises the format, as the catalog's history names it.
pub const ACTOR: &str = "saldo log";

/// What can be done to a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Create the accounts' and the catalog's topics and every partition's Genesis.
    ///
    /// Run again it completes or changes nothing, and prints the log's identity. The number of partitions is for ever. A new log
    /// allows every fact that this release knows.
    #[command(
        after_help = "Examples:\n  saldo log create --config /etc/saldo/saldo.toml\n  saldo log create --kafka broker:9092"
    )]
    Create(Overrides),
    /// Allow the log to hold the facts of this release.
    ///
    /// Run it after an upgrade, once every service runs the new release: an older one parks each account in which it meets a
    /// newer fact. Until then commands that need a newer fact are refused (FORMAT_NOT_RAISED). Run again it changes nothing. The
    /// format never goes back.
    #[command(
        after_help = "Examples:\n  saldo log upgrade --config /etc/saldo/saldo.toml\n  saldo log upgrade --kafka broker:9092 --json"
    )]
    Upgrade(UpgradeArgs),
}

/// What `log upgrade` takes.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Which log.
    #[command(flatten)]
    settings: Overrides,
}

/// Runs one command.
pub async fn run(command: LogCommand) -> Outcome {
    let settings = match &command {
        LogCommand::Create(settings) => settings,
        LogCommand::Upgrade(args) => &args.settings,
    };
    let config = Config::load(settings)?;
    // A log that others run needs no database of ours; an embedded log is a database of the embedded one.
    let apart = config.log.kafka.is_some() || config.log.embedded_url.is_some();
    let stores = match apart {
        true => Stores::open_apart(&config, false).await?,
        false => Stores::open_shown(&config).await?,
    };
    let done = match &command {
        LogCommand::Create(_) => create(&config, &stores).await,
        LogCommand::Upgrade(args) => raise(&config, &stores, args.json).await,
    };
    stores.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

/// Creates the log and says which it is, and what it allows.
async fn create(config: &Config, stores: &Stores) -> Result<(), Failure> {
    let Identities { accounts, catalog } = stores.identities(config, true).await?;
    // Older releases may read a log that holds something: what it allows is raised by a person.
    let in_use = holds_commits(stores.log.as_ref(), &accounts).await?
        || holds_commits(stores.catalog_log.as_ref(), &catalog).await?;
    let format = match in_use {
        true => allowed(stores.catalog_log.clone(), &catalog).await?,
        false => upgrade(stores.catalog_log.clone(), catalog, Clock::system().now(), ACTOR).await?.to,
    };
    for (topic, identity) in [(&config.log.topic, accounts), (&config.log.catalog_topic(), catalog)] {
        let id: String = identity.log_id.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{topic}: log {id}, partitions: {}", identity.partitions);
    }
    match format < Format::NEWEST {
        true => println!("format {format}; this release knows {}: see `saldo log upgrade --help`", Format::NEWEST),
        false => println!("format {format}"),
    }
    Ok(())
}

/// Raises the format to the newest that this release knows, and says what was done.
async fn raise(config: &Config, stores: &Stores, as_json: bool) -> Result<(), Failure> {
    let Identities { catalog, .. } = stores.identities(config, false).await?;
    let Upgraded { from, to } =
        upgrade(stores.catalog_log.clone(), catalog, Clock::system().now(), ACTOR).await?;
    if as_json {
        println!("{}", json!({ "from": from, "to": to, "raised": from != to }));
    } else if from == to {
        println!("nothing to do: the log allows format {to}");
    } else {
        println!("the log allows format {to} from now on; before, it was {from}");
    }
    Ok(())
}
