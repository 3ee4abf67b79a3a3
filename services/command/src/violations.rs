//! The faults of a request's fields.

/// One rule that one field breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, for example `instalments[2].due_date`.
    pub field: String,
    /// The rule that the field breaks, in words; never the field's value.
    pub rule: String,
}

/// Faults that are listed at most: they travel in an answer's trailers, which HTTP/2 peers bound. A request can have a fault for
/// every few bytes.
pub const MAX_LISTED: usize = 30;
/// Longest field and longest rule, in bytes. Both can repeat names that the client gave, such as that of a file.
const MAX_PART: usize = 300;

impl Violation {
    /// Short enough to be listed.
    pub fn listed(&self) -> Self {
        Self { field: cut(&self.field), rule: cut(&self.rule) }
    }
}

fn cut(text: &str) -> String {
    match text.floor_char_boundary(MAX_PART) {
        end if end < text.len() => format!("{}…", text.get(..end).unwrap_or_default()),
        _ => text.to_owned(),
    }
}
