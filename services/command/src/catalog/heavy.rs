//! Work of a call that takes much processor time: previews, and policies that are tried on samples. Little of it runs at once, beside
//! the threads that answer calls. It keeps the call's place in the gate until it has really ended, and it ends soon after its client
//! has gone.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use saldo_gate::Admission;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Calls that work at once. Commands need the other processors.
const AT_ONCE: usize = 2;
/// The longest that one may work.
const LONGEST: Duration = Duration::from_secs(10);

/// The place of a call in the gate; `None` where there is no gate.
pub type Place = Option<Arc<Admission>>;

/// The pool.
#[derive(Clone)]
pub struct Heavy(Arc<Semaphore>);

impl Default for Heavy {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// Whether work may go on.
pub struct GoesOn {
    given_up: CancellationToken,
    until: Instant,
}

impl GoesOn {
    pub fn check(&self) -> bool {
        !self.given_up.is_cancelled() && !self.is_late()
    }

    /// Whether it has taken all its time.
    pub fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }
}

impl Heavy {
    /// Does the work when there is room for it. The work asks now and then whether it may go on.
    pub async fn run<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce(&GoesOn) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let room = self.0.clone().acquire_owned().await.map_err(|_| Failure::Stopped)?;
        let given_up = CancellationToken::new();
        // Dropped with this future, when the client has gone.
        let _client = given_up.clone().drop_guard();
        let done = tokio::task::spawn_blocking(move || {
            let _held = (room, place);
            work(&GoesOn { given_up, until: Instant::now() + LONGEST })
        });
        done.await.map_err(|_| Failure::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_ends_with_its_client_and_its_room_is_taken_until_then() {
        let heavy = Heavy::default();
        let (tell, told) = mpsc::channel();
        let work = heavy.clone();
        let client = tokio::spawn(async move {
            let endless = move |goes_on: &GoesOn| {
                while goes_on.check() {
                    std::thread::yield_now();
                }
                tell.send(goes_on.is_late())
            };
            work.run(None, endless).await
        });
        while heavy.0.available_permits() == AT_ONCE {
            tokio::task::yield_now().await;
        }
        client.abort();
        let late = tokio::task::spawn_blocking(move || told.recv()).await.expect("no panic").expect("it ended");
        assert!(!late, "it ended because its client had gone");
        while heavy.0.available_permits() < AT_ONCE {
            tokio::task::yield_now().await;
        }
    }
}
