//! `saldo log`: making the log.

use std::process::ExitCode;

use clap::Subcommand;
use saldo_log::genesis;

use crate::{
    Outcome,
    config::{Config, Overrides},
    system::Stores,
};

/// What can be done to a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Create the topic and every partition's Genesis.
    #[command(after_help = "Example:\n  saldo log create --kafka broker:9092")]
    Create(Overrides),
}

/// Creates the log and says which it is.
pub async fn run(command: LogCommand) -> Outcome {
    let LogCommand::Create(flags) = command;
    let config = Config::load(&flags)?;
    let stores = Stores::open_shown(&config).await?;
    let created = genesis::create(stores.log.as_ref(), config.log.partitions).await;
    stores.close().await;
    let identity = created?;
    let id: String = identity.log_id.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("log {id}, {} partitions", identity.partitions);
    Ok(ExitCode::SUCCESS)
}
