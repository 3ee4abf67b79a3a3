//! MAP.toml: how the columns of a file become the fields of a request.

use std::path::Path;

use jiff::civil::Date;
use saldo_domain::money::Currency;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Map {
    pub format: Format,
    /// Fields of an invoice; for `import invoices`.
    pub invoice: Option<InvoiceFields>,
    /// Fields of a payment; for `import payments`.
    pub payment: Option<PaymentFields>,
    pub account: AccountFields,
}

/// How text becomes values.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    /// strftime, for example `%m/%d/%Y`.
    pub date: String,
    /// `.` or `,`.
    #[serde(default = "dot")]
    pub decimal: char,
    /// Between thousands; absent: no such character.
    pub group: Option<char>,
    /// Between columns.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// ISO 4217, or a template.
    pub currency: Template,
}

impl Format {
    /// An amount as the file should write it.
    pub fn example(&self, currency: Currency) -> String {
        let group = self.group.map(String::from).unwrap_or_default();
        let fraction = match currency.decimals() as usize {
            0 => String::new(),
            decimals => format!("{}{:0<decimals$}", self.decimal, 5),
        };
        format!("1{group}234{fraction}")
    }
}

fn dot() -> char {
    '.'
}

fn comma() -> char {
    ','
}

/// Fields of an invoice.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvoiceFields {
    pub number: Template,
    /// Total, in major units.
    pub amount: Template,
    pub issue_date: Template,
    pub due_date: Template,
    /// Free text.
    #[serde(default)]
    pub description: Template,
}

/// Fields of a payment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentFields {
    pub reference: Template,
    /// Amount, in major units.
    pub amount: Template,
    /// A row with an empty value date is no payment and is skipped.
    pub value_date: Template,
    /// The invoice that the payment settles; empty: oldest due first.
    #[serde(default)]
    pub invoice: Template,
    /// Free text.
    #[serde(default)]
    pub remittance: Template,
}

/// The account of a row, and the profile with which a missing account is opened.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountFields {
    pub id: Template,
    /// Absent: a row of a missing account is rejected.
    pub open: Option<AccountDefaults>,
}

/// The profile with which a missing account is opened.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountDefaults {
    pub display_name: Template,
    /// `consumer` or `business`.
    pub kind: Template,
    /// ISO 639-1.
    pub language: Template,
    /// IANA zone.
    pub time_zone: Template,
    /// ISO 3166-1 alpha-2.
    pub country: Template,
    /// E-mail address; empty: none.
    #[serde(default)]
    pub email: Template,
    /// Telephone in E.164; empty: none.
    #[serde(default)]
    pub phone: Template,
}

/// Text with `{column}` in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Column(String),
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (column, behind) =
                after.split_once('}').ok_or_else(|| format!("template {text:?} has a {{ without its }}"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Column(column.to_owned()));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }
}

impl Template {
    /// The text for one row; columns are trimmed.
    pub fn render<'r>(&self, column: impl Fn(&str) -> Option<&'r str>) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Column(name) => column(name).unwrap_or_default().trim(),
            })
            .collect()
    }

    fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Column(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    fn constant(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

/// Why a map, or a file by this map, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The map.
    #[error("map {path}: {why}")]
    Unreadable { path: String, why: String },
    /// The CSV file.
    #[error("file {path}: {why}")]
    File { path: String, why: String },
    /// The map breaks a rule.
    #[error("map: {0}")]
    Invalid(String),
    /// A template names a column that the file does not have.
    #[error("map: the file has no column {column:?}; it has {present}{hint}")]
    NoColumn { column: String, present: String, hint: &'static str },
    #[error("map: the file has the column {0:?} twice; give each column a name of its own")]
    ColumnTwice(String),
}

/// Whether a day that was written in this format can be read back.
fn holds_a_day(format: &str) -> bool {
    let day = Date::constant(2026, 12, 31);
    let written = jiff::fmt::strtime::format(format, day);
    written.is_ok_and(|text| Date::strptime(format, text).is_ok_and(|read| read == day))
}

impl Map {
    pub fn read(path: &Path) -> Result<Self, MapError> {
        let unreadable = |why: String| MapError::Unreadable { path: path.display().to_string(), why };
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Self::parse(&text).map_err(|error| match error {
            MapError::Invalid(why) => unreadable(why),
            other => other,
        })
    }

    pub fn parse(text: &str) -> Result<Self, MapError> {
        let map: Map = toml::from_str(text).map_err(|error| MapError::Invalid(error.to_string()))?;
        let format = &map.format;
        let rules = [
            (holds_a_day(&format.date), "format.date must name year, month and day, for example %d.%m.%Y"),
            (matches!(format.decimal, '.' | ','), "format.decimal must be . or ,"),
            (format.group != Some(format.decimal), "format.group and format.decimal must not be the same"),
            (
                !format.group.is_some_and(|group| group.is_ascii_digit() || matches!(group, '-' | '+')),
                "format.group must not be a digit or a sign",
            ),
            (
                format.delimiter.is_ascii() && !matches!(format.delimiter, '"' | '\r' | '\n'),
                "format.delimiter must be an ASCII character other than a quote or a line break",
            ),
        ];
        if let Some((_, rule)) = rules.into_iter().find(|(kept, _)| !kept) {
            return Err(MapError::Invalid(rule.to_owned()));
        }
        if let Some(code) = map.format.currency.constant() {
            Currency::new(code).map_err(|rule| MapError::Invalid(format!("format.currency {rule}")))?;
        }
        Ok(map)
    }

    /// Checks that the file has every column that a template names, and has it once.
    pub fn check_columns(&self, present: &[String]) -> Result<(), MapError> {
        for column in self.templates().into_iter().flat_map(Template::columns) {
            match present.iter().filter(|name| *name == column).count() {
                1 => {}
                0 => {
                    let hint = if present.len() == 1 { "; does format.delimiter fit the file?" } else { "" };
                    return Err(MapError::NoColumn { column: column.to_owned(), present: present.join(", "), hint });
                }
                _ => return Err(MapError::ColumnTwice(column.to_owned())),
            }
        }
        Ok(())
    }

    fn templates(&self) -> Vec<&Template> {
        let mut all = vec![&self.format.currency, &self.account.id];
        if let Some(i) = &self.invoice {
            all.extend([&i.number, &i.amount, &i.issue_date, &i.due_date, &i.description]);
        }
        if let Some(p) = &self.payment {
            all.extend([&p.reference, &p.amount, &p.value_date, &p.invoice, &p.remittance]);
        }
        if let Some(a) = &self.account.open {
            all.extend([&a.display_name, &a.kind, &a.language, &a.time_zone, &a.country, &a.email, &a.phone]);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_joins_text_and_columns() {
        let template = Template::try_from("INV-{no}/{year}".to_owned()).expect("valid");
        let text = template.render(|name| Some(if name == "no" { " 7 " } else { "2026" }));
        assert_eq!(text, "INV-7/2026");
    }

    #[test]
    fn a_brace_that_is_not_closed_is_named() {
        assert!(Template::try_from("x{no".to_owned()).expect_err("open").contains("x{no"));
    }

    #[test]
    fn an_unknown_key_of_the_map_is_named() {
        let error =
            Map::parse("[format]\ndate='%F'\ncurrency='EUR'\ncolour='red'\n[account]\nid='{a}'").expect_err("unknown");
        assert!(error.to_string().contains("colour"), "{error}");
    }

    #[test]
    fn a_format_that_no_row_could_be_read_by_is_refused_at_once() {
        let map = |format: &str| Map::parse(&format!("[format]\ncurrency='EUR'\n{format}\n[account]\nid='{{a}}'"));
        for (format, key) in [
            ("date='%d.%m'", "format.date"),
            ("date='%Q'", "format.date"),
            ("date='%F'\ndecimal=';'", "format.decimal"),
            ("date='%F'\ndecimal=','\ngroup=','", "format.group"),
            ("date='%F'\ngroup='0'", "format.group"),
            ("date='%F'\ngroup='-'", "format.group"),
            ("date='%F'\ndelimiter='\"'", "format.delimiter"),
            ("date='%F'\ndelimiter='§'", "format.delimiter"),
        ] {
            let error = map(format).expect_err(format).to_string();
            assert!(error.contains(key), "{format}: {error}");
        }
        // A decimal comma between commas stands in quotes.
        assert!(map("date='%m/%d/%Y'\ndecimal=','").is_ok() && map("date='%d.%m.%y'").is_ok());
    }

    #[test]
    fn a_column_the_file_lacks_is_named() {
        let map = Map::parse("[format]\ndate='%F'\ncurrency='EUR'\n[account]\nid='{customer}'").expect("valid");
        let error = map.check_columns(&["client".into()]).expect_err("missing");
        assert!(error.to_string().contains("customer") && error.to_string().contains("client"), "{error}");
    }
}
