//! The money: every change of every item, on both axes of time, and what is open of each item with all that is known.
//!
//! The money of a payment or a credit note is first all unapplied; applying it moves it to the invoice's item. So the buckets
//! of an ageing plus what is unapplied are the balance by construction.

mod aging;

use std::collections::BTreeMap;

use jiff::civil::Date;
use saldo_domain::{
    account::Account,
    event::Event,
    ids::DocumentNumber,
    ledger::{
        AllocationLine, CreditRefunded, Fact, InvoiceCredited, InvoiceIssued, InvoiceVoided, PaymentRecorded,
        PaymentReversed,
    },
    money::Currency,
};

use super::{Accepted, CommitPosition, Model, Owner};
use crate::{
    ReadModelError,
    engine::{Column, Declaration, Expected, Kind, Shown, Table, TableRows, View, Writer},
};

const LEDGER: Table = Table {
    only_grows: true,
    indexes: &["(tenant, account)", "USING brin (effective_date, known_at) WITH (autosummarize = on)"],
    ..Table::new(
        "ledger",
        "partition, record_offset, line",
        &[
            Column::tenant(),
            Column::account(),
            Column::new("currency", Kind::Currency, "ISO 4217"),
            Column::new("decimals", Kind::Small, "Decimal places of the currency"),
            Column::new("kind", Kind::Text, "invoice, payment or credit_note"),
            Column::new("document", Kind::Text, "Number or reference of the item changed"),
            Column::new("instalment", Kind::Int, "Number of the instalment from 1; 0 for credit"),
            Column::new("due_date", Kind::Date, "When the item falls due; null for credit").nullable(),
            Column::new("effective_date", Kind::Date, "From this day the change is true"),
            Column::new(
                "known_at",
                Kind::Instant,
                "From this instant it was known: running maximum of recorded_at in its partition",
            ),
            Column::new("amount_minor", Kind::Big, "The change; minor units, negative lowers what is owed"),
            Column::new("partition", Kind::Int, "Partition of the record it comes from"),
            Column::new("record_offset", Kind::Big, "Offset of the record it comes from"),
            Column::new("line", Kind::Int, "Number of the change within the record"),
        ],
    )
};

const LEDGER_VIEW: View = View {
    name: "ledger",
    comment: "Every change of every item, on both axes of time",
    of: &LEDGER,
    columns: &[
        Shown::Column("tenant"),
        Shown::Column("account"),
        Shown::Column("kind"),
        Shown::Column("document"),
        Shown::Column("instalment"),
        Shown::Column("currency"),
        Shown::Column("due_date"),
        Shown::Column("effective_date"),
        Shown::Column("known_at"),
        Shown::Column("amount_minor"),
        Shown::Computed(
            "amount_major",
            "round(amount_minor / (10::numeric ^ decimals), decimals)",
            "The change in major units, for people",
        ),
        Shown::Column("partition"),
        Shown::Column("record_offset"),
        Shown::Column("line"),
        Shown::Column("decimals"),
    ],
    rest: "",
};

const ITEMS: Table = Table {
    indexes: &["(tenant, account) WHERE open_minor <> 0"],
    ..Table::new(
        "items",
        "tenant, account, kind, document, instalment",
        &[
            Column::tenant(),
            Column::account(),
            Column::new("kind", Kind::Text, "invoice, payment (unapplied) or credit_note (unapplied)"),
            Column::new("document", Kind::Text, "Invoice number, payment reference or credit note number"),
            Column::new("instalment", Kind::Int, "Number of the instalment from 1; 0 for unapplied credit"),
            Column::new("currency", Kind::Currency, "ISO 4217").never_changes(),
            Column::new("decimals", Kind::Small, "Decimal places of the currency").never_changes(),
            Column::new("issue_date", Kind::Date, "The document's own date").never_changes(),
            Column::new(
                "due_date",
                Kind::Date,
                "When it falls due; null for unapplied credit. Its bucket depends on the day asked",
            )
            .nullable()
            .never_changes(),
            Column::new("original_minor", Kind::Big, "What it was at first; minor units, credit negative")
                .never_changes(),
            Column::new("open_minor", Kind::Big, "What is left; minor units, credit negative").added(),
        ],
    )
};

/// Settled items too. `bi.open_items` has the same columns, and of an item what is open today.
const ITEMS_VIEW: View = View {
    name: "items",
    comment: "One row per invoice instalment or credit, settled ones too, with all that is known",
    of: &ITEMS,
    columns: &[
        Shown::Column("tenant"),
        Shown::Column("account"),
        Shown::Column("kind"),
        Shown::Column("document"),
        Shown::Column("instalment"),
        Shown::Column("currency"),
        Shown::Column("issue_date"),
        Shown::Column("due_date"),
        Shown::Column("original_minor"),
        Shown::Said(
            "open_minor",
            "What is left with all that is known, whatever day it counts from; minor units, credit negative",
        ),
        Shown::Computed(
            "open_major",
            "round(open_minor / (10::numeric ^ decimals), decimals)",
            "The same in major units, for people",
        ),
        Shown::Column("decimals"),
    ],
    rest: "",
};

/// An item: an instalment, or credit from a payment or a credit note.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// Whose.
    pub owner: Owner,
    /// `invoice`, `payment` or `credit_note`.
    pub kind: &'static str,
    /// Its number or reference.
    pub document: String,
    /// 0 for credit.
    pub instalment: u32,
}

/// A change of an item on a day.
#[derive(Debug, Clone)]
pub struct LedgerRow {
    /// The item.
    pub item: ItemKey,
    /// Its currency.
    pub currency: Currency,
    /// When the item falls due; `None` for credit.
    pub due_date: Option<Date>,
    /// The document's own date.
    pub issue_date: Date,
    /// From this day it is true.
    pub effective_date: Date,
    /// Minor units; negative lowers what is owed.
    pub amount: i64,
    /// Where its commit stands.
    pub position: CommitPosition,
    /// Its number within the commit.
    pub line: i32,
}

/// The changes of a batch to an item.
#[derive(Debug, Clone, Copy)]
pub struct ItemChange {
    /// The batch makes the row. A document's number is used once for ever, so nobody else can have made it.
    pub is_new: bool,
    /// Its currency.
    pub currency: Currency,
    /// The document's own date.
    pub issue_date: Date,
    /// When it falls due; `None` for credit.
    pub due_date: Option<Date>,
    /// The first amount, where the row is new.
    pub original: i64,
    /// The sum of the batch's entries.
    pub change: i64,
}

const OPEN: Expected = Expected {
    what: "open items",
    rows: "SELECT tenant || '/' || account, concat_ws(' ', kind, document, instalment, currency, open_minor), false
           FROM {s}.items WHERE open_minor <> 0",
    lines: |account| {
        let line = |(kind, document, instalment, currency, open): OpenAmount<'_>| {
            format!("{kind} {document} {instalment} {currency} {open}")
        };
        open(account).map(line).collect()
    },
};

/// The ledger sums to each account's balance.
const BALANCES: Expected = Expected {
    what: "ledger sums by currency",
    rows: "SELECT tenant || '/' || account, concat_ws(' ', currency, sum(amount_minor)), false
           FROM {s}.ledger GROUP BY tenant, account, currency HAVING sum(amount_minor) <> 0",
    lines: |account| {
        let mut balances: BTreeMap<&str, i64> = BTreeMap::new();
        for (_, _, _, currency, open) in open(account) {
            *balances.entry(currency.code()).or_default() += open;
        }
        let balances = balances.into_iter().filter(|(_, balance)| *balance != 0);
        balances.map(|(currency, balance)| format!("{currency} {balance}")).collect()
    },
};

/// Kind, document, instalment, currency, and what is open in minor units.
type OpenAmount<'a> = (&'static str, &'a DocumentNumber, u32, &'a Currency, i64);

fn open(account: &Account) -> impl Iterator<Item = OpenAmount<'_>> {
    let items = &account.ledger.items;
    let items = items.iter().map(|item| ("invoice", &item.invoice, item.instalment, &item.currency, item.open));
    let credits = account
        .ledger
        .credits
        .iter()
        .map(|credit| (credit.kind.name(), &credit.document, 0, &credit.currency, -credit.remaining));
    items.chain(credits)
}

/// The rows that a batch adds to the ledger, and their sum for each item.
#[derive(Debug, Default)]
pub struct Ledger {
    /// In log order.
    pub rows: Vec<LedgerRow>,
    /// By item.
    pub items: BTreeMap<ItemKey, ItemChange>,
}

impl Model for Ledger {
    const DECLARATION: Declaration = Declaration {
        more: aging::face,
        expected: &[OPEN, BALANCES],
        ..Declaration::new("ledger", 3, &[LEDGER, ITEMS], &[ITEMS_VIEW, LEDGER_VIEW])
    };

    fn add(&mut self, accepted: &Accepted<'_>) {
        let Accepted { owner, position, commit, .. } = *accepted;
        let mut lines = Lines { rows: &mut self.rows, items: &mut self.items, owner, position, line: 0 };
        for event in &commit.events {
            if let Event::Ledger(fact) = event {
                lines.post(fact);
            }
        }
    }

    async fn write(&self, writer: &mut Writer<'_>) -> Result<(), ReadModelError> {
        let mut rows = TableRows::of(&LEDGER, self.rows.len());
        for row in &self.rows {
            rows.insert(&[
                &row.item.owner.tenant.as_str(),
                &row.item.owner.account.as_str(),
                &row.currency.code(),
                &(row.currency.decimals() as i16),
                &row.item.kind,
                &row.item.document.as_str(),
                &(row.item.instalment as i32),
                &row.due_date,
                &row.effective_date,
                &row.position.known_at,
                &row.amount,
                &(row.position.partition as i32),
                &(row.position.offset as i64),
                &row.line,
            ]);
        }
        writer.write(rows).await?;
        let mut rows = TableRows::of(&ITEMS, self.items.len());
        for (item, row) in &self.items {
            rows.put(
                row.is_new,
                &[
                    &item.owner.tenant.as_str(),
                    &item.owner.account.as_str(),
                    &item.kind,
                    &item.document.as_str(),
                    &(item.instalment as i32),
                    &row.currency.code(),
                    &(row.currency.decimals() as i16),
                    &row.issue_date,
                    &row.due_date,
                    &row.original,
                    &row.change,
                ],
            );
        }
        writer.write(rows).await
    }
}

struct Lines<'r> {
    rows: &'r mut Vec<LedgerRow>,
    items: &'r mut BTreeMap<ItemKey, ItemChange>,
    owner: &'r Owner,
    position: CommitPosition,
    line: i32,
}

/// The item that an entry changes.
struct Item<'a> {
    kind: &'static str,
    document: &'a DocumentNumber,
    instalment: u32,
    currency: Currency,
    due_date: Option<Date>,
    issue_date: Date,
}

impl Lines<'_> {
    /// The entry that makes an item.
    fn make(&mut self, item: Item<'_>, amount: i64) {
        let day = item.issue_date;
        self.enter(item, day, amount, true);
    }

    /// An entry that changes an item.
    fn push(&mut self, item: Item<'_>, effective_date: Date, amount: i64) {
        self.enter(item, effective_date, amount, false);
    }

    fn enter(&mut self, item: Item<'_>, effective_date: Date, amount: i64, is_new: bool) {
        let key = ItemKey {
            owner: self.owner.clone(),
            kind: item.kind,
            document: item.document.to_string(),
            instalment: item.instalment,
        };
        let change = self.items.entry(key.clone()).or_insert(ItemChange {
            is_new,
            currency: item.currency,
            issue_date: item.issue_date,
            due_date: item.due_date,
            original: amount,
            change: 0,
        });
        change.change += amount;
        self.rows.push(LedgerRow {
            item: key,
            currency: item.currency,
            due_date: item.due_date,
            issue_date: item.issue_date,
            effective_date,
            amount,
            position: self.position,
            line: self.line,
        });
        self.line += 1;
    }

    /// Entries of one event. The money of a payment or credit is first all unapplied; applying it moves it to the item.
    fn post(&mut self, fact: &Fact) {
        match fact {
            Fact::InvoiceIssued(InvoiceIssued { number, total, issue_date, instalments, .. }) => {
                for part in instalments {
                    let item = Item {
                        kind: "invoice",
                        document: number,
                        instalment: part.number,
                        currency: total.currency,
                        due_date: Some(part.due_date),
                        issue_date: *issue_date,
                    };
                    self.make(item, part.amount);
                }
            }
            Fact::InvoiceVoided(voided @ InvoiceVoided { number, currency, instalments, .. }) => {
                for part in instalments {
                    let item = Item {
                        kind: "invoice",
                        document: number,
                        instalment: part.number,
                        currency: *currency,
                        due_date: Some(part.due_date),
                        issue_date: voided.day(),
                    };
                    self.push(item, voided.day(), -part.amount);
                }
            }
            Fact::InvoiceCredited(credited @ InvoiceCredited { credit_note, amount, .. }) => {
                self.make(credit("credit_note", credit_note, amount.currency, credited.day()), -amount.minor);
                self.move_credit(fact);
            }
            Fact::PaymentRecorded(recorded @ PaymentRecorded { reference, amount, .. }) => {
                self.make(credit("payment", reference, amount.currency, recorded.day()), -amount.minor);
            }
            Fact::PaymentAllocated(_)
            | Fact::CreditNoteAllocated(_)
            | Fact::PaymentDeallocated(_)
            | Fact::CreditNoteDeallocated(_) => self.move_credit(fact),
            Fact::CreditRefunded(refunded @ CreditRefunded { kind, document, amount, .. }) => {
                let day = refunded.day();
                self.push(credit(kind.name(), document, amount.currency, day), day, amount.minor);
            }
            // Applied money is first unapplied again, and then all of it goes.
            Fact::PaymentReversed(reversed @ PaymentReversed { reference, amount, .. }) => {
                self.move_credit(fact);
                let payment = credit("payment", reference, amount.currency, reversed.day());
                self.push(payment, reversed.day(), amount.minor);
            }
        }
    }

    /// Entries of the credit that a fact applies or takes back: at the instalments, and at the credit itself.
    fn move_credit(&mut self, fact: &Fact) {
        let Some(moved) = fact.moved_credit() else { return };
        for (line, amount, day) in moved.parts() {
            self.push(applied(line, moved.currency), day, -amount);
            self.push(credit(moved.kind.name(), moved.document, moved.currency, day), day, amount);
        }
    }
}

fn applied(line: &AllocationLine, currency: Currency) -> Item<'_> {
    Item {
        kind: "invoice",
        document: &line.invoice,
        instalment: line.instalment,
        currency,
        due_date: Some(line.due_date),
        issue_date: line.issue_date,
    }
}

fn credit<'a>(kind: &'static str, document: &'a DocumentNumber, currency: Currency, issue_date: Date) -> Item<'a> {
    Item { kind, document, instalment: 0, currency, due_date: None, issue_date }
}
