//! The domain's own fold of accounts, as many at once as memory is given for.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use saldo_domain::{account::Account, evolve};
use saldo_facts::{Commit, DecodeError};
use saldo_log::frame::Frame;
use saldo_readmodel::Expected;

use super::expected::Lines;
use crate::compare::Differences;

/// The estimated memory of an account, and of each item that is open on it.
const ACCOUNT_BYTES: usize = 2_048;
const ITEM_BYTES: usize = 256;

/// A share of all accounts: those whose key's hash leaves a remainder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slice {
    remainder: u64,
    of: u64,
}

impl Slice {
    fn holds(self, key: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish() % self.of == self.remainder
    }

    /// Both halves of it.
    fn halves(self) -> (Self, Self) {
        let of = self.of * 2;
        (Self { of, ..self }, Self { of, remainder: self.remainder + self.of })
    }
}

/// An account as the domain folds it.
#[derive(Default)]
struct Folded {
    account: Account,
    parked: bool,
}

impl Folded {
    fn bytes(&self) -> usize {
        let ledger = &self.account.ledger;
        ACCOUNT_BYTES + ITEM_BYTES * (ledger.items.len() + ledger.credits.len())
    }
}

/// The accounts of one slice. Where they come to take up too much, the slice is halved, and the other half waits for another
/// reading of the log.
pub struct Accounts {
    slice: Slice,
    waiting: Vec<Slice>,
    folded: HashMap<String, Folded>,
    bytes: usize,
    at_once: usize,
}

impl Accounts {
    /// All of them, until they take up more than so many bytes.
    pub fn within(at_once: usize) -> Self {
        let slice = Slice { remainder: 0, of: 1 };
        Self { slice, waiting: Vec::new(), folded: HashMap::new(), bytes: 0, at_once }
    }

    /// Folds a commit that counts, where its account belongs to the slice.
    pub fn fold(&mut self, frame: &Frame<'_>, commit: &Result<Commit, DecodeError>) {
        let key = frame.key();
        if !self.slice.holds(&key) {
            return;
        }
        let mut before = 0;
        let folded = self.folded.entry(key).and_modify(|folded| before = folded.bytes()).or_default();
        match commit {
            Ok(commit) if !folded.parked => {
                commit.events.iter().for_each(|event| evolve(&mut folded.account, event));
            }
            Ok(_) => {}
            Err(_) => *folded = Folded { parked: true, ..Folded::default() },
        }
        self.bytes = self.bytes + folded.bytes() - before;
        while self.bytes > self.at_once && self.folded.len() > 1 {
            let (kept, left) = self.slice.halves();
            self.slice = kept;
            self.waiting.push(left);
            self.folded.retain(|key, _| kept.holds(key));
            self.bytes = self.folded.values().map(Folded::bytes).sum();
        }
    }

    /// Goes on to the accounts that waited. `false`: there are none.
    pub fn next_slice(&mut self) -> bool {
        let Some(slice) = self.waiting.pop() else { return false };
        (self.slice, self.bytes) = (slice, 0);
        self.folded.clear();
        true
    }

    /// Accounts of the slice that cannot be read to their end.
    pub fn parked(&self) -> u64 {
        self.folded.values().filter(|folded| folded.parked).count() as u64
    }

    /// Whether what rows say of this account can be compared.
    pub fn compares(&self, key: &str) -> bool {
        self.slice.holds(key) && self.folded.get(key).is_none_or(|folded| !folded.parked)
    }

    /// Compares what the domain's state says of each account with the lines of its rows.
    pub fn differ(&self, expected: &Expected, mut rows: HashMap<String, Lines>, found: &mut Differences) {
        for (key, folded) in self.folded.iter().filter(|(_, folded)| !folded.parked) {
            let mut rows = rows.remove(key).unwrap_or_default();
            let mut log = (expected.lines)(&folded.account);
            log.retain(|line| rows.remove(line).is_none());
            rows.retain(|_, forgotten| !*forgotten);
            if !log.is_empty() || !rows.is_empty() {
                let rows: Vec<String> = rows.into_keys().collect();
                found.differ(key, expected.what, listed(&log), listed(&rows));
            }
        }
        for (key, rows) in rows {
            let rows: Vec<String> = rows.into_keys().collect();
            found.differ(&key, expected.what, "no such account", listed(&rows));
        }
    }
}

fn listed(lines: &[String]) -> String {
    if lines.is_empty() { "nothing else".to_owned() } else { lines.join("; ") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use saldo_log::{
        frame::{self, Kind},
        keys::LogKeys,
    };

    use super::*;

    #[test]
    fn every_account_is_folded_once_and_few_at_a_time() {
        let unread = Err(DecodeError::Malformed { what: "commit".into(), why: "made up".into() });
        let values: Vec<Vec<u8>> = (0..100)
            .map(|number| frame::encode(Kind::Commit, "acme", &format!("D-{number}"), 1, [0; 32], b"", &LogKeys::NONE))
            .collect();
        let mut accounts = Accounts::within(10 * ACCOUNT_BYTES);
        let (mut met, mut readings) = (BTreeSet::new(), 0);
        loop {
            for value in &values {
                accounts.fold(&Frame::parse(value).expect("a frame"), &unread);
                assert!(accounts.folded.len() <= 10);
            }
            readings += 1;
            assert_eq!(accounts.parked(), accounts.folded.len() as u64);
            for key in accounts.folded.keys() {
                assert!(met.insert(key.clone()), "{key} is folded twice");
            }
            if !accounts.next_slice() {
                break;
            }
        }
        assert_eq!(met.len(), 100);
        assert!(readings > 10, "{readings}");
    }
}
