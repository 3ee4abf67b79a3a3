//! `saldo rebuild`.

use std::process::ExitCode;

use saldo_log::genesis;

use crate::{
    Outcome,
    config::{Config, Overrides},
    progress,
    stores::{Stores, open_keyring},
    telemetry,
};

/// Makes the read models anew.
pub async fn run(flags: Overrides) -> Outcome {
    let config = Config::load(&flags)?;
    telemetry::start(&config.tracing)?;
    let stores = Stores::open_shown(&config).await?;
    let identity = genesis::open(stores.log.as_ref()).await?;
    let keyring = open_keyring(&config, stores.log.as_ref(), &identity).await?;
    let bar = progress::records("rebuilding");
    let rebuilt =
        saldo_projector::rebuild(stores.log.as_ref(), &identity, &stores.database()?.pool, &keyring, |progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        });
    let rebuilt = rebuilt.await;
    bar.finish_and_clear();
    stores.close().await;
    println!("the read models were made anew from {} records and are in force", rebuilt?);
    Ok(ExitCode::SUCCESS)
}
