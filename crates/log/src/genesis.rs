//! Record 0 of every partition: what a log is. Its hash is the log's identity.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;
use saldo_api::v1::GenesisPayload;

use crate::{
    AppendError, Log, LogError, NewRecord,
    frame::{self, Frame, GENESIS_KEY, Kind},
    keys::{KeysError, LogKeys},
};

/// The stored format that this release reads and writes.
const FORMAT: u32 = 1;

/// Which log it is, and the keys that its records are written under.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Drawn once, by partition 0's Genesis.
    pub log_id: [u8; 16],
    /// How many partitions it has, for ever.
    pub partitions: u32,
    /// As this process knows them.
    pub keys: LogKeys,
}

/// Creates a log with a new id, or completes a creation that was interrupted. Run again it changes nothing.
pub async fn create(log: &dyn Log, partitions: u32, keys: &LogKeys) -> Result<Identity, LogError> {
    let draw = || {
        let mut log_id = [0; 16];
        getrandom::fill(&mut log_id).map_err(|_| KeysError::Random)?;
        Ok(log_id)
    };
    begin(log, partitions, draw, keys).await?;
    complete(log, keys).await
}

/// Creates the topic and the Genesis of its first partition, unless they are there. Returns the log's id. `draw` gives the id of a
/// new log, and sees to it that its first key is in `keys`.
pub async fn begin(
    log: &dyn Log,
    partitions: u32,
    draw: impl FnOnce() -> Result<[u8; 16], KeysError>,
    keys: &LogKeys,
) -> Result<[u8; 16], LogError> {
    if log.partition_count().await?.is_none() {
        log.create(partitions).await?;
    }
    let partitions = log.partition_count().await?.unwrap_or(partitions);
    if log.end(0).await? == 0 {
        match draw() {
            Ok(log_id) => append(log, 0, partitions, &log_id, keys).await?,
            // Another process has created the log meanwhile.
            Err(_) if log.end(0).await? > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
    // Whoever came first on partition 0 has drawn the id.
    let first = read(log, &[0], partitions, &LogKeys::NONE).await?;
    Ok(first.get(&0).copied().unwrap_or_default())
}

/// Appends what is missing of a log that was begun.
pub async fn complete(log: &dyn Log, keys: &LogKeys) -> Result<Identity, LogError> {
    let partitions = log.partition_count().await?.ok_or_else(|| LogError::Absent(log.topic().to_owned()))?;
    // The others follow from the first.
    let first = read(log, &[0], partitions, keys).await?;
    let log_id = first.get(&0).copied().unwrap_or_default();
    for partition in 1..partitions {
        if log.end(partition).await? == 0 {
            append(log, partition, partitions, &log_id, keys).await?;
        }
    }
    open(log, keys).await
}

/// Reads and checks record 0 of every partition. Without keys, its authenticator is not checked.
pub async fn open(log: &dyn Log, keys: &LogKeys) -> Result<Identity, LogError> {
    let absent = || LogError::Absent(log.topic().to_owned());
    let partitions = log.partition_count().await?.ok_or_else(absent)?;
    let all: Vec<u32> = (0..partitions).collect();
    for partition in &all {
        if log.end(*partition).await? == 0 {
            return Err(absent());
        }
    }
    let ids = read(log, &all, partitions, keys).await?;
    let log_id = ids.get(&0).copied().unwrap_or_default();
    match ids.iter().find(|(_, id)| **id != log_id) {
        None => Ok(Identity { log_id, partitions, keys: keys.clone() }),
        Some((partition, _)) => {
            Err(LogError::NotALog { partition: *partition, why: "it carries another log's id".to_owned() })
        }
    }
}

async fn append(
    log: &dyn Log,
    partition: u32,
    partitions: u32,
    log_id: &[u8; 16],
    keys: &LogKeys,
) -> Result<(), LogError> {
    let payload = GenesisPayload { log_id: log_id.to_vec(), partition, partition_count: partitions, format: FORMAT };
    let value = frame::encode(Kind::Genesis, "", "", 0, [0; 32], &payload.encode_to_vec(), keys);
    let record =
        NewRecord { partition, key: Bytes::from_static(GENESIS_KEY.as_bytes()), value: value.into(), trace: None };
    log.append(vec![record]).await.map_err(|error: AppendError| LogError::Unavailable(error.to_string()))
}

async fn read(
    log: &dyn Log,
    wanted: &[u32],
    partitions: u32,
    keys: &LogKeys,
) -> Result<HashMap<u32, [u8; 16]>, LogError> {
    let mut found = HashMap::new();
    let from: Vec<(u32, u64)> = wanted.iter().map(|partition| (*partition, 0)).collect();
    let mut tail = log.tail(&from).await?;
    while found.len() < wanted.len() {
        for record in tail.next(1_024).await?.into_iter().filter(|record| record.offset == 0) {
            let partition = record.partition;
            let not_a_log = |why: String| LogError::NotALog { partition, why };
            let frame = Frame::parse(&record.value).map_err(|why| not_a_log(why.to_string()))?;
            let payload = GenesisPayload::decode(frame.payload).map_err(|why| not_a_log(why.to_string()))?;
            if frame.kind != Kind::Genesis || payload.partition != partition || payload.partition_count != partitions {
                return Err(not_a_log("it is another partition's, or of another partition count".to_owned()));
            }
            let log_id = <[u8; 16]>::try_from(payload.log_id.as_slice())
                .map_err(|_| not_a_log("its log id has not 16 bytes".to_owned()))?;
            // Keys of another log are said to be that.
            keys.first_read(log_id)?;
            if !keys.is_none() && !frame.is_ours(&frame::digests(&record.value).0, keys, record.appended_at)? {
                let why = "its authenticator was not made with the first key of log.keys: another log's keys, or a forged topic";
                return Err(not_a_log(why.to_owned()));
            }
            if payload.format != FORMAT {
                return Err(not_a_log(format!("format {} is not {FORMAT}: deploy a newer release", payload.format)));
            }
            found.insert(partition, log_id);
        }
    }
    Ok(found)
}
