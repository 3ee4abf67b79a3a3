//! The faults of a request's fields.

/// One rule that one field breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, for example `instalments[2].due_date`.
    pub field: String,
    /// The rule that the field breaks, in words; never the field's value.
    pub rule: String,
}
