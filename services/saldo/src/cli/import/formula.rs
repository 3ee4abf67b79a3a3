//! Cells that a spreadsheet would compute. A file of rejected rows is opened in a spreadsheet to be corrected, and its cells come
//! from other people: a debtor's name that begins with `=` would run there.
//!
//! Such a cell gets an apostrophe before it, which a spreadsheet shows and keeps. An import takes it away again, in files of
//! rejected rows alone. A cell that has apostrophes before such a text gets one more, so that each cell is read as it was.

use std::borrow::Cow;

use super::records::fields;

const MARK: char = '\'';

/// Whether a spreadsheet computes a cell. Numbers with a sign are numbers.
fn is_computed(cell: &[u8]) -> bool {
    let cell = match cell.iter().position(|byte| *byte != b' ') {
        Some(start) => cell.get(start..).unwrap_or_default(),
        None => return false,
    };
    match cell.split_first() {
        Some((b'=' | b'@' | b'\t' | b'\r' | b'\n', _)) => true,
        Some((b'+' | b'-', number)) => {
            !number.first().is_some_and(u8::is_ascii_digit)
                || !number.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b',' | b' ' | b'\''))
        }
        // The wide forms, which spreadsheets of East Asia take too.
        _ => ["＝", "＋", "－", "＠"].iter().any(|sign| cell.starts_with(sign.as_bytes())),
    }
}

/// The apostrophes before a cell, and whether a spreadsheet computes what stands behind them.
fn marks(cell: &[u8]) -> (usize, bool) {
    let marks = cell.iter().take_while(|byte| **byte == MARK as u8).count();
    (marks, is_computed(cell.get(marks..).unwrap_or_default()))
}

/// A record in which no cell is computed. Every other byte stays as it is. In a record that was `marked` before, only the cells
/// that a person has changed since get a mark.
pub fn defused(record: &[u8], delimiter: u8, marked: bool) -> Cow<'_, [u8]> {
    let mut places = Vec::new();
    for field in fields(record, delimiter) {
        let (marks, is_computed) = marks(&field.content);
        if is_computed && !(marked && marks > 0) {
            places.push(field.start + usize::from(record.get(field.start) == Some(&b'"')));
        }
    }
    if places.is_empty() {
        return Cow::Borrowed(record);
    }
    let (mut out, mut from) = (Vec::with_capacity(record.len() + places.len()), 0);
    for place in places {
        out.extend_from_slice(record.get(from..place).unwrap_or_default());
        out.push(MARK as u8);
        from = place;
    }
    out.extend_from_slice(record.get(from..).unwrap_or_default());
    Cow::Owned(out)
}

/// The same of a text.
pub fn defused_text(cell: &str) -> Cow<'_, str> {
    if marks(cell.as_bytes()).1 { Cow::Owned(format!("{MARK}{cell}")) } else { Cow::Borrowed(cell) }
}

/// A cell of a file of rejected rows as it was.
pub fn restored(cell: Cow<'_, str>) -> Cow<'_, str> {
    match marks(cell.as_bytes()) {
        (1.., true) => match cell {
            Cow::Borrowed(cell) => Cow::Borrowed(cell.get(1..).unwrap_or_default()),
            Cow::Owned(mut cell) => {
                cell.remove(0);
                Cow::Owned(cell)
            }
        },
        _ => cell,
    }
}
