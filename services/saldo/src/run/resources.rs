//! Log, database and key store, opened for the services that need them.

use std::time::Duration;

use jiff::Timestamp;
use saldo_catalog::upgrade::upgrade;
use saldo_clock::Clock;
use saldo_embedded_postgres::StartStep;
use saldo_keyring::Keyring;
use saldo_outage::Outage;

use crate::{
    Failure,
    config::Config,
    run::{
        belonging::{check_database, open_keyring},
        service::Service,
        stores::{Identities, Stores, UPGRADER, is_unreachable},
    },
};

/// The pause before a server that cannot be reached is tried again.
const RETRY: Duration = Duration::from_secs(2);

pub struct Resources {
    pub stores: Stores,
    pub identities: Identities,
    /// For services that seal or unseal.
    pub keyring: Option<Keyring>,
}

impl Resources {
    /// Opens what these services need. With an instant to `create` at, a missing log is created, and the log may hold every
    /// fact of this release: no other process reads it.
    pub async fn open(
        config: &Config,
        services: &[Service],
        create: Option<Timestamp>,
        progress: impl Fn(StartStep),
    ) -> Result<Self, Failure> {
        let any = |uses: fn(Service) -> bool| services.iter().copied().any(uses);
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|error| format!("data_dir {}: {error}", config.data_dir.display()))?;
        let stores = if services == Service::ALL {
            Stores::open(config, progress).await?
        } else {
            Stores::open_apart(config, any(Service::uses_database)).await?
        };
        // A service that judges no record is not given the keys of records.
        let identities = match create.is_some() || any(Service::uses_catalog) {
            true => stores.identities(config, create.is_some()).await?,
            false => stores.identities_without_keys().await?,
        };
        if let Some(now) = create {
            upgrade(stores.catalog_log.clone(), &identities.catalog, now, UPGRADER).await?;
        }
        if any(Service::uses_database) {
            check_database(&stores.database()?.pool, stores.log.as_ref(), &identities.accounts, true).await?;
        }
        let claim = services.contains(&Service::Command).then(|| create.unwrap_or_else(|| Clock::system().now()));
        let keyring = match any(Service::uses_keys) {
            true => Some(open_keyring(config, &stores, &identities, claim).await?),
            false => None,
        };
        Ok(Self { stores, identities, keyring })
    }

    /// The same, but waits for servers that cannot be reached yet, since services are often started together with them.
    pub async fn wait_for(
        config: &Config,
        services: &[Service],
        progress: impl Fn(StartStep),
    ) -> Result<Self, Failure> {
        let outage = Outage::new("not there yet; trying again", "all servers are there");
        loop {
            match Self::open(config, services, None, &progress).await {
                Err(error) if is_unreachable(&error) => {
                    outage.failed(&error);
                    tokio::time::sleep(RETRY).await;
                }
                opened => {
                    outage.over();
                    return opened;
                }
            }
        }
    }
}
