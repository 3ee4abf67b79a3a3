//! Records of a CSV file: where each begins and ends, and its fields. The bytes stay as they are, so that a row can be given back
//! as it stands in the file.

use std::{borrow::Cow, ops::Range};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The line on which it begins, from 1, as an editor counts: a line ends with CR LF, with LF, or with CR alone.
    pub line: u64,
    /// Its bytes, without the line end.
    pub range: Range<usize>,
}

/// A quoted field that takes in line ends and then does not end as a field does: its closing quote is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the quote that opens on line {line} is not closed; close it, or write a quote inside a quoted field twice")]
pub struct OpenQuote {
    /// The line of the opening quote.
    pub line: u64,
}

/// Reads records. Empty lines are passed over. Ends with the first error.
pub struct Records<'b> {
    bytes: &'b [u8],
    delimiter: u8,
    at: usize,
    line: u64,
}

#[derive(Clone, Copy)]
enum State {
    FieldStart,
    Plain,
    /// In a field whose quote opened on this line.
    Quoted(u64),
    /// At a quote that closes the field, or is the first of two that stand for one.
    Closing(u64),
}

impl<'b> Records<'b> {
    pub fn new(bytes: &'b [u8], delimiter: u8) -> Self {
        Self { bytes, delimiter, at: 0, line: 1 }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn step(&mut self, byte: u8) {
        let after_cr = self.at.checked_sub(1).and_then(|before| self.bytes.get(before)) == Some(&b'\r');
        if byte == b'\r' || byte == b'\n' && !after_cr {
            self.line += 1;
        }
        self.at += 1;
    }

    fn fail(&mut self, line: u64) -> Option<Result<Record, OpenQuote>> {
        self.at = self.bytes.len();
        Some(Err(OpenQuote { line }))
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, OpenQuote>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(byte @ (b'\r' | b'\n')) = self.peek() {
            self.step(byte);
        }
        self.peek()?;
        let (start, line) = (self.at, self.line);
        let mut state = State::FieldStart;
        while let Some(byte) = self.peek() {
            state = match (state, byte) {
                (State::Quoted(opened), b'"') => State::Closing(opened),
                (State::Quoted(opened), _) => State::Quoted(opened),
                (State::Closing(opened), b'"') => State::Quoted(opened),
                (_, b'\r' | b'\n') => break,
                (_, byte) if byte == self.delimiter => State::FieldStart,
                (State::FieldStart, b'"') => State::Quoted(self.line),
                (State::Closing(opened), byte) if opened != self.line && !byte.is_ascii_whitespace() => {
                    return self.fail(opened);
                }
                _ => State::Plain,
            };
            self.step(byte);
        }
        match state {
            State::Quoted(opened) => self.fail(opened),
            _ => Some(Ok(Record { line, range: start..self.at })),
        }
    }
}

/// A field of a record.
#[derive(Debug, PartialEq, Eq)]
pub struct Field<'r> {
    /// Where it begins in the record.
    pub start: usize,
    /// Its content, without quotes around it.
    pub content: Cow<'r, [u8]>,
    /// Text stands between its closing quote and the next delimiter.
    pub has_stray_text: bool,
}

/// The fields of a record.
pub fn fields(record: &[u8], delimiter: u8) -> Vec<Field<'_>> {
    let until = |from: usize, wanted: u8| {
        let rest = record.get(from..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == wanted).unwrap_or(rest.len());
        (rest.get(..length).unwrap_or_default(), from + length)
    };
    let (mut fields, mut at) = (Vec::new(), 0);
    loop {
        let start = at;
        let field = if record.get(at) == Some(&b'"') {
            let mut content = Vec::new();
            at += 1;
            loop {
                let (part, end) = until(at, b'"');
                content.extend_from_slice(part);
                at = end + 1;
                match record.get(at) {
                    Some(b'"') => content.push(b'"'),
                    _ => break,
                }
                at += 1;
            }
            let (behind, end) = until(at, delimiter);
            at = end;
            Field { start, content: content.into(), has_stray_text: !behind.trim_ascii().is_empty() }
        } else {
            let (content, end) = until(at, delimiter);
            at = end;
            Field { start, content: content.into(), has_stray_text: false }
        };
        fields.push(field);
        if at >= record.len() {
            return fields;
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(file: &str) -> Result<Vec<(u64, Vec<String>)>, OpenQuote> {
        let text = |field: Field<'_>| String::from_utf8_lossy(&field.content).into_owned();
        Records::new(file.as_bytes(), b';')
            .map(|record| {
                let Record { line, range } = record?;
                Ok((line, fields(&file.as_bytes()[range], b';').into_iter().map(text).collect()))
            })
            .collect()
    }

    #[test]
    fn u6_a_row_stands_on_the_line_that_an_editor_shows() {
        for end in ["\n", "\r\n", "\r"] {
            let file = "a;n\n1;x\n\n2;\"two\nlines\"\n3;z\n".replace('\n', end);
            let lines: Vec<u64> = read(&file).expect("closed").into_iter().map(|(line, _)| line).collect();
            assert_eq!(lines, [1, 2, 4, 6], "{end:?}");
        }
    }

    #[test]
    fn a_quote_that_is_not_closed_is_named_by_its_line() {
        for (file, line) in [
            ("a;n\n1;\"open\n2;x\n", 2),
            ("a;n\n1;x\n2;\"\n", 3),
            // A later quoted field closes it.
            ("a;n\n1;\"open\n2;\"x\"\n3;y\n", 2),
            ("a;n\n1;\"fine\nhere\";\"open\n2;x\n", 3),
        ] {
            assert_eq!(read(file), Err(OpenQuote { line }), "{file:?}");
        }
    }

    #[test]
    fn quotes_and_empty_fields() {
        for (row, expected) in [
            ("a;b", vec!["a", "b"]),
            (";", vec!["", ""]),
            ("\"a;b\";c", vec!["a;b", "c"]),
            ("\"say \"\"so\"\"\";", vec!["say \"so\"", ""]),
            ("5\" pipe;x", vec!["5\" pipe", "x"]),
            ("\"a\" ;b", vec!["a", "b"]),
        ] {
            assert_eq!(read(row).expect("closed")[0].1, expected, "{row}");
        }
        let stray = fields(b"\"a\"b;c", b';');
        assert_eq!((stray.len(), stray[0].has_stray_text), (2, true));
    }

    proptest! {
        /// Rows that another library writes are read as they were.
        #[test]
        fn what_was_written_is_read(
            rows in prop::collection::vec(prop::collection::vec("[a-z;\" \r\n]{0,6}", 2..4), 1..8),
            crlf in any::<bool>(),
        ) {
            let end = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
            let mut writer = csv::WriterBuilder::new().delimiter(b';').terminator(end).flexible(true).from_writer(vec![]);
            for row in &rows {
                writer.write_record(row).expect("written");
            }
            let file = String::from_utf8(writer.into_inner().expect("whole")).expect("text");
            let read = read(&file).expect("closed").into_iter().map(|(_, row)| row).collect::<Vec<_>>();
            prop_assert_eq!(read, rows);
        }

        /// Any bytes are read to their end, without a panic, and rows begin on later and later lines.
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(prop::sample::select(b"a;\"\r\n ".to_vec()), 0..40)) {
            let mut line = 0;
            for record in Records::new(&bytes, b';') {
                let Ok(record) = record else { break };
                prop_assert!(record.line > line);
                line = record.line;
                let raw = &bytes[record.range];
                let fields = fields(raw, b';');
                prop_assert!(fields.iter().all(|field| field.start <= raw.len()));
            }
        }
    }
}
