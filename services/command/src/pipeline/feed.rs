//! Hands the records of one tail over all partitions to the workers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use saldo_log::{Log, LogError, Record, same::Trust};
use saldo_outage::Outage;
use tokio::sync::{mpsc, oneshot};

use super::{clock_check::ClockCheck, worker::Message};

/// Records asked of the tail in one go.
const BATCH: usize = 2_048;
/// Between tries to reach a log that is out of reach.
const RETRY: Duration = Duration::from_millis(500);

/// The tail, and where its records go.
pub struct Feed {
    pub log: Arc<dyn Log>,
    /// The next offset of each partition.
    pub next: Vec<(u32, u64)>,
    /// Each partition's worker.
    pub workers: HashMap<u32, mpsc::Sender<Message>>,
    pub check: Arc<ClockCheck>,
    /// Hears how far the log was read.
    pub trust: Trust,
}

impl Feed {
    /// Runs until the log turns out to be another than it was. A log that is out of reach is tailed again from the last
    /// record of each partition, so that the workers see whether it is still the same log.
    pub async fn run(mut self) -> LogError {
        let outage = Outage::new("the log is out of reach, and is tried again", "the log is read again");
        loop {
            let error = self.read(&outage).await;
            if let LogError::Cut { .. } = error {
                return error;
            }
            outage.failed(error);
            tokio::time::sleep(RETRY).await;
            self.go_back().await;
        }
    }

    async fn read(&mut self, outage: &Outage) -> LogError {
        let mut tail = match self.log.tail(&self.next).await {
            Ok(tail) => tail,
            Err(error) => return error,
        };
        outage.over();
        loop {
            match tail.next(BATCH).await {
                Ok(records) => {
                    self.check.read(&records);
                    self.hand_out(records).await;
                }
                Err(error) => return error,
            }
        }
    }

    /// Asks each worker for the offset to go on at.
    async fn go_back(&mut self) {
        for (partition, offset) in &mut self.next {
            let (asked, start) = oneshot::channel();
            if let Some(worker) = self.workers.get(partition)
                && worker.send(Message::Reopened(asked)).await.is_ok()
                && let Ok(start) = start.await
            {
                *offset = start;
            }
        }
    }

    async fn hand_out(&mut self, records: Vec<Record>) {
        let mut by_partition: HashMap<u32, Vec<Record>> = HashMap::new();
        for record in records {
            if let Some((_, offset)) = self.next.iter_mut().find(|(partition, _)| *partition == record.partition) {
                *offset = record.offset + 1;
            }
            self.trust.has_read(record.partition, record.offset + 1);
            by_partition.entry(record.partition).or_default().push(record);
        }
        for (partition, records) in by_partition {
            if let Some(worker) = self.workers.get(&partition) {
                // A worker that has ended reports itself.
                let _ = worker.send(Message::Records(records)).await;
            }
        }
    }
}
