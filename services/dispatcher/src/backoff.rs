//! The pauses between tries while something that the dispatcher needs is out of reach.

use std::time::Duration;

use saldo_outage::Outage;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::DispatcherError;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Doubles each pause, until it is reset.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

/// The outage that all parts of the dispatcher share.
static OUTAGE: Outage = Outage::new("the dispatcher goes on when it can", "the dispatcher goes on");

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// Something worked: the next pause is short again.
    pub(crate) fn reset(&mut self) {
        self.0 = FIRST;
        OUTAGE.over();
    }

    /// Waits before the next try, or until the stop. An error that no other try can mend comes back.
    pub(crate) async fn wait(
        &mut self,
        error: DispatcherError,
        stop: &CancellationToken,
    ) -> Result<(), DispatcherError> {
        if !error.is_transient() {
            return Err(error);
        }
        OUTAGE.failed(error);
        saldo_telemetry::interrupted(1);
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(self.0) => {}
        }
        self.0 = (self.0 * 2).min(LONGEST);
        Ok(())
    }
}
