//! Rows by a map: no panic, a reason or a request for each, and amounts as an independent reading has them.
//!
//! Input: a byte of the format, then the file; or 0xff, a map of its own, NUL, and the file.
#![no_main]

#[path = "../../services/saldo/src/cli/import/document.rs"]
#[allow(dead_code)]
mod document;
#[path = "../../services/saldo/src/cli/import/format.rs"]
#[allow(dead_code)]
mod format;
#[path = "../../services/saldo/src/cli/import/formula.rs"]
#[allow(dead_code)]
mod formula;
#[path = "../../services/saldo/src/cli/import/map.rs"]
#[allow(dead_code)]
mod map;
#[path = "../../services/saldo/src/cli/import/records.rs"]
#[allow(dead_code)]
mod records;
#[path = "../../services/saldo/src/cli/import/row.rs"]
#[allow(dead_code)]
mod row;
#[path = "../../services/saldo/src/cli/import/rows.rs"]
#[allow(dead_code)]
mod rows;
#[path = "../../services/saldo/src/cli/import/template.rs"]
#[allow(dead_code)]
mod template;
#[path = "../../services/saldo/src/cli/import/text.rs"]
#[allow(dead_code)]
mod text;

use document::Document;
use libfuzzer_sys::fuzz_target;
use map::{Kind, Map};
use records::fields;
use rows::Rows;
use saldo_domain::money::Currency;
use text::Text;

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    if *choice == 0xff {
        let Some(at) = rest.iter().position(|byte| *byte == 0) else { return };
        let Ok(text) = std::str::from_utf8(&rest[..at]) else { return };
        let Ok(map) = Map::parse(text) else { return };
        read(map, &rest[at + 1..], |_, _| {});
        return;
    }
    let decimal = if choice & 1 == 0 { '.' } else { ',' };
    let group =
        [None, Some(if decimal == '.' { ',' } else { '.' }), Some('\u{a0}'), Some('\'')][usize::from(choice >> 1 & 3)];
    let delimiter = [',', ';', '\t', '|'][usize::from(choice >> 3 & 3)];
    let currency = ["EUR", "JPY", "KWD", "{currency}"][usize::from(choice >> 5 & 3)];
    // The file is only the rows; the header is one that the map knows.
    let header = ["id", "number", "amount", "issued", "due", "currency"].join(&delimiter.to_string());
    let group_line = group
        .map(|group| format!("group = {:?}\n", group.to_string()))
        .unwrap_or_default()
        .replace("\\u{a0}", "\u{a0}");
    let text = format!(
        "[format]\ndate = '%F'\ndecimal = '{decimal}'\n{group_line}delimiter = {:?}\ncurrency = '{currency}'\n\
         [account]\nid = '{{id}}'\n\
         [invoice]\nnumber = '{{number}}'\namount = '{{amount}}'\nissue_date = '{{issued}}'\ndue_date = '{{due}}'\n",
        delimiter.to_string()
    );
    let map = Map::parse(&text).expect("a map that is one");
    let file = [header.as_bytes(), b"\n", rest].concat();
    read(map, &file, |rows, row| {
        let Ok(Some(entry)) = rows.read(row) else { return };
        let Document::Invoice(invoice) = &entry.document else { return };
        let total = invoice.total.as_ref().expect("an amount");
        let decimals = Currency::new(&total.currency).expect("a currency").decimals();
        let written = fields(rows.raw(row), delimiter as u8).remove(2).content;
        let written = std::str::from_utf8(&written).expect("UTF-8");
        assert_eq!(plainly(written, decimal, group, decimals), Some(i128::from(total.minor_units)), "{written:?}");
    });
});

fn read(map: Map, file: &[u8], look: impl Fn(&Rows, usize)) {
    let kinds = [Kind::Invoices, Kind::Payments, Kind::CreditNotes];
    let Some(map) = kinds.into_iter().find_map(|kind| map.clone().for_kind(kind).ok()) else { return };
    let Ok(text) = Text::of(file.to_vec(), None) else { return };
    let Ok(rows) = Rows::of(text, map) else { return };
    let (mut bytes, mut line) = (0, 0);
    for row in 0..rows.len() {
        bytes += rows.raw(row).len();
        assert!(rows.line(row) > line, "each row begins on a later line");
        line = rows.line(row);
        let _ = rows.read(row);
        look(&rows, row);
    }
    assert!(bytes <= rows.text().bytes().len(), "rows have no more than the file");
}

/// The same amount by another way: the digits as they stand, scaled by where the separator is.
fn plainly(written: &str, decimal: char, group: Option<char>, decimals: u32) -> Option<i128> {
    let written = written.trim();
    let (sign, digits) = match written.as_bytes().first()? {
        b'-' => (-1, &written[1..]),
        b'+' => (1, &written[1..]),
        _ => (1, written),
    };
    let mut parts = digits.split(decimal);
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or_default());
    if parts.next().is_some() || fraction.chars().any(|c| !c.is_ascii_digit()) {
        return None;
    }
    let whole: String = whole.chars().filter(|c| Some(*c) != group).collect();
    let all: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let places = u32::try_from(fraction.len()).ok()?;
    Some(sign * all * 10_i128.pow(decimals.checked_sub(places)?))
}
