//! Parts of a process that run until they are stopped.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Failure;

pub struct Task {
    name: &'static str,
    stop: CancellationToken,
    handle: JoinHandle<Result<(), Failure>>,
}

impl Task {
    /// Starts a part. The part must end soon after its token is cancelled.
    pub fn spawn<F, E>(name: &'static str, part: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Failure>,
    {
        let stop = CancellationToken::new();
        let part = part(stop.clone());
        Self { name, stop, handle: tokio::spawn(async move { part.await.map_err(Into::into) }) }
    }

    /// Stops the part when it is cancelled.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Resolves with the reason when the part has ended by itself.
    pub async fn ended(&mut self) -> String {
        match (&mut self.handle).await {
            Ok(Ok(())) => format!("the {} ended", self.name),
            Ok(Err(error)) => error.to_string(),
            Err(error) => format!("the {}: {error}", self.name),
        }
    }

    /// Stops the part, and waits for its end for at most `patience`.
    pub async fn stop(&mut self, patience: Duration) -> Result<(), Failure> {
        self.stop.cancel();
        if self.handle.is_finished() {
            return Ok(());
        }
        match tokio::time::timeout(patience, &mut self.handle).await {
            Ok(ended) => ended?,
            Err(_) => {
                tracing::warn!(part = self.name, "it did not end in time");
                self.handle.abort();
                Ok(())
            }
        }
    }
}
