//! Formats: which facts a log may hold.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::NEWEST_FORMAT;

/// The number of a set of facts and their versions. Every fact belongs to the format that brought it. A release writes a fact
/// only after a `format.raised` in the catalog's `system` chain allows its format, so that readers can be deployed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Format(u32);

impl Format {
    /// The format that every log allows from its start.
    pub const FIRST: Self = Self(1);
    /// The newest that this release knows.
    pub const NEWEST: Self = Self(NEWEST_FORMAT);

    /// The format of this number. A log can allow a format that this release does not know yet.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// A log allows what it always did until it says more.
impl Default for Format {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
