//! Accounts that are being woken, or whose answers are not written yet. In the table they still look due, or stale.

use std::collections::HashSet;

use crate::wakeups::Key;

/// Each account is woken once at a time.
#[derive(Default)]
pub(crate) struct InFlight {
    keys: HashSet<Key>,
    /// Accounts that were wanted again meanwhile. Their answers may come from before the reason for it, for example from
    /// before a policy was published.
    again: HashSet<Key>,
}

impl InFlight {
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }

    /// Whether the account may be woken now. If not, it is woken again after [`Self::end`].
    pub(crate) fn begin(&mut self, key: &Key) -> bool {
        let begun = self.keys.insert(key.clone());
        if !begun {
            self.again.insert(key.clone());
        }
        begun
    }

    /// The account's answer is written. Whether the account was wanted again meanwhile.
    pub(crate) fn end(&mut self, key: &Key) -> bool {
        self.keys.remove(key);
        self.again.remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_is_wanted_while_it_is_being_asked_is_asked_once_more() {
        let key = Key { tenant: "acme".into(), account: "D-1".into() };
        let mut in_flight = InFlight::default();
        assert!(in_flight.begin(&key));
        assert!(!in_flight.begin(&key) && !in_flight.begin(&key), "one at a time");
        assert!(in_flight.end(&key), "once more");
        assert!(in_flight.begin(&key));
        assert!(!in_flight.end(&key), "and no more");
        assert!(in_flight.is_empty());
    }
}
