//! The facts of the catalog: what a creditor has published, and what the operator has.

use saldo_domain::ledger::ApplyCredit;

use crate::{
    DecodeError, Format,
    declare::{Declaration, Declared, Fact, fact, message},
    payload::StoredEvent,
    wire::{Decoded, Field, Fields, Message},
};

/// policy.published: sources are kept as people wrote them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyPublished {
    /// policy.toml.
    pub source: String,
}

/// template.published: the templates of a policy are published with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplatePublished {
    /// Its name.
    pub name: String,
    /// Its language, ISO 639-1.
    pub language: String,
    /// NAME.LANGUAGE.toml.
    pub source: String,
}

/// sending.set
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendingSet {
    /// Whether anything is sent.
    pub on: bool,
}

/// settings.published: it replaces the former settings whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsPublished(pub Settings);

/// format.raised, on the operator's own chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatRaised {
    /// From now on facts of this format and below may be written.
    pub format: Format,
}

/// key_store.bound, on the operator's own chain: what belongs together. The newest one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyStoreBound {
    /// The id of the accounts log.
    pub accounts_log: [u8; 16],
    /// The id of the key store that the personal data of its accounts is sealed with.
    pub key_store: [u8; 16],
}

/// sending.held, on the operator's own chain: nothing is sent for any creditor until it is released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendingHeld {
    /// Why; free of personal data.
    pub reason: String,
}

/// sending.released, on the operator's own chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendingReleased {
    /// Why; free of personal data.
    pub reason: String,
}

/// How a creditor's organisation works, apart from how it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The creditor's name; empty until it is published.
    pub name: String,
    /// The IANA name of the time zone whose calendar says which day it is.
    pub time_zone: String,
    /// ISO 639-1, the first preferred.
    pub languages: Vec<String>,
    /// The first day of the fiscal year.
    pub fiscal_year_start: FiscalYearStart,
    /// The use of credit that waits when an item arises.
    pub apply_credit: ApplyCredit,
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
            apply_credit: ApplyCredit::default(),
        }
    }
}

fact! {
    "policy.published" [1] PolicyPublished { 1 => source }
    date: |_| None,
    summary: |_| "policy published".to_owned(),
}

fact! {
    "template.published" [1] TemplatePublished { 1 => name, 2 => language, 3 => source }
    date: |_| None,
    summary: |fact| format!("template {}.{} published", fact.name, fact.language),
}

fact! {
    "sending.set" [1] SendingSet { 1 => on }
    date: |_| None,
    summary: |fact| format!("sending switched {}", if fact.on { "on" } else { "off" }),
}

message!(Settings { 1 => name, 2 => time_zone, 3 => languages, (4, 5) => fiscal_year_start, 6 => apply_credit });

fact! {
    "settings.published" [2, 2] SettingsPublished(Settings)
    since 2 => apply_credit
    date: |_| None,
    summary: |fact| {
        let credit = match fact.0.apply_credit {
            ApplyCredit::OldestFirst => "",
            ApplyCredit::Leave => ", credit is left until it is allocated",
        };
        format!("settings published: time zone {}{credit}", fact.0.time_zone)
    },
}

// It says what may be written, so every release that goes by it must be able to read it: it belongs to the first format.
fact! {
    "format.raised" [1] FormatRaised { 1 => format }
    date: |_| None,
    summary: |fact| format!("format raised to {}", fact.format),
}

fact! {
    "key_store.bound" [2] KeyStoreBound { 1 => accounts_log, 2 => key_store }
    date: |_| None,
    summary: |_| "key store bound".to_owned(),
}

fact! {
    "sending.held" [2] SendingHeld { 1 => reason }
    date: |_| None,
    summary: |fact| format!("sending held for every creditor: {}", fact.reason),
}

fact! {
    "sending.released" [2] SendingReleased { 1 => reason }
    date: |_| None,
    summary: |fact| format!("sending released: {}", fact.reason),
}

/// Lists the facts of the catalog: all that can stand on its chains.
macro_rules! catalog_facts {
    ($($fact:ident),+ $(,)?) => {
        /// A fact of the catalog.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum CatalogEvent {
            $(#[doc = concat!("See [`", stringify!($fact), "`].")] $fact($fact)),+
        }

        $(impl From<$fact> for CatalogEvent {
            fn from(fact: $fact) -> Self {
                Self::$fact(fact)
            }
        })+

        /// Every fact of the catalog that this release knows.
        pub const CATALOG_FACTS: &[Declaration<CatalogEvent>] = &[$(
            Declaration {
                kind: <$fact as Fact>::TYPE,
                formats: <$fact as Fact>::FORMATS,
                read: |body| <$fact as Message>::read(&Fields::parse(body)?).map(Into::into),
                sample: || <$fact as Message>::sample().into(),
            },
        )+];

        impl StoredEvent for CatalogEvent {
            fn facts() -> &'static [Declaration<Self>] {
                CATALOG_FACTS
            }

            fn declared(&self) -> &dyn Declared {
                match self {
                    $(Self::$fact(fact) => fact),+
                }
            }
        }
    };
}

catalog_facts! {
    PolicyPublished,
    TemplatePublished,
    SendingSet,
    SettingsPublished,
    FormatRaised,
    KeyStoreBound,
    SendingHeld,
    SendingReleased,
}

impl Field<(u32, u32)> for FiscalYearStart {
    fn put(&self, (month, day): (u32, u32), out: &mut Vec<u8>) {
        self.month.put(month, out);
        self.day.put(day, out);
    }

    fn get(fields: &Fields<'_>, (month, day): (u32, u32), name: &'static str) -> Decoded<Self> {
        Ok(Self { month: Field::get(fields, month, name)?, day: Field::get(fields, day, name)? })
    }

    fn sample() -> Self {
        Self { month: 4, day: 1 }
    }
}

/// The default is absent, as in settings that are older than the choice.
impl Field for ApplyCredit {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        if self.is_present() {
            self.name().to_owned().put(tag, out);
        }
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        match String::get(fields, tag, name)?.as_str() {
            "" => Ok(Self::default()),
            stored => Self::parse(stored).ok_or_else(|| DecodeError::malformed(name, "unknown")),
        }
    }

    fn sample() -> Self {
        Self::Leave
    }

    fn is_present(&self) -> bool {
        *self != Self::default()
    }
}

impl Field for Format {
    fn put(&self, tag: u32, out: &mut Vec<u8>) {
        self.number().put(tag, out);
    }

    fn get(fields: &Fields<'_>, tag: u32, name: &'static str) -> Decoded<Self> {
        match u32::get(fields, tag, name)? {
            0 => Err(DecodeError::malformed(name, "absent")),
            number => Ok(Format::new(number)),
        }
    }

    fn sample() -> Self {
        Format::new(2)
    }
}
