//! Follows the catalog's log. The catalog is small: it is read anew at each start and kept in memory.

use std::{sync::Arc, time::Duration};

use saldo_log::{
    Log, LogError,
    acceptor::{Acceptor, Diverged},
    genesis::Identity,
};
use saldo_outage::Outage;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fold::State;

const BATCH: usize = 500;
/// Between tries to reach a log that is out of reach.
const RETRY: Duration = Duration::from_millis(500);

/// The catalog as far as it was read. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    state: watch::Receiver<Arc<State>>,
}

/// Why the catalog cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Its log cannot be read.
    #[error("the catalog: {0}")]
    Log(#[from] LogError),
    /// Its log is not the one read before.
    #[error("the catalog: {0}")]
    Diverged(#[from] Diverged),
}

/// The task that follows the log.
pub struct Follower {
    log: Arc<dyn Log>,
    acceptor: Acceptor,
    moved: watch::Sender<Arc<State>>,
}

impl Catalog {
    /// Reads the log to the end that it has now. Run the follower to go on.
    pub async fn open(log: Arc<dyn Log>, identity: &Identity) -> Result<(Self, Follower), CatalogError> {
        saldo_telemetry::foreign_records("catalog", 0);
        let end = log.end(0).await?;
        let (moved, state) = watch::channel(Arc::new(State::default()));
        let mut follower = Follower { log, acceptor: Acceptor::new(identity, 0), moved };
        let mut tail = follower.log.tail(&[(0, 0)]).await?;
        while follower.moved.borrow().next < end {
            let records = tail.next(BATCH).await?;
            follower.read(&records)?;
        }
        Ok((Self { state }, follower))
    }

    /// The state after the newest commit that was read.
    pub fn state(&self) -> Arc<State> {
        self.state.borrow().clone()
    }

    /// Waits until `reached` says so; `false` where the follower has ended.
    pub async fn wait_for(&self, mut reached: impl FnMut(&State) -> bool) -> bool {
        self.state.clone().wait_for(|state| reached(state)).await.is_ok()
    }
}

impl Follower {
    /// Runs until `cancel`, or until the log turns out to be another one.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), CatalogError> {
        let outage = Outage::new("the catalog goes on when its log is in reach", "the catalog goes on");
        loop {
            let outcome = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                outcome = self.follow(&outage) => outcome,
            };
            match outcome {
                Ok(()) => {}
                Err(CatalogError::Log(error)) if !matches!(error, LogError::Cut { .. }) => {
                    outage.failed(error);
                    tokio::select! {
                        () = cancel.cancelled() => return Ok(()),
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn follow(&mut self, outage: &Outage) -> Result<(), CatalogError> {
        let start = self.acceptor.reopen();
        let mut tail = self.log.tail(&[(0, start)]).await?;
        outage.over();
        loop {
            let records = tail.next(BATCH).await?;
            self.read(&records)?;
        }
    }

    fn read(&mut self, records: &[saldo_log::Record]) -> Result<(), CatalogError> {
        let mut state = self.moved.borrow().as_ref().clone();
        for record in records {
            state.read(&mut self.acceptor, record)?;
        }
        self.moved.send_replace(Arc::new(state));
        Ok(())
    }
}
