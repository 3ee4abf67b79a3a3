//! A rule that something written from outside breaks.

/// A field and the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// Path in what was written.
    pub field: String,
    /// What it must be.
    pub rule: String,
}
