//! The bytes of a file and the encoding that they are in.
//!
//! UTF-8 and the encodings of one byte a character are left as they are, so that a row that cannot be read does not hinder the
//! others. Every other encoding is turned into UTF-8 at once.

use std::{borrow::Cow, io::Read, path::Path};

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::map::MapError;

/// The largest file, which is held in memory whole: about three million rows.
const MAX_FILE_BYTES: u64 = 512 << 20;
/// Where bytes are looked for that text never has.
const LOOKED_THROUGH: usize = 4096;

/// A file.
pub struct Text {
    /// Without the byte order mark; in UTF-8 where the encoding is one that is turned.
    bytes: Vec<u8>,
    encoding: &'static Encoding,
    has_mark: bool,
}

/// The encoding of this name, as the web knows it.
pub fn encoding(name: &str) -> Result<&'static Encoding, String> {
    Encoding::for_label_no_replacement(name.as_bytes()).ok_or_else(|| {
        format!("{name:?} is no encoding; examples are utf-8, windows-1252, iso-8859-15, windows-1250, utf-16le")
    })
}

impl Text {
    /// Reads a file. A byte order mark says which encoding it is in, else the name given; without both it is UTF-8.
    pub fn read(path: &Path, named: Option<&'static Encoding>) -> Result<Self, MapError> {
        let unreadable = |why: String| MapError::File { path: path.display().to_string(), why };
        let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(unreadable(format!("the file has more than {} MiB; split it", MAX_FILE_BYTES >> 20)));
        }
        Self::of(bytes, named).map_err(unreadable)
    }

    /// The same with the bytes at hand; or why they are no text.
    pub fn of(mut bytes: Vec<u8>, named: Option<&'static Encoding>) -> Result<Self, String> {
        let mark = Encoding::for_bom(&bytes);
        let encoding = match (mark, named) {
            (Some((marked, _)), Some(named)) if marked != named => {
                let (marked, named) = (marked.name(), named.name());
                return Err(format!(
                    "the file begins with the byte order mark of {marked}, but its encoding was said to be {named}"
                ));
            }
            (Some((marked, _)), _) => marked,
            (None, named) => named.unwrap_or(UTF_8),
        };
        bytes.drain(..mark.map_or(0, |(_, length)| length));
        let mut text = Self { bytes, encoding, has_mark: mark.is_some() };
        if text.is_turned() {
            text.turn()?;
        }
        if text.bytes.trim_ascii().is_empty() {
            return Err("the file is empty; its first line must name the columns".to_owned());
        }
        if text.bytes.iter().take(LOOKED_THROUGH).any(|byte| *byte == 0) {
            return Err(
                "the file holds NUL bytes, as a file in UTF-16 does; name its encoding: --encoding utf-16le".to_owned()
            );
        }
        Ok(text)
    }

    fn is_turned(&self) -> bool {
        self.encoding != UTF_8 && !self.encoding.is_single_byte()
    }

    fn turn(&mut self) -> Result<(), String> {
        let (text, faulty) = self.encoding.decode_without_bom_handling(&self.bytes);
        if faulty {
            let before = text.split('\u{fffd}').next().unwrap_or_default();
            let line = before.replace("\r\n", "\n").split(['\r', '\n']).count();
            return Err(format!("line {line} is not valid {}; is --encoding right?", self.encoding.name()));
        }
        self.bytes = text.into_owned().into_bytes();
        Ok(())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The name of the encoding.
    pub fn encoding(&self) -> &'static str {
        self.encoding.name()
    }

    /// Some of the bytes as text; or what to do where they are none.
    pub fn decode<'b>(&self, bytes: &'b [u8]) -> Result<Cow<'b, str>, String> {
        let encoding = if self.is_turned() { UTF_8 } else { self.encoding };
        encoding.decode_without_bom_handling_and_without_replacement(bytes).ok_or_else(|| {
            let name = self.encoding();
            let hint = if self.encoding == UTF_8 { "windows-1252" } else { "NAME" };
            format!("is not valid {name}; if the file is in another encoding, name it: --encoding {hint}")
        })
    }

    /// A file of the same encoding; `parts` are bytes of this file and text of ours, line by line.
    pub fn write<'p>(&self, parts: impl Iterator<Item = Part<'p>>) -> Vec<u8> {
        let mut out = Vec::new();
        for part in parts {
            match part {
                Part::Raw(bytes) => out.extend_from_slice(&bytes),
                Part::Ours(text) if self.is_turned() => out.extend_from_slice(text.as_bytes()),
                Part::Ours(text) => out.extend_from_slice(&self.encoding.encode(&text).0),
            }
        }
        if self.is_turned() {
            out = self.turn_back(&String::from_utf8_lossy(&out));
        }
        if !self.has_mark {
            return out;
        }
        let mark = match self.encoding {
            encoding if encoding == UTF_16LE => &b"\xff\xfe"[..],
            encoding if encoding == UTF_16BE => b"\xfe\xff",
            _ => b"\xef\xbb\xbf",
        };
        [mark, &out].concat()
    }

    /// The library writes no UTF-16, since the web does not.
    fn turn_back(&self, text: &str) -> Vec<u8> {
        match self.encoding {
            encoding if encoding == UTF_16LE => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            encoding if encoding == UTF_16BE => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            encoding => encoding.encode(text).0.into_owned(),
        }
    }
}

/// A part of a file that is written.
pub enum Part<'p> {
    /// Bytes of the file that was read.
    Raw(Cow<'p, [u8]>),
    /// Text of ours.
    Ours(Cow<'p, str>),
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Straße;Preis\nMünchen;5\n";

    fn utf16(text: &str, mark: bool) -> Vec<u8> {
        let mark = if mark { "\u{feff}" } else { "" };
        format!("{mark}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn a_file_is_read_in_its_encoding_and_written_back_byte_for_byte() {
        let named = |name| Some(encoding(name).expect("known"));
        let windows = encoding("windows-1252").expect("known").encode(TEXT).0.into_owned();
        let marked = [b"\xef\xbb\xbf", TEXT.as_bytes()].concat();
        for (bytes, name) in [
            (TEXT.into(), None),
            (marked, None),
            (windows, named("windows-1252")),
            (utf16(TEXT, true), None),
            (utf16(TEXT, false), named("utf-16le")),
            (TEXT.encode_utf16().flat_map(u16::to_be_bytes).collect(), named("utf-16be")),
        ] {
            let text = Text::of(bytes.clone(), name).expect("text");
            assert_eq!(text.decode(text.bytes()).expect("text"), TEXT);
            assert_eq!(text.write([Part::Raw(text.bytes().into())].into_iter()), bytes, "{}", text.encoding());
        }
    }

    #[test]
    fn what_is_no_text_says_why() {
        let named = |name| Some(encoding(name).expect("known"));
        for (bytes, name, word) in [
            (&b""[..], None, "empty"),
            (b"\xef\xbb\xbf\r\n", None, "empty"),
            (&utf16(TEXT, false), None, "--encoding utf-16le"),
            (&utf16(TEXT, true), named("windows-1252"), "byte order mark of UTF-16LE"),
            (b"a;b\n\x00\xd8;", named("utf-16le"), "not valid UTF-16LE"),
            (b"a;b\nx;\x81\x20", named("shift_jis"), "line 2 is not valid Shift_JIS"),
        ] {
            let why = Text::of(bytes.to_vec(), name).err().expect(word);
            assert!(why.contains(word), "{why}");
        }
        assert!(encoding("klingon").expect_err("unknown").contains("windows-1252"));
        let utf8 = Text::of(b"a\nM\xfcnchen".to_vec(), None).expect("the rows are judged one by one");
        assert!(utf8.decode(b"M\xfcnchen").expect_err("not UTF-8").contains("--encoding windows-1252"));
    }
}
