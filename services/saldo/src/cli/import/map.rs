//! MAP.toml: how the columns of a file become the fields of a request.

use std::path::Path;

use saldo_api::v1::DebtorKind;
use saldo_domain::party::Channel;
use saldo_facts::{
    address::{check_address, check_line},
    check_country, check_language, check_time_zone,
};
use serde::Deserialize;

use super::{format::Format, records::OpenQuote, template::Template};

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Invoices; and credit notes, where the map says so.
    Invoices,
    CreditNotes,
    Payments,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Map {
    pub format: Format,
    /// Fields of an invoice; for `import invoices`.
    pub invoice: Option<InvoiceFields>,
    /// Fields of a payment; for `import payments`.
    pub payment: Option<PaymentFields>,
    /// Fields of a credit note; for `import credit-notes`, and for rows of `import invoices` with an amount below zero.
    pub credit_note: Option<CreditNoteFields>,
    pub account: AccountFields,
}

/// Fields of an invoice.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvoiceFields {
    pub number: Template,
    /// In major units: the total, or the instalment's where a row is one. May be absent where `instalments` are given.
    #[serde(default)]
    pub amount: Template,
    pub issue_date: Template,
    /// Absent where `instalments` are given.
    #[serde(default)]
    pub due_date: Template,
    /// Free text.
    #[serde(default)]
    pub description: Template,
    #[serde(default)]
    pub row: RowIs,
    /// The total that the rows of an invoice must add up to, where a row is an instalment.
    #[serde(default)]
    pub total: Template,
    /// The columns of each instalment. A row may leave some of them empty.
    #[serde(default)]
    pub instalments: Vec<InstalmentFields>,
}

/// The meaning of one row of invoices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowIs {
    #[default]
    Invoice,
    /// The rows of one number make one invoice.
    Instalment,
}

/// The columns of one instalment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstalmentFields {
    pub due_date: Template,
    /// In major units.
    pub amount: Template,
}

/// Fields of a credit note.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditNoteFields {
    pub number: Template,
    /// The invoice that it corrects.
    pub invoice: Template,
    /// Amount, in major units.
    pub amount: Template,
    pub date: Template,
    /// Free text.
    #[serde(default)]
    pub reason: Template,
}

/// Fields of a payment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentFields {
    /// Absent: the file has none, and the import makes one of the row's content.
    pub reference: Option<Template>,
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
    NoColumn { column: String, present: String, hint: String },
    #[error("map: the file has the column {0:?} twice; give each column a name of its own")]
    ColumnTwice(String),
    /// A column of the file's own has the name of one that a file of rejected rows gets.
    #[error(
        "the import adds a column {0:?} behind the columns of rejected rows; give the column of the file another name, in the map too"
    )]
    OwnMark(&'static str),
    /// The map is for another kind of file.
    #[error("the map has no [{0}] section; is it the map for another kind of file?")]
    OtherKind(&'static str),
    /// The file cannot be parted into rows.
    #[error(transparent)]
    Quote(#[from] OpenQuote),
}

impl PaymentFields {
    /// Whether equal rows are payments of their own. A reference that is made of the payment's amount or day tells none apart.
    fn counts_equal_rows(&self) -> bool {
        let Some(reference) = &self.reference else { return true };
        let mut content = self.amount.columns().chain(self.value_date.columns());
        content.any(|column| reference.columns().any(|named| named == column))
    }
}

impl AccountDefaults {
    /// Checks the values that no row changes: a fault of those is the map's and not a row's.
    fn check(&self) -> Result<(), String> {
        type Rule = fn(&str) -> Result<(), String>;
        let rules: [(&str, &Template, Rule); 7] = [
            ("display_name", &self.display_name, check_line),
            ("kind", &self.kind, |text| Ok(debtor_kind(text).map(drop)?)),
            ("language", &self.language, |text| Ok(check_language(text)?)),
            ("time_zone", &self.time_zone, |text| Ok(check_time_zone(text)?)),
            ("country", &self.country, |text| Ok(check_country(text)?)),
            ("email", &self.email, |text| address(Channel::Email, text)),
            ("phone", &self.phone, |text| address(Channel::Phone, text)),
        ];
        for (key, template, rule) in rules {
            if template.columns().next().is_none() {
                let text = template.render(|_| None);
                rule(&text).map_err(|why| format!("account.open.{key} = {text:?}: {why}"))?;
            }
        }
        Ok(())
    }
}

/// An address may be left out.
fn address(channel: Channel, text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { check_address(channel, text).map(drop) }
}

/// The kind of a debtor by its name in a map or a file.
pub fn debtor_kind(name: &str) -> Result<DebtorKind, &'static str> {
    match name {
        "consumer" => Ok(DebtorKind::Consumer),
        "business" => Ok(DebtorKind::Business),
        _ => Err("must be consumer or business"),
    }
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
        map.format.check().map_err(MapError::Invalid)?;
        map.account.open.iter().try_for_each(AccountDefaults::check).map_err(MapError::Invalid)?;
        let invoice = |rule: fn(&InvoiceFields) -> bool| map.invoice.as_ref().is_none_or(rule);
        let rules = [
            (
                invoice(|i| i.instalments.is_empty() != i.due_date.is_empty()),
                "invoice needs either due_date or instalments",
            ),
            (invoice(|i| !i.instalments.is_empty() || !i.amount.is_empty()), "invoice.amount is missing"),
            (
                invoice(|i| i.row == RowIs::Invoice || i.instalments.is_empty()),
                "invoice.instalments and invoice.row = \"instalment\" exclude each other",
            ),
            (
                invoice(|i| i.row == RowIs::Instalment || i.total.is_empty()),
                "invoice.total is for invoice.row = \"instalment\"; otherwise invoice.amount is the total",
            ),
        ];
        if let Some((_, rule)) = rules.into_iter().find(|(kept, _)| !kept) {
            return Err(MapError::Invalid(rule.to_owned()));
        }
        Ok(map)
    }

    /// The map for files of this kind alone.
    pub fn for_kind(self, kind: Kind) -> Result<Self, MapError> {
        let (missing, name) = match kind {
            Kind::Invoices => (self.invoice.is_none(), "invoice"),
            Kind::CreditNotes => (self.credit_note.is_none(), "credit_note"),
            Kind::Payments => (self.payment.is_none(), "payment"),
        };
        if missing {
            return Err(MapError::OtherKind(name));
        }
        let invoice = self.invoice.filter(|_| kind == Kind::Invoices);
        let payment = self.payment.filter(|_| kind == Kind::Payments);
        let credit_note = self.credit_note.filter(|_| kind != Kind::Payments);
        Ok(Self { invoice, payment, credit_note, ..self })
    }

    /// Whether equal rows of the file are payments of their own.
    pub fn counts_equal_rows(&self) -> bool {
        self.payment.as_ref().is_some_and(PaymentFields::counts_equal_rows)
    }

    /// Whether a template names this column.
    pub fn names(&self, column: &str) -> bool {
        self.templates().into_iter().flat_map(Template::columns).any(|named| named == column)
    }

    /// Checks that the file has every column that a template names, and has it once.
    pub fn check_columns(&self, present: &[String]) -> Result<(), MapError> {
        for column in self.templates().into_iter().flat_map(Template::columns) {
            match present.iter().filter(|name| *name == column).count() {
                1 => {}
                0 => {
                    let hint = self.format.other_delimiter(column, present);
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
            all.extend([&i.number, &i.amount, &i.issue_date, &i.due_date, &i.description, &i.total]);
            all.extend(i.instalments.iter().flat_map(|part| [&part.due_date, &part.amount]));
        }
        if let Some(p) = &self.payment {
            all.extend([&p.amount, &p.value_date, &p.invoice, &p.remittance].into_iter().chain(&p.reference));
        }
        if let Some(c) = &self.credit_note {
            all.extend([&c.number, &c.invoice, &c.amount, &c.date, &c.reason]);
        }
        if let Some(a) = &self.account.open {
            all.extend([&a.display_name, &a.kind, &a.language, &a.time_zone, &a.country, &a.email, &a.phone]);
        }
        all
    }
}

/// The key of the map for a field of a request.
pub fn key_of(field: &str) -> String {
    if let Some((index, rest)) = index_of(field, "instalments[") {
        let key = if rest.contains("due_date") { "due_date" } else { "amount" };
        return format!("{key} of instalment {}", index + 1);
    }
    let key = match field {
        "total.currency" | "amount.currency" => "currency",
        "total" | "total.minor_units" | "amount.minor_units" => "amount",
        "account_id" => "account.id",
        "credit_note_number" => "number",
        "invoice_number" => "invoice",
        "credit_date" => "date",
        _ if field.starts_with("allocations[") => "invoice",
        _ => match field.strip_prefix("profile.") {
            Some(key) => return format!("account.open.{key}"),
            None => field,
        },
    };
    key.to_owned()
}

/// The number behind `start`, and what follows it.
pub fn index_of<'f>(field: &'f str, start: &str) -> Option<(usize, &'f str)> {
    let (index, rest) = field.strip_prefix(start)?.split_once(']')?;
    Some((index.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_profile_that_no_account_could_be_opened_with_is_refused_at_once() {
        let right = "display_name='{n}'\nkind='business'\nlanguage='de'\ntime_zone='Europe/Berlin'\ncountry='{country}'\n\
             email=''\nphone='+49{p}'\n";
        let map = |open: &str| {
            let account = format!("[account]\nid='{{a}}'\n[account.open]\n{open}");
            Map::parse(&format!("[format]\ndate='%F'\ncurrency='EUR'\n{account}"))
        };
        assert!(map(right).is_ok(), "a column is judged row by row");
        for (key, value, wrong) in [
            ("kind", "business", "busines"),
            ("language", "de", "deutsch"),
            ("language", "de", ""),
            ("time_zone", "Europe/Berlin", "Berlin"),
            ("country", "{country}", "Germany"),
            ("display_name", "{n}", ""),
            ("email", "", "a..b@example.org"),
            ("phone", "+49{p}", "030 1234"),
        ] {
            let open = right.replace(&format!("{key}='{value}'"), &format!("{key}='{wrong}'"));
            let error = map(&open).expect_err(wrong).to_string();
            assert!(error.contains(&format!("account.open.{key} = {wrong:?}: must")), "{error}");
        }
    }

    #[test]
    fn a_column_the_file_lacks_is_named() {
        let map = Map::parse("[format]\ndate='%F'\ncurrency='EUR'\n[account]\nid='{customer}'").expect("valid");
        let error = map.check_columns(&["client".into()]).expect_err("missing");
        assert!(error.to_string().contains("customer") && error.to_string().contains("client"), "{error}");
    }

    #[test]
    fn the_maps_of_the_documentation_are_maps() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        for file in std::fs::read_dir(docs.join("maps")).expect("maps") {
            let path = file.expect("a file").path();
            assert!(Map::read(&path).is_ok(), "{path:?}: {:?}", Map::read(&path).err());
        }
        let page = std::fs::read_to_string(docs.join("import.md")).expect("a page");
        let (_, page) = page.split_once("## The map").expect("its section");
        let shown = page.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
        let map = Map::parse(&shown.collect::<Vec<_>>().join("\n")).expect("a map");
        assert!(map.invoice.is_some() && map.payment.is_some() && map.credit_note.is_some());
    }

    #[test]
    fn sections_that_say_two_things_are_refused() {
        let map = |invoice: &str| {
            let sections = format!("[account]\nid='{{a}}'\n[invoice]\nnumber='{{n}}'\nissue_date='{{d}}'\n{invoice}");
            Map::parse(&format!("[format]\ndate='%F'\ncurrency='EUR'\n{sections}"))
        };
        let parts = "[[invoice.instalments]]\ndue_date='{e}'\namount='{y}'\n";
        for (invoice, why) in [
            ("amount='{x}'".to_owned(), "either due_date or instalments"),
            ("due_date='{e}'".to_owned(), "invoice.amount"),
            (format!("amount='{{x}}'\ndue_date='{{e}}'\n{parts}"), "either due_date or instalments"),
            (format!("row='instalment'\n{parts}"), "exclude each other"),
            ("amount='{x}'\ndue_date='{e}'\ntotal='{t}'".to_owned(), "invoice.total"),
        ] {
            let error = map(&invoice).expect_err(why).to_string();
            assert!(error.contains(why), "{invoice}: {error}");
        }
        assert!(map(parts).is_ok());
        let error = map(parts).expect("valid").for_kind(Kind::Payments).expect_err("invoices").to_string();
        assert!(error.contains("[payment]"), "{error}");
    }
}
