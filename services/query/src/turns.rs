//! Whose turn it is at the database: a creditor asks over half of its connections at most, so that one who asks for much keeps
//! nobody else waiting.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The connections, by who asks over them.
#[derive(Clone)]
pub struct Turns {
    /// The connections that one creditor may use at once.
    each: usize,
    lines: Arc<Mutex<HashMap<String, Weak<Semaphore>>>>,
}

/// A connection's worth of asking, given back when dropped.
pub type Turn = Option<OwnedSemaphorePermit>;

impl Turns {
    /// Over so many connections.
    pub fn over(connections: u32) -> Self {
        Self { each: (connections as usize / 2).max(1), lines: Arc::default() }
    }

    /// Waits behind this creditor's own questions.
    pub async fn wait(&self, tenant: &str) -> Turn {
        let line = self.line(tenant);
        // Nobody closes one.
        line.acquire_owned().await.ok()
    }

    fn line(&self, tenant: &str) -> Arc<Semaphore> {
        // Between any two steps under the lock the map is whole.
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(tenant).and_then(Weak::upgrade) {
            return line;
        }
        lines.retain(|_, line| line.strong_count() > 0);
        let line = Arc::new(Semaphore::new(self.each));
        lines.insert(tenant.to_owned(), Arc::downgrade(&line));
        line
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn one_who_asks_for_much_waits_behind_itself_and_others_do_not() {
        let turns = Turns::over(4);
        let held = [turns.wait("big").await, turns.wait("big").await];
        let mut third = pin!(turns.wait("big"));
        let mut context = Context::from_waker(Waker::noop());
        assert!(third.as_mut().poll(&mut context).is_pending());
        assert!(turns.wait("other").await.is_some());
        drop(held);
        assert!(third.await.is_some());
        assert!(
            turns.wait("new").await.is_some() && turns.lines.lock().expect("whole").len() == 1,
            "no line is left behind"
        );
    }
}
