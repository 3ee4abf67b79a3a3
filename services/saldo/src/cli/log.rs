//! `saldo log`: creates the log.

use std::process::ExitCode;

use anstream::println;

use super::Run;
use crate::{
    Outcome,
    config::{Config, Overrides},
    run::stores::{Identities, Stores},
};

/// Create the log: topics and their Genesis.
#[derive(clap::Parser)]
#[command(name = "log")]
pub enum Log {
    /// Create the accounts topic and the catalog topic, and the Genesis of every partition.
    ///
    /// A second run completes what is missing, and otherwise changes nothing. Prints the identity of the log. The number of
    /// partitions can never be changed.
    #[command(
        after_help = "Examples:\n  saldo log create --config /etc/saldo/saldo.toml\n  saldo log create --kafka broker:9092"
    )]
    Create(Overrides),
}

impl Run for Log {
    async fn run(self) -> Outcome {
        match self {
            Log::Create(flags) => create(flags).await,
        }
    }
}

async fn create(flags: Overrides) -> Outcome {
    let config = Config::load(&flags)?;
    // A log in Kafka or in a named Postgres needs no read models' database; the embedded log needs the embedded Postgres.
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
