//! Values of rows in the form of answers, and values of requests in the form of rows.

use jiff::{Timestamp, civil::Date};
use saldo_api::v1;
use saldo_facts::{
    REQUEST_DAY_RULE, REQUEST_INSTANT_RULE, date_to_api, day_from_request, instant_from_request, timestamp_to_api,
};
use sqlx::{Row, postgres::PgRow};
use tonic::Status;

use crate::{TenantRows, errors::invalid};

/// The two axes of time that figures are asked on.
pub struct Axes {
    /// True on this day.
    pub as_of: Date,
    /// Known at this instant; `None`: everything known so far.
    pub known_at: Option<Timestamp>,
}

impl Axes {
    /// As a request names them. Without a day it is the tenant's today.
    pub async fn of(
        rows: &TenantRows<'_>,
        as_of: Option<v1::Date>,
        known_at: Option<prost_types::Timestamp>,
    ) -> Result<Self, Status> {
        let as_of = match as_of {
            Some(day) => day_from_request(day).ok_or_else(|| invalid("as_of", REQUEST_DAY_RULE))?,
            None => rows.today().await?,
        };
        let known_at = match known_at {
            Some(at) => Some(instant_from_request(at).ok_or_else(|| invalid("known_at", REQUEST_INSTANT_RULE))?),
            None => None,
        };
        Ok(Self { as_of, known_at })
    }
}

pub fn date(row: &PgRow, index: usize) -> Result<Option<v1::Date>, sqlx::Error> {
    let date: Option<jiff_sqlx::Date> = row.try_get(index)?;
    Ok(date.map(|date| date_to_api(date.to_jiff())))
}

pub fn timestamp(row: &PgRow, index: usize) -> Result<prost_types::Timestamp, sqlx::Error> {
    Ok(timestamp_to_api(row.try_get::<jiff_sqlx::Timestamp, _>(index)?.to_jiff()))
}

pub fn timestamp_if_any(row: &PgRow, index: usize) -> Result<Option<prost_types::Timestamp>, sqlx::Error> {
    let at: Option<jiff_sqlx::Timestamp> = row.try_get(index)?;
    Ok(at.map(|at| timestamp_to_api(at.to_jiff())))
}
