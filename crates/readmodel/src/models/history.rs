//! An account's history: one row an event, and one a refused command.

use jiff::{Timestamp, civil::Date};
use saldo_facts::{effective_date, event_type, summarise};

use super::{Accepted, CommitPosition, Model, Owner};
use crate::{
    ReadModelError,
    engine::{Column, Declaration, Kind, Shown, Table, TableRows, View, Writer},
};

const HISTORY: Table = Table {
    only_grows: true,
    ..Table::new(
        "history",
        "tenant, account, version, index",
        &[
            Column::tenant(),
            Column::account(),
            Column::new("version", Kind::Big, "Version of the account's commit, from 1"),
            Column::new("index", Kind::Int, "Place within the commit, from 0"),
            Column::new("type", Kind::Text, "Type of the event; refused for a refused command"),
            Column::new("effective_date", Kind::Date, "The day it is true of, where it has one").nullable(),
            Column::new("recorded_at", Kind::Instant, "When it was recorded, by the deciding service's clock"),
            Column::new("known_at", Kind::Instant, "From this instant it was known"),
            Column::new("actor", Kind::Text, "Who asked: subject of the credential"),
            Column::new("summary", Kind::Text, "One line, without personal data"),
            Column::new("partition", Kind::Int, "Partition of the record it comes from"),
            Column::new("record_offset", Kind::Big, "Offset of the record it comes from"),
        ],
    )
};

const VIEW: View = View {
    name: "debtor_history",
    comment: "One row per event in order, and one per refused command",
    of: &HISTORY,
    columns: &[
        Shown::Column("tenant"),
        Shown::Column("account"),
        Shown::Column("version"),
        Shown::Column("index"),
        Shown::Column("type"),
        Shown::Column("effective_date"),
        Shown::Column("recorded_at"),
        Shown::Column("known_at"),
        Shown::Column("actor"),
        Shown::Column("summary"),
        Shown::Column("partition"),
        Shown::Column("record_offset"),
    ],
    rest: "",
};

/// One event, or one refusal.
#[derive(Debug, Clone)]
pub struct HistoryRow {
    /// Whose.
    pub owner: Owner,
    /// Where its commit stands.
    pub position: CommitPosition,
    /// Its number within the commit.
    pub index: i32,
    /// Its type.
    pub kind: String,
    /// The day it is true of.
    pub effective_date: Option<Date>,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// The person or system that asked.
    pub actor: String,
    /// One line.
    pub summary: String,
}

/// In log order.
#[derive(Debug, Default)]
pub struct History {
    /// The rows.
    pub rows: Vec<HistoryRow>,
}

impl Model for History {
    const DECLARATION: Declaration = Declaration::new("history", 2, &[HISTORY], &[VIEW]);

    fn add(&mut self, accepted: &Accepted<'_>) {
        let Accepted { owner, position, commit, .. } = *accepted;
        let row = |index: usize, kind: &str, effective_date, summary| HistoryRow {
            owner: owner.clone(),
            position,
            index: index as i32,
            kind: kind.to_owned(),
            effective_date,
            recorded_at: commit.recorded_at,
            actor: commit.actor.clone(),
            summary,
        };
        let events = commit.events.iter().enumerate();
        self.rows.extend(
            events.map(|(index, event)| row(index, event_type(event), effective_date(event), summarise(event))),
        );
        if let Some(refusal) = &commit.refusal {
            let summary = format!("{} refused: {} ({})", in_words(&commit.method), refusal.message, refusal.reason);
            self.rows.push(row(commit.events.len(), "refused", None, summary));
        }
    }

    async fn write(&self, writer: &mut Writer<'_>) -> Result<(), ReadModelError> {
        let mut rows = TableRows::of(&HISTORY, self.rows.len());
        for row in &self.rows {
            rows.insert(&[
                &row.owner.tenant.as_str(),
                &row.owner.account.as_str(),
                &(row.position.version as i64),
                &row.index,
                &row.kind.as_str(),
                &row.effective_date,
                &row.recorded_at,
                &row.position.known_at,
                &row.actor.as_str(),
                &row.summary.as_str(),
                &(row.position.partition as i32),
                &(row.position.offset as i64),
            ]);
        }
        writer.write(rows).await
    }
}

/// The name of an rpc in words: `CreditInvoice` is "Credit invoice".
fn in_words(method: &str) -> String {
    let mut words = String::new();
    for letter in method.chars() {
        match letter.is_ascii_uppercase() && !words.is_empty() {
            true => words.extend([' ', letter.to_ascii_lowercase()]),
            false => words.push(letter),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_command_is_named_in_words() {
        assert_eq!(in_words("CreditInvoice"), "Credit invoice");
        assert_eq!(in_words(""), "");
    }
}
