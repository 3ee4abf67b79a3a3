//! The order of waiting requests: one of each tenant in turn.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// Waiting requests by tenant, and whose turn is next.
pub struct Turns<T> {
    waiting: HashMap<Arc<str>, VecDeque<T>>,
    next: VecDeque<Arc<str>>,
    count: usize,
}

impl<T> Turns<T> {
    pub fn push(&mut self, tenant: &Arc<str>, request: T) {
        self.count += 1;
        let waiting = self.waiting.entry(tenant.clone()).or_default();
        if waiting.is_empty() {
            self.next.push_back(tenant.clone());
        }
        waiting.push_back(request);
    }

    /// One request of each tenant in turn, `most` at most.
    pub fn take(&mut self, most: usize) -> Vec<T> {
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

    /// How many requests are taken before one more of this tenant.
    pub fn before(&self, tenant: &str) -> usize {
        let own = self.waiting.get(tenant).map_or(0, VecDeque::len);
        self.waiting
            .iter()
            .map(|(other, waiting)| waiting.len().min(if **other == *tenant { own } else { own + 1 }))
            .sum()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), next: VecDeque::new(), count: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // A tenant that comes back stands behind those that wait.
        turns.push(&"small".into(), ("small", 1));
        assert_eq!(turns.take(10), [("other", 1), ("big", 2), ("small", 1), ("big", 3), ("big", 4)]);
        assert!(turns.take(10).is_empty() && turns.waiting.is_empty() && turns.next.is_empty());
    }
}
