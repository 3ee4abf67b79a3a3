//! Personal values, which the domain never sees in the clear.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A personal value under its key: the bytes of a sealed envelope.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed(pub Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}
