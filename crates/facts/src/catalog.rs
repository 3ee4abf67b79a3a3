//! Facts of the catalog: what a creditor has published, and what the operator has.

use prost::Message;
use saldo_api::v1;

use crate::{DecodeError, Format, StoredEvent};

/// A change of the catalog. Sources are kept as people wrote them.
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
    /// settings.published
    SettingsPublished(Settings),
    /// format.raised, on the operator's own chain
    FormatRaised {
        /// From now on facts of this format and below may be written.
        format: Format,
    },
}

/// How a creditor's organisation works, apart from how it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What the creditor is called; empty until it is published.
    pub name: String,
    /// The IANA name of the time zone whose calendar says which day it is.
    pub time_zone: String,
    /// ISO 639-1, the first preferred.
    pub languages: Vec<String>,
    /// The first day of the fiscal year.
    pub fiscal_year_start: FiscalYearStart,
}

/// A day that every year has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FiscalYearStart {
    /// 1 to 12.
    pub month: u32,
    /// From 1.
    pub day: u32,
}

impl Default for FiscalYearStart {
    fn default() -> Self {
        Self { month: 1, day: 1 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: String::new(),
            time_zone: "UTC".to_owned(),
            languages: Vec::new(),
            fiscal_year_start: FiscalYearStart::default(),
        }
    }
}

/// The catalog's facts: stored type, version, and the format that brought them.
const KNOWN: [(&str, u32, Format); 5] = [
    ("policy.published", 1, Format::FIRST),
    ("template.published", 1, Format::FIRST),
    ("sending.set", 1, Format::FIRST),
    ("settings.published", 1, Format::new(2)),
    // It says what may be written, so it must be readable before anything newer is.
    ("format.raised", 1, Format::FIRST),
];

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
            CatalogEvent::SettingsPublished(settings) => {
                ("settings.published", settings_to_stored(settings).encode_to_vec())
            }
            CatalogEvent::FormatRaised { format } => {
                ("format.raised", v1::FormatRaised { format: format.number() }.encode_to_vec())
            }
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
            ("settings.published", 1) => {
                let m: v1::SettingsPublished = read(stored, body)?;
                Ok(CatalogEvent::SettingsPublished(Settings {
                    name: m.name,
                    time_zone: m.time_zone,
                    languages: m.languages,
                    fiscal_year_start: FiscalYearStart { month: m.fiscal_year_month, day: m.fiscal_year_day },
                }))
            }
            ("format.raised", 1) => {
                let m: v1::FormatRaised = read(stored, body)?;
                Ok(CatalogEvent::FormatRaised { format: Format::new(m.format) })
            }
            _ => Err(DecodeError::unknown(stored)),
        }
    }

    fn format_of(stored: &v1::Event) -> Option<Format> {
        let known = KNOWN.iter().find(|(kind, version, _)| *kind == stored.r#type && *version == stored.version);
        known.map(|(.., format)| *format)
    }

    fn format(&self) -> Format {
        match self {
            CatalogEvent::SettingsPublished(_) => Format::new(2),
            CatalogEvent::PolicyPublished { .. }
            | CatalogEvent::TemplatePublished { .. }
            | CatalogEvent::SendingSet { .. }
            | CatalogEvent::FormatRaised { .. } => Format::FIRST,
        }
    }
}

fn settings_to_stored(settings: &Settings) -> v1::SettingsPublished {
    v1::SettingsPublished {
        name: settings.name.clone(),
        time_zone: settings.time_zone.clone(),
        languages: settings.languages.clone(),
        fiscal_year_month: settings.fiscal_year_start.month,
        fiscal_year_day: settings.fiscal_year_start.day,
    }
}

fn read<M: Message + Default>(stored: &v1::Event, body: &[u8]) -> Result<M, DecodeError> {
    M::decode(body).map_err(|error| DecodeError::malformed(&stored.r#type, error))
}
