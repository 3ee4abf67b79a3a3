//! What is wrong with the fields of a request.

/// One rule that one field breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, for example `instalments[2].due_date`.
    pub field: String,
    /// What the field must be; never its value.
    pub rule: String,
}
