//! Agreements: what stands between a debt and its collection. Today: holds.

pub mod hold;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use hold::{
    HeldDays, Hold, HoldAmended, HoldChange, HoldPlaced, HoldReason, HoldReleased, HoldScope, HoldTerms, Stretches,
};

use crate::{
    document::Documents,
    event::facts,
    ids::DocumentNumber,
    refusal::{self, refusals},
    sealed::Sealed,
};

facts!(Agreement {
    /// hold.placed
    HoldPlaced,
    /// hold.amended
    HoldAmended,
    /// hold.released
    HoldReleased,
});

refusals! {
    /// Why a command about an agreement is not allowed.
    Refusal {
        AlreadyExists HoldIdTaken { hold: DocumentNumber, same_content: bool } = "HOLD_ID_TAKEN",
            "hold {hold} exists on this account already; amend the hold, or choose another id";
        NotFound HoldUnknown { hold: DocumentNumber } = "HOLD_UNKNOWN", "the account has no hold {hold}";
        FailedPrecondition HoldAlreadyReleased { hold: DocumentNumber } = "HOLD_RELEASED",
            "hold {hold} was released; place a new hold instead";
        FailedPrecondition HoldEndsBeforeStart { from: Date, until: Date } = "HOLD_ENDS_BEFORE_START",
            "the hold would end on {until}, before its first day {from}";
        FailedPrecondition TooManyHolds = "TOO_MANY_HOLDS", "the account has {} holds already; release some first", hold::MAX_HOLDS;
    }
}

/// The commands about agreements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Places a hold: no dunning of what it covers, from its first day to its last.
    PlaceHold {
        /// The creditor's id of the hold, unique on the account for ever.
        hold: DocumentNumber,
        /// Scope, days and reason.
        terms: HoldTerms,
        /// Free text.
        note: Option<Sealed>,
    },
    /// Changes the terms of a hold.
    AmendHold {
        /// The hold.
        hold: DocumentNumber,
        /// The terms to replace.
        change: HoldChange,
        /// Free text.
        note: Option<Sealed>,
    },
    /// Ends a hold now.
    ReleaseHold {
        /// The hold.
        hold: DocumentNumber,
        /// Free text.
        note: Option<Sealed>,
    },
}

/// The agreements that decisions need.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Holds that are not released, in the order they were placed. Holds whose last day is over go when the next is placed.
    pub holds: Vec<Hold>,
}

impl Agreement {
    /// Decides a command about agreements, on the debtor's day `today`.
    pub fn decide(
        &self,
        documents: &dyn Documents,
        command: &Command,
        today: Date,
    ) -> Result<Vec<Fact>, refusal::Refusal> {
        match command {
            Command::PlaceHold { hold, terms, note } => self.place(documents, hold, terms, note, today),
            Command::AmendHold { hold, change, note } => self.amend(documents, hold, change, note, today),
            Command::ReleaseHold { hold, note } => self.release(documents, hold, note, today),
        }
    }

    /// The agreements after a fact.
    pub fn evolve(&mut self, fact: &Fact) {
        match fact {
            Fact::HoldPlaced(HoldPlaced { hold, terms, placed_on: today, .. })
            | Fact::HoldAmended(HoldAmended { hold, terms, amended_on: today, .. }) => {
                self.holds.retain(|one| one.hold == *hold || !one.is_over(*today));
                match self.holds.iter_mut().find(|one| one.hold == *hold) {
                    Some(known) => known.terms = terms.clone(),
                    None => self.holds.push(Hold { hold: hold.clone(), terms: terms.clone() }),
                }
            }
            Fact::HoldReleased(HoldReleased { hold, .. }) => self.holds.retain(|one| one.hold != *hold),
        }
    }

    fn find(&self, hold: &DocumentNumber) -> Option<usize> {
        self.holds.iter().position(|one| one.hold == *hold)
    }
}
