//! Accounts without their personal data.

use std::collections::BTreeMap;

use saldo_domain::{
    event::Event,
    party::{AccountAmended, AccountOpened, DebtorKind, Fact},
};

use super::{Accepted, Model, Owner};
use crate::{
    ReadModelError,
    engine::{Column, Declaration, Kind, Shown, Table, TableRows, View, Writer},
};

const ACCOUNTS: Table = Table {
    half_empty: true,
    ..Table::new(
        "accounts",
        "tenant, account",
        &[
            Column::tenant(),
            Column::account(),
            Column::new("version", Kind::Big, "Version of the newest commit"),
            Column::new("kind", Kind::Text, "consumer or business").nullable().set_if_known(),
            Column::new("language", Kind::Text, "ISO 639-1").nullable().set_if_known(),
            Column::new("time_zone", Kind::Text, "IANA time zone").nullable().set_if_known(),
            Column::new("country", Kind::Text, "ISO 3166-1 alpha-2").nullable().set_if_known(),
        ],
    )
};

const VIEW: View = View {
    name: "accounts",
    comment: "Accounts without personal data",
    of: &ACCOUNTS,
    columns: &[
        Shown::Column("tenant"),
        Shown::Column("account"),
        Shown::Column("kind"),
        Shown::Column("language"),
        Shown::Column("time_zone"),
        Shown::Column("country"),
        Shown::Column("version"),
    ],
    rest: "",
};

/// The changes of a batch to an account.
#[derive(Debug, Clone, Default)]
struct Row {
    is_new: bool,
    version: u64,
    // Absent in these four: the batch leaves them as they are.
    kind: Option<&'static str>,
    language: Option<String>,
    time_zone: Option<String>,
    country: Option<String>,
}

/// Accounts, by owner.
#[derive(Debug, Default)]
pub struct Accounts(BTreeMap<Owner, Row>);

impl Model for Accounts {
    const DECLARATION: Declaration = Declaration::new("accounts", 1, &[ACCOUNTS], &[VIEW]);

    fn add(&mut self, accepted: &Accepted<'_>) {
        let row = self.0.entry(accepted.owner.clone()).or_default();
        row.is_new |= accepted.position.version == 1;
        row.version = accepted.position.version;
        for event in &accepted.commit.events {
            if let Event::Party(fact) = event {
                row.profile(fact);
            }
        }
    }

    async fn write(&self, writer: &mut Writer<'_>) -> Result<(), ReadModelError> {
        let mut rows = TableRows::of(&ACCOUNTS, self.0.len());
        for (owner, row) in &self.0 {
            rows.put(
                row.is_new,
                &[
                    &owner.tenant.as_str(),
                    &owner.account.as_str(),
                    &(row.version as i64),
                    &row.kind,
                    &row.language.as_deref(),
                    &row.time_zone.as_deref(),
                    &row.country.as_deref(),
                ],
            );
        }
        writer.write(rows).await
    }
}

impl Row {
    fn profile(&mut self, fact: &Fact) {
        let kind = |kind: DebtorKind| match kind {
            DebtorKind::Consumer => "consumer",
            DebtorKind::Business => "business",
        };
        match fact {
            Fact::AccountOpened(AccountOpened(profile)) => {
                self.kind = Some(kind(profile.kind));
                self.language = Some(profile.language.clone());
                self.time_zone = Some(profile.time_zone.clone());
                self.country = Some(profile.country.clone());
            }
            Fact::AccountAmended(AccountAmended(change)) => {
                self.kind = change.kind.map(kind).or(self.kind);
                self.language = change.language.clone().or(self.language.take());
                self.time_zone = change.time_zone.clone().or(self.time_zone.take());
                self.country = change.country.clone().or(self.country.take());
            }
        }
    }
}
