//! Appending to a chain of the catalog: on top of the head, through the format gate, answered when it was read back.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use saldo_domain::ids::SYSTEM_TENANT;
use saldo_facts::{CatalogEvent, CatalogVersions, Commit};
use saldo_log::{
    AppendError, Log, NewRecord,
    acceptor::Head,
    frame::{self, Kind, MAX_COMMIT_BYTES, first_parent},
    genesis::Identity,
};

use crate::{CHAIN, Catalog, FormatNotRaised, State};

/// Times a change is decided again after losing the chain to another writer.
const MAX_RACES: u32 = 16;
/// The longest that a change waits until it is read back.
const PATIENCE: Duration = Duration::from_secs(15);

/// A change of one chain.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The creditor, or the reserved tenant.
    pub tenant: String,
    /// The client's id of the request.
    pub request_id: String,
    /// The RPC's name, or the tool's.
    pub method: &'static str,
    /// The fingerprint of method and request.
    pub fingerprint: [u8; 32],
    /// The person or system that publishes.
    pub actor: String,
    /// With which roles.
    pub actor_roles: Vec<String>,
    /// The facts. The request is not stored beside it: it stands in these facts whole.
    pub events: Vec<CatalogEvent>,
}

/// Where a change stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The chain's version with it.
    pub version: u64,
    /// Whether it was published before, by the same request.
    pub replayed: bool,
}

/// Why a change was not published, or is not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The log may not hold such a fact yet.
    #[error(transparent)]
    FormatNotRaised(#[from] FormatNotRaised),
    /// The id was used for another request.
    #[error("request_id was already used for a request with other content")]
    RequestIdReused,
    /// The commit is too large.
    #[error("the commit would have {0} bytes; at most {MAX_COMMIT_BYTES} are kept")]
    TooLarge(usize),
    /// Other writers kept winning the chain.
    #[error("other writers kept changing the catalog; nothing was done, try again")]
    RacesLost,
    /// The log did not take the record.
    #[error("the log did not take the record: {0}; nothing was done")]
    Refused(String),
    /// The log did not say whether it took the record.
    #[error("the log is out of reach: the outcome is unknown")]
    OutOfReach,
    /// The record was taken and not read back in time.
    #[error("no answer in time: the outcome is unknown")]
    TimedOut,
    /// Nobody follows the catalog any more.
    #[error("the catalog is no longer followed")]
    Stopped,
}

/// Publishes on the chains of one catalog.
#[derive(Clone)]
pub struct Publisher {
    log: Arc<dyn Log>,
    identity: Identity,
    catalog: Catalog,
}

impl Publisher {
    /// Publishes in `log`, which `catalog` follows.
    pub fn new(log: Arc<dyn Log>, identity: Identity, catalog: Catalog) -> Self {
        Self { log, identity, catalog }
    }

    /// Appends the change on top of its chain and returns when it was read back: once, however often it is asked. `now`
    /// gives the instant of each try; `trace` is the trace that the record is written under.
    pub async fn publish<E: From<PublishError>>(
        &self,
        publication: Publication,
        now: impl Fn() -> Result<Timestamp, E>,
        trace: Option<Box<str>>,
    ) -> Result<Appended, E> {
        let mut appended = false;
        for _ in 0..MAX_RACES {
            let state = self.newest(appended).await?;
            let Publication { tenant, request_id, .. } = &publication;
            if let Some((fingerprint, version)) = state.answer(tenant, request_id) {
                if fingerprint != publication.fingerprint {
                    return Err(PublishError::RequestIdReused.into());
                }
                return Ok(Appended { version, replayed: !appended });
            }
            state.system().admit(&publication.events).map_err(PublishError::from)?;
            let record = self.record(&publication, &state, now()?, trace.clone())?;
            match self.log.append(vec![record]).await {
                Ok(()) => appended = true,
                Err(AppendError::Unknown(_)) => return Err(PublishError::OutOfReach.into()),
                Err(error) => return Err(PublishError::Refused(error.to_string()).into()),
            }
        }
        Err(PublishError::RacesLost.into())
    }

    /// The catalog up to the end that its log has now.
    async fn newest(&self, appended: bool) -> Result<Arc<State>, PublishError> {
        let end = self.log.end(0).await.map_err(|_| PublishError::OutOfReach)?;
        let read = self.catalog.wait_for(|state| state.next >= end);
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(true) => Ok(self.catalog.state()),
            Ok(false) => Err(PublishError::Stopped),
            Err(_) if appended => Err(PublishError::TimedOut),
            Err(_) => Err(PublishError::OutOfReach),
        }
    }

    fn record(
        &self,
        publication: &Publication,
        state: &State,
        now: Timestamp,
        trace: Option<Box<str>>,
    ) -> Result<NewRecord, PublishError> {
        let tenant = publication.tenant.as_str();
        let key = format!("{tenant}/{CHAIN}");
        let first = || Head { hash: first_parent(&self.identity.log_id, &key), version: 0 };
        let head = state.head(tenant).unwrap_or_else(first);
        let version = head.version + 1;
        let catalog = match tenant {
            SYSTEM_TENANT => CatalogVersions { tenant: 0, system: version },
            _ => CatalogVersions { tenant: version, system: state.system().version },
        };
        let commit = Commit {
            request_id: publication.request_id.clone(),
            method: publication.method.to_owned(),
            fingerprint: publication.fingerprint,
            command: Vec::new(),
            sealed: Vec::new(),
            actor: publication.actor.clone(),
            actor_roles: publication.actor_roles.clone(),
            // It never goes back along a chain.
            recorded_at: state.recorded_at(tenant).map_or(now, |last| last.max(now)),
            catalog,
            next_wakeup: None,
            refusal: None,
            events: publication.events.clone(),
        };
        let keys = &self.identity.keys;
        let value = frame::encode(Kind::Commit, tenant, CHAIN, version, head.hash, &commit.encode(), keys);
        if value.len() > MAX_COMMIT_BYTES {
            return Err(PublishError::TooLarge(value.len()));
        }
        Ok(NewRecord { partition: 0, key: Bytes::from(key), value: value.into(), trace })
    }
}
