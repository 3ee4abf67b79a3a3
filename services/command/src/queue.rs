//! What waits for one partition: bounded, and fair between tenants.
//!
//! A request holds a place from before it waits until it is answered; no tenant holds more than its share ([`Places`]). The
//! worker takes one request of each tenant in turn, a batch at a time, so a single command waits for the batch under way and
//! its own.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use saldo_gate::Places;
use tokio::sync::Notify;

use crate::failure::Failure;

/// Requests of one batch.
pub const TAKE: usize = 256;
/// What a request that is sent away is told to wait, at least and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How much of the usual time of a batch the newest one makes up.
const WEIGHT: u32 = 8;

/// The way in, closed when it is dropped.
pub struct Giver<T>(Arc<Queue<T>>);

/// The way out, for one worker. What waits when it is dropped is dropped too.
pub struct Taker<T>(Arc<Queue<T>>);

/// A place in the queue, given back when dropped.
pub struct Place {
    tenant: Arc<str>,
    places: Arc<Places>,
}

struct Queue<T> {
    places: Arc<Places>,
    state: Mutex<State<T>>,
    filled: Notify,
}

struct State<T> {
    turns: Turns<T>,
    pace: Pace,
    closed: bool,
}

/// What waits, by tenant, and whose turn it is.
struct Turns<T> {
    waiting: HashMap<Arc<str>, VecDeque<T>>,
    next: VecDeque<Arc<str>>,
    count: usize,
}

impl<T> Turns<T> {
    fn push(&mut self, tenant: &Arc<str>, one: T) {
        self.count += 1;
        let waiting = self.waiting.entry(tenant.clone()).or_default();
        if waiting.is_empty() {
            self.next.push_back(tenant.clone());
        }
        waiting.push_back(one);
    }

    /// One of each tenant in turn, `most` at most.
    fn take(&mut self, most: usize) -> Vec<T> {
        let mut taken = Vec::with_capacity(most.min(self.count));
        while taken.len() < most
            && let Some(tenant) = self.next.pop_front()
        {
            let Some(waiting) = self.waiting.get_mut(&tenant) else { continue };
            taken.extend(waiting.pop_front());
            if waiting.is_empty() {
                self.waiting.remove(&tenant);
            } else {
                self.next.push_back(tenant);
            }
        }
        self.count -= taken.len();
        taken
    }

    /// How many will be taken before one more of this tenant.
    fn before(&self, tenant: &str) -> usize {
        let own = self.waiting.get(tenant).map_or(0, VecDeque::len);
        self.waiting
            .iter()
            .map(|(other, waiting)| waiting.len().min(if **other == *tenant { own } else { own + 1 }))
            .sum()
    }
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), next: VecDeque::new(), count: 0 }
    }
}

/// How long batches take, from being handed to the log until they are read back.
#[derive(Debug, Default)]
struct Pace {
    usual: Duration,
    since: Option<Instant>,
}

impl Pace {
    fn end(&mut self, now: Instant) {
        let Some(since) = self.since.take() else { return };
        let took = now.duration_since(since);
        self.usual = if self.usual.is_zero() { took } else { (self.usual * (WEIGHT - 1) + took) / WEIGHT };
    }

    /// How long one waits for its answer that so many precede. A batch that takes unusually long says what the next will.
    fn wait(&self, before: usize, now: Instant) -> Duration {
        let Some(since) = self.since else { return self.usual * (before / TAKE) as u32 };
        self.usual.max(now.duration_since(since)) * (before / TAKE + 2) as u32
    }
}

/// A queue of so many places.
pub fn queue<T>(places: usize) -> (Giver<T>, Taker<T>) {
    let queue = Arc::new(Queue {
        places: Arc::new(Places::new(places)),
        state: Mutex::new(State { turns: Turns::default(), pace: Pace::default(), closed: false }),
        filled: Notify::new(),
    });
    (Giver(queue.clone()), Taker(queue))
}

impl<T> Queue<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Between any two steps under the lock everything is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Giver<T> {
    /// A place for a request of this tenant that is to be answered by `deadline`, if it can be.
    pub fn enter(&self, tenant: &str, deadline: Instant, now: Instant) -> Result<Place, Failure> {
        let wait = {
            let state = self.0.state();
            state.pace.wait(state.turns.before(tenant), now)
        };
        let full = || Failure::QueueFull(wait.clamp(RETRY.0, RETRY.1));
        if now + wait > deadline {
            return Err(full());
        }
        let tenant = tenant.into();
        if !self.0.places.take(&tenant, 1) {
            return Err(full());
        }
        Ok(Place { tenant, places: self.0.places.clone() })
    }

    /// Waits for its turn among those of `tenant`.
    pub fn push(&self, tenant: &Arc<str>, one: T) -> Result<(), Failure> {
        let mut state = self.0.state();
        if state.closed {
            return Err(Failure::Stopped);
        }
        state.turns.push(tenant, one);
        drop(state);
        self.0.filled.notify_one();
        Ok(())
    }

    /// Places that are taken: what waits, and what is being decided.
    pub fn depth(&self) -> u64 {
        self.0.places.taken() as u64
    }
}

impl Place {
    /// Whose.
    pub fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.give_back(&self.tenant, 1);
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.filled.notify_one();
    }
}

impl<T> Taker<T> {
    /// Waits until something waits, or nothing ever will.
    pub async fn filled(&self) {
        loop {
            let filled = self.0.filled.notified();
            {
                let state = self.0.state();
                if state.turns.count > 0 || state.closed {
                    return;
                }
            }
            filled.await;
        }
    }

    /// The next batch.
    pub fn take(&self) -> Vec<T> {
        self.0.state().turns.take(TAKE)
    }

    /// Whether something waits, or may yet come.
    pub fn is_open(&self) -> bool {
        let state = self.0.state();
        !state.closed || state.turns.count > 0
    }

    /// A batch is handed to the log.
    pub fn begin(&self, now: Instant) {
        self.0.state().pace.since = Some(now);
    }

    /// It is read back, or given up.
    pub fn end(&self, now: Instant) {
        self.0.state().pace.end(now);
    }
}

impl<T> Drop for Taker<T> {
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

    fn enter(giver: &Giver<u32>, tenant: &str) -> Option<Place> {
        giver.enter(tenant, Instant::now() + MINUTE, Instant::now()).ok()
    }

    #[test]
    fn a_place_is_held_until_the_request_is_done_with() {
        let (giver, _taker) = queue::<u32>(4);
        let places = [enter(&giver, "big"), enter(&giver, "big")];
        assert!(places.iter().all(Option::is_some) && enter(&giver, "big").is_none() && giver.depth() == 2);
        let other = enter(&giver, "other");
        assert!(other.is_some(), "another tenant finds one");
        drop((places, other));
        assert_eq!(giver.depth(), 0);
    }

    #[test]
    fn each_tenant_has_its_turn_and_keeps_its_order() {
        let mut turns = Turns::default();
        for number in 0..5 {
            turns.push(&"big".into(), ("big", number));
        }
        turns.push(&"small".into(), ("small", 0));
        turns.push(&"other".into(), ("other", 0));
        turns.push(&"other".into(), ("other", 1));
        assert_eq!((turns.before("small"), turns.before("new"), turns.before("big")), (5, 3, 8));
        assert_eq!(turns.take(4), [("big", 0), ("small", 0), ("other", 0), ("big", 1)]);
        // Whoever comes back comes behind those who wait.
        turns.push(&"small".into(), ("small", 1));
        assert_eq!(turns.take(10), [("other", 1), ("big", 2), ("small", 1), ("big", 3), ("big", 4)]);
        assert!(turns.take(10).is_empty() && turns.waiting.is_empty() && turns.next.is_empty());
    }

    #[test]
    fn a_single_command_is_in_the_next_batch_however_long_the_import() {
        let (giver, taker) = queue::<u32>(100_000);
        for number in 0..20_000 {
            giver.push(&"big".into(), number).expect("open");
        }
        giver.push(&"single".into(), u32::MAX).expect("open");
        let batch = taker.take();
        assert_eq!((batch.len(), batch.iter().position(|one| *one == u32::MAX)), (TAKE, Some(1)));
    }

    #[test]
    fn what_cannot_be_answered_in_time_is_sent_away_at_once_and_told_when_to_come() {
        let (giver, taker) = queue::<u32>(10_000);
        let now = Instant::now();
        let soon = now + Duration::from_secs(1);
        assert!(giver.enter("acme", soon, now).is_ok(), "an idle queue lets everybody in");
        taker.begin(now);
        let later = now + Duration::from_millis(400);
        assert!(giver.enter("acme", later + Duration::from_millis(800), later).is_ok());
        // The log has not brought the batch back for so long: the next will hardly be faster.
        let refused = giver.enter("acme", later + Duration::from_millis(799), later).map(|_| ());
        assert!(matches!(refused, Err(Failure::QueueFull(after)) if after == Duration::from_millis(800)));
        taker.end(now + Duration::from_millis(400));
        assert!(giver.enter("acme", later, later).is_ok());
        // Two batches of its own stand before it.
        for number in 0..2 * TAKE as u32 {
            giver.push(&"acme".into(), number).expect("open");
        }
        let refused = giver.enter("acme", later + Duration::from_millis(799), later).map(|_| ());
        assert!(matches!(refused, Err(Failure::QueueFull(after)) if after == Duration::from_millis(800)));
        assert!(giver.enter("other", later, later).is_ok(), "another's turn comes first");
    }

    #[test]
    fn the_usual_time_follows_slowly() {
        let now = Instant::now();
        let mut pace = Pace::default();
        for (took, usual) in [(80, 80), (160, 90), (10, 80)] {
            pace.since = Some(now);
            pace.end(now + Duration::from_millis(took));
            assert_eq!(pace.usual, Duration::from_millis(usual));
        }
    }

    #[tokio::test]
    async fn the_worker_hears_of_what_comes_and_of_the_end() {
        let (giver, taker) = queue::<u32>(1);
        let (heard, ()) = tokio::join!(
            async {
                taker.filled().await;
                taker.take()
            },
            async {
                giver.push(&"acme".into(), 7).expect("open");
            }
        );
        assert_eq!(heard, [7]);
        giver.push(&"acme".into(), 8).expect("open");
        drop(giver);
        assert!(taker.is_open(), "one still waits");
        taker.filled().await;
        assert_eq!(taker.take(), [8]);
        taker.filled().await;
        assert!(!taker.is_open());
    }

    #[test]
    fn without_a_worker_nobody_waits() {
        let (giver, taker) = queue::<Arc<()>>(1);
        let waits = Arc::new(());
        giver.push(&"acme".into(), waits.clone()).expect("open");
        drop(taker);
        assert_eq!(Arc::strong_count(&waits), 1);
        assert!(matches!(giver.push(&"acme".into(), waits), Err(Failure::Stopped)));
    }
}
