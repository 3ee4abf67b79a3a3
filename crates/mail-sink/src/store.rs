//! The newest mails, in memory.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::received::Received;

/// Most mails that are kept: a day's reminders of a large creditor.
pub const MAX_KEPT: usize = 10_000;
/// Most bytes of their messages: beside the count, so that large ones cannot fill the memory. A mail that is looked at is kept
/// decoded as well and takes about twice as much.
pub const MAX_KEPT_BYTES: usize = 256 << 20;

/// The newest mails, and how many there ever were.
#[derive(Debug)]
pub(crate) struct Store {
    kept: Mutex<Kept>,
    taken: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    messages: VecDeque<Arc<Received>>,
    bytes: usize,
    taken: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self { kept: Mutex::default(), taken: watch::Sender::new(0) }
    }
}

impl Store {
    /// Keeps a mail, and gives its number.
    pub(crate) fn take(&self, from: String, to: Vec<String>, raw: Bytes) -> u64 {
        let at = now();
        let mut kept = self.kept();
        let number = kept.taken + 1;
        kept.taken = number;
        kept.bytes += raw.len();
        kept.messages.push_back(Arc::new(Received::new(number, from, to, at, raw)));
        while kept.messages.len() > MAX_KEPT || kept.bytes > MAX_KEPT_BYTES {
            let Some(oldest) = kept.messages.pop_front() else { break };
            kept.bytes -= oldest.raw.len();
        }
        // Under the lock, so that the count never goes back.
        self.taken.send_replace(number);
        number
    }

    /// The newest of those that are kept, the oldest of them first.
    pub(crate) fn newest(&self, most: usize) -> Vec<Arc<Received>> {
        let kept = self.kept();
        kept.messages.iter().skip(kept.messages.len().saturating_sub(most)).cloned().collect()
    }

    pub(crate) fn find(&self, number: u64) -> Option<Arc<Received>> {
        let kept = self.kept();
        // Numbers have no gaps.
        let first = kept.messages.front()?.number;
        kept.messages.get(usize::try_from(number.checked_sub(first)?).ok()?).cloned()
    }

    pub(crate) fn taken(&self) -> u64 {
        *self.taken.borrow()
    }

    pub(crate) async fn wait_for(&self, taken: u64) {
        // The sender is `self`, which is there as long as the wait is.
        let _ = self.taken.subscribe().wait_for(|so_far| *so_far >= taken).await;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic under the lock could at worst leave the sum of bytes too high.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(clippy::disallowed_methods, reason = "a mail server shows when a mail came, whatever clock decisions have")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_all_are_counted() {
        let store = Store::default();
        for number in 1..=MAX_KEPT as u64 + 5 {
            assert_eq!(store.take("a@example.com".into(), vec![], Bytes::from_static(b"x")), number);
        }
        assert_eq!((store.taken(), store.newest(usize::MAX).len()), (MAX_KEPT as u64 + 5, MAX_KEPT));
        assert_eq!(store.newest(2).iter().map(|mail| mail.number).collect::<Vec<_>>(), [10_004, 10_005]);
        assert!(store.find(5).is_none() && store.find(0).is_none() && store.find(u64::MAX).is_none());
        assert_eq!(store.find(6).map(|mail| mail.number), Some(6));
    }

    #[test]
    fn large_ones_push_out_more() {
        let store = Store::default();
        let large = Bytes::from(vec![b'x'; MAX_KEPT_BYTES / 2]);
        for _ in 0..3 {
            store.take(String::new(), vec![], large.clone());
        }
        assert_eq!(store.newest(usize::MAX).iter().map(|mail| mail.number).collect::<Vec<_>>(), [2, 3]);
    }
}
