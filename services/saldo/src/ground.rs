//! What services stand on: log, database and key store, opened.

use std::time::Duration;

use jiff::Timestamp;
use saldo_catalog::upgrade::upgrade;
use saldo_embedded_postgres::Stage;
use saldo_keyring::Keyring;

use crate::{
    Failure,
    config::Config,
    log_admin::ACTOR,
    service::Service,
    stores::{Identities, Stores, is_unreachable, open_keyring},
};

/// Between tries to reach a server that is not there yet.
const RETRY: Duration = Duration::from_secs(2);

/// Opened, for these services.
pub struct Ground {
    /// Log and database.
    pub stores: Stores,
    /// Which logs they are.
    pub identities: Identities,
    /// The key store, for those who seal or unseal.
    pub keyring: Option<Keyring>,
}

impl Ground {
    /// Opens what these services need. With an instant to `create` at, a log that is missing is made, and the log allows every
    /// fact of this release: all services are this process.
    pub async fn open(
        config: &Config,
        services: &[Service],
        create: Option<Timestamp>,
        progress: impl Fn(Stage),
    ) -> Result<Self, Failure> {
        let any = |uses: fn(Service) -> bool| services.iter().copied().any(uses);
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|error| format!("data_dir {}: {error}", config.data_dir.display()))?;
        let stores = if services == Service::ALL {
            Stores::open(config, progress).await?
        } else {
            Stores::open_apart(config, any(Service::uses_database)).await?
        };
        let identities = stores.identities(config, create.is_some()).await?;
        if let Some(now) = create {
            upgrade(stores.catalog_log.clone(), identities.catalog, now, ACTOR).await?;
        }
        let keyring = match any(Service::uses_keys) {
            true => Some(open_keyring(config, stores.log.as_ref(), &identities.accounts).await?),
            false => None,
        };
        Ok(Self { stores, identities, keyring })
    }

    /// The same, waiting for servers that are not there yet, as services that are started together do.
    pub async fn wait_for(config: &Config, services: &[Service], progress: impl Fn(Stage)) -> Result<Self, Failure> {
        loop {
            match Self::open(config, services, None, &progress).await {
                Err(error) if is_unreachable(&error) => {
                    tracing::warn!(%error, "not there yet; trying again");
                    tokio::time::sleep(RETRY).await;
                }
                opened => return opened,
            }
        }
    }
}
