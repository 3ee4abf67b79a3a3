//! Writing a batch in one transaction, in which the checkpoints move by compare-and-set. Rows that the batch makes go in
//! by COPY, since it knows that nobody else can have made them; the others change set-based.

mod contacts;
mod new;

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use saldo_log::acceptor::Position;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    ReadModelError,
    rows::{AccountRow, HeadRow, ItemChange, ItemKey, LedgerRow, Owner, Rows},
    schema::Schema,
};
use new::New;

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
    writer.items(rows).await?;
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

    fn new_rows(&self, table: &str, columns: &'static str, at_most: usize) -> New {
        New::rows(self.schema, table, columns, at_most)
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
        let mut new = self.new_rows("heads", "key, partition, hash, version", rows.heads.len());
        let (mut keys, mut partitions, mut hashes, mut versions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (key, HeadRow { new: first, partition, head }) in &rows.heads {
            if *first {
                new.row(&[&key.as_str(), &(*partition as i32), &head.hash.as_slice(), &(head.version as i64)]);
                continue;
            }
            keys.push(key.as_str());
            partitions.push(*partition as i32);
            hashes.push(head.hash.as_slice());
            versions.push(head.version as i64);
        }
        new.send(self.connection).await?;
        if keys.is_empty() {
            return Ok(());
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
        let mut new = self.new_rows(
            "accounts",
            "tenant, account, version, kind, language, time_zone, country",
            rows.accounts.len(),
        );
        let mut agenda = self.new_rows(
            "agenda",
            "tenant, account, wakeup_at, account_version, catalog_version, system_version, partition, record_offset",
            rows.accounts.len(),
        );
        for (owner, row) in rows.accounts.iter().filter(|(_, row)| row.new) {
            let (tenant, account, version) = (owner.tenant.as_str(), owner.account.as_str(), row.version as i64);
            new.row(&[
                &tenant,
                &account,
                &version,
                &row.kind,
                &row.language.as_deref(),
                &row.time_zone.as_deref(),
                &row.country.as_deref(),
            ]);
            agenda.row(&[
                &tenant,
                &account,
                &row.next_wakeup,
                &version,
                &(row.catalog.tenant as i64),
                &(row.catalog.system as i64),
                &(row.partition as i32),
                &(row.offset as i64),
            ]);
        }
        new.send(self.connection).await?;
        agenda.send(self.connection).await?;
        let known: Vec<(&Owner, &AccountRow)> = rows.accounts.iter().filter(|(_, row)| !row.new).collect();
        if known.is_empty() {
            return Ok(());
        }
        let (tenants, accounts) = owners(known.iter().map(|(owner, _)| *owner));
        let of = |field: fn(&AccountRow) -> Option<String>| known.iter().map(|(_, row)| field(row)).collect::<Vec<_>>();
        let number = |field: fn(&AccountRow) -> u64| known.iter().map(|(_, row)| field(row) as i64).collect::<Vec<_>>();
        sqlx::query(self.sql(
            "INSERT INTO {s}.accounts AS a (tenant, account, version, kind, language, time_zone, country)
             SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[])
             ON CONFLICT (tenant, account) DO UPDATE SET version = excluded.version,
               kind = coalesce(excluded.kind, a.kind), language = coalesce(excluded.language, a.language),
               time_zone = coalesce(excluded.time_zone, a.time_zone), country = coalesce(excluded.country, a.country)",
        ))
        .bind(&tenants)
        .bind(&accounts)
        .bind(number(|row| row.version))
        .bind(of(|row| row.kind.map(str::to_owned)))
        .bind(of(|row| row.language.clone()))
        .bind(of(|row| row.time_zone.clone()))
        .bind(of(|row| row.country.clone()))
        .execute(&mut *self.connection)
        .await?;
        sqlx::query(self.sql(
            "INSERT INTO {s}.agenda (tenant, account, wakeup_at, account_version, catalog_version, system_version, partition,
                                     record_offset)
             SELECT tenant, account, wakeup::timestamptz, version, catalog_version, system_version, partition, record_offset
             FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::int[],
                         $8::bigint[])
               AS r(tenant, account, wakeup, version, catalog_version, system_version, partition, record_offset)
             ON CONFLICT (tenant, account) DO UPDATE SET wakeup_at = excluded.wakeup_at,
               account_version = excluded.account_version, catalog_version = excluded.catalog_version,
               system_version = excluded.system_version,
               partition = excluded.partition, record_offset = excluded.record_offset",
        ))
        .bind(&tenants)
        .bind(&accounts)
        .bind(of(|row| row.next_wakeup.map(instant)))
        .bind(number(|row| row.version))
        .bind(number(|row| row.catalog.tenant))
        .bind(number(|row| row.catalog.system))
        .bind(known.iter().map(|(_, row)| row.partition as i32).collect::<Vec<_>>())
        .bind(number(|row| row.offset))
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    async fn ledger(&mut self, ledger: &[LedgerRow]) -> Result<(), ReadModelError> {
        let mut new = self.new_rows(
            "ledger",
            "tenant, account, currency, decimals, kind, document, instalment, due_date, effective_date, known_at,
             amount_minor, partition, record_offset, line",
            ledger.len(),
        );
        for row in ledger {
            new.row(&[
                &row.item.owner.tenant.as_str(),
                &row.item.owner.account.as_str(),
                &row.currency.code(),
                &(row.currency.decimals() as i16),
                &row.item.kind,
                &row.item.document.as_str(),
                &(row.item.instalment as i32),
                &row.due_date,
                &row.effective_date,
                &row.place.known_at,
                &row.amount,
                &(row.place.partition as i32),
                &(row.place.offset as i64),
                &row.line,
            ]);
        }
        new.send(self.connection).await
    }

    /// New items are what the batch left of them; the others move by its sums.
    async fn items(&mut self, rows: &Rows) -> Result<(), ReadModelError> {
        let mut new = self.new_rows(
            "items",
            "tenant, account, kind, document, instalment, currency, decimals, issue_date, due_date, original_minor,
             open_minor",
            rows.items.len(),
        );
        for (item, row) in rows.items.iter().filter(|(_, row)| row.new) {
            new.row(&[
                &item.owner.tenant.as_str(),
                &item.owner.account.as_str(),
                &item.kind,
                &item.document.as_str(),
                &(item.instalment as i32),
                &row.currency.code(),
                &(row.currency.decimals() as i16),
                &row.issue_date,
                &row.due_date,
                &row.original,
                &row.change,
            ]);
        }
        new.send(self.connection).await?;
        let known: Vec<(&ItemKey, &ItemChange)> = rows.items.iter().filter(|(_, row)| !row.new).collect();
        if known.is_empty() {
            return Ok(());
        }
        let (tenants, accounts) = owners(known.iter().map(|(item, _)| &item.owner));
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
        .bind(known.iter().map(|(item, _)| item.kind).collect::<Vec<_>>())
        .bind(known.iter().map(|(item, _)| item.document.as_str()).collect::<Vec<_>>())
        .bind(known.iter().map(|(item, _)| item.instalment as i32).collect::<Vec<_>>())
        .bind(known.iter().map(|(_, row)| row.currency.code().to_owned()).collect::<Vec<_>>())
        .bind(known.iter().map(|(_, row)| row.currency.decimals() as i16).collect::<Vec<_>>())
        .bind(known.iter().map(|(_, row)| day(row.issue_date)).collect::<Vec<_>>())
        .bind(known.iter().map(|(_, row)| row.due_date.map(day)).collect::<Vec<_>>())
        .bind(known.iter().map(|(_, row)| row.original).collect::<Vec<_>>())
        .bind(known.iter().map(|(_, row)| row.change).collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    async fn history(&mut self, rows: &Rows) -> Result<(), ReadModelError> {
        let mut new = self.new_rows(
            "history",
            "tenant, account, version, index, type, effective_date, recorded_at, known_at, actor, summary, partition,
             record_offset",
            rows.history.len(),
        );
        for row in &rows.history {
            new.row(&[
                &row.owner.tenant.as_str(),
                &row.owner.account.as_str(),
                &(row.place.version as i64),
                &row.index,
                &row.kind.as_str(),
                &row.effective_date,
                &row.recorded_at,
                &row.place.known_at,
                &row.actor.as_str(),
                &row.summary.as_str(),
                &(row.place.partition as i32),
                &(row.place.offset as i64),
            ]);
        }
        new.send(self.connection).await
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
            let mut new = self.new_rows(
                "personal_contact_points",
                "tenant, account, position, channel, address",
                opened.contact_points.values().map(Vec::len).sum(),
            );
            for (owner, points) in &opened.contact_points {
                for (position, (channel, address)) in (0i32..).zip(points) {
                    let (tenant, account) = (owner.tenant.as_str(), owner.account.as_str());
                    new.row(&[&tenant, &account, &position, channel, &address.as_deref()]);
                }
            }
            new.send(self.connection).await?;
        }
        Ok(())
    }
}

fn owners<'r>(owners: impl Iterator<Item = &'r Owner>) -> (Vec<String>, Vec<String>) {
    owners.map(|owner| (owner.tenant.clone(), owner.account.clone())).unzip()
}
