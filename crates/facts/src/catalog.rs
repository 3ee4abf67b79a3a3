//! Events of the catalog: what a creditor has published.

use prost::Message;
use saldo_api::v1;

use crate::{DecodeError, StoredEvent};

/// A change of what a creditor has published. Sources are kept as people wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogEvent {
    /// policy.published
    PolicyPublished {
        /// policy.toml.
        source: String,
    },
    /// template.published
    TemplatePublished {
        /// Its name.
        name: String,
        /// Its language, ISO 639-1.
        language: String,
        /// NAME.LANGUAGE.toml.
        source: String,
    },
    /// sending.set
    SendingSet {
        /// Whether anything is sent.
        on: bool,
    },
}

impl StoredEvent for CatalogEvent {
    fn encode(&self) -> v1::Event {
        let (kind, body) = match self {
            CatalogEvent::PolicyPublished { source } => {
                ("policy.published", v1::PolicyPublished { source: source.clone() }.encode_to_vec())
            }
            CatalogEvent::TemplatePublished { name, language, source } => (
                "template.published",
                v1::TemplatePublished { name: name.clone(), language: language.clone(), source: source.clone() }
                    .encode_to_vec(),
            ),
            CatalogEvent::SendingSet { on } => ("sending.set", v1::SendingSet { on: *on }.encode_to_vec()),
        };
        v1::Event { r#type: kind.to_owned(), version: 1, body }
    }

    fn decode(stored: &v1::Event) -> Result<Self, DecodeError> {
        let body = stored.body.as_slice();
        match (stored.r#type.as_str(), stored.version) {
            ("policy.published", 1) => {
                let m: v1::PolicyPublished = read(stored, body)?;
                Ok(CatalogEvent::PolicyPublished { source: m.source })
            }
            ("template.published", 1) => {
                let m: v1::TemplatePublished = read(stored, body)?;
                Ok(CatalogEvent::TemplatePublished { name: m.name, language: m.language, source: m.source })
            }
            ("sending.set", 1) => {
                let m: v1::SendingSet = read(stored, body)?;
                Ok(CatalogEvent::SendingSet { on: m.on })
            }
            _ => Err(DecodeError::UnknownVersion { kind: stored.r#type.clone(), version: stored.version }),
        }
    }
}

fn read<M: Message + Default>(stored: &v1::Event, body: &[u8]) -> Result<M, DecodeError> {
    M::decode(body).map_err(|error| DecodeError::malformed(&stored.r#type, error))
}
