//! Text of one line: a name, a subject, a header.

/// The rule for text of one line.
pub const ONE_LINE: &str = "must be one line, without control characters, line separators and direction marks";

/// Whether a text stands on one line, and reads as it is written.
pub fn is_one_line(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || is_line_separator(c) || is_direction_mark(c))
}

/// U+2028 and U+2029 break a line without being control characters.
fn is_line_separator(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

/// The characters that change the direction of the text after them (Unicode's property Bidi_Control). They are not seen, and a
/// name with one of them rearranges whatever stands beside it. No script needs them on a line of its own.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
