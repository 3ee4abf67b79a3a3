//! The read models, a file each, and the one list of them.
//!
//! A model is a fold of accepted commits. Its file declares its tables, columns and views, says what a commit adds to a
//! batch, and how the batch is written. To add one: write its file and name it in the list below. Tables, comparison,
//! `verify`, rebuild, views and grants follow from the declaration.

pub mod accounts;
pub mod agenda;
pub mod attempts;
pub mod documents;
pub mod history;
pub mod holds;
pub mod ledger;
pub mod listed;
pub mod personal;
pub mod reminders;

use jiff::Timestamp;
use saldo_facts::Commit;

use crate::{
    ReadModelError,
    engine::{Declaration, EngineRows, Models, Writer},
};

/// The list of read models: the field of a batch that holds a model's rows, and the model. A view may show a view of a
/// model above its own.
macro_rules! models {
    ($($field:ident: $model:ty,)*) => {
        /// Everything one batch of commits adds.
        #[derive(Debug, Default)]
        pub struct Rows {
            /// Heads and parked accounts.
            pub engine: EngineRows,
            $(
                #[doc = concat!("Rows of the model `", stringify!($field), "`.")]
                pub $field: $model,
            )*
        }

        /// The declaration of every model.
        pub const DECLARATIONS: &[&Declaration] = &[$(&<$model as Model>::DECLARATION),*];

        impl Rows {
            /// Adds a commit.
            pub fn add(&mut self, accepted: &Accepted<'_>) {
                $(self.$field.add(accepted);)*
            }

            /// Writes what belongs to these models.
            pub(crate) async fn write(&self, writer: &mut Writer<'_>, models: &Models) -> Result<(), ReadModelError> {
                $(
                    if models.contains(<$model as Model>::DECLARATION.name) {
                        self.$field.write(writer).await?;
                    }
                )*
                Ok(())
            }
        }
    };
}

models! {
    accounts: accounts::Accounts,
    agenda: agenda::Agenda,
    ledger: ledger::Ledger,
    documents: documents::DocumentRows,
    history: history::History,
    reminders: reminders::Reminders,
    attempts: attempts::Attempts,
    listed_items: listed::ListedItems,
    holds: holds::Holds,
    personal: personal::Personal,
}

/// The changes of a batch to one read model.
///
/// A batch folds what it does to one row before anything is written, so that rows do not tell where the log was cut into
/// batches. A row that the batch makes is whole; any other row says what changes.
pub(crate) trait Model: Default {
    /// The model's tables and views.
    const DECLARATION: Declaration;

    /// Adds what a commit says.
    fn add(&mut self, accepted: &Accepted<'_>);

    /// Writes the batch.
    async fn write(&self, writer: &mut Writer<'_>) -> Result<(), ReadModelError>;
}

/// Whose row it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The creditor.
    pub tenant: String,
    /// The debtor's account.
    pub account: String,
}

/// Where a commit stands in the log and on its account's chain, and since when it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitPosition {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Its version on the account's chain.
    pub version: u64,
    /// The running maximum of recorded_at over the partition's accepted commits.
    pub known_at: Timestamp,
}

/// A commit that counts.
#[derive(Debug, Clone, Copy)]
pub struct Accepted<'c> {
    /// Whose.
    pub owner: &'c Owner,
    /// Where it stands.
    pub position: CommitPosition,
    /// The trace it was written under, as W3C's `traceparent`.
    pub trace: Option<&'c str>,
    /// The commit.
    pub commit: &'c Commit,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_used_once_and_every_column_of_a_view_says_what_it_holds() {
        let mut names = BTreeSet::new();
        for model in DECLARATIONS {
            assert!(names.insert(format!("model {}", model.name)), "{}", model.name);
            assert!(model.version > 0, "{}", model.name);
            for table in model.tables {
                assert!(names.insert(format!("table {}", table.name)), "{}", table.name);
                let columns: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
                assert!(table.key.split(", ").all(|part| columns.contains(&part)), "{}", table.name);
                assert!(table.personal.is_none_or(|value| columns.contains(&value)), "{}", table.name);
            }
            for view in model.views {
                assert!(names.insert(format!("view {}", view.name)), "{}", view.name);
                assert!(model.tables.iter().any(|table| table.name == view.of.name), "{}", view.name);
                for (column, _, comment) in view.shown() {
                    assert!(comment.is_some_and(|comment| !comment.is_empty()), "bi.{}.{column}", view.name);
                }
            }
        }
    }
}
