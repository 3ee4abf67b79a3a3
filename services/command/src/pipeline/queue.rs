//! The requests that wait for one partition: bounded, and fair between tenants.
//!
//! A request holds a permit from before it waits until it is answered, and no tenant holds more than its share of them
//! ([`FairSemaphore`]). The worker takes one request of each tenant in turn, a batch at a time, so a single command waits
//! for the batch under way and for its own.

mod pace;
mod turns;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use saldo_gate::FairSemaphore;
use tokio::sync::Notify;

use self::{pace::Pace, turns::Turns};
use crate::failure::Failure;

/// Requests of one batch.
pub const BATCH: usize = 256;
/// The shortest and the longest wait that is told to a request that finds the queue full.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The way into the queue. Dropping it closes the queue.
pub struct QueueSender<T>(Arc<Queue<T>>);

/// The way out, for one worker. Dropping it drops what waits.
pub struct QueueReceiver<T>(Arc<Queue<T>>);

/// A request's right to wait and to be decided, given back when dropped.
pub struct Permit {
    tenant: Arc<str>,
    permits: Arc<FairSemaphore>,
}

struct Queue<T> {
    permits: Arc<FairSemaphore>,
    state: Mutex<State<T>>,
    filled: Notify,
}

struct State<T> {
    turns: Turns<T>,
    pace: Pace,
    closed: bool,
}

/// A queue with so many permits.
pub fn queue<T>(permits: usize) -> (QueueSender<T>, QueueReceiver<T>) {
    let queue = Arc::new(Queue {
        permits: Arc::new(FairSemaphore::new(permits)),
        state: Mutex::new(State { turns: Turns::default(), pace: Pace::default(), closed: false }),
        filled: Notify::new(),
    });
    (QueueSender(queue.clone()), QueueReceiver(queue))
}

impl<T> Queue<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Between any two steps under the lock everything is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> QueueSender<T> {
    /// A permit for a request of this tenant that must be answered by `deadline`. Fails where that will not be possible.
    pub fn acquire(&self, tenant: &str, deadline: Instant, now: Instant) -> Result<Permit, Failure> {
        let wait = {
            let state = self.0.state();
            state.pace.wait(state.turns.before(tenant), now)
        };
        let full = || Failure::QueueFull(wait.clamp(RETRY.0, RETRY.1));
        if now + wait > deadline {
            return Err(full());
        }
        let tenant = tenant.into();
        if !self.0.permits.take(&tenant, 1) {
            return Err(full());
        }
        Ok(Permit { tenant, permits: self.0.permits.clone() })
    }

    /// Puts a request behind the others of its tenant.
    pub fn push(&self, tenant: &Arc<str>, request: T) -> Result<(), Failure> {
        let mut state = self.0.state();
        if state.closed {
            return Err(Failure::Stopped);
        }
        state.turns.push(tenant, request);
        drop(state);
        self.0.filled.notify_one();
        Ok(())
    }

    /// Permits that are held: by requests that wait, and by those that are being decided.
    pub fn depth(&self) -> u64 {
        self.0.permits.taken() as u64
    }
}

impl Permit {
    /// The tenant whose request it is.
    pub fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.give_back(&self.tenant, 1);
    }
}

impl<T> Drop for QueueSender<T> {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.filled.notify_one();
    }
}

impl<T> QueueReceiver<T> {
    /// Waits until a request waits, or none ever will.
    pub async fn filled(&self) {
        loop {
            let filled = self.0.filled.notified();
            {
                let state = self.0.state();
                if !state.turns.is_empty() || state.closed {
                    return;
                }
            }
            filled.await;
        }
    }

    /// The next batch.
    pub fn take(&self) -> Vec<T> {
        self.0.state().turns.take(BATCH)
    }

    /// Whether a request waits, or may yet come.
    pub fn is_open(&self) -> bool {
        let state = self.0.state();
        !state.closed || !state.turns.is_empty()
    }

    /// A batch was handed to the log.
    pub fn batch_began(&self, now: Instant) {
        self.0.state().pace.begin(now);
    }

    /// The batch was read back, or given up.
    pub fn batch_ended(&self, now: Instant) {
        self.0.state().pace.end(now);
    }
}

impl<T> Drop for QueueReceiver<T> {
    fn drop(&mut self) {
        let left = {
            let mut state = self.0.state();
            state.closed = true;
            std::mem::take(&mut state.turns)
        };
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn acquire(sender: &QueueSender<u32>, tenant: &str) -> Option<Permit> {
        sender.acquire(tenant, Instant::now() + MINUTE, Instant::now()).ok()
    }

    #[test]
    fn a_permit_is_held_until_the_request_is_done_with() {
        let (sender, _receiver) = queue::<u32>(4);
        let permits = [acquire(&sender, "big"), acquire(&sender, "big")];
        assert!(permits.iter().all(Option::is_some) && acquire(&sender, "big").is_none() && sender.depth() == 2);
        let other = acquire(&sender, "other");
        assert!(other.is_some(), "another tenant finds one");
        drop((permits, other));
        assert_eq!(sender.depth(), 0);
    }

    #[test]
    fn a_single_command_is_in_the_next_batch_however_long_the_import() {
        let (sender, receiver) = queue::<u32>(100_000);
        for number in 0..20_000 {
            sender.push(&"big".into(), number).expect("open");
        }
        sender.push(&"single".into(), u32::MAX).expect("open");
        let batch = receiver.take();
        assert_eq!((batch.len(), batch.iter().position(|one| *one == u32::MAX)), (BATCH, Some(1)));
    }

    #[test]
    fn what_cannot_be_answered_in_time_is_sent_away_at_once_and_told_when_to_come() {
        let (sender, receiver) = queue::<u32>(10_000);
        let now = Instant::now();
        let soon = now + Duration::from_secs(1);
        assert!(sender.acquire("acme", soon, now).is_ok(), "an idle queue lets everybody in");
        receiver.batch_began(now);
        let later = now + Duration::from_millis(400);
        assert!(sender.acquire("acme", later + Duration::from_millis(800), later).is_ok());
        // The log has not brought the batch back for so long: the next will hardly be faster.
        let refused = sender.acquire("acme", later + Duration::from_millis(799), later).map(|_| ());
        assert!(matches!(refused, Err(Failure::QueueFull(after)) if after == Duration::from_millis(800)));
        receiver.batch_ended(now + Duration::from_millis(400));
        assert!(sender.acquire("acme", later, later).is_ok());
        // Two batches of its own stand before it.
        for number in 0..2 * BATCH as u32 {
            sender.push(&"acme".into(), number).expect("open");
        }
        let refused = sender.acquire("acme", later + Duration::from_millis(799), later).map(|_| ());
        assert!(matches!(refused, Err(Failure::QueueFull(after)) if after == Duration::from_millis(800)));
        assert!(sender.acquire("other", later, later).is_ok(), "another's turn comes first");
    }

    #[tokio::test]
    async fn the_worker_hears_of_what_comes_and_of_the_end() {
        let (sender, receiver) = queue::<u32>(1);
        let (heard, ()) = tokio::join!(
            async {
                receiver.filled().await;
                receiver.take()
            },
            async {
                sender.push(&"acme".into(), 7).expect("open");
            }
        );
        assert_eq!(heard, [7]);
        sender.push(&"acme".into(), 8).expect("open");
        drop(sender);
        assert!(receiver.is_open(), "one still waits");
        receiver.filled().await;
        assert_eq!(receiver.take(), [8]);
        receiver.filled().await;
        assert!(!receiver.is_open());
    }

    #[test]
    fn without_a_worker_nobody_waits() {
        let (sender, receiver) = queue::<Arc<()>>(1);
        let waits = Arc::new(());
        sender.push(&"acme".into(), waits.clone()).expect("open");
        drop(receiver);
        assert_eq!(Arc::strong_count(&waits), 1);
        assert!(matches!(sender.push(&"acme".into(), waits), Err(Failure::Stopped)));
    }
}
