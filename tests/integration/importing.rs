//! The main job on real input.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use jiff::{ToSpan, civil::Date};
use saldo_api::v1;
use sqlx::{Connection, PgConnection, Row};

use crate::{
    Failure, Outcome,
    env::{Env, shared_data},
    process::{Saldo, dev_setting},
};

/// A copy of the sample, so that rejected rows are not written beside it.
pub fn sample(dir: &Path) -> Result<String, Failure> {
    let file = dir.join("receivables.csv");
    std::fs::copy(shared_data(), &file)?;
    Ok(file.display().to_string())
}

/// A map of the project's documentation.
pub fn map(kind: &str) -> String {
    format!("{}/../docs/maps/receivables-{kind}.toml", env!("CARGO_MANIFEST_DIR"))
}

/// account -> not due, 1-30, 31-60, 61-90, 91+; in cents, straight from the file.
fn expected(day: Date) -> Result<BTreeMap<String, [i64; 5]>, Failure> {
    let mut figures: BTreeMap<String, [i64; 5]> = BTreeMap::new();
    for row in csv::Reader::from_path(shared_data())?.records() {
        let row = row?;
        let date = |index: usize| Date::strptime("%m/%d/%Y", &row[index]);
        let (issued, due, settled) = (date(4)?, date(5)?, date(8)?);
        if !(issued <= day && day < settled) {
            continue;
        }
        let (major, minor) = row[6].split_once('.').unwrap_or((&row[6], "0"));
        let cents = major.parse::<i64>()? * 100 + format!("{minor:0<2}").parse::<i64>()?;
        let late = (day - due).get_days();
        let bucket = match late {
            ..=0 => 0,
            1..=30 => 1,
            31..=60 => 2,
            61..=90 => 3,
            _ => 4,
        };
        figures.entry(row[1].to_owned()).or_default()[bucket] += cents;
    }
    Ok(figures)
}

pub async fn receivables(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(&dir.path().join("data"), &[]).await?;
    let file = sample(dir.path())?;
    for (kind, added, present) in
        [("invoices", 2466, 0), ("payments", 2466, 0), ("invoices", 0, 2466), ("payments", 0, 2466)]
    {
        let said = saldo.succeed(&["import", kind, &file, "--map", &map(kind), "--json"]).await?;
        let summary: serde_json::Value = serde_json::from_str(&said)?;
        let counts = ["rows", "added", "present", "rejected"].map(|key| summary[key].as_u64());
        assert_eq!(counts, [Some(2466), Some(added), Some(present), Some(0)], "{kind}: {summary}");
    }
    let report = saldo.verify().await?;
    assert_eq!((report["differences"].as_u64(), report["accounts"].as_u64()), (Some(0), Some(100)), "{report}");
    let mut connection = PgConnection::connect(&dev_setting(&saldo.config, "url")?).await?;
    let mut clients = saldo.clients().await?;
    let day = Date::constant(2013, 6, 30);
    for day in [day, day - 1.day(), Date::constant(2012, 3, 1), Date::constant(2013, 12, 31)] {
        let expected = expected(day)?;
        // 1: the command line.
        let said = saldo.succeed(&["aging", "--as-of", &day.to_string(), "--json"]).await?;
        let said: serde_json::Value = serde_json::from_str(&said)?;
        let mut by_cli = BTreeMap::new();
        for row in said["rows"].as_array().ok_or("rows")? {
            let figures =
                ["not_due", "d1_30", "d31_60", "d61_90", "d91_plus"].map(|key| row[key].as_i64().unwrap_or(-1));
            by_cli.insert(row["account"].as_str().unwrap_or_default().to_owned(), figures);
        }
        assert_eq!(by_cli, expected, "the command line on {day}");
        // 2: gRPC.
        let as_of = saldo_facts::date_to_api(day);
        let request = v1::GetAgingRequest { as_of: Some(as_of), page_size: 1_000, ..Default::default() };
        let answer = clients.query.get_aging(request).await?.into_inner();
        let figures = |row: &v1::AgingRow| [row.not_due, row.d1_30, row.d31_60, row.d61_90, row.d91_plus];
        let by_grpc: BTreeMap<_, _> = answer.rows.iter().map(|row| (row.account_id.clone(), figures(row))).collect();
        assert_eq!(by_grpc, expected, "gRPC on {day}");
        let total: i64 = expected.values().flatten().sum();
        assert_eq!(answer.totals.iter().map(|row| row.balance).sum::<i64>(), total);
        // 3: SQL.
        let rows =
            sqlx::query("SELECT account, not_due, d1_30, d31_60, d61_90, d91_plus FROM bi.aging_as_of($1::text::date)")
                .bind(day.to_string())
                .fetch_all(&mut connection)
                .await?;
        let mut by_sql = BTreeMap::new();
        for row in rows {
            let mut figures = [0; 5];
            for (index, figure) in figures.iter_mut().enumerate() {
                *figure = row.try_get(index + 1)?;
            }
            by_sql.insert(row.try_get::<String, _>(0)?, figures);
        }
        assert_eq!(by_sql, expected, "SQL on {day}");
    }
    // At any day and instant it is what the ledger sums up to, line by line.
    let apart: i64 = sqlx::query_scalar(
        "WITH moment AS (
           SELECT day::date, known_at
           FROM generate_series('2011-12-01'::date, '2014-02-01', '17 days') day,
                (SELECT unnest(percentile_disc(ARRAY[0, 0.1, 0.5, 0.9]) WITHIN GROUP (ORDER BY known_at)) FROM bi.ledger
                 UNION ALL SELECT 'infinity') known(known_at)),
         summed AS (
           SELECT day, moment.known_at, account,
                  coalesce(sum(amount_minor) FILTER (WHERE kind = 'invoice' AND due_date < day), 0), sum(amount_minor)
           FROM moment JOIN bi.ledger l ON l.effective_date <= day AND l.known_at <= moment.known_at
           GROUP BY day, moment.known_at, account HAVING sum(amount_minor) <> 0),
         aged AS (
           SELECT day, known_at, account, d1_30 + d31_60 + d61_90 + d91_plus, balance
           FROM moment, bi.aging_as_of(day, known_at) WHERE balance <> 0)
         SELECT count(*) FROM ((TABLE summed EXCEPT TABLE aged) UNION ALL (TABLE aged EXCEPT TABLE summed)) apart",
    )
    .fetch_one(&mut connection)
    .await?;
    let of_no_moment: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM bi.aging_as_of(NULL)) + (SELECT count(*) FROM bi.aging_as_of('2013-06-30', NULL))",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(of_no_moment, 0);
    assert_eq!(apart, 0, "days and instants at which an account's figures are not its ledger's");
    Ok(())
}
