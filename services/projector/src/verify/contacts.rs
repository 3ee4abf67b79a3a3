//! The reminders against the domain: how many there ever were, which is open and where it stands, and which one a person
//! should look at.

use std::collections::HashMap;

use jiff::Timestamp;
use saldo_domain::dunning::{Dunning, ReminderState};
use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};

use super::{Folded, Report};
use crate::ProjectorError;

/// What the domain remembers of an account's reminders, and rows should say too.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    reminders: u64,
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

impl Said {
    fn of(contacts: &Dunning) -> Self {
        let open = contacts.open.iter().map(|open| {
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
        Said {
            reminders: contacts.reminders,
            open: open.collect(),
            needs_person: contacts.needs_person().into_iter().collect(),
        }
    }

    fn add(&mut self, row: &PgRow) -> Result<(), sqlx::Error> {
        let reminder = row.try_get::<i64, _>(1)? as u64;
        self.reminders += 1;
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
pub async fn contacts(
    connection: &mut PgConnection,
    schema: &str,
    accounts: &HashMap<String, Folded>,
    report: &mut Report,
) -> Result<(), ProjectorError> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT tenant || '/' || account, reminder, needs_person, status, until, attempts, step, template, retry_of
         FROM {schema}.reminders ORDER BY reminder"
    )))
    .fetch_all(connection)
    .await?;
    let mut found: HashMap<String, Said> = HashMap::new();
    for row in &rows {
        found.entry(row.try_get(0)?).or_default().add(row)?;
    }
    for (key, folded) in accounts.iter().filter(|(_, folded)| !folded.parked) {
        let (log, rows) = (Said::of(&folded.account.dunning), found.remove(key).unwrap_or_default());
        if log != rows {
            report.found.differ(key, "reminders", format!("{log:?}"), format!("{rows:?}"));
        }
    }
    for (key, rows) in found {
        if accounts.get(&key).is_none_or(|folded| !folded.parked) {
            report.found.differ(&key, "reminders", "no such account", format!("{rows:?}"));
        }
    }
    Ok(())
}
