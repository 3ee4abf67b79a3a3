//! The reminders against the domain: how many there ever were, which is open and where it stands, and which one a person
//! should look at.

use std::collections::HashMap;

use futures::TryStreamExt;
use jiff::Timestamp;
use saldo_domain::dunning::{Dunning, ReminderState};
use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};

use super::accounts::Accounts;
use crate::{ProjectorError, compare::Differences};

/// What the domain remembers of an account's reminders, and rows should say too.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reminders {
    count: u64,
    open: Vec<Open>,
    needs_person: Vec<u64>,
}

#[derive(Debug, PartialEq, Eq)]
struct Open {
    reminder: u64,
    status: String,
    until: Option<Timestamp>,
    attempts: u32,
    step: String,
    template: String,
    retry_of: Option<u64>,
}

impl Reminders {
    fn of(dunning: &Dunning) -> Self {
        let open = dunning.open.iter().map(|open| {
            let (status, until) = match open.state {
                ReminderState::Due { from: None } => ("due", None),
                ReminderState::Due { from } => ("deferred", from),
                ReminderState::Started { send_before, .. } => ("started", Some(send_before)),
            };
            Open {
                reminder: open.number,
                status: status.to_owned(),
                until,
                attempts: open.attempts,
                step: open.notice.step.clone(),
                template: open.notice.template.clone(),
                retry_of: open.retry_of,
            }
        });
        Self {
            count: dunning.reminders,
            open: open.collect(),
            needs_person: dunning.needs_person().into_iter().collect(),
        }
    }

    fn add(&mut self, row: &PgRow) -> Result<(), sqlx::Error> {
        let reminder = row.try_get::<i64, _>(1)? as u64;
        self.count += 1;
        if row.try_get(2)? {
            self.needs_person.push(reminder);
        }
        let status: String = row.try_get(3)?;
        if matches!(status.as_str(), "due" | "deferred" | "started") {
            self.open.push(Open {
                reminder,
                status,
                until: row.try_get::<Option<jiff_sqlx::Timestamp>, _>(4)?.map(|at| at.to_jiff()),
                attempts: row.try_get::<i32, _>(5)? as u32,
                step: row.try_get(6)?,
                template: row.try_get(7)?,
                retry_of: row.try_get::<Option<i64>, _>(8)?.map(|former| former as u64),
            });
        }
        Ok(())
    }
}

/// The domain's state remembers the same reminders.
pub async fn compare(
    connection: &mut PgConnection,
    schema: &str,
    accounts: &Accounts,
    found: &mut Differences,
) -> Result<(), ProjectorError> {
    let mut rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT tenant || '/' || account, reminder, needs_person, status, until, attempts, step, template, retry_of
         FROM {schema}.reminders ORDER BY reminder"
    )))
    .fetch(connection);
    let mut reminders: HashMap<String, Reminders> = HashMap::new();
    while let Some(row) = rows.try_next().await? {
        let key: String = row.try_get(0)?;
        if accounts.compares(&key) {
            reminders.entry(key).or_default().add(&row)?;
        }
    }
    accounts.differ("reminders", |account| Reminders::of(&account.dunning), reminders, found);
    Ok(())
}
