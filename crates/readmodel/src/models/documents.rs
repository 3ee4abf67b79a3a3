//! Invoices, payments, credit notes and refunds, a row each; and what was applied to which instalment, a row for each line.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use saldo_domain::{
    event::Event,
    ids::DocumentNumber,
    ledger::{CreditRefunded, Fact, InvoiceCredited, InvoiceIssued, MovedCredit, PaymentRecorded},
    money::{Currency, Money},
};

use super::{Accepted, CommitPosition, Model, Owner};
use crate::{
    ReadModelError,
    engine::{Column, Declaration, Kind, Shown, Table, TableRows, View, Writer},
};

const DOCUMENTS: Table = Table {
    partial_changes: true,
    ..Table::new(
        "documents",
        "tenant, account, kind, document",
        &[
            Column::tenant(),
            Column::account(),
            Column::new("kind", Kind::Text, "invoice, payment, credit_note or refund"),
            Column::new("document", Kind::Text, "The number or reference"),
            Column::new("currency", Kind::Currency, "ISO 4217").never_changes(),
            Column::new("decimals", Kind::Small, "Decimal places of the currency").never_changes(),
            Column::new("amount_minor", Kind::Big, "All of it; minor units, positive").never_changes(),
            Column::new("day", Kind::Date, "Issue date, value date, or date of the credit or refund").never_changes(),
            Column::new(
                "counts_from",
                Kind::Date,
                "From this day it counts: its own day, or where that lay ahead, the creditor's day of its recording",
            )
            .never_changes(),
            Column::new("known_at", Kind::Instant, "From this instant the document was known").never_changes(),
            Column::new(
                "about_kind",
                Kind::Text,
                "invoice of a credit note; payment or credit_note of a refund; else null",
            )
            .nullable()
            .never_changes(),
            Column::new(
                "about",
                Kind::Text,
                "The invoice that a credit note corrects, or the credit that was paid out; else null",
            )
            .nullable()
            .never_changes(),
            Column::new("ended_on", Kind::Date, "From this day it no longer counts: voided or reversed; else null")
                .nullable()
                .set_if_known(),
            Column::new("ended_known_at", Kind::Instant, "From this instant the end was known")
                .nullable()
                .set_if_known(),
        ],
    )
};

const DOCUMENTS_VIEW: View = View {
    name: "documents",
    comment: "One row per invoice, payment, credit note or refund",
    of: &DOCUMENTS,
    columns: &[
        Shown::Column("tenant"),
        Shown::Column("account"),
        Shown::Column("kind"),
        Shown::Column("document"),
        Shown::Column("currency"),
        Shown::Column("amount_minor"),
        Shown::Computed(
            "amount_major",
            "round(amount_minor / (10::numeric ^ decimals), decimals)",
            "All of it in major units, for people",
        ),
        Shown::Column("day"),
        Shown::Column("known_at"),
        Shown::Column("about_kind"),
        Shown::Column("about"),
        Shown::Column("ended_on"),
        Shown::Column("ended_known_at"),
        Shown::Column("decimals"),
        Shown::Column("counts_from"),
    ],
    rest: "",
};

const ALLOCATIONS: Table = Table {
    only_grows: true,
    indexes: &["(tenant, account, invoice)", "(tenant, account, document)"],
    ..Table::new(
        "allocations",
        "partition, record_offset, line",
        &[
            Column::tenant(),
            Column::account(),
            Column::new("kind", Kind::Text, "What was applied: payment or credit_note"),
            Column::new("document", Kind::Text, "The payment's reference or the credit note's number"),
            Column::new("invoice", Kind::Text, "The invoice that it was applied to"),
            Column::new("instalment", Kind::Int, "Number of the instalment from 1"),
            Column::new("currency", Kind::Currency, "ISO 4217"),
            Column::new("decimals", Kind::Small, "Decimal places of the currency"),
            Column::new("amount_minor", Kind::Big, "Minor units; negative where it was taken back"),
            Column::new("effective_date", Kind::Date, "From this day it is true"),
            Column::new("known_at", Kind::Instant, "From this instant it was known"),
            Column::new("version", Kind::Big, "Version of the account's commit that recorded it"),
            Column::new("partition", Kind::Int, "Partition of the record it comes from"),
            Column::new("record_offset", Kind::Big, "Offset of the record it comes from"),
            Column::new("line", Kind::Int, "Number of the line within the record"),
        ],
    )
};

const ALLOCATIONS_VIEW: View = View {
    name: "allocations",
    comment: "One row per part of a payment or credit note that was applied to an instalment, or taken back from it",
    of: &ALLOCATIONS,
    columns: &[
        Shown::Column("tenant"),
        Shown::Column("account"),
        Shown::Column("kind"),
        Shown::Column("document"),
        Shown::Column("invoice"),
        Shown::Column("instalment"),
        Shown::Column("currency"),
        Shown::Column("amount_minor"),
        Shown::Computed(
            "amount_major",
            "round(amount_minor / (10::numeric ^ decimals), decimals)",
            "The part in major units, for people",
        ),
        Shown::Column("effective_date"),
        Shown::Column("known_at"),
        Shown::Column("version"),
        Shown::Column("partition"),
        Shown::Column("record_offset"),
        Shown::Column("line"),
        Shown::Column("decimals"),
    ],
    rest: "",
};

/// A document, by its number on the account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct DocumentKey {
    owner: Owner,
    /// `invoice`, `payment`, `credit_note` or `refund`.
    kind: &'static str,
    document: DocumentNumber,
}

/// A document as it was recorded.
#[derive(Debug, Clone)]
struct Recorded {
    amount: Money,
    day: Date,
    counts_from: Date,
    known_at: Timestamp,
    /// Kind and number of the document that it is about.
    about: Option<(&'static str, DocumentNumber)>,
}

/// The changes of a batch to a document.
#[derive(Debug, Clone, Default)]
struct DocumentRow {
    /// Present where the batch makes the row.
    recorded: Option<Recorded>,
    /// From which day it no longer counts, and since when that is known.
    ended: Option<(Date, Timestamp)>,
}

/// A part of a document that was applied or taken back.
#[derive(Debug, Clone)]
struct AllocationRow {
    key: DocumentKey,
    invoice: DocumentNumber,
    instalment: u32,
    currency: Currency,
    /// Negative where it was taken back.
    amount: i64,
    effective_date: Date,
    position: CommitPosition,
    line: i32,
}

/// The changes of a batch to documents, and the allocations that it made and took back.
#[derive(Debug, Default)]
pub struct DocumentRows {
    documents: BTreeMap<DocumentKey, DocumentRow>,
    allocations: Vec<AllocationRow>,
}

impl Model for DocumentRows {
    const DECLARATION: Declaration =
        Declaration::new("documents", 2, &[DOCUMENTS, ALLOCATIONS], &[DOCUMENTS_VIEW, ALLOCATIONS_VIEW]);

    fn add(&mut self, accepted: &Accepted<'_>) {
        let first = self.allocations.len();
        for event in &accepted.commit.events {
            if let Event::Ledger(fact) = event {
                self.fold(accepted, fact);
            }
        }
        for (line, row) in (0i32..).zip(self.allocations.iter_mut().skip(first)) {
            row.line = line;
        }
    }

    async fn write(&self, writer: &mut Writer<'_>) -> Result<(), ReadModelError> {
        let mut rows = TableRows::of(&DOCUMENTS, self.documents.len());
        for (DocumentKey { owner, kind, document }, row) in &self.documents {
            let recorded = row.recorded.as_ref();
            rows.put(
                recorded.is_some(),
                &[
                    &owner.tenant.as_str(),
                    &owner.account.as_str(),
                    kind,
                    &document.as_str(),
                    &recorded.map(|document| document.amount.currency.code()),
                    &recorded.map(|document| document.amount.currency.decimals() as i16),
                    &recorded.map(|document| document.amount.minor),
                    &recorded.map(|document| document.day),
                    &recorded.map(|document| document.counts_from),
                    &recorded.map(|document| document.known_at),
                    &recorded.and_then(|document| document.about.as_ref()).map(|(kind, _)| *kind),
                    &recorded.and_then(|document| document.about.as_ref()).map(|(_, number)| number.as_str()),
                    &row.ended.map(|(day, _)| day),
                    &row.ended.map(|(_, known_at)| known_at),
                ],
            );
        }
        writer.write(rows).await?;
        let mut rows = TableRows::of(&ALLOCATIONS, self.allocations.len());
        for row in &self.allocations {
            rows.insert(&[
                &row.key.owner.tenant.as_str(),
                &row.key.owner.account.as_str(),
                &row.key.kind,
                &row.key.document.as_str(),
                &row.invoice.as_str(),
                &(row.instalment as i32),
                &row.currency.code(),
                &(row.currency.decimals() as i16),
                &row.amount,
                &row.effective_date,
                &row.position.known_at,
                &(row.position.version as i64),
                &(row.position.partition as i32),
                &(row.position.offset as i64),
                &row.line,
            ]);
        }
        writer.write(rows).await
    }
}

impl DocumentRows {
    fn fold(&mut self, accepted: &Accepted<'_>, fact: &Fact) {
        let known_at = accepted.position.known_at;
        let key = |kind, document: &DocumentNumber| DocumentKey {
            owner: accepted.owner.clone(),
            kind,
            document: document.clone(),
        };
        type About<'a> = Option<(&'static str, &'a DocumentNumber)>;
        let recorded = |amount: &Money, (day, counts_from): (Date, Date), about: About<'_>| DocumentRow {
            recorded: Some(Recorded {
                amount: *amount,
                day,
                counts_from,
                known_at,
                about: about.map(|(kind, number)| (kind, number.clone())),
            }),
            ended: None,
        };
        match fact {
            Fact::InvoiceIssued(InvoiceIssued { number, total, issue_date, .. }) => {
                self.documents.insert(key("invoice", number), recorded(total, (*issue_date, *issue_date), None));
            }
            Fact::InvoiceVoided(voided) => {
                let key = key("invoice", &voided.number);
                self.documents.entry(key).or_default().ended = Some((voided.day(), known_at));
            }
            Fact::InvoiceCredited(credited) => {
                let InvoiceCredited { credit_note, invoice, amount, credit_date, .. } = credited;
                let (key, days) = (key("credit_note", credit_note), (*credit_date, credited.day()));
                self.documents.insert(key, recorded(amount, days, Some(("invoice", invoice))));
            }
            Fact::PaymentRecorded(payment) => {
                let PaymentRecorded { reference, amount, value_date, .. } = payment;
                let days = (*value_date, payment.day());
                self.documents.insert(key("payment", reference), recorded(amount, days, None));
            }
            Fact::CreditRefunded(refunded) => {
                let CreditRefunded { reference, kind, document, amount, refund_date, .. } = refunded;
                let (of, days) = (Some((kind.name(), document)), (*refund_date, refunded.day()));
                self.documents.insert(key("refund", reference), recorded(amount, days, of));
            }
            Fact::PaymentReversed(reversed) => {
                let key = key("payment", &reversed.reference);
                self.documents.entry(key).or_default().ended = Some((reversed.day(), known_at));
            }
            Fact::PaymentAllocated(_)
            | Fact::CreditNoteAllocated(_)
            | Fact::PaymentDeallocated(_)
            | Fact::CreditNoteDeallocated(_) => {}
        }
        if let Some(moved) = fact.moved_credit() {
            self.allocate(&key(moved.kind.name(), moved.document), accepted.position, moved);
        }
    }

    fn allocate(&mut self, key: &DocumentKey, position: CommitPosition, moved: MovedCredit<'_>) {
        for (line, amount, effective_date) in moved.parts() {
            self.allocations.push(AllocationRow {
                key: key.clone(),
                invoice: line.invoice.clone(),
                instalment: line.instalment,
                currency: moved.currency,
                amount,
                effective_date,
                position,
                line: 0,
            });
        }
    }
}
