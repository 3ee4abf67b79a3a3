//! Keeps what SQL must know to say which day it is for a creditor: settings from the catalog, and how far the services' clock is
//! ahead of the machine's. Any number of projectors may write it: all of them write the same.

use std::time::Duration;

use saldo_catalog::{Catalog, State};
use saldo_clock::Clock;
use saldo_readmodel::{ReadModelError, TenantRow, write_clock, write_tenants};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Between tries while the database cannot be reached.
const RETRY: Duration = Duration::from_secs(2);
/// Between two words about a clock that is not the machine's. It can be set by hand, and a word counts for half a minute.
const CLOCK_LOOK: Duration = Duration::from_secs(1);

/// Runs until `cancel`, or until nobody follows the catalog any more.
pub async fn keep_tenants(
    pool: PgPool,
    catalog: Catalog,
    clock: Clock,
    cancel: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let (settings, ahead) = (keep_settings(&pool, &catalog), keep_clock(&pool, &clock));
    tokio::select! {
        () = cancel.cancelled() => {}
        () = settings => {}
        () = ahead => {}
    }
    Ok(())
}

async fn keep_settings(pool: &PgPool, catalog: &Catalog) {
    let mut written: Option<Vec<TenantRow>> = None;
    loop {
        let rows = rows(&catalog.state());
        if written.as_ref() != Some(&rows) {
            match write_tenants(pool, &rows).await {
                Ok(unknown) => {
                    for zone in unknown {
                        warn!(zone, "this Postgres does not know a creditor's time zone: its days are UTC's in bi");
                    }
                    written = Some(rows);
                }
                Err(error) => wait(&error).await,
            }
            continue;
        }
        if !catalog.wait_for(|state| written.as_ref() != Some(&self::rows(state))).await {
            // The process stops: whoever followed the catalog has ended.
            return std::future::pending().await;
        }
    }
}

async fn keep_clock(pool: &PgPool, clock: &Clock) {
    if clock.is_system() {
        return std::future::pending().await;
    }
    loop {
        let ahead = clock.now().duration_since(Clock::system().now());
        match write_clock(pool, ahead).await {
            Ok(()) => tokio::time::sleep(CLOCK_LOOK).await,
            Err(error) => wait(&error).await,
        }
    }
}

async fn wait(error: &ReadModelError) {
    warn!(%error, "settings and clock are written when the database is in reach");
    tokio::time::sleep(RETRY).await;
}

fn rows(state: &State) -> Vec<TenantRow> {
    let row = |(tenant, catalog): (&str, &std::sync::Arc<saldo_catalog::TenantCatalog>)| {
        let settings = &catalog.settings;
        TenantRow {
            tenant: tenant.to_owned(),
            name: settings.name.clone(),
            time_zone: settings.time_zone.clone(),
            languages: settings.languages.clone(),
            fiscal_year_start: (settings.fiscal_year_start.month, settings.fiscal_year_start.day),
        }
    };
    state.tenants().map(row).collect()
}
