//! Writing a batch: set-based, with the checkpoints moved by compare-and-set in the same transaction.

mod contacts;

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use saldo_log::acceptor::Position;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    ReadModelError,
    rows::{ItemKey, LedgerRow, Owner, Rows},
    schema::Schema,
};

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Written; commit the transaction.
    Yes,
    /// Another projector has moved a checkpoint: roll back and read anew from where it stands.
    Overtaken,
}

/// A checkpoint's move.
#[derive(Debug, Clone, Copy)]
pub struct Move {
    /// The partition.
    pub partition: u32,
    /// Where it must stand.
    pub from: u64,
    /// Where it goes.
    pub to: Position,
    /// The partition's known instant there.
    pub known_instant: Option<Timestamp>,
}

/// Personal values, opened; `None` where they were erased.
#[derive(Debug, Default)]
pub struct Opened {
    /// Names.
    pub names: BTreeMap<Owner, Option<String>>,
    /// Contact points: channel and address.
    pub contact_points: BTreeMap<Owner, Vec<(&'static str, Option<String>)>>,
}

/// Writes a batch into `schema`.
pub async fn apply(
    connection: &mut PgConnection,
    schema: &Schema,
    moves: &[Move],
    rows: &Rows,
    opened: &Opened,
) -> Result<Applied, ReadModelError> {
    let mut writer = Writer { connection, schema: schema.name() };
    if writer.checkpoints(moves).await? != moves.len() as u64 {
        return Ok(Applied::Overtaken);
    }
    writer.heads(rows).await?;
    writer.accounts(rows).await?;
    writer.ledger(&rows.ledger).await?;
    writer.items(&rows.ledger).await?;
    writer.history(rows).await?;
    writer.contacts(&rows.contacts).await?;
    writer.parked(rows).await?;
    writer.personal(opened).await?;
    Ok(Applied::Yes)
}

struct Writer<'c> {
    connection: &'c mut PgConnection,
    schema: &'c str,
}

fn day(date: Date) -> String {
    date.to_string()
}

fn instant(at: Timestamp) -> String {
    at.to_string()
}

impl Writer<'_> {
    fn sql(&self, statement: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(statement.replace("{s}", self.schema))
    }

    async fn checkpoints(&mut self, moves: &[Move]) -> Result<u64, ReadModelError> {
        let mut moves = moves.to_vec();
        moves.sort_by_key(|one| one.partition);
        let done = sqlx::query(self.sql(
            "UPDATE {s}.checkpoints c
             SET next_offset = m.next_offset, last_hash = m.last_hash, known_instant = m.known::timestamptz
             FROM unnest($1::int[], $2::bigint[], $3::bigint[], $4::bytea[], $5::text[])
                  AS m(partition, old_offset, next_offset, last_hash, known)
             WHERE c.partition = m.partition AND c.next_offset = m.old_offset",
        ))
        .bind(moves.iter().map(|one| one.partition as i32).collect::<Vec<_>>())
        .bind(moves.iter().map(|one| one.from as i64).collect::<Vec<_>>())
        .bind(moves.iter().map(|one| one.to.next as i64).collect::<Vec<_>>())
        .bind(moves.iter().map(|one| one.to.last_hash.to_vec()).collect::<Vec<_>>())
        .bind(moves.iter().map(|one| one.known_instant.map(instant)).collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        Ok(done.rows_affected())
    }

    async fn heads(&mut self, rows: &Rows) -> Result<(), ReadModelError> {
        let (mut keys, mut partitions, mut hashes, mut versions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (key, (partition, head)) in &rows.heads {
            keys.push(key.as_str());
            partitions.push(*partition as i32);
            hashes.push(head.hash.to_vec());
            versions.push(head.version as i64);
        }
        sqlx::query(self.sql(
            "INSERT INTO {s}.heads (key, partition, hash, version)
             SELECT * FROM unnest($1::text[], $2::int[], $3::bytea[], $4::bigint[])
             ON CONFLICT (key) DO UPDATE SET hash = excluded.hash, version = excluded.version",
        ))
        .bind(keys)
        .bind(partitions)
        .bind(hashes)
        .bind(versions)
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    async fn accounts(&mut self, rows: &Rows) -> Result<(), ReadModelError> {
        let (tenants, accounts) = owners(rows.accounts.keys());
        let of = |field: fn(&crate::rows::AccountRow) -> Option<String>| {
            rows.accounts.values().map(field).collect::<Vec<_>>()
        };
        let versions: Vec<i64> = rows.accounts.values().map(|row| row.version as i64).collect();
        sqlx::query(self.sql(
            "INSERT INTO {s}.accounts AS a (tenant, account, version, kind, language, time_zone, country)
             SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[])
             ON CONFLICT (tenant, account) DO UPDATE SET version = excluded.version,
               kind = coalesce(excluded.kind, a.kind), language = coalesce(excluded.language, a.language),
               time_zone = coalesce(excluded.time_zone, a.time_zone), country = coalesce(excluded.country, a.country)",
        ))
        .bind(&tenants)
        .bind(&accounts)
        .bind(&versions)
        .bind(of(|row| row.kind.map(str::to_owned)))
        .bind(of(|row| row.language.clone()))
        .bind(of(|row| row.time_zone.clone()))
        .bind(of(|row| row.country.clone()))
        .execute(&mut *self.connection)
        .await?;
        sqlx::query(self.sql(
            "INSERT INTO {s}.agenda (tenant, account, wakeup_at, account_version, catalog_version, partition, record_offset)
             SELECT tenant, account, wakeup::timestamptz, version, catalog_version, partition, record_offset
             FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::int[], $7::bigint[])
               AS r(tenant, account, wakeup, version, catalog_version, partition, record_offset)
             ON CONFLICT (tenant, account) DO UPDATE SET wakeup_at = excluded.wakeup_at,
               account_version = excluded.account_version, catalog_version = excluded.catalog_version,
               partition = excluded.partition, record_offset = excluded.record_offset",
        ))
        .bind(&tenants)
        .bind(&accounts)
        .bind(of(|row| row.next_wakeup.map(instant)))
        .bind(&versions)
        .bind(rows.accounts.values().map(|row| row.catalog_version as i64).collect::<Vec<_>>())
        .bind(rows.accounts.values().map(|row| row.partition as i32).collect::<Vec<_>>())
        .bind(rows.accounts.values().map(|row| row.offset as i64).collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    async fn ledger(&mut self, ledger: &[LedgerRow]) -> Result<(), ReadModelError> {
        fn column<T>(ledger: &[LedgerRow], value: impl Fn(&LedgerRow) -> T) -> Vec<T> {
            ledger.iter().map(value).collect()
        }
        let (tenants, accounts) = owners(ledger.iter().map(|row| &row.item.owner));
        sqlx::query(self.sql(
            "INSERT INTO {s}.ledger (tenant, account, currency, decimals, kind, document, instalment, due_date,
                                     effective_date, known_at, amount_minor, partition, record_offset, line)
             SELECT tenant, account, currency, decimals, kind, document, instalment, due_date::date,
                    effective_date::date, known_at::timestamptz, amount, partition, record_offset, line
             FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::text[], $6::text[], $7::int[],
                         $8::text[], $9::text[], $10::text[], $11::bigint[], $12::int[], $13::bigint[], $14::int[])
               AS r(tenant, account, currency, decimals, kind, document, instalment, due_date, effective_date, known_at,
                    amount, partition, record_offset, line)",
        ))
        .bind(tenants)
        .bind(accounts)
        .bind(column(ledger, |row| row.currency.code().to_owned()))
        .bind(column(ledger, |row| row.currency.decimals() as i16))
        .bind(column(ledger, |row| row.item.kind))
        .bind(column(ledger, |row| row.item.document.clone()))
        .bind(column(ledger, |row| row.item.instalment as i32))
        .bind(column(ledger, |row| row.due_date.map(day)))
        .bind(column(ledger, |row| day(row.effective_date)))
        .bind(column(ledger, |row| instant(row.place.known_at)))
        .bind(column(ledger, |row| row.amount))
        .bind(column(ledger, |row| row.place.partition as i32))
        .bind(column(ledger, |row| row.place.offset as i64))
        .bind(column(ledger, |row| row.line))
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Items move by the batch's sums; the first entry of an item is what it was at first.
    async fn items(&mut self, ledger: &[LedgerRow]) -> Result<(), ReadModelError> {
        let mut sums: BTreeMap<&ItemKey, (&LedgerRow, i64)> = BTreeMap::new();
        for row in ledger {
            sums.entry(&row.item).or_insert((row, 0)).1 += row.amount;
        }
        let (tenants, accounts) = owners(sums.keys().map(|item| &item.owner));
        let firsts: Vec<&LedgerRow> = sums.values().map(|(first, _)| *first).collect();
        sqlx::query(self.sql(
            "INSERT INTO {s}.items AS i (tenant, account, kind, document, instalment, currency, decimals, issue_date,
                                         due_date, original_minor, open_minor)
             SELECT tenant, account, kind, document, instalment, currency, decimals, issue_date::date, due_date::date,
                    original, change
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::smallint[],
                         $8::text[], $9::text[], $10::bigint[], $11::bigint[])
               AS r(tenant, account, kind, document, instalment, currency, decimals, issue_date, due_date, original, change)
             ON CONFLICT (tenant, account, kind, document, instalment)
             DO UPDATE SET open_minor = i.open_minor + excluded.open_minor",
        ))
        .bind(tenants)
        .bind(accounts)
        .bind(firsts.iter().map(|row| row.item.kind).collect::<Vec<_>>())
        .bind(firsts.iter().map(|row| row.item.document.clone()).collect::<Vec<_>>())
        .bind(firsts.iter().map(|row| row.item.instalment as i32).collect::<Vec<_>>())
        .bind(firsts.iter().map(|row| row.currency.code().to_owned()).collect::<Vec<_>>())
        .bind(firsts.iter().map(|row| row.currency.decimals() as i16).collect::<Vec<_>>())
        .bind(firsts.iter().map(|row| day(row.issue_date)).collect::<Vec<_>>())
        .bind(firsts.iter().map(|row| row.due_date.map(day)).collect::<Vec<_>>())
        .bind(firsts.iter().map(|row| row.amount).collect::<Vec<_>>())
        .bind(sums.values().map(|(_, sum)| *sum).collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    async fn history(&mut self, rows: &Rows) -> Result<(), ReadModelError> {
        let history = &rows.history;
        let (tenants, accounts) = owners(history.iter().map(|row| &row.owner));
        sqlx::query(self.sql(
            "INSERT INTO {s}.history (tenant, account, version, index, type, effective_date, recorded_at, known_at,
                                      actor, summary, partition, record_offset)
             SELECT tenant, account, version, index, type, effective_date::date, recorded_at::timestamptz,
                    known_at::timestamptz, actor, summary, partition, record_offset
             FROM unnest($1::text[], $2::text[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[],
                         $9::text[], $10::text[], $11::int[], $12::bigint[])
               AS r(tenant, account, version, index, type, effective_date, recorded_at, known_at, actor, summary,
                    partition, record_offset)",
        ))
        .bind(tenants)
        .bind(accounts)
        .bind(history.iter().map(|row| row.place.version as i64).collect::<Vec<_>>())
        .bind(history.iter().map(|row| row.index).collect::<Vec<_>>())
        .bind(history.iter().map(|row| row.kind.clone()).collect::<Vec<_>>())
        .bind(history.iter().map(|row| row.effective_date.map(day)).collect::<Vec<_>>())
        .bind(history.iter().map(|row| instant(row.recorded_at)).collect::<Vec<_>>())
        .bind(history.iter().map(|row| instant(row.place.known_at)).collect::<Vec<_>>())
        .bind(history.iter().map(|row| row.actor.clone()).collect::<Vec<_>>())
        .bind(history.iter().map(|row| row.summary.clone()).collect::<Vec<_>>())
        .bind(history.iter().map(|row| row.place.partition as i32).collect::<Vec<_>>())
        .bind(history.iter().map(|row| row.place.offset as i64).collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    async fn parked(&mut self, rows: &Rows) -> Result<(), ReadModelError> {
        if rows.parked.is_empty() {
            return Ok(());
        }
        let (tenants, accounts) = owners(rows.parked.keys());
        sqlx::query(self.sql(
            "INSERT INTO {s}.parked (tenant, account, parked_at, reason)
             SELECT tenant, account, at::timestamptz, reason
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS r(tenant, account, at, reason)
             ON CONFLICT DO NOTHING",
        ))
        .bind(tenants)
        .bind(accounts)
        .bind(rows.parked.values().map(|(at, _)| instant(*at)).collect::<Vec<_>>())
        .bind(rows.parked.values().map(|(_, reason)| reason.clone()).collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    async fn personal(&mut self, opened: &Opened) -> Result<(), ReadModelError> {
        if !opened.names.is_empty() {
            let (tenants, accounts) = owners(opened.names.keys());
            sqlx::query(self.sql(
                "INSERT INTO {s}.personal_names (tenant, account, display_name)
                 SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
                 ON CONFLICT (tenant, account) DO UPDATE SET display_name = excluded.display_name",
            ))
            .bind(tenants)
            .bind(accounts)
            .bind(opened.names.values().cloned().collect::<Vec<_>>())
            .execute(&mut *self.connection)
            .await?;
        }
        if !opened.contact_points.is_empty() {
            let (tenants, accounts) = owners(opened.contact_points.keys());
            sqlx::query(self.sql(
                "DELETE FROM {s}.personal_contact_points p
                 USING unnest($1::text[], $2::text[]) AS r(tenant, account)
                 WHERE p.tenant = r.tenant AND p.account = r.account",
            ))
            .bind(tenants)
            .bind(accounts)
            .execute(&mut *self.connection)
            .await?;
            let flat: Vec<(&Owner, i32, &'static str, Option<String>)> = opened
                .contact_points
                .iter()
                .flat_map(|(owner, points)| {
                    (0..).zip(points).map(move |(at, (channel, address))| (owner, at, *channel, address.clone()))
                })
                .collect();
            let (tenants, accounts) = owners(flat.iter().map(|(owner, ..)| *owner));
            sqlx::query(self.sql(
                "INSERT INTO {s}.personal_contact_points (tenant, account, position, channel, address)
                 SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[])",
            ))
            .bind(tenants)
            .bind(accounts)
            .bind(flat.iter().map(|(_, at, ..)| *at).collect::<Vec<_>>())
            .bind(flat.iter().map(|(.., channel, _)| *channel).collect::<Vec<_>>())
            .bind(flat.iter().map(|(.., address)| address.clone()).collect::<Vec<_>>())
            .execute(&mut *self.connection)
            .await?;
        }
        Ok(())
    }
}

fn owners<'r>(owners: impl Iterator<Item = &'r Owner>) -> (Vec<String>, Vec<String>) {
    owners.map(|owner| (owner.tenant.clone(), owner.account.clone())).unzip()
}
