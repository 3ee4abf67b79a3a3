//! One row by the map: a document of an account, or the reason why it is none.

use std::borrow::Cow;

use jiff::civil::Date;
use saldo_api::v1;
use saldo_domain::{
    fault::FieldFault,
    ids::{AccountId, DocumentNumber},
    ledger::invoice::schedule,
    money::Currency,
};
use saldo_facts::date_to_api;

use super::{
    document::{Document, Entry},
    map::{AccountDefaults, CreditNoteFields, InvoiceFields, Map, PaymentFields, RowIs, debtor_kind, key_of},
    template::Template,
};

/// Why a row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub why: String,
    /// Account and number, where both can be read. A faulty one may be another's with a typing error.
    pub document: Option<(String, String)>,
}

/// One row, in columns.
pub struct Row<'r> {
    pub map: &'r Map,
    pub header: &'r [String],
    pub columns: &'r [Cow<'r, str>],
}

/// A rule, behind the key of the map whose value breaks it.
fn at(key: &str, rule: impl ToString) -> String {
    format!("{key}: {}", rule.to_string())
}

impl Row<'_> {
    fn render(&self, template: &Template) -> String {
        template.render(|name| {
            let column = self.header.iter().position(|column| column == name)?;
            self.columns.get(column).map(Cow::as_ref)
        })
    }

    /// The document of the row; none where the map skips it.
    pub fn read(&self) -> Result<Option<Entry>, Fault> {
        let account = self.render(&self.map.account.id);
        let (map, mut number) = (self.map, String::new());
        let document = match (&map.invoice, &map.credit_note, &map.payment) {
            (_, Some(fields), None) if map.invoice.is_none() || self.is_below_zero(fields) => {
                number = self.render(&fields.number);
                self.credit_note(&account, fields, map.invoice.is_some()).map(Some)
            }
            (Some(fields), ..) => {
                number = self.render(&fields.number);
                self.invoice(&account, fields).map(Some)
            }
            (_, _, Some(fields)) => self.payment(&account, fields),
            _ => Ok(None),
        };
        let read = document.and_then(|document| {
            let Some(document) = document else { return Ok(None) };
            AccountId::new(&account).map_err(|_| {
                at(
                    "account.id",
                    "must be 1 to 64 letters, digits, dots, hyphens or underscores, and begin with a letter or digit",
                )
            })?;
            let profile = map.account.open.as_ref().map(|defaults| self.profile(defaults)).transpose()?;
            let stated_total = match (&document, map.invoice.as_ref().filter(|fields| !fields.total.is_empty())) {
                (Document::Invoice(_), Some(fields)) => Some(self.amount("total", &fields.total)?.minor_units),
                _ => None,
            };
            Ok(Some(Entry { account: account.clone(), document, stated_total, profile }))
        });
        read.map_err(|why| {
            let names_both = AccountId::new(&account).is_ok() && DocumentNumber::new(&number).is_ok();
            Fault { why, document: names_both.then_some((account, number)) }
        })
    }

    fn currency(&self) -> Result<Currency, String> {
        Currency::new(&self.render(&self.map.format.currency)).map_err(|rule| at("currency", rule))
    }

    fn number(&self, key: &str, template: &Template) -> Result<String, String> {
        let number = self.render(template);
        DocumentNumber::new(&number).map(|_| number).map_err(|rule| at(key, rule))
    }

    fn amount(&self, key: &str, template: &Template) -> Result<v1::Money, String> {
        let currency = self.currency()?;
        let minor_units = self.map.format.positive(&self.render(template), currency).map_err(|rule| at(key, rule))?;
        Ok(v1::Money { minor_units, currency: currency.to_string() })
    }

    fn day(&self, key: &str, template: &Template) -> Result<Date, String> {
        self.map.format.day(&self.render(template)).map_err(|rule| at(key, rule))
    }

    fn invoice(&self, account: &str, fields: &InvoiceFields) -> Result<Document, String> {
        let number = self.number("number", &fields.number)?;
        let issue_date = self.day("issue_date", &fields.issue_date)?;
        let in_columns = !fields.instalments.is_empty();
        let parts = if in_columns { self.instalments(fields)? } else { vec![self.whole(fields)?] };
        let sum = parts.iter().fold(0_i64, |sum, (_, amount)| sum.saturating_add(*amount));
        let currency = self.currency()?;
        let total = self.map.format.money(sum, currency).map_err(|rule| at("amount", rule))?;
        if in_columns && !fields.amount.is_empty() {
            let stated = self.amount("amount", &fields.amount)?.minor_units;
            if stated != sum {
                let [sum, stated] = [sum, stated].map(|minor| self.map.format.write(minor, currency));
                return Err(at("amount", format!("the instalments add up to {sum} and not to {stated}")));
            }
        }
        let (due, listed) = match (&parts[..], in_columns) {
            ([(due, _)], false) => (Some(*due), &[][..]),
            (parts, _) => (None, parts),
        };
        schedule(total, issue_date, due, listed).map_err(|faults| said(&faults))?;
        let listed_in_rows = fields.row == RowIs::Instalment;
        let instalment =
            |(due, amount_minor): (Date, i64)| v1::Instalment { due_date: Some(date_to_api(due)), amount_minor };
        Ok(Document::Invoice(v1::IssueInvoiceRequest {
            account_id: account.to_owned(),
            number,
            total: Some(v1::Money { minor_units: sum, currency: currency.to_string() }),
            issue_date: Some(date_to_api(issue_date)),
            due_date: due.filter(|_| !listed_in_rows).map(date_to_api),
            instalments: match in_columns || listed_in_rows {
                true => parts.into_iter().map(instalment).collect(),
                false => Vec::new(),
            },
            description: self.render(&fields.description),
            ..Default::default()
        }))
    }

    /// The one due date and amount of the row.
    fn whole(&self, fields: &InvoiceFields) -> Result<(Date, i64), String> {
        let amount = self.amount("amount", &fields.amount)?;
        Ok((self.day("due_date", &fields.due_date)?, amount.minor_units))
    }

    /// The instalments that stand in columns.
    fn instalments(&self, fields: &InvoiceFields) -> Result<Vec<(Date, i64)>, String> {
        let mut parts = Vec::new();
        for (index, part) in (1..).zip(&fields.instalments) {
            if self.render(&part.due_date).is_empty() && self.render(&part.amount).is_empty() {
                continue;
            }
            let amount = self.amount(&format!("amount of instalment {index}"), &part.amount)?;
            parts.push((self.day(&format!("due_date of instalment {index}"), &part.due_date)?, amount.minor_units));
        }
        if parts.is_empty() { Err("the row has no instalment".to_owned()) } else { Ok(parts) }
    }

    /// Whether a row of invoices is a credit note.
    fn is_below_zero(&self, fields: &CreditNoteFields) -> bool {
        let amount =
            self.currency().and_then(|currency| self.map.format.amount(&self.render(&fields.amount), currency));
        amount.is_ok_and(|minor| minor < 0)
    }

    fn credit_note(&self, account: &str, fields: &CreditNoteFields, negative: bool) -> Result<Document, String> {
        let amount = self.render(&fields.amount);
        let amount = if negative { amount.trim().trim_start_matches('-') } else { &amount };
        let currency = self.currency()?;
        let minor_units = self.map.format.positive(amount, currency).map_err(|rule| at("amount", rule))?;
        Ok(Document::CreditNote(v1::CreditInvoiceRequest {
            account_id: account.to_owned(),
            credit_note_number: self.number("number", &fields.number)?,
            invoice_number: self.number("invoice", &fields.invoice)?,
            amount: Some(v1::Money { minor_units, currency: currency.to_string() }),
            credit_date: Some(date_to_api(self.day("date", &fields.date)?)),
            reason: self.render(&fields.reason),
            ..Default::default()
        }))
    }

    fn payment(&self, account: &str, fields: &PaymentFields) -> Result<Option<Document>, String> {
        if self.render(&fields.value_date).is_empty() {
            return Ok(None);
        }
        let amount = self.amount("amount", &fields.amount)?;
        let value_date = self.day("value_date", &fields.value_date)?;
        let invoice = self.render(&fields.invoice);
        let mut allocations = Vec::new();
        if !invoice.is_empty() {
            let invoice_number = self.number("invoice", &fields.invoice)?;
            allocations.push(v1::Allocation { invoice_number, instalment: None, amount_minor: amount.minor_units });
        }
        let mut payment = v1::RecordPaymentRequest {
            account_id: account.to_owned(),
            reference: String::new(),
            amount: Some(amount),
            value_date: Some(date_to_api(value_date)),
            allocations,
            remittance: self.render(&fields.remittance),
            // Money that came in is recorded, whatever is open of its invoice.
            keep_excess_unapplied: true,
            ..Default::default()
        };
        payment.reference = match &fields.reference {
            Some(reference) => self.number("reference", reference)?,
            None => {
                let content = Document::Payment(payment.clone()).content().simple().to_string();
                format!("{value_date}-{}", content.get(..12).unwrap_or_default())
            }
        };
        Ok(Some(Document::Payment(payment)))
    }

    fn profile(&self, defaults: &AccountDefaults) -> Result<v1::Profile, String> {
        let kind = debtor_kind(&self.render(&defaults.kind)).map_err(|rule| at("account.open.kind", rule))?;
        let points =
            [(v1::Channel::Email, self.render(&defaults.email)), (v1::Channel::Phone, self.render(&defaults.phone))];
        Ok(v1::Profile {
            display_name: self.render(&defaults.display_name),
            kind: kind.into(),
            language: self.render(&defaults.language),
            time_zone: self.render(&defaults.time_zone),
            country: self.render(&defaults.country),
            contact_points: points
                .into_iter()
                .filter(|(_, address)| !address.is_empty())
                .map(|(channel, address)| v1::ContactPoint { channel: channel.into(), address })
                .collect(),
        })
    }
}

/// Faults of a schedule, in the words of a file.
pub fn said(faults: &[FieldFault]) -> String {
    let words = faults.iter().map(|fault| at(&key_of(&fault.field), &fault.rule));
    words.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{rows::Rows, text::Text},
        *,
    };

    const INVOICE: &str = "[invoice]\nnumber='{n}'\namount='{x}'\nissue_date='{d}'\ndue_date='{d}'\n";

    fn only(file: &str, sections: &str) -> Result<Option<Entry>, String> {
        let format =
            "[format]\ndate='%F'\ndecimal=','\ngroup='.'\ncurrency='EUR'\ndelimiter=';'\n[account]\nid='{a}'\n";
        let map = Map::parse(&format!("{format}{sections}")).expect("a map");
        let text = Text::of(file.as_bytes().to_vec(), None).expect("text");
        Rows::of(text, map).expect("a header").read(0).map_err(|fault| fault.why)
    }

    #[test]
    fn a_row_that_cannot_be_read_says_why_in_the_words_of_the_file() {
        for (row, why) in [
            ("A;1;12x;2026-01-01", "amount: must be a number such as 1.234,50"),
            ("A;1;0;2026-01-01", "amount: must be greater than zero"),
            ("A;1;12;01.02.2026", "issue_date: must be a date such as 2026-12-31; it looks like %d.%m.%Y"),
            ("A;1;12", "the row has 3 columns, the header 4"),
            ("A;\"1\"x;12;2026-01-01", "text stands behind a closing quote"),
            ("A;;12;2026-01-01", "number: must be 1 to 64"),
            ("A B;1;12;2026-01-01", "account.id: must be 1 to 64 letters"),
        ] {
            let said = only(&format!("a;n;x;d\n{row}\n"), INVOICE).expect_err(row);
            assert!(said.starts_with(why), "{row}: {said}");
        }
        assert_eq!(only("a;n;x;d\n ;;; \n", INVOICE), Ok(None), "a row of empty columns says nothing");
    }

    #[test]
    fn instalments_may_stand_in_columns() {
        let sections = "[invoice]\nnumber='{n}'\namount='{x}'\nissue_date='{d}'\n\
            [[invoice.instalments]]\ndue_date='{d1}'\namount='{x1}'\n[[invoice.instalments]]\ndue_date='{d2}'\namount='{x2}'\n";
        let row = |row: &str| only(&format!("a;n;x;d;d1;x1;d2;x2\n{row}\n"), sections);
        let parts = |entry: Entry| match entry.document {
            Document::Invoice(invoice) => invoice.instalments.iter().map(|part| part.amount_minor).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let whole = row("A;1;3,40;2026-01-01;2026-02-01;1,55;2026-03-01;1,85").expect("read").expect("an invoice");
        assert_eq!(parts(whole), [155, 185]);
        let one = row("A;1;3,40;2026-01-01;2026-02-01;3,40;;").expect("read").expect("an invoice");
        assert_eq!(parts(one), [340]);
        for (text, why) in [
            (
                "A;1;3,41;2026-01-01;2026-02-01;1,55;2026-03-01;1,85",
                "amount: the instalments add up to 3,40 and not to 3,41",
            ),
            ("A;1;3,40;2026-01-01;2026-03-01;1,55;2026-02-01;1,85", "due_date of instalment 2: must be after"),
            ("A;1;3,40;2026-01-01;2026-02-01;;2026-03-01;1,85", "amount of instalment 1: must be a number"),
        ] {
            let said = row(text).expect_err(text);
            assert!(said.starts_with(why), "{said}");
        }
    }

    #[test]
    fn an_amount_below_zero_is_a_credit_note_where_the_map_has_its_section() {
        let credit = format!("{INVOICE}[credit_note]\nnumber='{{n}}'\ninvoice='{{i}}'\namount='{{x}}'\ndate='{{d}}'\n");
        let row = |row: &str, sections: &str| only(&format!("a;n;x;d;i\n{row}\n"), sections);
        match row("A;C-1;-1.234,50;2026-01-01;F-1", &credit).expect("read").expect("a document").document {
            Document::CreditNote(note) => assert_eq!(note.amount.map(|amount| amount.minor_units), Some(123_450)),
            other => panic!("{other:?}"),
        }
        assert!(matches!(row("A;F-1;5;2026-01-01;", &credit), Ok(Some(Entry { document: Document::Invoice(_), .. }))));
        assert!(row("A;C-1;-5;2026-01-01;F-1", INVOICE).expect_err("no section").contains("greater than zero"));
    }
}
