//! Record 0 of every partition: what a log is. Its hash is the log's identity.

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;
use saldo_api::v1::GenesisPayload;

use crate::{
    AppendError, Log, LogError, NewRecord,
    frame::{self, Frame, GENESIS_KEY, Kind},
};

/// The stored format that this release reads and writes.
const FORMAT: u32 = 1;

/// Which log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Drawn once, by partition 0's Genesis.
    pub log_id: [u8; 16],
    /// How many partitions it has, for ever.
    pub partitions: u32,
}

/// Creates the log, or completes a creation that was interrupted. Run again it changes nothing.
pub async fn create(log: &dyn Log, partitions: u32) -> Result<Identity, LogError> {
    let partitions = match log.partition_count().await? {
        Some(existing) => existing,
        None => {
            log.create(partitions).await?;
            log.partition_count().await?.unwrap_or(partitions)
        }
    };
    if log.end(0).await? == 0 {
        let mut log_id = [0; 16];
        getrandom::fill(&mut log_id).map_err(|error| LogError::Unavailable(error.to_string()))?;
        append(log, 0, partitions, &log_id).await?;
    }
    // The writer that came first on partition 0 has drawn the id; the ids of the other partitions follow from it.
    let first = read(log, &[0], partitions).await?;
    let log_id = first.get(&0).copied().unwrap_or_default();
    for partition in 1..partitions {
        if log.end(partition).await? == 0 {
            append(log, partition, partitions, &log_id).await?;
        }
    }
    open(log).await
}

/// Reads and checks record 0 of every partition.
pub async fn open(log: &dyn Log) -> Result<Identity, LogError> {
    let absent = || LogError::Absent(log.topic().to_owned());
    let partitions = log.partition_count().await?.ok_or_else(absent)?;
    let all: Vec<u32> = (0..partitions).collect();
    for partition in &all {
        if log.end(*partition).await? == 0 {
            return Err(absent());
        }
    }
    let ids = read(log, &all, partitions).await?;
    let log_id = ids.get(&0).copied().unwrap_or_default();
    match ids.iter().find(|(_, id)| **id != log_id) {
        None => Ok(Identity { log_id, partitions }),
        Some((partition, _)) => {
            Err(LogError::NotALog { partition: *partition, why: "it carries another log's id".to_owned() })
        }
    }
}

async fn append(log: &dyn Log, partition: u32, partitions: u32, log_id: &[u8; 16]) -> Result<(), LogError> {
    let payload = GenesisPayload { log_id: log_id.to_vec(), partition, partition_count: partitions, format: FORMAT };
    let value = frame::encode(Kind::Genesis, "", "", 0, [0; 32], &payload.encode_to_vec());
    let record =
        NewRecord { partition, key: Bytes::from_static(GENESIS_KEY.as_bytes()), value: value.into(), trace: None };
    log.append(vec![record]).await.map_err(|error: AppendError| LogError::Unavailable(error.to_string()))
}

async fn read(log: &dyn Log, wanted: &[u32], partitions: u32) -> Result<HashMap<u32, [u8; 16]>, LogError> {
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
            if payload.format != FORMAT {
                return Err(not_a_log(format!("format {} is not {FORMAT}: deploy a newer release", payload.format)));
            }
            let log_id = payload.log_id.try_into().map_err(|_| not_a_log("its log id has not 16 bytes".to_owned()))?;
            found.insert(partition, log_id);
        }
    }
    Ok(found)
}
