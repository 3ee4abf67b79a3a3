//! `saldo log`: creates the log, and raises the format that it allows.

use std::process::ExitCode;

use anstream::println;
use clap::Args;
use saldo_catalog::upgrade::{Upgraded, allowed, upgrade};
use saldo_clock::Clock;
use saldo_facts::Format;
use serde_json::json;

use super::Run;
use crate::{
    Failure, Outcome,
    config::{Config, Overrides},
    run::stores::{Identities, Stores, UPGRADER, holds_commits},
};

/// Create the log, or allow it to hold the facts of a new release.
#[derive(clap::Parser)]
#[command(name = "log")]
pub enum Log {
    /// Create the accounts topic and the catalog topic, and the Genesis of every partition.
    ///
    /// A second run completes what is missing, and otherwise changes nothing. Prints the identity of the log. The number of
    /// partitions can never be changed. A new log may hold every fact that this release knows.
    #[command(
        after_help = "Examples:\n  saldo log create --config /etc/saldo/saldo.toml\n  saldo log create --kafka broker:9092"
    )]
    Create(Overrides),
    /// Allow the log to hold the facts of this release.
    ///
    /// Run it once every service runs the new release. A service of an older release parks each account in which it meets a newer
    /// fact. Until the upgrade, commands that need a newer fact are refused with FORMAT_NOT_RAISED. A second run changes nothing.
    /// The format never goes back.
    #[command(
        after_help = "Examples:\n  saldo log upgrade --config /etc/saldo/saldo.toml\n  saldo log upgrade --kafka broker:9092 --json"
    )]
    Upgrade(UpgradeArgs),
}

#[derive(Args)]
pub struct UpgradeArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Overrides,
}

impl Run for Log {
    async fn run(self) -> Outcome {
        let settings = match &self {
            Log::Create(settings) => settings,
            Log::Upgrade(args) => &args.settings,
        };
        let config = Config::load(settings)?;
        // A log in Kafka or in a named Postgres needs no read models' database; the embedded log needs the embedded Postgres.
        let apart = config.log.kafka.is_some() || config.log.embedded_url.is_some();
        let stores = match apart {
            true => Stores::open_apart(&config, false).await?,
            false => Stores::open_shown(&config).await?,
        };
        let done = match &self {
            Log::Create(_) => create(&config, &stores).await,
            Log::Upgrade(args) => raise(&config, &stores, args.json).await,
        };
        stores.close().await;
        done.map(|()| ExitCode::SUCCESS)
    }
}

async fn create(config: &Config, stores: &Stores) -> Result<(), Failure> {
    let Identities { accounts, catalog } = stores.identities(config, true).await?;
    // Services of an older release may read a log that holds something. A person raises what such a log allows.
    let in_use = holds_commits(stores.log.as_ref(), &accounts).await?
        || holds_commits(stores.catalog_log.as_ref(), &catalog).await?;
    let format = match in_use {
        true => allowed(stores.catalog_log.clone(), &catalog).await?,
        false => upgrade(stores.catalog_log.clone(), catalog, Clock::system().now(), UPGRADER).await?.to,
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

async fn raise(config: &Config, stores: &Stores, as_json: bool) -> Result<(), Failure> {
    let Identities { catalog, .. } = stores.identities(config, false).await?;
    let now = Clock::system().now();
    let Upgraded { from, to } = upgrade(stores.catalog_log.clone(), catalog, now, UPGRADER).await?;
    if as_json {
        println!("{}", json!({ "from": from, "to": to, "raised": from != to }));
    } else if from == to {
        println!("nothing to do: the log allows format {to}");
    } else {
        println!("from now on the log allows format {to}; before, it allowed format {from}");
    }
    Ok(())
}
