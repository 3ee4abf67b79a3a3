//! A semaphore whose permits tenants share fairly.
//!
//! A tenant may hold as many permits as are free, so one alone takes half of them, two take a third each, and a few
//! together leave some to whoever comes next.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// So many permits, and how many each tenant holds.
pub struct FairSemaphore(Mutex<State>);

struct State {
    free: usize,
    held: HashMap<Arc<str>, usize>,
}

impl FairSemaphore {
    /// All are free.
    pub fn new(free: usize) -> Self {
        Self(Mutex::new(State { free, held: HashMap::new() }))
    }

    /// Takes so many permits for this tenant, if its share has them.
    #[must_use]
    pub fn take(&self, tenant: &Arc<str>, count: usize) -> bool {
        if count == 0 {
            // A tenant that holds more than is free, since others came, must not fail at a frame that only ends a body.
            return true;
        }
        let mut state = self.state();
        let held = state.held.get(tenant).copied().unwrap_or(0);
        if held.saturating_add(count) > state.free {
            return false;
        }
        state.free -= count;
        state.held.insert(tenant.clone(), held + count);
        true
    }

    /// Gives back so many of the permits that this tenant holds.
    pub fn give_back(&self, tenant: &str, count: usize) {
        let mut state = self.state();
        let Some(held) = state.held.get_mut(tenant) else { return };
        let count = count.min(*held);
        *held -= count;
        if *held == 0 {
            state.held.remove(tenant);
        }
        state.free += count;
    }

    /// How many permits are taken.
    pub fn taken(&self) -> usize {
        self.state().held.values().sum()
    }

    /// Between any two steps under the lock everything is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(permits: &FairSemaphore, tenant: &str) -> usize {
        let tenant = tenant.into();
        std::iter::from_fn(|| permits.take(&tenant, 1).then_some(())).count()
    }

    #[test]
    fn one_tenant_never_takes_all_places() {
        let permits = FairSemaphore::new(12);
        assert_eq!((all(&permits, "big"), permits.taken()), (6, 6));
        assert_eq!(all(&permits, "other"), 3);
        assert!(permits.take(&"single".into(), 1), "a third finds one too");
        permits.give_back("other", 3);
        assert!(!permits.take(&"big".into(), 1), "it holds what is free");
        permits.give_back("big", 6);
        permits.give_back("single", 1);
        assert_eq!((permits.taken(), all(&permits, "big")), (0, 6));
    }

    #[test]
    fn many_at_once_are_as_fair_as_one_by_one() {
        let permits = FairSemaphore::new(1_000);
        let (big, small) = ("big".into(), "small".into());
        assert!(!permits.take(&big, 1_001) && permits.take(&big, 400));
        assert!(!permits.take(&big, 201) && permits.take(&big, 100));
        assert!(permits.take(&small, 200), "and more than the other is let have");
        assert!(permits.take(&big, 0) && !permits.take(&big, 1), "it holds what others left, and no more");
        permits.give_back("big", 500);
        permits.give_back("small", 200);
        assert_eq!(permits.taken(), 0);
    }

    #[test]
    fn the_only_place_is_anybodys() {
        let permits = FairSemaphore::new(1);
        assert!(permits.take(&"big".into(), 1) && !permits.take(&"single".into(), 1));
        permits.give_back("big", 1);
        assert!(permits.take(&"single".into(), 1));
    }
}
