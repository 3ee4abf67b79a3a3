//! How a fact is declared: once, with all that follows from it.
//!
//! [`message!`] declares the fields of a value inside facts, [`fact!`] a fact. Both take a struct of the domain apart and put it
//! together again, so that a field that somebody forgot does not compile. The tags are those of proto/collections/v1/events.proto,
//! which describes the same bytes for readers outside; a test compares the two.

use jiff::civil::Date;
use saldo_api::v1;
use saldo_domain::event::Event;

use crate::{Format, StoredEvent, wire::Decoded};

/// The newest format that this release writes, once the system chain allows it. Each fact says which format its versions need.
pub const NEWEST_FORMAT: u32 = 2;

/// A fact as it is declared.
#[diagnostic::on_unimplemented(
    message = "the fact `{Self}` is not declared",
    note = "declare how it is stored with `fact!` in crates/facts/src/<subject>.rs"
)]
pub trait Fact {
    /// The stored type, such as `invoice.issued`.
    const TYPE: &'static str;
    /// The format that each version needs, from version 1 on.
    const FORMATS: &'static [u32];

    /// The lowest version that holds all that this fact says.
    fn version(&self) -> u32;
    /// The stored body.
    fn body(&self) -> Vec<u8>;
    /// The day that the fact is true of, where it has one.
    fn effective_date(&self) -> Option<Date>;
    /// The fact in one line, for people; free of personal data.
    fn summary(&self) -> String;
}

/// A fact whose type is not known at compile time.
#[diagnostic::on_unimplemented(
    message = "the fact `{Self}` is not declared",
    note = "declare how it is stored with `fact!` in crates/facts/src/<subject>.rs"
)]
pub trait Declared {
    /// The fact's declaration.
    fn declaration(&self) -> (&'static str, &'static [u32]);
    /// As [`Fact::version`].
    fn version(&self) -> u32;
    /// As [`Fact::body`].
    fn body(&self) -> Vec<u8>;
    /// As [`Fact::effective_date`].
    fn effective_date(&self) -> Option<Date>;
    /// As [`Fact::summary`].
    fn summary(&self) -> String;
}

impl<F: Fact> Declared for F {
    fn declaration(&self) -> (&'static str, &'static [u32]) {
        (F::TYPE, F::FORMATS)
    }

    fn version(&self) -> u32 {
        Fact::version(self)
    }

    fn body(&self) -> Vec<u8> {
        Fact::body(self)
    }

    fn effective_date(&self) -> Option<Date> {
        Fact::effective_date(self)
    }

    fn summary(&self) -> String {
        Fact::summary(self)
    }
}

/// One line of the list of facts.
pub struct Declaration<E = Event> {
    /// The stored type.
    pub kind: &'static str,
    /// The format that each version needs, from version 1 on.
    pub formats: &'static [u32],
    /// Reads a body of any of the versions.
    pub read: fn(&[u8]) -> Decoded<E>,
    /// An example whose every field is present, for golden files and fuzzing.
    pub sample: fn() -> E,
}

/// Declares the stored fields of a value inside facts: `TAG => field`, with the rule of a number in brackets.
macro_rules! message {
    ($name:ident { $( $tag:tt => $field:ident $([$rule:path])? ),+ $(,)? }) => {
        impl $crate::wire::Message for $name {
            fn write(&self, out: &mut Vec<u8>) {
                let Self { $($field),+ } = self;
                $( $crate::wire::Field::put($field, $tag, out); )+
            }

            fn read(fields: &$crate::wire::Fields<'_>) -> $crate::wire::Decoded<Self> {
                Ok(Self { $( $field: {
                    let value = $crate::wire::Field::get(fields, $tag, stringify!($field))?;
                    $( let value = $rule(value)?; )?
                    value
                } ),+ })
            }

            fn sample() -> Self {
                Self { $( $field: $crate::wire::sample_at($tag) ),+ }
            }
        }
    };
}
pub(crate) use message;

/// Declares a fact: stored type, the format of each version, stored fields, the day it is true of, and its line for people.
/// `TAG since VERSION => field` is a field that a later version brought; it is absent in the versions before.
macro_rules! fact {
    (
        $kind:literal $formats:tt $name:ident { $( $tag:tt $(since $since:literal)? => $field:ident $([$rule:path])? ),+ $(,)? }
        date: $date:expr,
        summary: $summary:expr $(,)?
    ) => {
        $crate::declare::message!($name { $( $tag => $field $([$rule])? ),+ });
        $crate::declare::fact!(@ $kind $formats $name, { $($( ($field) $since )?)+ }, $date, $summary);
    };
    // A fact that wraps one value of the domain: the value's fields are the fact's. `since VERSION => field` names those that a
    // later version brought.
    (
        $kind:literal $formats:tt $name:ident($inner:ident) $( since $since:literal => $later:ident )*
        date: $date:expr,
        summary: $summary:expr $(,)?
    ) => {
        impl $crate::wire::Message for $name {
            fn write(&self, out: &mut Vec<u8>) {
                $crate::wire::Message::write(&self.0, out);
            }

            fn read(fields: &$crate::wire::Fields<'_>) -> $crate::wire::Decoded<Self> {
                <$inner as $crate::wire::Message>::read(fields).map(Self)
            }

            fn sample() -> Self {
                Self(<$inner as $crate::wire::Message>::sample())
            }
        }
        $crate::declare::fact!(@ $kind $formats $name, { $( (0.$later) $since )* }, $date, $summary);
    };
    (@ $kind:literal $formats:tt $name:ident, { $(($($later:tt)+) $since:literal)* }, $date:expr, $summary:expr) => {
        impl $crate::declare::Fact for $name {
            const TYPE: &'static str = $kind;
            const FORMATS: &'static [u32] = &$formats;

            fn version(&self) -> u32 {
                #[allow(unused_mut, reason = "facts with one version have no later field")]
                let mut version = 1;
                $( if $crate::wire::Field::is_present(&self.$($later)+) { version = version.max($since); } )*
                version
            }

            fn body(&self) -> Vec<u8> {
                let mut body = Vec::new();
                $crate::wire::Message::write(self, &mut body);
                body
            }

            fn effective_date(&self) -> Option<jiff::civil::Date> {
                let date: fn(&Self) -> Option<jiff::civil::Date> = $date;
                date(self)
            }

            fn summary(&self) -> String {
                let summary: fn(&Self) -> String = $summary;
                summary(self)
            }
        }
    };
}
pub(crate) use fact;

/// Lists every fact of every subject. A fact that is missing here, or that is not declared, does not compile.
macro_rules! facts {
    ($( $subject:ident $module:ident { $($fact:ident),+ $(,)? } )+) => {
        /// Every fact that this release knows.
        pub const FACTS: &[$crate::declare::Declaration] = &[$($(
            $crate::declare::Declaration {
                kind: <$module::$fact as $crate::declare::Fact>::TYPE,
                formats: <$module::$fact as $crate::declare::Fact>::FORMATS,
                read: |body| {
                    let fields = $crate::wire::Fields::parse(body)?;
                    <$module::$fact as $crate::wire::Message>::read(&fields).map(Into::into)
                },
                sample: || <$module::$fact as $crate::wire::Message>::sample().into(),
            },
        )+)+];

        /// The declaration behind an event.
        pub fn declared(event: &saldo_domain::event::Event) -> &dyn $crate::declare::Declared {
            match event {
                $($( saldo_domain::event::Event::$subject($module::Fact::$fact(fact)) => fact, )+)+
            }
        }
    };
}
pub(crate) use facts;

/// An event as stored.
pub fn encode_event(event: &Event) -> v1::Event {
    StoredEvent::encode(event)
}

/// Reads a stored event.
pub fn decode_event(stored: &v1::Event) -> Decoded<Event> {
    decode_event_as(NEWEST_FORMAT, stored)
}

/// Reads a stored event as a release would whose newest format is `format`.
pub fn decode_event_as(format: u32, stored: &v1::Event) -> Decoded<Event> {
    Event::decode_as(Format::new(format), stored)
}

/// Whether this release can read a type and version.
pub fn is_known(kind: &str, version: u32) -> bool {
    known(crate::FACTS, kind, version).is_some_and(|(_, needs)| needs <= NEWEST_FORMAT)
}

/// The declaration of a type, and the format that a version of it needs.
pub(crate) fn known<E>(
    facts: &'static [Declaration<E>],
    kind: &str,
    version: u32,
) -> Option<(&'static Declaration<E>, u32)> {
    let declaration = facts.iter().find(|declaration| declaration.kind == kind)?;
    let index = usize::try_from(version).ok()?.checked_sub(1)?;
    Some((declaration, *declaration.formats.get(index)?))
}

/// The stored name of an event's type.
pub fn event_type(event: &Event) -> &'static str {
    crate::declared(event).declaration().0
}

/// The format that the system chain must allow before an event may be written.
pub fn needed_format(event: &Event) -> u32 {
    event.format().number()
}

/// The day that an event is true of, where it has one.
pub fn effective_date(event: &Event) -> Option<Date> {
    crate::declared(event).effective_date()
}

/// The fact in one line, for people; free of personal data.
pub fn summarise(event: &Event) -> String {
    crate::declared(event).summary()
}
