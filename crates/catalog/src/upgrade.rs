//! Raising the format of a log to the newest that this release knows.

use std::sync::Arc;

use jiff::Timestamp;
use saldo_facts::{Format, FormatRaised};
use saldo_log::{Log, genesis::Identity};

use crate::{
    Catalog, CatalogError,
    operator::{OperatorError, Tool, publish},
};

/// The format that a log allowed before, and the one that it allows now. Both are the same where nothing was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgraded {
    /// Before.
    pub from: Format,
    /// Now. Above [`Format::NEWEST`] where a newer release has raised it.
    pub to: Format,
}

/// The format that the log allows.
pub async fn allowed(log: Arc<dyn Log>, identity: &Identity) -> Result<Format, CatalogError> {
    Ok(Catalog::open(log, identity).await?.0.state().system().format)
}

/// Allows every fact that this release knows. `log` is the catalog's. Run again it changes nothing.
pub async fn upgrade(
    log: Arc<dyn Log>,
    identity: &Identity,
    now: Timestamp,
    actor: &str,
) -> Result<Upgraded, OperatorError> {
    let from = allowed(log.clone(), identity).await?;
    if from >= Format::NEWEST {
        return Ok(Upgraded { from, to: from });
    }
    // Two upgrades at once raise the format once.
    let request_id = format!("format-{}", Format::NEWEST);
    let tool = Tool { method: "UpgradeLog", actor, request_id };
    let state = publish(log, identity, tool, now, vec![FormatRaised { format: Format::NEWEST }.into()]).await?;
    Ok(Upgraded { from, to: state.system().format })
}
