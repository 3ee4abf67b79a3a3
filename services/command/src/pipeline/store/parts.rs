//! An account's state by subject. Each subject's part has a table of its own, so that a save writes only the parts that have
//! changed.

use std::sync::OnceLock;

use redb::TableDefinition;
use saldo_domain::account::Account;
use sha2::{Digest, Sha256};

use super::{StoreError, read, write};

/// How many subjects have a part.
pub const COUNT: usize = 4;

/// The parts' tables, by `tenant/account`, in the order of [`encode`].
pub const TABLES: [TableDefinition<'static, &'static str, &'static [u8]>; COUNT] = [
    TableDefinition::new("party"),
    TableDefinition::new("ledger"),
    TableDefinition::new("dunning"),
    TableDefinition::new("agreement"),
];

/// The digests of an account's parts, by which a save sees which have changed. A part that stands at its default has no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests([[u8; 32]; COUNT]);

impl Digests {
    pub fn of(parts: &[Vec<u8>; COUNT]) -> Self {
        Self(parts.each_ref().map(|part| Sha256::digest(part).into()))
    }

    /// A part without a row stands at its default.
    pub fn of_rows(rows: [Option<&[u8]>; COUNT]) -> Self {
        let Self(mut digests) = Self::default();
        for (digest, row) in digests.iter_mut().zip(rows) {
            if let Some(row) = row {
                *digest = Sha256::digest(row).into();
            }
        }
        Self(digests)
    }

    /// Whether a part is another one than it was.
    pub fn differ(&self, before: &Self, part: usize) -> bool {
        self.0[part] != before.0[part]
    }
}

/// The digests of an account that has no row in any table.
impl Default for Digests {
    fn default() -> Self {
        static DEFAULT: OnceLock<Digests> = OnceLock::new();
        // The default account holds nothing that could fail to be written; empty parts would only cost a row.
        let digests = || Self::of(&encode(&Account::default()).unwrap_or_default());
        DEFAULT.get_or_init(digests).clone()
    }
}

/// Each part's bytes. A new subject does not compile here until it has a table.
pub fn encode(account: &Account) -> Result<[Vec<u8>; COUNT], StoreError> {
    let Account { party, ledger, dunning, agreement } = account;
    Ok([write(party)?, write(ledger)?, write(dunning)?, write(agreement)?])
}

/// The account of these rows.
pub fn decode(rows: [Option<&[u8]>; COUNT]) -> Result<Account, StoreError> {
    let [party, ledger, dunning, agreement] = rows;
    Ok(Account {
        party: party.map_or(Ok(Default::default()), read)?,
        ledger: ledger.map_or(Ok(Default::default()), read)?,
        dunning: dunning.map_or(Ok(Default::default()), read)?,
        agreement: agreement.map_or(Ok(Default::default()), read)?,
    })
}
