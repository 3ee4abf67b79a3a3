//! Pages by key: a page token is where the page before ended.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use tonic::Status;

use crate::errors::invalid;

/// The separator between the parts of a token, and the characters that would be taken for it.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'~').add(b'%');

const DEFAULT_PAGE: i32 = 100;
const LARGEST_PAGE: i32 = 1_000;

/// The rows a page has.
pub fn page_size(asked: i32) -> Result<i64, Status> {
    match asked {
        0 => Ok(DEFAULT_PAGE.into()),
        1..=LARGEST_PAGE => Ok(asked.into()),
        _ => Err(invalid("page_size", "must be 1 to 1,000, or 0 for 100")),
    }
}

/// The key a page ended with, in `N` parts of printable ASCII, as ids, numbers of documents and currencies are.
#[derive(Debug, PartialEq, Eq)]
pub struct PageToken<const N: usize>(Option<[String; N]>);

impl<const N: usize> PageToken<N> {
    /// The token behind a key.
    pub fn of(key: [&str; N]) -> String {
        key.map(|part| utf8_percent_encode(part, ESCAPED).to_string()).join("~")
    }

    /// Reads a token; empty is the first page.
    pub fn parse(text: &str) -> Result<Self, Status> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let part = |part: &str| {
            let part = percent_decode_str(part).decode_utf8().ok()?;
            part.bytes().all(|byte| (0x20..=0x7e).contains(&byte)).then(|| part.into_owned())
        };
        let parts: Option<Vec<String>> = text.split('~').map(part).collect();
        let parts = parts.and_then(|parts| parts.try_into().ok());
        parts.map(|parts| Self(Some(parts))).ok_or_else(|| invalid("page_token", MALFORMED))
    }

    /// A part as text; empty before the first page.
    pub fn text(&self, part: usize) -> &str {
        self.0.as_ref().map_or("", |parts| &parts[part])
    }

    /// A part as a number; `None` before the first page.
    pub fn number(&self, part: usize) -> Result<Option<i64>, Status> {
        let Some(parts) = &self.0 else { return Ok(None) };
        let number = parts[part].parse().ok().filter(|number: &i64| *number >= 0);
        number.map(Some).ok_or_else(|| invalid("page_token", MALFORMED))
    }
}

const MALFORMED: &str = "must be a next_page_token as an answer gave it";

/// Cuts the row too many, and says where the next page begins.
pub fn cut<T>(rows: &mut Vec<T>, size: i64, token: impl Fn(&T) -> String) -> String {
    if rows.len() as i64 <= size {
        return String::new();
    }
    rows.truncate(size as usize);
    rows.last().map(token).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_where_the_next_begins() {
        let mut rows = vec![1, 2, 3];
        assert_eq!(cut(&mut rows, 2, |row| PageToken::of([&row.to_string(), "EUR"])), "2~EUR");
        assert_eq!(rows, [1, 2]);
        assert_eq!(cut(&mut rows, 2, |row| row.to_string()), "");
    }

    #[test]
    fn a_token_reads_back_whatever_its_key_holds() {
        for key in [["D-1", "H-1"], ["D-1", "H 1"], ["D-1", "H~2"], ["D-1", "50%~ off"], ["", ""]] {
            let token = PageToken::<2>::parse(&PageToken::of(key)).expect("a token of ours");
            assert_eq!([token.text(0), token.text(1)], key);
        }
        assert!(PageToken::<2>::parse("a~b%00").is_err() && PageToken::<2>::parse("a~%ff").is_err());
    }

    #[test]
    fn a_token_that_is_none_is_the_callers_fault() {
        assert!(PageToken::<2>::parse("nonsense").is_err() && PageToken::<2>::parse("1~2~3").is_err());
        assert!(PageToken::<2>::parse("x~y").expect("two parts").number(0).is_err());
        assert!(PageToken::<2>::parse("-1~y").expect("two parts").number(0).is_err());
        assert!(page_size(-1).is_err() && page_size(1_001).is_err());
    }
}
