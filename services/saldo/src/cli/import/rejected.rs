//! FILE.rejected.csv: the rejected rows as they stand in the file, with their line and the reason in two columns behind theirs. A
//! cell that a spreadsheet would compute is the one exception ([`super::formula`]).

use std::{
    borrow::Cow,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use super::{
    formula::{defused, defused_text},
    load::ImportError,
    rows::{MARKS, Rows},
    text::Part,
};

fn path_of(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".rejected.csv");
    path.into()
}

fn failed(path: &Path, error: &std::io::Error) -> ImportError {
    ImportError::Rejected { path: path.display().to_string(), why: error.to_string() }
}

/// Renames the file of an earlier run, so that a run that ends early does not leave it for its own. It is not deleted, since it may
/// hold corrections that were not imported.
pub fn set_aside(file: &Path) -> Result<(), ImportError> {
    let path = path_of(file);
    let mut before = path.clone().into_os_string();
    before.push(".before");
    match std::fs::rename(&path, before) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(&path, &error)),
        _ => Ok(()),
    }
}

/// Writes the rejected rows, by their index and in the order of the file.
pub fn write(file: &Path, rows: &Rows, rejected: &[(usize, &str)]) -> Result<Option<PathBuf>, ImportError> {
    if rejected.is_empty() {
        return Ok(None);
    }
    let path = path_of(file);
    let written = saldo_private_files::create(&path).and_then(|mut file| file.write_all(&bytes(rows, rejected)));
    written.map_err(|error| failed(&path, &error))?;
    Ok(Some(path))
}

fn bytes(rows: &Rows, rejected: &[(usize, &str)]) -> Vec<u8> {
    let (delimiter, end) = (rows.map().format.delimiter, rows.line_end());
    let all_quoted = rows.raw_header().starts_with(b"\"");
    let quoted = |text: &str| match all_quoted || text.contains([delimiter, '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    let behind = |marks: [&str; 2]| {
        let [line, reason] = marks.map(|text| quoted(&defused_text(text)));
        Part::Ours(Cow::Owned(format!("{delimiter}{line}{delimiter}{reason}{end}")))
    };
    let as_in_the_file = |record| Part::Raw(defused(record, delimiter as u8, rows.has_marks()));
    let header = [as_in_the_file(rows.raw_header()), behind(MARKS)];
    let marked = |(row, reason): &(usize, &str)| {
        [as_in_the_file(rows.raw(*row)), behind([&rows.line(*row).to_string(), reason])]
    };
    rows.text().write(header.into_iter().chain(rejected.iter().flat_map(marked)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{map::Map, text::Text},
        *,
    };

    const MAP: &str = "[format]\ndate='%F'\ncurrency='EUR'\ndelimiter=';'\n[account]\nid='{a}'\n\
        [payment]\nreference='{n}'\namount='{x}'\nvalue_date='{d}'\n";

    fn rows(bytes: &[u8]) -> Rows {
        let text = Text::of(bytes.to_vec(), None).expect("text");
        Rows::of(text, Map::parse(MAP).expect("a map")).expect("a header")
    }

    /// The rows that cannot be read, with their reasons.
    fn rejected(rows: &Rows) -> Vec<(usize, String)> {
        (0..rows.len()).filter_map(|row| rows.read(row).err().map(|fault| (row, fault.why))).collect()
    }

    fn written(rows: &Rows) -> Vec<u8> {
        let rejected = rejected(rows);
        bytes(rows, &rejected.iter().map(|(row, why)| (*row, why.as_str())).collect::<Vec<_>>())
    }

    #[test]
    fn rejected_rows_stand_in_the_format_of_their_file() {
        let file = "\u{feff}\"a\";\"n\";\"x\";\"d\"\r\n\"A\";\"1\";\"5\";\"2026-01-01\"\r\n\"Bär; \"\"B\"\"\";2;;2026-01-01\r\n";
        let why = "\"amount: must be a number such as 1234.50\"";
        let expected = format!(
            "\u{feff}\"a\";\"n\";\"x\";\"d\";\"saldo_line\";\"saldo_reason\"\r\n\"Bär; \"\"B\"\"\";2;;2026-01-01;\"3\";{why}\r\n"
        );
        assert_eq!(String::from_utf8(written(&rows(file.as_bytes()))).expect("UTF-8"), expected);
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        assert_eq!(written(&rows(&utf16(file))), utf16(&expected));
    }

    #[test]
    fn the_rejected_rows_of_an_earlier_run_are_set_aside() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a.csv");
        assert!(set_aside(&file).is_ok(), "there are none");
        std::fs::write(path_of(&file), "corrected").expect("written");
        assert!(set_aside(&file).is_ok() && !path_of(&file).exists());
        let before = std::fs::read_to_string(dir.path().join("a.csv.rejected.csv.before"));
        assert_eq!(before.expect("kept"), "corrected");
    }

    #[test]
    fn bytes_that_are_no_text_are_given_back_as_they_are() {
        let out = written(&rows(b"a;n;x;d\nM\xfcller;1;5;2026-01-01\n"));
        assert!(out.windows(8).any(|part| part == b"M\xfcller;1"), "{}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn corrected_rows_are_read_with_the_same_map() {
        let out = String::from_utf8(written(&rows(b"a;n;x;d\nA;1;wrong;2026-01-01\nB;2\n"))).expect("UTF-8");
        let corrected = rows(out.replace("wrong", "1.00").as_bytes());
        assert!(corrected.read(0).expect("corrected").is_some());
        assert_eq!(corrected.read(1).expect_err("not corrected").why, "the row has 2 columns, the header 4");
    }

    #[test]
    fn the_line_of_a_rejected_row_is_its_line_in_the_file_that_was_imported() {
        let first = String::from_utf8(written(&rows(b"a;n;x;d\nA;1;5;2026-01-01\nB;2\n"))).expect("UTF-8");
        assert!(first.contains("\nB;2;3;"), "{first}");
        let second = String::from_utf8(written(&rows(first.as_bytes()))).expect("UTF-8");
        assert!(second.contains("\nB;2;2;"), "the row is on line 2 of the first file of rejected rows: {second}");
    }

    #[test]
    fn a_rejected_cell_begins_no_formula_and_is_imported_as_it_was() {
        let cells = [
            "=1+1",
            "\"=cmd|' /C calc'!A1\"",
            "+1+1",
            "-2+3",
            "@SUM(A1)",
            "\"\t=1\"",
            "'=1",
            "Bär",
            "=\"\"",
            "\"=1\"x",
        ];
        let file: String = cells.iter().map(|cell| format!("{cell};1;-5,00;-2026\n")).collect();
        let first = rows(format!("a;n;x;d\n{file}").as_bytes());
        let out = String::from_utf8(written(&first)).expect("UTF-8");
        for line in out.lines().skip(1) {
            let cell = line.trim_start_matches('"');
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t']), "{line}");
            assert!(line.contains(";-5,00;-2026;"), "numbers stay numbers: {line}");
        }
        assert!(out.contains("\nBär;1;"), "{out}");
        let second = rows(out.as_bytes());
        let content = |rows: &Rows| {
            (0..rows.len())
                .map(|row| rows.columns(row).expect("text").into_iter().map(String::from).collect::<Vec<_>>())
                .collect::<Vec<_>>()
        };
        assert_eq!(content(&second), content(&first));
        assert_eq!(written(&second), out.as_bytes(), "once is enough");
    }

    proptest! {
        /// A row that is rejected again is written again, whatever it holds.
        #[test]
        fn rows_that_were_not_corrected_come_back_the_same(
            lines in prop::collection::vec("[AB\"; ]{0,8}", 1..6),
            end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        ) {
            let file = format!("a;n;x;d{end}{}{end}", lines.join(end));
            let Ok(text) = Text::of(file.into_bytes(), None) else { return Ok(()) };
            let Ok(first) = Rows::of(text, Map::parse(MAP).expect("a map")) else { return Ok(()) };
            prop_assume!(!rejected(&first).is_empty());
            let second = rows(&written(&first));
            let reasons = |rows: &Rows| rejected(rows).into_iter().map(|(row, why)| (rows.columns(row), why)).collect::<Vec<_>>();
            prop_assert_eq!(reasons(&first), reasons(&second));
        }
    }
}
