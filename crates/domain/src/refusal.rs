//! "No", said by the domain. A refusal is an answer; a failure of the system is never one.
//!
//! Each subject declares its refusals once, with [`refusals!`]: class, fields, stable reason and message. [`Refusal`] joins the
//! subjects.

use jiff::civil::Date;

use crate::{
    agreement, dunning,
    ids::DocumentNumber,
    ledger::{self, Currencies},
    money::{Currency, Money},
    party,
};

/// The class of a refusal; it becomes the gRPC status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// Something that the command names does not exist.
    NotFound,
    /// Something that the command would make exists already.
    AlreadyExists,
    /// The account's state does not allow the command.
    FailedPrecondition,
}

/// A field of a refusal, as one of its named details. `None` leaves the detail out.
pub(crate) trait Detail {
    fn detail(&self) -> Option<String>;
}

macro_rules! details {
    ($($type:ty),+) => {$(
        impl Detail for $type {
            fn detail(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+};
}
details!(DocumentNumber, Currency, Currencies, Money, Date, bool, u32, u64, i64, i128);

impl<T: Detail> Detail for Option<T> {
    fn detail(&self) -> Option<String> {
        self.as_ref()?.detail()
    }
}

/// Declares a subject's refusals: `CLASS Variant { field: Type } = "REASON", "message with {field}";`.
///
/// The enum, its message, its stable reason, its class and its named details follow from the declaration.
macro_rules! refusals {
    ($(#[$doc:meta])* $name:ident { $(
        $kind:ident $variant:ident $({ $($field:ident : $type:ty),+ $(,)? })? = $reason:literal, $message:literal $(, $argument:expr)*;
    )+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the messages say what each refusal means; fields are named for what they hold")]
        pub enum $name { $( $variant $({ $($field: $type),+ })? ),+ }

        impl $name {
            /// Every reason of the subject, and its class.
            pub const REASONS: &[(&str, $crate::refusal::RefusalKind)] =
                &[$( ($reason, $crate::refusal::RefusalKind::$kind) ),+];

            /// The stable reason, for machines.
            pub fn reason(&self) -> &'static str {
                match self { $( Self::$variant $({ $($field: _),+ })? => $reason ),+ }
            }

            /// Named details, for machines.
            pub fn details(&self) -> Vec<(&'static str, String)> {
                match self { $( Self::$variant $({ $($field),+ })? => {
                    let details: Vec<(&'static str, Option<String>)> =
                        vec![$( $( (stringify!($field), $crate::refusal::Detail::detail($field)) ),+ )?];
                    details.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
                } ),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $( Self::$variant $({ $($field),+ })? => {
                    $( $( let _ = $field; )+ )?
                    write!(f, $message $(, $argument)*)
                } ),+ }
            }
        }
    };
}
pub(crate) use refusals;

/// Why a command is not allowed on the account as it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A refusal of the party.
    #[error("{0}")]
    Party(party::Refusal),
    /// A refusal of the ledger.
    #[error("{0}")]
    Ledger(ledger::Refusal),
    /// A refusal of dunning.
    #[error("{0}")]
    Dunning(dunning::Refusal),
    /// A refusal of agreements.
    #[error("{0}")]
    Agreement(agreement::Refusal),
}

macro_rules! subjects {
    ($($subject:ident: $module:ident),+) => {
        $(impl From<$module::Refusal> for Refusal {
            fn from(refusal: $module::Refusal) -> Self {
                Self::$subject(refusal)
            }
        })+

        impl Refusal {
            /// Every reason there is, with its class.
            pub fn reasons() -> impl Iterator<Item = (&'static str, RefusalKind)> {
                [$($module::Refusal::REASONS),+].into_iter().flatten().copied()
            }

            /// The stable reason, for machines.
            pub fn reason(&self) -> &'static str {
                match self { $(Self::$subject(refusal) => refusal.reason()),+ }
            }

            /// Named details, for machines.
            pub fn details(&self) -> Vec<(&'static str, String)> {
                match self { $(Self::$subject(refusal) => refusal.details()),+ }
            }
        }
    };
}
subjects!(Party: party, Ledger: ledger, Dunning: dunning, Agreement: agreement);

impl Refusal {
    /// The class of a reason. A reason that only a newer release knows is a failed precondition.
    pub fn kind_of(reason: &str) -> RefusalKind {
        Self::reasons().find(|(one, _)| *one == reason).map_or(RefusalKind::FailedPrecondition, |(_, kind)| kind)
    }

    /// The refusal's class.
    pub fn kind(&self) -> RefusalKind {
        Self::kind_of(self.reason())
    }
}
