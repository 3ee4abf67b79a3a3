//! The operator's tools write to the chain of the reserved tenant `system` without a service.

use std::sync::Arc;

use jiff::Timestamp;
use saldo_domain::ids::SYSTEM_TENANT;
use saldo_facts::{CatalogEvent, KeyStoreBound, SendingHeld, SendingReleased};
use saldo_log::{Log, genesis::Identity, same::hex};
use tokio_util::sync::CancellationToken;

use crate::{
    Catalog, CatalogError, State,
    publish::{Publication, PublishError, Publisher},
};

/// Why the operator's chain has not changed.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A newer release has written on the operator's chain what this one does not know.
    #[error("the operator's chain has a fact that this release cannot read ({0}): use the newer release's `saldo`")]
    Parked(String),
    /// The fact was not published.
    #[error("the catalog: {0}")]
    Publish(#[from] PublishError),
}

/// The writer, and its request.
pub struct Tool<'t> {
    /// The tool's name for what it does.
    pub method: &'static str,
    /// The person or program that runs it.
    pub actor: &'t str,
    /// The same id publishes once.
    pub request_id: String,
}

/// The catalog as far as its log goes now.
pub async fn read(log: Arc<dyn Log>, identity: &Identity) -> Result<Arc<State>, CatalogError> {
    Ok(Catalog::open(log, identity).await?.0.state())
}

/// Publishes facts on the operator's chain. Returns the catalog with them. `log` is the catalog's.
pub async fn publish(
    log: Arc<dyn Log>,
    identity: &Identity,
    tool: Tool<'_>,
    now: Timestamp,
    events: Vec<CatalogEvent>,
) -> Result<Arc<State>, OperatorError> {
    let (catalog, follower) = Catalog::open(log.clone(), identity).await?;
    if let Some(why) = catalog.state().system().parked() {
        return Err(OperatorError::Parked(why.to_owned()));
    }
    let stop = CancellationToken::new();
    // The follower ends with this function, whichever way that ends.
    let _stopped = stop.clone().drop_guard();
    tokio::spawn(follower.run(stop));
    let publication = Publication {
        tenant: SYSTEM_TENANT.to_owned(),
        request_id: tool.request_id,
        method: tool.method,
        // Nothing of a creditor stands in it, so there is no key to make a fingerprint under.
        fingerprint: [0; 32],
        actor: tool.actor.to_owned(),
        actor_roles: Vec::new(),
        events,
    };
    let publisher = Publisher::new(log, identity.clone(), catalog.clone());
    publisher.publish(publication, || Ok::<_, PublishError>(now), None).await?;
    Ok(catalog.state())
}

/// Notes which accounts log and key store belong to the catalog. The first binding of a log counts where several are noted at once.
/// It is returned, and the caller compares it with its own.
pub async fn bind(
    log: Arc<dyn Log>,
    identity: &Identity,
    bound: KeyStoreBound,
    actor: &str,
    now: Timestamp,
) -> Result<Option<KeyStoreBound>, OperatorError> {
    let tool = Tool { method: "BindKeyStore", actor, request_id: format!("key-store-of-{}", hex(&bound.accounts_log)) };
    Ok(publish(log, identity, tool, now, vec![bound.into()]).await?.system().bound)
}

/// The same, instead of what is noted: a person goes on with another key store.
pub async fn bind_anew(
    log: Arc<dyn Log>,
    identity: &Identity,
    bound: KeyStoreBound,
    actor: &str,
    now: Timestamp,
) -> Result<(), OperatorError> {
    let tool = Tool { method: "BindKeyStore", actor, request_id: format!("key-store-{}", hex(&bound.key_store)) };
    publish(log, identity, tool, now, vec![bound.into()]).await.map(drop)
}

/// Holds sending for every creditor, or releases it.
pub async fn hold_sending(
    log: Arc<dyn Log>,
    identity: &Identity,
    held: bool,
    reason: String,
    actor: &str,
    now: Timestamp,
) -> Result<(), OperatorError> {
    let (method, event): (_, CatalogEvent) = match held {
        true => ("HoldSending", SendingHeld { reason }.into()),
        false => ("ReleaseSending", SendingReleased { reason }.into()),
    };
    let tool = Tool { method, actor, request_id: format!("{method}-{now}") };
    publish(log, identity, tool, now, vec![event]).await.map(drop)
}
