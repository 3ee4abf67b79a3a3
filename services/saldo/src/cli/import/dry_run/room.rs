//! What the open items of one account have room for, document by document in the order of the file.

use saldo_api::v1::{self, open_item::Kind};
use tonic::Status;

use super::super::document::Document;
use crate::client::Clients;

/// The last day that a question may name. On this day everything has taken effect that is known.
const LAST_DAY: v1::Date = v1::Date { year: 2199, month: 12, day: 31 };

/// The open instalments of invoices.
#[derive(Default)]
pub struct Room(Vec<v1::OpenItem>);

impl Room {
    /// As the read models have them.
    pub async fn of(clients: &Clients, account: &str) -> Result<Self, Status> {
        let asked =
            v1::ListOpenItemsRequest { account_id: account.to_owned(), as_of: Some(LAST_DAY), ..Default::default() };
        let mut items = clients.ask_patiently(asked).await?.items;
        items.retain(|item| item.kind() == Kind::Invoice);
        Ok(Self(items))
    }

    /// Takes a new document in. Returns what is applied of a payment or a credit note.
    pub fn apply(&mut self, document: &Document) -> i64 {
        if let Document::Invoice(invoice) = document {
            self.issue(invoice);
        }
        let Some(amount) = document.credit() else { return 0 };
        let named = document.invoice();
        let mut left = amount.minor_units;
        for item in &mut self.0 {
            if item.currency == amount.currency && named.is_none_or(|number| number == item.document) {
                let applied = left.min(item.open_minor);
                (left, item.open_minor) = (left - applied, item.open_minor - applied);
            }
        }
        amount.minor_units - left
    }

    fn issue(&mut self, invoice: &v1::IssueInvoiceRequest) {
        let total = invoice.total.clone().unwrap_or_default();
        let parts: Vec<_> = match invoice.due_date {
            Some(due) => vec![(Some(due), total.minor_units)],
            None => invoice.instalments.iter().map(|part| (part.due_date, part.amount_minor)).collect(),
        };
        let item = |(instalment, (due_date, open_minor))| v1::OpenItem {
            kind: Kind::Invoice.into(),
            document: invoice.number.clone(),
            instalment,
            currency: total.currency.clone(),
            issue_date: invoice.issue_date,
            due_date,
            original_minor: open_minor,
            open_minor,
        };
        self.0.extend((1..).zip(parts).map(item));
        // As the domain orders them: oldest due first.
        let day = |date: Option<v1::Date>| date.map(|date| (date.year, date.month, date.day));
        let place =
            |item: &v1::OpenItem| (day(item.due_date), day(item.issue_date), item.document.clone(), item.instalment);
        self.0.sort_by_cached_key(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eur(minor_units: i64) -> Option<v1::Money> {
        Some(v1::Money { minor_units, currency: "EUR".into() })
    }

    fn invoice(number: &str, month: i32, minor: i64) -> Document {
        Document::Invoice(v1::IssueInvoiceRequest {
            number: number.into(),
            total: eur(minor),
            due_date: Some(v1::Date { year: 2026, month, day: 1 }),
            ..Default::default()
        })
    }

    fn payment(minor: i64, invoice: Option<&str>) -> Document {
        let named = |number: &str| v1::Allocation { invoice_number: number.into(), ..Default::default() };
        Document::Payment(v1::RecordPaymentRequest {
            amount: eur(minor),
            allocations: invoice.map(named).into_iter().collect(),
            ..Default::default()
        })
    }

    #[test]
    fn u3_the_rows_of_an_account_take_what_is_open_in_their_order() {
        let mut room = Room::default();
        for (document, applied) in [
            (payment(100, None), 0),
            (invoice("B", 3, 2_000), 0),
            (invoice("A", 2, 1_000), 0),
            (payment(600, Some("A")), 600),
            (payment(600, Some("A")), 400),
            (payment(600, Some("none")), 0),
            (payment(1_500, None), 1_500),
            (payment(1_500, None), 500),
        ] {
            assert_eq!(room.apply(&document), applied, "{document:?}");
        }
    }

    #[test]
    fn u3_money_without_an_invoice_goes_to_the_oldest_due() {
        let mut room = Room::default();
        for document in [invoice("B", 3, 2_000), invoice("A", 2, 1_000)] {
            room.apply(&document);
        }
        assert_eq!(room.apply(&payment(1_500, None)), 1_500);
        assert_eq!(room.apply(&payment(1_000, Some("A"))), 0, "it was the older one");
        assert_eq!(room.apply(&payment(2_000, Some("B"))), 1_500);
    }

    #[test]
    fn a_credit_note_takes_its_own_invoice_in_its_own_currency() {
        let mut room = Room::default();
        room.apply(&invoice("A", 2, 1_000));
        let note = |currency: &str| {
            Document::CreditNote(v1::CreditInvoiceRequest {
                invoice_number: "A".into(),
                amount: Some(v1::Money { minor_units: 1_200, currency: currency.into() }),
                ..Default::default()
            })
        };
        assert_eq!([room.apply(&note("USD")), room.apply(&note("EUR"))], [0, 1_000]);
    }
}
