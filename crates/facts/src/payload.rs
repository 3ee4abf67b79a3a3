//! The payload of a commit.

use jiff::Timestamp;
use prost::Message;
use saldo_api::v1;
use saldo_domain::event::Event;
use serde::{Deserialize, Serialize};

use crate::{
    DecodeError, Format,
    declare::{self, Declaration, Declared},
};

/// "No", as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Stable and upper case.
    pub reason: String,
    /// For people; free of personal data.
    pub message: String,
    /// Named details; free of personal data.
    pub details: Vec<(String, String)>,
}

/// A fact as a commit holds it: all of it follows from the fact's declaration.
pub trait StoredEvent: Sized + 'static {
    /// Every fact of this kind of chain that this release knows.
    fn facts() -> &'static [Declaration<Self>];
    /// The declaration of this one.
    fn declared(&self) -> &dyn Declared;

    /// As stored.
    fn encode(&self) -> v1::Event {
        let declared = self.declared();
        v1::Event { r#type: declared.declaration().0.to_owned(), version: declared.version(), body: declared.body() }
    }

    /// Reads it back; fails on a type or version that this release does not know.
    fn decode(stored: &v1::Event) -> Result<Self, DecodeError> {
        Self::decode_as(Format::NEWEST, stored)
    }

    /// Reads it back as a release does that knows nothing beyond `format`.
    fn decode_as(format: Format, stored: &v1::Event) -> Result<Self, DecodeError> {
        match declare::known(Self::facts(), &stored.r#type, stored.version) {
            Some((declaration, needs)) if needs <= format.number() => {
                (declaration.read)(&stored.body).map_err(|error| error.within(&stored.r#type))
            }
            _ => Err(DecodeError::UnknownVersion { kind: stored.r#type.clone(), version: stored.version }),
        }
    }

    /// The format that a log must allow before this fact may be written.
    fn format(&self) -> Format {
        let declared = self.declared();
        let (_, formats) = declared.declaration();
        let needs = formats.get(declared.version() as usize - 1).copied();
        needs.map_or(Format::NEWEST, Format::new)
    }
}

impl StoredEvent for Event {
    fn facts() -> &'static [Declaration<Self>] {
        crate::FACTS
    }

    fn declared(&self) -> &dyn Declared {
        crate::declared(self)
    }
}

/// The versions of the catalog that a decision used: of the tenant's own chain, and of the operator's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogVersions {
    /// The version of the tenant's chain.
    pub tenant: u64,
    /// The version of the chain of the reserved tenant `system`.
    pub system: u64,
}

impl CatalogVersions {
    /// Whether neither is older than in `used`.
    pub fn reach(self, used: Self) -> bool {
        self.tenant >= used.tenant && self.system >= used.system
    }

    /// The newer of each.
    pub fn max(self, other: Self) -> Self {
        Self { tenant: self.tenant.max(other.tenant), system: self.system.max(other.system) }
    }
}

/// One command and all that it brought about: on an account's chain, or on a tenant's in the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit<E = Event> {
    /// The client's id of the request.
    pub request_id: String,
    /// The RPC's name.
    pub method: String,
    /// HMAC-SHA-256 under the tenant's key over method and request.
    pub fingerprint: [u8; 32],
    /// The request re-encoded, personal values emptied.
    pub command: Vec<u8>,
    /// The personal values, sealed.
    pub sealed: Vec<v1::SealedField>,
    /// The token's subject.
    pub actor: String,
    /// The token's roles.
    pub actor_roles: Vec<String>,
    /// The deciding instance's clock; never goes back along a chain.
    pub recorded_at: Timestamp,
    /// The versions of the catalog that the decision used; neither goes back along a chain.
    pub catalog: CatalogVersions,
    /// When the account next needs waking.
    pub next_wakeup: Option<Timestamp>,
    /// Present where the domain said no.
    pub refusal: Option<Refusal>,
    /// The facts, in order.
    pub events: Vec<E>,
}

impl<E: StoredEvent> Commit<E> {
    /// The payload's bytes.
    pub fn encode(&self) -> Vec<u8> {
        v1::CommitPayload {
            request_id: self.request_id.clone(),
            method: self.method.clone(),
            fingerprint: self.fingerprint.to_vec(),
            command: self.command.clone(),
            sealed: self.sealed.clone(),
            actor: Some(v1::Actor { subject: self.actor.clone(), roles: self.actor_roles.clone() }),
            recorded_at: Some(timestamp_to_api(self.recorded_at)),
            causation: None,
            catalog: Some(v1::CatalogVersions { tenant: self.catalog.tenant, system: self.catalog.system }),
            next_wakeup: self.next_wakeup.map(timestamp_to_api),
            refusal: self.refusal.as_ref().map(|refusal| v1::StoredRefusal {
                reason: refusal.reason.clone(),
                message: refusal.message.clone(),
                details: refusal
                    .details
                    .iter()
                    .map(|(key, value)| v1::RefusalDetail { key: key.clone(), value: value.clone() })
                    .collect(),
            }),
            events: self.events.iter().map(StoredEvent::encode).collect(),
        }
        .encode_to_vec()
    }

    /// Reads a payload. Fails on an event this release does not know.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_as(Format::NEWEST, payload)
    }

    /// Reads a payload as a release does that knows nothing beyond `format`.
    pub fn decode_as(format: Format, payload: &[u8]) -> Result<Self, DecodeError> {
        let stored = v1::CommitPayload::decode(payload).map_err(|error| DecodeError::malformed("commit", error))?;
        let actor = stored.actor.unwrap_or_default();
        let recorded_at = stored.recorded_at.ok_or_else(|| DecodeError::malformed("recorded_at", "absent"))?;
        let refusal = stored.refusal.map(|refusal| Refusal {
            reason: refusal.reason,
            message: refusal.message,
            details: refusal.details.into_iter().map(|detail| (detail.key, detail.value)).collect(),
        });
        let has_nul = |text: &String| text.contains('\0');
        if [&stored.request_id, &stored.method, &actor.subject].into_iter().any(has_nul)
            || refusal.iter().any(|refusal| has_nul(&refusal.reason) || has_nul(&refusal.message))
        {
            return Err(DecodeError::malformed("text", "holds NUL, which no database keeps"));
        }
        Ok(Self {
            request_id: stored.request_id,
            method: stored.method,
            fingerprint: stored
                .fingerprint
                .try_into()
                .map_err(|_| DecodeError::malformed("fingerprint", "not 32 bytes"))?,
            command: stored.command,
            sealed: stored.sealed,
            actor: actor.subject,
            actor_roles: actor.roles,
            recorded_at: timestamp_from_api(recorded_at)?,
            catalog: stored.catalog.map_or_else(CatalogVersions::default, |catalog| CatalogVersions {
                tenant: catalog.tenant,
                system: catalog.system,
            }),
            next_wakeup: stored.next_wakeup.map(timestamp_from_api).transpose()?,
            refusal,
            events: stored.events.iter().map(|event| E::decode_as(format, event)).collect::<Result<_, _>>()?,
        })
    }
}

impl Commit {
    /// Only the instant it was recorded, readable whatever events the commit holds.
    pub fn recorded_at(payload: &[u8]) -> Option<Timestamp> {
        let stored = v1::CommitPayload::decode(payload).ok()?;
        timestamp_from_api(stored.recorded_at?).ok()
    }

    /// Only the ids of the keys that its personal values are sealed under, readable whatever events the commit holds.
    pub fn key_ids(payload: &[u8]) -> Vec<Vec<u8>> {
        let stored = v1::CommitPayload::decode(payload).unwrap_or_default();
        stored.sealed.into_iter().filter_map(|field| Some(field.value?.key_id)).collect()
    }
}

/// An instant, to the wire.
pub fn timestamp_to_api(instant: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: instant.as_second(), nanos: instant.subsec_nanosecond() }
}

/// An instant, from the wire.
pub fn timestamp_from_api(stored: prost_types::Timestamp) -> Result<Timestamp, DecodeError> {
    Timestamp::new(stored.seconds, stored.nanos).map_err(|error| DecodeError::malformed("timestamp", error))
}
