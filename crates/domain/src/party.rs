//! The party: who owes, and how they are reached.

pub mod email;
pub mod profile;

use serde::{Deserialize, Serialize};

pub use profile::{AccountAmended, AccountOpened, Channel, ContactPoint, DebtorKind, Profile, ProfileChange};

use crate::{event::facts, refusal::refusals};

facts!(Party {
    /// account.opened
    AccountOpened,
    /// account.amended
    AccountAmended,
});

refusals! {
    /// Why a command about the party is not allowed.
    Refusal {
        NotFound AccountUnknown = "ACCOUNT_UNKNOWN", "the account does not exist; open it first";
        AlreadyExists AccountAlreadyOpen = "ACCOUNT_ALREADY_OPEN", "the account is open already; amend it instead";
        FailedPrecondition ContactPointsChanged = "CONTACT_POINTS_CHANGED",
            "somebody has changed the contact points of the account meanwhile; read them again";
    }
}

/// The commands about the party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Opens the account.
    OpenAccount(Profile),
    /// Changes fields of the profile.
    AmendAccount(ProfileChange),
    /// Changes fields of the profile, if its contact points are still those that the client has seen.
    AmendAccountAsSeen {
        /// The fields.
        change: ProfileChange,
        /// Digests of the contact points, in their order.
        seen: Vec<[u8; 32]>,
    },
}

/// The party as decisions see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// `None` before the account is opened.
    pub profile: Option<Profile>,
}

impl Party {
    /// Decides a command about the party.
    pub fn decide(&self, command: &Command) -> Result<Vec<Fact>, Refusal> {
        match (command, &self.profile) {
            (Command::OpenAccount(_), Some(_)) => Err(Refusal::AccountAlreadyOpen),
            (Command::OpenAccount(profile), None) => Ok(vec![AccountOpened(profile.clone()).into()]),
            (Command::AmendAccount(_) | Command::AmendAccountAsSeen { .. }, None) => Err(Refusal::AccountUnknown),
            (Command::AmendAccountAsSeen { seen, .. }, Some(profile))
                if !profile.contact_points.iter().map(|point| &point.digest).eq(seen) =>
            {
                Err(Refusal::ContactPointsChanged)
            }
            (Command::AmendAccount(change) | Command::AmendAccountAsSeen { change, .. }, Some(_)) => {
                Ok(vec![AccountAmended(change.clone()).into()])
            }
        }
    }

    /// The addresses that the debtor is reached at: each one's channel and keyed digest.
    pub(crate) fn addresses(&self) -> Vec<(Channel, [u8; 32])> {
        let points = self.profile.iter().flat_map(|profile| &profile.contact_points);
        points.map(|point| (point.channel, point.digest)).collect()
    }

    /// The party after a fact.
    pub fn evolve(&mut self, fact: &Fact) {
        match fact {
            Fact::AccountOpened(AccountOpened(profile)) => self.profile = Some(profile.clone()),
            Fact::AccountAmended(AccountAmended(change)) => {
                if let Some(profile) = &mut self.profile {
                    profile.amend(change);
                }
            }
        }
    }
}
