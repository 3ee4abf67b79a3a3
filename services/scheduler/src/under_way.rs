//! Accounts that are being asked, or whose answers are not kept yet: due, or behind, by the table all the same.

use std::collections::HashSet;

use crate::table::Key;

/// Each is asked once at a time.
#[derive(Default)]
pub(crate) struct UnderWay {
    keys: HashSet<Key>,
    /// Wanted again meanwhile. What they were asked may have been decided before what they are wanted for now: a policy,
    /// for example, that was published in between.
    again: HashSet<Key>,
}

impl UnderWay {
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }

    /// Whether it may be asked now; if not, it is once it has ended.
    pub(crate) fn begin(&mut self, key: &Key) -> bool {
        let begun = self.keys.insert(key.clone());
        if !begun {
            self.again.insert(key.clone());
        }
        begun
    }

    /// Its answer is kept. Whether it was wanted again meanwhile.
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
        let mut under_way = UnderWay::default();
        assert!(under_way.begin(&key));
        assert!(!under_way.begin(&key) && !under_way.begin(&key), "one at a time");
        assert!(under_way.end(&key), "once more");
        assert!(under_way.begin(&key));
        assert!(!under_way.end(&key), "and no more");
        assert!(under_way.is_empty());
    }
}
