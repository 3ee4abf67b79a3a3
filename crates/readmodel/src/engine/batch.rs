//! One batch, written in one transaction in which the checkpoints move by compare-and-set; and the tables that every build
//! has besides its models: checkpoints, heads and parked accounts.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use saldo_log::acceptor::{self, Position};
use sqlx::PgConnection;

use super::{
    Column, Declaration, Kind, Schema, Shown, Table, View,
    build::Unread,
    writer::{Arrays, TableRows, Writer},
};
use crate::{Opened, Owner, ReadModelError};

/// The tables of every build, whichever models stand in it. The version is the form of these tables alone.
pub(super) const ENGINE: Declaration = Declaration::new("engine", 5, &[CHECKPOINTS, HEADS, PARKED], &[PARKED_VIEW]);

/// Where a build stands in each partition.
pub(super) const CHECKPOINTS: Table = Table::new(
    "checkpoints",
    "partition",
    &[
        Column::new("partition", Kind::Int, "Partition"),
        Column::new("log_id", Kind::Bytes, "The log that is read").never_changes(),
        Column::new("next_offset", Kind::Big, "Offset of the next record to read"),
        Column::new("last_hash", Kind::Bytes, "SHA-256 of the last record read"),
        Column::new("known_instant", Kind::Instant, "Running maximum of recorded_at").nullable(),
    ],
);

/// The head of each account's chain, by `tenant/account`.
const HEADS: Table = Table {
    half_empty: true,
    ..Table::new(
        "heads",
        "key",
        &[
            Column::new("key", Kind::Id, "tenant/account"),
            Column::new("partition", Kind::Int, "Partition").never_changes(),
            Column::new("hash", Kind::Bytes, "SHA-256 of the newest accepted record"),
            Column::new("version", Kind::Big, "Version of the newest commit"),
        ],
    )
};

/// The name of the table of parked accounts.
pub const PARKED_TABLE: &str = "parked";

/// Accounts whose rows stand still, since a commit of theirs cannot be read.
const PARKED: Table = Table::new(
    PARKED_TABLE,
    "tenant, account",
    &[
        Column::tenant(),
        Column::account(),
        Column::new("parked_at", Kind::Instant, "Recorded instant of the commit that could not be read")
            .never_changes(),
        Column::new("reason", Kind::Text, "What could not be read, and what to do").never_changes().wording(),
        Column::new("partition", Kind::Int, "Partition of that commit's record").never_changes(),
        Column::new("record_offset", Kind::Big, "Offset of that commit's record").never_changes(),
        Column::new("fact_type", Kind::Text, "Type of the fact that this release does not know")
            .nullable()
            .never_changes(),
        Column::new("fact_version", Kind::Int, "Version of that fact").nullable().never_changes(),
    ],
);

const PARKED_VIEW: View = View {
    name: "parked",
    comment: "Accounts whose read models stand still, and why; figures without them are incomplete",
    of: &PARKED,
    columns: &[Shown::Column("tenant"), Shown::Column("account"), Shown::Column("parked_at"), Shown::Column("reason")],
    rest: "",
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

/// A chain's new head.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// The batch holds the chain's first commit.
    pub is_new: bool,
    /// The partition.
    pub partition: u32,
    /// The head.
    pub head: acceptor::Head,
}

/// An account that stands still from here on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// When the commit that cannot be read became known.
    pub at: Timestamp,
    /// Why it cannot be read.
    pub reason: String,
    /// The commit.
    pub commit: Unread,
}

/// The rows that a batch adds to the tables of the engine.
#[derive(Debug, Default)]
pub struct EngineRows {
    /// New heads, by `tenant/account`.
    pub heads: HashMap<String, Head>,
    /// Accounts that stand still from now on.
    pub parked: BTreeMap<Owner, Parked>,
}

impl EngineRows {
    /// A chain has a new head, whatever its commit says.
    pub fn extend(&mut self, key: String, partition: u32, head: acceptor::Head) {
        let is_new = head.version == 1;
        self.heads.entry(key).or_insert(Head { is_new, partition, head }).head = head;
    }

    async fn write(&self, writer: &mut Writer<'_>) -> Result<(), ReadModelError> {
        let mut heads = TableRows::of(&HEADS, self.heads.len());
        for (key, Head { is_new, partition, head }) in &self.heads {
            let (partition, version) = (*partition as i32, head.version as i64);
            heads.put(*is_new, &[&key.as_str(), &partition, &head.hash.as_slice(), &version]);
        }
        writer.write(heads).await?;
        let mut parked = TableRows::of(&PARKED, self.parked.len());
        for (owner, row) in &self.parked {
            parked.change(&[
                &owner.tenant.as_str(),
                &owner.account.as_str(),
                &row.at,
                &row.reason.as_str(),
                &(row.commit.partition as i32),
                &(row.commit.offset as i64),
                &row.commit.unknown.as_ref().map(|(kind, _)| kind.as_str()),
                &row.commit.unknown.as_ref().map(|(_, version)| *version as i32),
            ]);
        }
        writer.write(parked).await
    }
}

/// Writes a batch into `schema`: the models that stand in it, and no others.
pub async fn apply(
    connection: &mut PgConnection,
    schema: &Schema,
    moves: &[Move],
    rows: &crate::Rows,
    opened: &Opened,
) -> Result<Applied, ReadModelError> {
    let mut writer = Writer::new(connection, schema.name(), opened);
    if move_checkpoints(&mut writer, moves).await? != moves.len() as u64 {
        return Ok(Applied::Overtaken);
    }
    rows.engine.write(&mut writer).await?;
    rows.write(&mut writer, schema.models()).await?;
    Ok(Applied::Yes)
}

async fn move_checkpoints(writer: &mut Writer<'_>, moves: &[Move]) -> Result<u64, ReadModelError> {
    let mut moves = moves.to_vec();
    moves.sort_by_key(|one| one.partition);
    let mut rows = Arrays::of([
        ("partition", Kind::Int),
        ("old_offset", Kind::Big),
        ("next_offset", Kind::Big),
        ("last_hash", Kind::Bytes),
        ("known_instant", Kind::Instant),
    ]);
    for Move { partition, from, to, known_instant } in moves {
        let (partition, from, next) = (partition as i32, from as i64, to.next as i64);
        rows.row(&[&partition, &from, &next, &to.last_hash.as_slice(), &known_instant]);
    }
    let statement = "
        UPDATE {s}.checkpoints c
        SET next_offset = m.next_offset, last_hash = m.last_hash, known_instant = m.known_instant
        FROM {rows} AS m WHERE c.partition = m.partition AND c.next_offset = m.old_offset";
    writer.run(statement, rows).await
}
