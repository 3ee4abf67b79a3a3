//! Healing: accounts that stand still since an earlier release met a fact that it did not know are read again by the release
//! that knows it.
//!
//! The partitions concerned are read from the log's start, as a rebuild reads them, since what counts and since when it is
//! known follows from all records before. Rows are added only for those accounts, each from the commit on that could not be
//! read. All of it is one transaction, at whose end the live build is locked for a moment.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
};

use saldo_log::{Log, frame::Frame, genesis::Identity};
use saldo_readmodel::{Owner, Unread};
use sqlx::PgConnection;

use crate::{
    ProjectorError,
    build::Build,
    fold::{Batch, Decode, Folding},
    live::READ,
    rebuild::{BATCH, BATCH_BYTES},
};

/// Adds what parked accounts lack, where this reader knows the facts that stopped them. `true`: the build has changed, and
/// whoever writes to it must begin anew.
pub async fn heal(log: &dyn Log, identity: &Identity, build: &Build, decode: Decode) -> Result<bool, ProjectorError> {
    let parked = build.schema.parked(&mut *build.pool.acquire().await?).await?;
    let readable = readable(log, decode, parked).await?;
    if readable.is_empty() {
        return Ok(false);
    }
    tracing::info!(
        accounts = readable.len(),
        "parked accounts are read again: this release knows the facts that stopped them"
    );
    let partitions: BTreeSet<u32> = readable.values().map(|unread| unread.partition).collect();
    let from: HashMap<Owner, u64> = readable.iter().map(|(owner, unread)| (owner.clone(), unread.offset)).collect();
    let mut folding = Folding::only(identity, &partitions, from).reading(decode);
    let mut transaction = saldo_postgres::begin_long(&build.pool).await?;
    build.schema.unpark(&mut transaction, readable.keys()).await?;
    let standing = build.schema.standing(&mut transaction, identity, false).await?.unwrap_or_default();
    add(log, &mut folding, build, &mut transaction, &standing).await?;
    let (live, standing) = saldo_readmodel::lock_live(&mut transaction, identity).await?;
    if live != build.schema {
        return Ok(true);
    }
    add(log, &mut folding, build, &mut transaction, &standing.unwrap_or_default()).await?;
    saldo_readmodel::begin_anew(&mut transaction).await?;
    transaction.commit().await?;
    tracing::info!(accounts = readable.len(), still_parked = folding.parked(), "parked accounts were read again");
    Ok(true)
}

/// The parked accounts whose facts this reader knows. One commit is tried for each type and version of a fact.
async fn readable(
    log: &dyn Log,
    decode: Decode,
    parked: Vec<(Owner, Unread)>,
) -> Result<BTreeMap<Owner, Unread>, ProjectorError> {
    let mut known: HashMap<(String, u32), bool> = HashMap::new();
    let mut readable = BTreeMap::new();
    for (owner, unread) in parked {
        let Some(fact) = unread.unknown.clone() else { continue };
        let knows = match known.get(&fact) {
            Some(knows) => *knows,
            None => {
                let knows = knows(log, decode, &unread, &fact).await?;
                known.insert(fact, knows);
                knows
            }
        };
        if knows {
            readable.insert(owner, unread);
        }
    }
    Ok(readable)
}

/// Whether the commit can be read now, or is stopped by another fact.
async fn knows(log: &dyn Log, decode: Decode, unread: &Unread, fact: &(String, u32)) -> Result<bool, ProjectorError> {
    let mut tail = log.tail(&[(unread.partition, unread.offset)]).await?;
    let records = tail.next(1).await?;
    let Some(record) = records.first().filter(|record| record.offset == unread.offset) else { return Ok(false) };
    let Ok(frame) = Frame::parse(&record.value) else { return Ok(false) };
    Ok(match decode(frame.payload) {
        Err(saldo_facts::DecodeError::UnknownVersion { kind, version }) => (kind, version) != *fact,
        Ok(_) | Err(_) => true,
    })
}

/// Reads up to these offsets and adds the rows.
async fn add(
    log: &dyn Log,
    folding: &mut Folding,
    build: &Build,
    transaction: &mut PgConnection,
    until: &[u64],
) -> Result<(), ProjectorError> {
    let until = |partition: u32| until.get(partition as usize).copied().unwrap_or(0);
    let Some(mut tail) = folding.tail(log, until).await? else { return Ok(()) };
    let mut batch = Batch::default();
    loop {
        let read = folding.has_reached(until);
        if read || batch.is_full(BATCH, BATCH_BYTES) {
            let mut taken = mem::take(&mut batch);
            // The checkpoints stay where the live build has them.
            taken.moves.clear();
            build.write_in(transaction, &taken).await?;
        }
        if read {
            return Ok(());
        }
        for record in tail.next(READ).await?.iter().filter(|record| record.offset < until(record.partition)) {
            folding.fold(&mut batch, record)?;
        }
    }
}
