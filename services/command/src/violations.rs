//! What is wrong with a request's fields, all of it at once.

/// One rule that one field breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path in the request, for example `instalments[2].due_date`.
    pub field: String,
    /// What it must be; never its value.
    pub rule: String,
}

/// Collects them.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Notes a broken rule.
    pub fn add(&mut self, field: impl Into<String>, rule: impl ToString) {
        self.0.push(Violation { field: field.into(), rule: rule.to_string() });
    }

    /// The value, or `None` and a note.
    pub fn check<T, E: ToString>(&mut self, field: impl Into<String>, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(field, error);
                None
            }
        }
    }

    /// All notes.
    pub fn into_vec(self) -> Vec<Violation> {
        self.0
    }
}
