//! `saldo log`: making the log.

use std::process::ExitCode;

use anstream::println;
use clap::Subcommand;

use crate::{
    Outcome,
    config::{Config, Overrides},
    stores::{Identities, Stores},
};

/// What can be done to a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Create the accounts' and the catalog's topics and every partition's Genesis.
    ///
    /// Run again it completes or changes nothing, and prints the log's identity. The number of partitions is for ever.
    #[command(
        after_help = "Examples:\n  saldo log create --config /etc/saldo/saldo.toml\n  saldo log create --kafka broker:9092"
    )]
    Create(Overrides),
}

/// Creates the log and says which it is.
pub async fn run(command: LogCommand) -> Outcome {
    let LogCommand::Create(flags) = command;
    let config = Config::load(&flags)?;
    // Of servers that others run the database is not needed; an embedded log is a database of the embedded one.
    let apart = config.log.kafka.is_some() || config.log.embedded_url.is_some();
    let stores = match apart {
        true => Stores::open_apart(&config, false).await?,
        false => Stores::open_shown(&config).await?,
    };
    let created = stores.identities(&config, true).await;
    stores.close().await;
    let Identities { accounts, catalog } = created?;
    for (topic, identity) in [(&config.log.topic, accounts), (&config.log.catalog_topic(), catalog)] {
        let id: String = identity.log_id.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{topic}: log {id}, partitions: {}", identity.partitions);
    }
    Ok(ExitCode::SUCCESS)
}
