//! Why nobody is spoken to.

use std::fmt;

use crate::{named::named, refusal::Detail};

named!(
    /// Why nothing is sent for a creditor at all.
    Silence {
        /// The operator has held sending for every creditor.
        Held = "held",
        /// The creditor has published no policy.
        NoPolicy = "no_policy",
        /// The creditor has switched sending off, or never on.
        SwitchedOff = "switched_off",
    }
);

/// What it is, and the command that ends it.
impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => {
                "sending is held for every creditor: nothing is sent until an operator runs `saldo sending release --reason TEXT`"
            }
            Self::NoPolicy => "no policy is published: nothing is sent until `saldo policy publish DIR`",
            Self::SwitchedOff => "sending is switched off: nothing is sent until `saldo sending on`",
        })
    }
}

impl Detail for Silence {
    fn detail(&self) -> Option<String> {
        Some(self.name().to_owned())
    }
}
