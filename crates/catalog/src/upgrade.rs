//! Raising the format of a log to the newest that this release knows.

use std::sync::Arc;

use jiff::Timestamp;
use saldo_domain::ids::SYSTEM_TENANT;
use saldo_facts::{Format, FormatRaised};
use saldo_log::{Log, genesis::Identity};
use tokio_util::sync::CancellationToken;

use crate::{
    Catalog, CatalogError,
    publish::{Publication, PublishError, Publisher},
};

/// What a log allowed before, and allows now. Both are the same where nothing was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgraded {
    /// Before.
    pub from: Format,
    /// Now. Above [`Format::NEWEST`] where a newer release has raised it.
    pub to: Format,
}

/// Why a log was not upgraded.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A newer release has written on the operator's chain what this one does not know.
    #[error(
        "the operator's chain has a fact that this release cannot read ({0}): run the newer release's `saldo log upgrade`"
    )]
    Parked(String),
    /// The format record was not published.
    #[error("the catalog: {0}")]
    Publish(#[from] PublishError),
}

/// The format that the log allows.
pub async fn allowed(log: Arc<dyn Log>, identity: &Identity) -> Result<Format, CatalogError> {
    Ok(Catalog::open(log, identity).await?.0.state().system().format)
}

/// Allows every fact that this release knows. `log` is the catalog's. Run again it changes nothing.
pub async fn upgrade(
    log: Arc<dyn Log>,
    identity: Identity,
    now: Timestamp,
    actor: &str,
) -> Result<Upgraded, UpgradeError> {
    let (catalog, follower) = Catalog::open(log.clone(), &identity).await?;
    if let Some(why) = catalog.state().system().parked() {
        return Err(UpgradeError::Parked(why.to_owned()));
    }
    let from = catalog.state().system().format;
    if from >= Format::NEWEST {
        return Ok(Upgraded { from, to: from });
    }
    let stop = CancellationToken::new();
    // The follower ends with this function, whichever way that ends.
    let _stopped = stop.clone().drop_guard();
    tokio::spawn(follower.run(stop));
    let publication = Publication {
        tenant: SYSTEM_TENANT.to_owned(),
        // Two upgrades at once raise the format once.
        request_id: format!("format-{}", Format::NEWEST),
        method: "UpgradeLog",
        // Nothing of a creditor stands in it, so there is no key to make a fingerprint under.
        fingerprint: [0; 32],
        actor: actor.to_owned(),
        actor_roles: Vec::new(),
        events: vec![FormatRaised { format: Format::NEWEST }.into()],
    };
    let publisher = Publisher::new(log, identity, catalog.clone());
    publisher.publish(publication, || Ok::<_, PublishError>(now), None).await?;
    Ok(Upgraded { from, to: catalog.state().system().format })
}
