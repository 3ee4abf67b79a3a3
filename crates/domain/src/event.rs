//! The facts of an account's history, by subject.

use crate::{agreement, dunning, ledger, party};

/// One fact. Each subject lists its own; `saldo-facts` declares how each is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a start of an attempt is large; few events are in memory at once")]
pub enum Event {
    /// A fact about the debtor.
    Party(party::Fact),
    /// A fact of the ledger.
    Ledger(ledger::Fact),
    /// A fact about reminders and contacts.
    Dunning(dunning::Fact),
    /// A fact about agreements.
    Agreement(agreement::Fact),
}

/// Lists a subject's facts: the enum, and the way from each fact into [`Event`].
macro_rules! facts {
    ($subject:ident { $( $(#[$doc:meta])* $fact:ident ),+ $(,)? }) => {
        /// The subject's facts.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Fact { $( $(#[$doc])* $fact($fact) ),+ }

        $(
            impl From<$fact> for Fact {
                fn from(fact: $fact) -> Self {
                    Self::$fact(fact)
                }
            }

            impl From<$fact> for $crate::event::Event {
                fn from(fact: $fact) -> Self {
                    Self::$subject(fact.into())
                }
            }
        )+

        impl From<Fact> for $crate::event::Event {
            fn from(fact: Fact) -> Self {
                Self::$subject(fact)
            }
        }
    };
}
pub(crate) use facts;
