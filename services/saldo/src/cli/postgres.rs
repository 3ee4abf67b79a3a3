//! `saldo postgres`, which people do not call: the embedded Postgres's own process.

use super::Run;
use crate::{Outcome, run::telemetry};

/// Run the embedded Postgres
#[derive(clap::Parser)]
#[command(name = "postgres", hide = true)]
pub struct Postgres;

impl Run for Postgres {
    async fn run(self) -> Outcome {
        telemetry::show_download();
        Ok(saldo_embedded_postgres::run_child().await)
    }
}
