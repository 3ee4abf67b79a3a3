//! Places that tenants share.
//!
//! A tenant may hold as many places as are free, so one alone takes half of them, two take a third each, and a few
//! together leave some to whoever comes next.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// So many places, and who holds how many of them.
pub struct Places(Mutex<State>);

struct State {
    free: usize,
    held: HashMap<Arc<str>, usize>,
}

impl Places {
    /// So many, all free.
    pub fn new(free: usize) -> Self {
        Self(Mutex::new(State { free, held: HashMap::new() }))
    }

    /// Takes so many for this tenant, if its share has them.
    #[must_use]
    pub fn take(&self, tenant: &Arc<str>, count: usize) -> bool {
        if count == 0 {
            // Who holds more than is free since others came is not to fail at a frame that only ends its body.
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

    /// Gives back so many of those that this tenant holds.
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

    /// Places that are taken.
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

    fn all(places: &Places, tenant: &str) -> usize {
        let tenant = tenant.into();
        std::iter::from_fn(|| places.take(&tenant, 1).then_some(())).count()
    }

    #[test]
    fn one_tenant_never_takes_all_places() {
        let places = Places::new(12);
        assert_eq!((all(&places, "big"), places.taken()), (6, 6));
        assert_eq!(all(&places, "other"), 3);
        assert!(places.take(&"single".into(), 1), "a third finds one too");
        places.give_back("other", 3);
        assert!(!places.take(&"big".into(), 1), "it holds what is free");
        places.give_back("big", 6);
        places.give_back("single", 1);
        assert_eq!((places.taken(), all(&places, "big")), (0, 6));
    }

    #[test]
    fn many_at_once_are_as_fair_as_one_by_one() {
        let places = Places::new(1_000);
        let (big, small) = ("big".into(), "small".into());
        assert!(!places.take(&big, 1_001) && places.take(&big, 400));
        assert!(!places.take(&big, 201) && places.take(&big, 100));
        assert!(places.take(&small, 200), "and more than the other is let have");
        assert!(places.take(&big, 0) && !places.take(&big, 1), "it holds what others left, and no more");
        places.give_back("big", 500);
        places.give_back("small", 200);
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn the_only_place_is_anybodys() {
        let places = Places::new(1);
        assert!(places.take(&"big".into(), 1) && !places.take(&"single".into(), 1));
        places.give_back("big", 1);
        assert!(places.take(&"single".into(), 1));
    }
}
