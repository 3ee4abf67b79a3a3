//! A document of an account, made of one row or of several, and the ids that follow from its content.

use saldo_api::v1;
use saldo_facts::date_from_api;
use uuid::Uuid;

/// The name space of the importer's ids is the UUIDv5 of this URL.
const NAMESPACE_URL: &[u8] = b"https://saldo.invalid/import/3";

/// A document of an account.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub account: String,
    pub document: Document,
    /// The total of the whole invoice by the file itself, in minor units, where a row is an instalment.
    pub stated_total: Option<i64>,
    /// With which the account is opened, if it is missing.
    pub profile: Option<v1::Profile>,
}

/// The request without its id.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    Invoice(v1::IssueInvoiceRequest),
    CreditNote(v1::CreditInvoiceRequest),
    Payment(v1::RecordPaymentRequest),
}

impl Document {
    /// The kind, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Document::Invoice(_) => "invoice",
            Document::CreditNote(_) => "credit note",
            Document::Payment(_) => "payment",
        }
    }

    /// Its number or reference.
    pub fn number(&self) -> &str {
        match self {
            Document::Invoice(invoice) => &invoice.number,
            Document::CreditNote(note) => &note.credit_note_number,
            Document::Payment(payment) => &payment.reference,
        }
    }

    /// The invoice that it settles or corrects.
    pub fn invoice(&self) -> Option<&str> {
        match self {
            Document::Invoice(_) => None,
            Document::CreditNote(note) => Some(&note.invoice_number),
            Document::Payment(payment) => {
                payment.allocations.first().map(|designated| designated.invoice_number.as_str())
            }
        }
    }

    /// What a payment or a credit note brings to apply.
    pub fn credit(&self) -> Option<&v1::Money> {
        match self {
            Document::Invoice(_) => None,
            Document::CreditNote(note) => note.amount.as_ref(),
            Document::Payment(payment) => payment.amount.as_ref(),
        }
    }

    /// Equal for equal documents.
    pub fn content(&self) -> Uuid {
        let fields = self.fields();
        let given = fields.iter().filter(|(_, value)| !value.is_empty());
        let parts = given.flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        id(&std::iter::once(self.kind().as_bytes()).chain(parts).collect::<Vec<_>>())
    }

    /// The fields that make the content, in the words of the map. They are named one by one, and a field without a value is left out:
    /// a field that a later release adds changes no id of an older file.
    fn fields(&self) -> Vec<(&'static str, String)> {
        match self {
            Document::Invoice(invoice) => {
                let parts = invoice.instalments.iter();
                let parts = parts.map(|part| ("instalment", format!("{} {}", day(part.due_date), part.amount_minor)));
                let dates = [("issue_date", day(invoice.issue_date)), ("due_date", day(invoice.due_date))];
                let text = ("description", invoice.description.clone());
                money(&invoice.total).into_iter().chain(dates).chain(parts).chain([text]).collect()
            }
            Document::CreditNote(note) => {
                let own = [
                    ("invoice", note.invoice_number.clone()),
                    ("date", day(note.credit_date)),
                    ("reason", note.reason.clone()),
                ];
                money(&note.amount).into_iter().chain(own).collect()
            }
            Document::Payment(payment) => {
                let own = [
                    ("value_date", day(payment.value_date)),
                    ("invoice", self.invoice().unwrap_or_default().to_owned()),
                    ("remittance", payment.remittance.clone()),
                ];
                money(&payment.amount).into_iter().chain(own).collect()
            }
        }
    }
}

/// An amount in minor units, and its currency.
fn money(amount: &Option<v1::Money>) -> [(&'static str, String); 2] {
    let v1::Money { minor_units, currency } = amount.clone().unwrap_or_default();
    [("amount", minor_units.to_string()), ("currency", currency)]
}

fn day(date: Option<v1::Date>) -> String {
    date.and_then(date_from_api).map(|day| day.to_string()).unwrap_or_default()
}

impl Entry {
    /// Equal for documents with one number.
    pub fn key(&self) -> Uuid {
        key(self.document.kind(), &self.account, self.document.number())
    }

    /// The request id of a try. Another content asks under another id, so that a row that was refused can be corrected.
    pub fn request_id(&self, attempt: u32) -> Uuid {
        id(&[self.key().as_bytes(), self.document.content().as_bytes(), &attempt.to_be_bytes()])
    }

    /// The request id under which the account is opened.
    pub fn opening_id(&self, attempt: u32) -> Uuid {
        id(&[key("account", &self.account, &self.account).as_bytes(), &attempt.to_be_bytes()])
    }

    /// In one line, for people.
    pub fn name(&self) -> String {
        format!("{} {} of account {}", self.document.kind(), self.document.number(), self.account)
    }
}

/// Equal for documents of one kind, account and number.
pub fn key(kind: &str, account: &str, number: &str) -> Uuid {
    id(&[kind.as_bytes(), account.as_bytes(), number.as_bytes()])
}

fn id(parts: &[&[u8]]) -> Uuid {
    let space = Uuid::new_v5(&Uuid::NAMESPACE_URL, NAMESPACE_URL);
    let framed = parts.iter().flat_map(|part| [&(part.len() as u64).to_be_bytes()[..], part].concat());
    Uuid::new_v5(&space, &framed.collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: i32, month: i32, day: i32) -> Option<v1::Date> {
        Some(v1::Date { year, month, day })
    }

    fn eur(minor_units: i64) -> Option<v1::Money> {
        Some(v1::Money { minor_units, currency: "EUR".into() })
    }

    /// Another id would make every file new that an earlier release has imported.
    #[test]
    fn the_request_id_of_a_row_is_the_same_in_every_release() {
        let part = |due_date, amount_minor| v1::Instalment { due_date, amount_minor };
        let invoice = Document::Invoice(v1::IssueInvoiceRequest {
            number: "F-1".into(),
            total: eur(340),
            issue_date: date(2026, 1, 1),
            instalments: vec![part(date(2026, 2, 28), 155), part(date(2026, 3, 31), 185)],
            ..Default::default()
        });
        let note = Document::CreditNote(v1::CreditInvoiceRequest {
            credit_note_number: "C-1".into(),
            invoice_number: "F-1".into(),
            amount: eur(40),
            credit_date: date(2026, 1, 31),
            reason: "returned".into(),
            ..Default::default()
        });
        let designated = v1::Allocation { invoice_number: "F-1".into(), instalment: None, amount_minor: 500 };
        let payment = Document::Payment(v1::RecordPaymentRequest {
            reference: "P-1".into(),
            amount: eur(500),
            value_date: date(2026, 2, 1),
            allocations: vec![designated],
            remittance: "rent".into(),
            ..Default::default()
        });
        for (document, id) in [
            (invoice, "ee11479f-ad0e-56f4-8c91-f1b1d1b92f20"),
            (note, "a36f8637-da40-5608-800f-ab650f01b132"),
            (payment.clone(), "aa9a2d4b-8f23-54fc-a99a-db4322959a3b"),
        ] {
            let entry = Entry { account: "K-1".into(), document, stated_total: None, profile: None };
            assert_eq!(entry.request_id(0).to_string(), id, "{}", entry.name());
        }
        let Document::Payment(request) = &payment else { return };
        let kept =
            v1::RecordPaymentRequest { keep_excess_unapplied: true, account_id: "K-1".into(), ..request.clone() };
        assert_eq!(Document::Payment(kept).content(), payment.content(), "a field that is not named changes nothing");
        let other = v1::RecordPaymentRequest { remittance: "rent of May".into(), ..request.clone() };
        assert_ne!(Document::Payment(other).content(), payment.content());
    }
}
