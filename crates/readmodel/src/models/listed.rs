//! The open items that each attempt's message lists.

use saldo_domain::{
    dunning::{ContactStarted, Fact, ListedItem},
    event::Event,
};

use super::{Accepted, CommitPosition, Model, Owner};
use crate::{
    ReadModelError,
    engine::{Column, Declaration, Kind, Shown, Table, TableRows, View, Writer},
};

const LISTED_ITEMS: Table = Table {
    only_grows: true,
    indexes: &["(tenant, account, invoice)"],
    ..Table::new(
        "listed_items",
        "tenant, account, reminder, attempt, invoice, instalment",
        &[
            Column::tenant(),
            Column::account(),
            Column::new("reminder", Kind::Big, "Number of the reminder on the account, from 1"),
            Column::new("attempt", Kind::Int, "Number of the attempt on the reminder, from 1"),
            Column::new("invoice", Kind::Text, "The invoice that the message lists"),
            Column::new("instalment", Kind::Int, "Number of the instalment from 1"),
            Column::new("currency", Kind::Currency, "ISO 4217"),
            Column::new("decimals", Kind::Small, "Decimal places of the currency"),
            Column::new("due_date", Kind::Date, "When the instalment fell or falls due"),
            Column::new("open_minor", Kind::Big, "What the message says is open; minor units"),
            Column::new("partition", Kind::Int, "Partition of the record it comes from"),
            Column::new("record_offset", Kind::Big, "Offset of the record it comes from"),
        ],
    )
};

const VIEW: View = View {
    name: "listed_items",
    comment: "One row per open item that the message of an attempt lists; bi.contact_attempts says what became of it",
    of: &LISTED_ITEMS,
    columns: &[
        Shown::Column("tenant"),
        Shown::Column("account"),
        Shown::Column("reminder"),
        Shown::Column("attempt"),
        Shown::Column("invoice"),
        Shown::Column("instalment"),
        Shown::Column("currency"),
        Shown::Column("due_date"),
        Shown::Column("open_minor"),
        Shown::Computed(
            "open_major",
            "round(open_minor / (10::numeric ^ decimals), decimals)",
            "What the message says is open in major units, for people",
        ),
        Shown::Column("partition"),
        Shown::Column("record_offset"),
        Shown::Column("decimals"),
    ],
    rest: "",
};

/// An item of a message.
#[derive(Debug, Clone)]
struct Listed {
    owner: Owner,
    reminder: u64,
    attempt: u32,
    item: ListedItem,
    position: CommitPosition,
}

/// In log order.
#[derive(Debug, Default)]
pub struct ListedItems(Vec<Listed>);

impl Model for ListedItems {
    const DECLARATION: Declaration = Declaration::new("listed_items", 1, &[LISTED_ITEMS], &[VIEW]);

    fn add(&mut self, accepted: &Accepted<'_>) {
        for event in &accepted.commit.events {
            let Event::Dunning(Fact::ContactStarted(ContactStarted { reminder, attempt, items, .. })) = event else {
                continue;
            };
            self.0.extend(items.iter().map(|item| Listed {
                owner: accepted.owner.clone(),
                reminder: *reminder,
                attempt: *attempt,
                item: item.clone(),
                position: accepted.position,
            }));
        }
    }

    async fn write(&self, writer: &mut Writer<'_>) -> Result<(), ReadModelError> {
        let mut rows = TableRows::of(&LISTED_ITEMS, self.0.len());
        for Listed { owner, reminder, attempt, item, position } in &self.0 {
            rows.insert(&[
                &owner.tenant.as_str(),
                &owner.account.as_str(),
                &(*reminder as i64),
                &(*attempt as i32),
                &item.invoice.as_str(),
                &(item.instalment as i32),
                &item.currency.code(),
                &(item.currency.decimals() as i16),
                &item.due_date,
                &item.open,
                &(position.partition as i32),
                &(position.offset as i64),
            ]);
        }
        writer.write(rows).await
    }
}
