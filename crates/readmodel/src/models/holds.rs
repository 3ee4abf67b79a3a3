//! Holds: what is not chased, from when until when, and why.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use saldo_domain::{
    account::Account,
    agreement::{Fact, Hold, HoldScope, HoldTerms},
    event::Event,
    ids::DocumentNumber,
};

use super::{Accepted, CommitPosition, Model, Owner};
use crate::{
    ReadModelError,
    engine::{Column, Declaration, Expected, Kind, Shown, Table, TableRows, View, Writer},
};

const HOLDS: Table = Table {
    partial_changes: true,
    ..Table::new(
        "holds",
        "tenant, account, hold",
        &[
            Column::tenant(),
            Column::account(),
            Column::new("hold", Kind::Id, "The creditor's id of the hold"),
            Column::new("scope", Kind::Text, "account, or invoices where only chosen invoices are on hold"),
            Column::new("invoices", Kind::Text, "The invoices on hold; empty where the whole account is"),
            Column::new("from_date", Kind::Date, "The first day, in the debtor's zone; null: from the beginning")
                .nullable(),
            Column::new("until_date", Kind::Date, "The last day, in the debtor's zone; null: until released")
                .nullable(),
            Column::new(
                "reason",
                Kind::Text,
                "debtor_request, complaint, delivery, hardship, deceased, insolvency, legal, internal or other",
            ),
            Column::new("placed_on", Kind::Date, "The debtor's day on which it was placed").never_changes(),
            Column::new("released_on", Kind::Date, "The debtor's day on which it was released; null while it stands")
                .nullable(),
            Column::new("changed_at", Kind::Instant, "When it was last placed, amended or released"),
            Column::new("version", Kind::Big, "Version of the account's newest commit about it"),
            Column::new("partition", Kind::Int, "Partition of that commit's record"),
            Column::new("record_offset", Kind::Big, "Offset of that commit's record"),
        ],
    )
};

const VIEW: View = View {
    name: "holds",
    comment: "One row per hold: what it covers is not chased from its first day to its last, or until it is released",
    of: &HOLDS,
    columns: &[
        Shown::Column("tenant"),
        Shown::Column("account"),
        Shown::Column("hold"),
        Shown::Column("scope"),
        Shown::Computed(
            "invoices",
            "string_to_array(invoices, E'\\n')",
            "The invoices on hold; empty where the whole account is",
        ),
        Shown::Column("from_date"),
        Shown::Column("until_date"),
        Shown::Column("reason"),
        Shown::Column("placed_on"),
        Shown::Column("released_on"),
        Shown::Column("changed_at"),
        Shown::Column("version"),
        Shown::Column("partition"),
        Shown::Column("record_offset"),
        Shown::Computed(
            "stands_today",
            "released_on IS NULL AND coalesce(from_date <= today, true) AND coalesce(until_date >= today, true)",
            "Whether it keeps anything from being chased today, by the creditor's own day",
        ),
    ],
    rest: "CROSS JOIN LATERAL (
      SELECT coalesce((SELECT t.today FROM bi.tenants t WHERE t.tenant = holds.tenant),
                      (SELECT today FROM bi.clock)) AS today) day",
};

/// Holds that stand. The domain forgets a hold some time after its last day.
const STANDING: Expected = Expected {
    what: "holds",
    rows: "SELECT tenant || '/' || account,
               concat_ws(' ', hold, coalesce(from_date::text, '-'), coalesce(until_date::text, '-'), reason, replace(invoices, E'\n', ' ')),
               until_date IS NOT NULL
           FROM {s}.holds WHERE released_on IS NULL",
    lines: |account: &Account| account.agreement.holds.iter().map(line).collect(),
};

fn line(Hold { hold, terms }: &Hold) -> String {
    let day = |day: Option<Date>| day.map_or_else(|| "-".to_owned(), |day| day.to_string());
    let (_, invoices) = columns(&terms.scope, " ");
    format!("{hold} {} {} {} {invoices}", day(terms.from), day(terms.until), terms.reason.name())
}

/// The scope, and the invoices that it names.
fn columns(scope: &HoldScope, between: &str) -> (&'static str, String) {
    match scope {
        HoldScope::Account => ("account", String::new()),
        HoldScope::Invoices(invoices) => {
            let numbers: Vec<&str> = invoices.iter().map(DocumentNumber::as_str).collect();
            ("invoices", numbers.join(between))
        }
    }
}

/// A hold, by its id on the account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct HoldKey {
    owner: Owner,
    hold: DocumentNumber,
}

/// The changes of a batch to a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HoldRow {
    /// Present where the batch makes the row.
    placed_on: Option<Date>,
    terms: HoldTerms,
    released_on: Option<Date>,
    changed_at: Timestamp,
    position: CommitPosition,
}

/// The changes of a batch to holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    changes: BTreeMap<HoldKey, HoldRow>,
}

impl Model for Holds {
    const DECLARATION: Declaration = Declaration::new("holds", 1, &[HOLDS], &[VIEW]).expecting(&[STANDING]);

    fn add(&mut self, accepted: &Accepted<'_>) {
        for event in &accepted.commit.events {
            let Event::Agreement(fact) = event else { continue };
            let (hold, terms, placed_on, released_on) = match fact {
                Fact::HoldPlaced(placed) => (&placed.hold, &placed.terms, Some(placed.placed_on), None),
                Fact::HoldAmended(amended) => (&amended.hold, &amended.terms, None, None),
                Fact::HoldReleased(released) => (&released.hold, &released.terms, None, Some(released.released_on)),
            };
            let key = HoldKey { owner: accepted.owner.clone(), hold: hold.clone() };
            let before = self.changes.get(&key).and_then(|row| row.placed_on);
            let row = HoldRow {
                placed_on: placed_on.or(before),
                terms: terms.clone(),
                released_on,
                changed_at: accepted.commit.recorded_at,
                position: accepted.position,
            };
            self.changes.insert(key, row);
        }
    }

    async fn write(&self, writer: &mut Writer<'_>) -> Result<(), ReadModelError> {
        let mut rows = TableRows::of(&HOLDS, self.changes.len());
        for (HoldKey { owner, hold }, row) in &self.changes {
            let (scope, invoices) = columns(&row.terms.scope, "\n");
            rows.put(
                row.placed_on.is_some(),
                &[
                    &owner.tenant.as_str(),
                    &owner.account.as_str(),
                    &hold.as_str(),
                    &scope,
                    &invoices.as_str(),
                    &row.terms.from,
                    &row.terms.until,
                    &row.terms.reason.name(),
                    &row.placed_on,
                    &row.released_on,
                    &row.changed_at,
                    &(row.position.version as i64),
                    &(row.position.partition as i32),
                    &(row.position.offset as i64),
                ],
            );
        }
        writer.write(rows).await
    }
}
