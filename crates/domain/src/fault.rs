//! A rule that something written from outside breaks.

/// A field and the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// Path in what was written.
    pub field: String,
    /// The rule that the value breaks.
    pub rule: String,
}
