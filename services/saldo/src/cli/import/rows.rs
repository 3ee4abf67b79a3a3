//! Rows of a CSV file. Each becomes a request, or the reason why it cannot.

use std::{io, path::Path};

use jiff::civil::Date;
use saldo_api::v1;
use saldo_domain::money::{Currency, InvalidDecimal, parse_decimal};
use saldo_facts::date_to_api;

use super::lines::{LineReader, Lines};
use super::map::{AccountDefaults, Map, MapError, Template};

/// The request of a row.
#[derive(Debug, Clone)]
pub enum RowRequest {
    Invoice(v1::IssueInvoiceRequest),
    Payment(v1::RecordPaymentRequest),
    /// The map skips the row.
    Skip,
}

/// One row, read.
#[derive(Debug)]
pub struct Row {
    /// Line of the file on which it starts, from 1.
    pub line: u64,
    /// The fields as they are in the file, for the file of rejected rows.
    pub raw: csv::ByteRecord,
    /// The request, and the profile with which a missing account is opened; or why the row cannot be read.
    pub request: Result<(RowRequest, Option<v1::Profile>), String>,
}

/// Reads rows by a map.
pub struct Rows {
    reader: csv::Reader<Box<dyn io::Read + Send>>,
    lines: Lines,
    header: Vec<String>,
    map: Map,
}

impl Rows {
    /// Opens the file and checks the map against its header.
    pub fn open(path: &Path, map: Map) -> Result<Self, MapError> {
        let file = std::fs::File::open(path).map_err(|error| unreadable(path, error))?;
        Self::over(path, file, map)
    }

    /// Reads from an open file; `path` is for errors. A byte order mark is skipped.
    pub fn over(path: &Path, file: impl io::Read + Send + 'static, map: Map) -> Result<Self, MapError> {
        let mut file = io::BufReader::new(file);
        match io::BufRead::fill_buf(&mut file).map_err(|error| unreadable(path, error))? {
            [] => return Err(unreadable(path, "the file is empty")),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                return Err(unreadable(path, "the file is UTF-16; convert it to UTF-8"));
            }
            [0xef, 0xbb, 0xbf, ..] => io::BufRead::consume(&mut file, 3),
            _ => {}
        }
        let (file, lines) = LineReader::new(file);
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(map.format.delimiter as u8)
            .flexible(true)
            .from_reader(Box::new(file) as Box<dyn io::Read + Send>);
        let header = reader.byte_headers().map_err(|error| unreadable(path, error))?;
        let header: Vec<String> = header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        map.check_columns(&header)?;
        Ok(Self { reader, lines, header, map })
    }

    pub fn header(&self) -> &[String] {
        &self.header
    }

    fn read(&self, raw: &csv::ByteRecord) -> Result<(RowRequest, Option<v1::Profile>), String> {
        if raw.len() != self.header.len() {
            return Err(format!("the row has {} columns, the header {}", raw.len(), self.header.len()));
        }
        let row = csv::StringRecord::from_byte_record(raw.clone())
            .map_err(|_| "the row is not valid UTF-8; convert the file to UTF-8".to_owned())?;
        let render = |template: &Template| {
            template.render(|name| self.header.iter().position(|h| h == name).and_then(|at| row.get(at)))
        };
        let account_id = render(&self.map.account.id);
        let currency = render(&self.map.format.currency);
        let money = |field: &str, template: &Template| -> Result<v1::Money, String> {
            let known = Currency::new(&currency).map_err(|rule| format!("currency: {rule}"))?;
            let format = &self.map.format;
            let minor =
                parse_decimal(&render(template), format.decimal, format.group, known).map_err(|rule| match rule {
                    InvalidDecimal::NotANumber => {
                        format!("{field}: must be a number such as {}", format.example(known))
                    }
                    rule => format!("{field}: {rule}"),
                })?;
            Ok(v1::Money { minor_units: minor, currency: currency.clone() })
        };
        let day = |field: &str, text: &str| -> Result<v1::Date, String> {
            Date::strptime(&self.map.format.date, text)
                .map(date_to_api)
                .map_err(|_| format!("{field}: must be a date of the form {}", self.map.format.date))
        };
        let profile = self.map.account.open.as_ref().map(|defaults| profile(defaults, &render));
        let request = if let Some(fields) = &self.map.invoice {
            RowRequest::Invoice(v1::IssueInvoiceRequest {
                account_id,
                number: render(&fields.number),
                total: Some(money("amount", &fields.amount)?),
                issue_date: Some(day("issue_date", &render(&fields.issue_date))?),
                due_date: Some(day("due_date", &render(&fields.due_date))?),
                description: render(&fields.description),
                ..Default::default()
            })
        } else if let Some(fields) = &self.map.payment {
            let value_date = render(&fields.value_date);
            if value_date.is_empty() {
                return Ok((RowRequest::Skip, None));
            }
            let amount = money("amount", &fields.amount)?;
            let invoice = render(&fields.invoice);
            let allocations = if invoice.is_empty() {
                Vec::new()
            } else {
                vec![v1::Allocation { invoice_number: invoice, instalment: None, amount_minor: amount.minor_units }]
            };
            RowRequest::Payment(v1::RecordPaymentRequest {
                account_id,
                reference: render(&fields.reference),
                amount: Some(amount),
                value_date: Some(day("value_date", &value_date)?),
                allocations,
                remittance: render(&fields.remittance),
                ..Default::default()
            })
        } else {
            RowRequest::Skip
        };
        Ok((request, profile))
    }
}

impl Iterator for Rows {
    type Item = Result<Row, csv::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut raw = csv::ByteRecord::new();
        match self.reader.read_byte_record(&mut raw) {
            Ok(true) => {
                let line = raw.position().map_or(0, |start| self.lines.line_of(start.byte()));
                Some(Ok(Row { line, request: self.read(&raw), raw }))
            }
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

fn unreadable(path: &Path, why: impl ToString) -> MapError {
    MapError::File { path: path.display().to_string(), why: why.to_string() }
}

fn profile(defaults: &AccountDefaults, render: &impl Fn(&Template) -> String) -> v1::Profile {
    let kind = match render(&defaults.kind).as_str() {
        "consumer" => v1::DebtorKind::Consumer,
        "business" => v1::DebtorKind::Business,
        _ => v1::DebtorKind::Unspecified,
    };
    let points = [(v1::Channel::Email, render(&defaults.email)), (v1::Channel::Phone, render(&defaults.phone))];
    v1::Profile {
        display_name: render(&defaults.display_name),
        kind: kind.into(),
        language: render(&defaults.language),
        time_zone: render(&defaults.time_zone),
        country: render(&defaults.country),
        contact_points: points
            .into_iter()
            .filter(|(_, address)| !address.is_empty())
            .map(|(channel, address)| v1::ContactPoint { channel: channel.into(), address })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_not_taken_for_the_map() {
        let map = Map::parse("[format]\ndate='%F'\ncurrency='EUR'\n[account]\nid='{a}'").expect("valid");
        let error = Rows::open(Path::new("/no/such.csv"), map).err().expect("missing").to_string();
        assert!(error.starts_with("file /no/such.csv"), "{error}");
    }

    fn map() -> Map {
        Map::parse(
            "[format]\ndate='%F'\ndecimal=','\ngroup='.'\ncurrency='EUR'\ndelimiter=';'\n[account]\nid='{a}'\n\
             [invoice]\nnumber='{n}'\namount='{x}'\nissue_date='{d}'\ndue_date='{d}'",
        )
        .expect("valid")
    }

    fn rows(file: &[u8]) -> Result<Rows, MapError> {
        Rows::over(Path::new("a.csv"), io::Cursor::new(file.to_vec()), map())
    }

    fn refused(file: &[u8]) -> String {
        rows(file).err().expect("refused").to_string()
    }

    #[test]
    fn a_row_stands_on_the_line_that_an_editor_shows() {
        let file = "a;n;x;d\nA;1;1;2026-01-01\n\nA;\"two\nlines\";1;2026-01-01\nA;3;1;2026-01-01\n";
        for end in ["\n", "\r\n", "\r"] {
            let file = format!("\u{feff}{}", file.replace('\n', end));
            let lines: Vec<u64> =
                rows(file.as_bytes()).expect("a header").map(|row| row.expect("a row").line).collect();
            assert_eq!(lines, [2, 4, 6], "{end:?}");
        }
    }

    #[test]
    fn an_amount_that_is_no_number_is_answered_in_the_format_of_the_file() {
        let mut rows = rows(b"a;n;x;d\nA;1;12x;2026-01-01\n").expect("a header");
        let why = rows.next().expect("one row").expect("read").request.expect_err("no number");
        assert_eq!(why, "amount: must be a number such as 1.234,50");
    }

    #[test]
    fn a_column_that_the_header_has_twice_is_refused_if_the_map_uses_it() {
        let why = refused(b"a;n;x;n;d\nA;1;1;2;2026-01-01\n");
        assert!(why.contains("\"n\" twice"), "{why}");
        assert!(rows(b"a;n;x;d;z;z\n").is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_this_maps_says_why() {
        let why = refused(b"");
        assert!(why.contains("empty"), "{why}");
        let why = refused(b"\xff\xfea\0;\0n\0");
        assert!(why.contains("UTF-16"), "{why}");
        let why = refused(b"a,n,x,d\nA,1,1,2026-01-01\n");
        assert!(why.contains("format.delimiter"), "{why}");
    }
}
