//! When each account next needs waking, and by which versions that was decided. The scheduler reads it in log order.

use std::collections::BTreeMap;

use jiff::Timestamp;
use saldo_facts::CatalogVersions;

use super::{Accepted, CommitPosition, Model, Owner};
use crate::{
    ReadModelError,
    engine::{Column, Declaration, Kind, Table, TableRows, Writer},
};

const AGENDA: Table = Table {
    half_empty: true,
    indexes: &["(partition, record_offset)"],
    ..Table::new(
        "agenda",
        "tenant, account",
        &[
            Column::tenant(),
            Column::account(),
            Column::new("wakeup_at", Kind::Instant, "When it next needs waking").nullable(),
            Column::new("account_version", Kind::Big, "Version of the commit that said so"),
            Column::new("catalog_version", Kind::Big, "Version of the tenant's catalog that decided it"),
            Column::new("system_version", Kind::Big, "Version of the operator's own catalog that decided it"),
            Column::new("partition", Kind::Int, "Partition of that commit's record"),
            Column::new("record_offset", Kind::Big, "Offset of that commit's record"),
        ],
    )
};

#[derive(Debug, Clone, Copy)]
struct Row {
    is_new: bool,
    wakeup_at: Option<Timestamp>,
    catalog: CatalogVersions,
    position: CommitPosition,
}

/// The newest wake-up of each account.
#[derive(Debug, Default)]
pub struct Agenda(BTreeMap<Owner, Row>);

impl Model for Agenda {
    const DECLARATION: Declaration = Declaration::new("agenda", 2, &[AGENDA], &[]);

    fn add(&mut self, accepted: &Accepted<'_>) {
        let Accepted { owner, position, commit, .. } = *accepted;
        let is_new = position.version == 1 || self.0.get(owner).is_some_and(|row| row.is_new);
        let (wakeup_at, catalog) = (commit.next_wakeup, commit.catalog);
        self.0.insert(owner.clone(), Row { is_new, wakeup_at, catalog, position });
    }

    async fn write(&self, writer: &mut Writer<'_>) -> Result<(), ReadModelError> {
        let mut rows = TableRows::of(&AGENDA, self.0.len());
        for (owner, row) in &self.0 {
            rows.put(
                row.is_new,
                &[
                    &owner.tenant.as_str(),
                    &owner.account.as_str(),
                    &row.wakeup_at,
                    &(row.position.version as i64),
                    &(row.catalog.tenant as i64),
                    &(row.catalog.system as i64),
                    &(row.position.partition as i32),
                    &(row.position.offset as i64),
                ],
            );
        }
        writer.write(rows).await
    }
}
