//! The rows of a CSV file: cut out, in columns, and each as it stands in the file.

use std::{borrow::Cow, path::Path};

use encoding_rs::Encoding;

use super::{
    document::Entry,
    formula::restored,
    map::{Kind, Map, MapError},
    records::{Field, Record, Records, fields},
    row::{Fault, Row},
    text::Text,
};

/// The columns that a file of rejected rows has behind those of its file. No other column may have these names.
pub const MARKS: [&str; 2] = ["saldo_line", "saldo_reason"];

/// A file by its map.
pub struct Rows {
    text: Text,
    map: Map,
    header: Vec<String>,
    header_record: Record,
    /// The last two columns are those of a file of rejected rows. They are passed over.
    has_marks: bool,
    records: Vec<Record>,
}

impl Rows {
    /// Reads the file and checks the map against its header.
    pub fn open(path: &Path, named: Option<&'static Encoding>, map: Map, kind: Kind) -> Result<Self, MapError> {
        let map = map.for_kind(kind)?;
        let unreadable = |why: String| MapError::File { path: path.display().to_string(), why };
        let named = named.map_or_else(|| map.format.encoding().map_err(MapError::Invalid), |named| Ok(Some(named)))?;
        let text = Text::read(path, named)?;
        Self::of(text, map).map_err(|error| match error {
            MapError::Quote(quote) => unreadable(quote.to_string()),
            MapError::Invalid(why) => unreadable(why),
            other => other,
        })
    }

    /// The same of a text. The map has the sections of one kind.
    pub fn of(text: Text, map: Map) -> Result<Self, MapError> {
        let delimiter = map.format.delimiter as u8;
        let mut records = Records::new(text.bytes(), delimiter);
        let header_record = records.next().transpose()?.unwrap_or(Record { line: 1, range: 0..0 });
        let records = records.collect::<Result<_, _>>()?;
        let mut header = Vec::new();
        for field in fields(bytes_of(&text, &header_record), delimiter) {
            let name = text.decode(&field.content).map_err(|why| MapError::Invalid(format!("the header {why}")))?;
            header.push(name.trim().to_owned());
        }
        let has_marks = header.ends_with(&MARKS.map(String::from));
        if has_marks {
            header.truncate(header.len() - MARKS.len());
            header.iter_mut().for_each(|name| *name = restored(std::mem::take(name).into()).into_owned());
        }
        if let Some(mark) = MARKS.into_iter().find(|mark| map.names(mark) || header.iter().any(|name| name == mark)) {
            return Err(MapError::OwnMark(mark));
        }
        map.check_columns(&header)?;
        Ok(Self { text, map, header, header_record, has_marks, records })
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// The line on which a row begins.
    pub fn line(&self, index: usize) -> u64 {
        self.records.get(index).map_or(0, |record| record.line)
    }

    pub fn map(&self) -> &Map {
        &self.map
    }

    pub fn text(&self) -> &Text {
        &self.text
    }

    /// The header as it stands in the file, without the columns of a file of rejected rows.
    pub fn raw_header(&self) -> &[u8] {
        self.without_marks(bytes_of(&self.text, &self.header_record))
    }

    /// A row as it stands in the file, without the columns of a file of rejected rows.
    pub fn raw(&self, index: usize) -> &[u8] {
        let record = self.records.get(index).map(|record| bytes_of(&self.text, record)).unwrap_or_default();
        self.without_marks(record)
    }

    fn without_marks<'r>(&self, record: &'r [u8]) -> &'r [u8] {
        if !self.has_marks {
            return record;
        }
        let fields = fields(record, self.map.format.delimiter as u8);
        // A delimiter stands before the first of the two.
        let end = fields.len().checked_sub(MARKS.len()).and_then(|first| fields.get(first)).map(|field| field.start);
        end.and_then(|end| record.get(..end.saturating_sub(1))).unwrap_or(record)
    }

    /// Whether this is a file of rejected rows.
    pub fn has_marks(&self) -> bool {
        self.has_marks
    }

    /// The line end of the file.
    pub fn line_end(&self) -> &'static str {
        match self.text.bytes().get(self.header_record.range.end..) {
            Some([b'\r', b'\n', ..]) => "\r\n",
            Some([b'\r', ..]) => "\r",
            _ => "\n",
        }
    }

    /// The document of a row; none where the map skips it.
    pub fn read(&self, index: usize) -> Result<Option<Entry>, Fault> {
        let nowhere = |why: String| Fault { why, document: None };
        let raw = self.raw(index);
        let fields = fields(raw, self.map.format.delimiter as u8);
        if fields.iter().all(|field| field.content.trim_ascii().is_empty()) {
            return Ok(None);
        }
        if fields.len() != self.header.len() {
            let counts = format!("the row has {} columns, the header {}", fields.len(), self.header.len());
            return Err(nowhere(counts));
        }
        if fields.iter().any(|field| field.has_stray_text) {
            let rule = "text stands behind a closing quote; write a quote inside a quoted field twice";
            return Err(nowhere(rule.to_owned()));
        }
        let columns = self.texts(&fields).map_err(|why| nowhere(format!("the row {why}")))?;
        Row { map: &self.map, header: &self.header, columns: &columns }.read()
    }

    fn texts<'f>(&self, fields: &'f [Field<'_>]) -> Result<Vec<Cow<'f, str>>, String> {
        let text = |field: &'f Field<'_>| self.text.decode(&field.content);
        let own = |text| if self.has_marks { restored(text) } else { text };
        fields.iter().map(|field| text(field).map(own)).collect()
    }

    #[cfg(test)]
    pub fn columns(&self, index: usize) -> Result<Vec<String>, String> {
        let fields = fields(self.raw(index), self.map.format.delimiter as u8);
        Ok(self.texts(&fields)?.into_iter().map(Cow::into_owned).collect())
    }
}

fn bytes_of<'t>(text: &'t Text, record: &Record) -> &'t [u8] {
    text.bytes().get(record.range.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(sections: &str) -> Map {
        let format =
            "[format]\ndate='%F'\ndecimal=','\ngroup='.'\ncurrency='EUR'\ndelimiter=';'\n[account]\nid='{a}'\n";
        Map::parse(&format!("{format}{sections}")).expect("a map")
    }

    const INVOICE: &str = "[invoice]\nnumber='{n}'\namount='{x}'\nissue_date='{d}'\ndue_date='{d}'\n";

    fn rows(file: &[u8], sections: &str) -> Result<Rows, MapError> {
        Rows::of(Text::of(file.to_vec(), None).map_err(MapError::Invalid)?, map(sections))
    }

    fn refused(file: &[u8]) -> String {
        rows(file, INVOICE).err().expect("refused").to_string()
    }

    #[test]
    fn a_file_that_is_not_there_is_not_taken_for_the_map() {
        let opened = Rows::open(Path::new("/no/such.csv"), None, map(INVOICE), Kind::Invoices);
        let error = opened.err().expect("missing").to_string();
        assert!(error.starts_with("file /no/such.csv"), "{error}");
    }

    #[test]
    fn u10_a_column_that_the_header_has_twice_is_refused_if_the_map_uses_it() {
        let why = refused(b"a;n;x;n;d\nA;1;1;2;2026-01-01\n");
        assert!(why.contains("\"n\" twice"), "{why}");
        assert!(rows(b"a;n;x;d;z;z\n", INVOICE).is_ok());
    }

    #[test]
    fn a_files_own_columns_line_and_reason_stay_its_own() {
        let rows = rows(b"a;n;x;d;line;reason\nA;1;y;2026-01-01;7;late\n", INVOICE).expect("a header");
        assert!(!rows.has_marks());
        assert_eq!(rows.raw(0), b"A;1;y;2026-01-01;7;late");
    }

    #[test]
    fn no_column_of_a_file_has_the_name_of_one_that_rejected_rows_get() {
        for file in [&b"a;n;x;saldo_line;d\n"[..], b"saldo_reason;a;n;x;d;saldo_line;saldo_reason\n"] {
            assert!(refused(file).contains("give the column of the file another name"), "{}", refused(file));
        }
        let named = rows(b"a;n;x;d;saldo_line;saldo_reason\n", &INVOICE.replace("{n}", "{saldo_line}"));
        assert!(matches!(named, Err(MapError::OwnMark("saldo_line"))));
    }

    #[test]
    fn a_file_that_cannot_be_this_maps_says_why() {
        for (file, word) in [
            (&b"a,n,x,d\nA,1,1,2026-01-01\n"[..], "format.delimiter"),
            (b"a;n;x;d\nA;\"1;1;2026-01-01\n", "line 2"),
            (b"a;n;x;d;\xfc\n", "--encoding windows-1252"),
        ] {
            let why = refused(file);
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn a_row_of_latin_letters_in_a_file_of_utf8_is_refused_alone() {
        let rows = rows(b"a;n;x;d\nA;\xfc;1;2026-01-01\nA;2;1;2026-01-01\n", INVOICE).expect("a header");
        let fault = rows.read(0).expect_err("not UTF-8");
        assert!(fault.why.contains("--encoding windows-1252"), "{}", fault.why);
        assert!(rows.read(1).is_ok());
    }
}
