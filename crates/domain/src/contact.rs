//! What is being said to the debtor: the open reminder, what was said lately, and what a person may say again.
//!
//! A reminder falls due, is started, and is closed: accepted, rejected, unknown or withheld. An account has at most one
//! open. Its steps count as taken once it is closed, and not before: a hand-over that certainly failed took nothing.

use std::fmt;

use jiff::{SignedDuration, Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

use crate::{
    ids::DocumentNumber,
    money::Currency,
    policy::Tone,
    profile::{Channel, Sealed},
};

/// How long after its start an attempt may be handed over at most.
pub const SEND_WITHIN: SignedDuration = SignedDuration::from_mins(2);
/// How long after `send_before` an attempt without an outcome stands as unknown: longer than a hand-over that began in
/// time can take until it is answered (RFC 5321, 4.5.3.2.6, asks for 10 minutes after the message).
pub const UNKNOWN_AFTER: SignedDuration = SignedDuration::from_mins(11);
/// Items that one contact lists, and that take a step with it, at most: a message stays readable, and its commits small
/// whatever is open. What is beyond is summed up, and takes its step with the next contact.
pub const MAX_LISTED: usize = 1_000;
/// The stage of a hand-over that a last look at the clock kept from happening; it uses up no retry.
pub const LAST_LOOK: &str = "last-look";
/// How long a contact counts against a week's budget, in any zone.
pub const REMEMBERED: SignedDuration = SignedDuration::from_hours(8 * 24);

/// Drawn at random for each try to start an attempt and kept in memory only: whoever holds the one that won may send.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim(pub [u8; 16]);

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claim")
    }
}

/// The highest step that an item has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// The step's days after the due date, which tell it apart in any version of a policy.
    pub offset_days: i32,
    /// The day it was taken, in the zone of the policy's windows.
    pub on: Date,
}

/// An item and the step it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemStep {
    /// The item's invoice.
    pub invoice: DocumentNumber,
    /// Its instalment.
    pub instalment: u32,
    /// The step's days after the due date.
    pub offset_days: i32,
}

/// Steps that items took, on a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Took {
    /// Each item and its step.
    pub steps: Vec<ItemStep>,
    /// The day, in the zone of the policy's windows.
    pub on: Date,
}

/// How a contact speaks, as its step says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saying {
    /// The step's name.
    pub step: String,
    /// Its tone.
    pub tone: Tone,
    /// Where.
    pub channel: Channel,
    /// The template's name.
    pub template: String,
}

/// Where an open reminder stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It may be started.
    Due {
        /// Not before this instant, where it was deferred.
        from: Option<Timestamp>,
    },
    /// It is on its way, or was when its process died.
    Started {
        /// Whoever holds this may send.
        claim: Claim,
        /// When it was started.
        at: Timestamp,
        /// The day of the start, in the zone of the policy's windows.
        day: Date,
        /// Not a byte of it leaves from this instant on.
        send_before: Timestamp,
    },
}

/// The account's open reminder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reminder {
    /// Its number on the account, from 1.
    pub number: u64,
    /// How it speaks.
    pub saying: Saying,
    /// The items that take a step with it.
    pub takes: Vec<ItemStep>,
    /// The reminder that a person asked to say again with this one.
    pub retry_of: Option<u64>,
    /// Attempts started so far.
    pub attempts: u32,
    /// Where it stands.
    pub stage: Stage,
}

/// A reminder that was closed without reaching anybody for certain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Its number.
    pub number: u64,
    /// How it spoke.
    pub saying: Saying,
    /// The items that took a step with it.
    pub takes: Vec<ItemStep>,
    /// The attempt whose outcome stands as unknown, and the claim that may still say it.
    pub unknown: Option<(u32, Claim)>,
}

/// All that an account remembers of its contacts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contacts {
    /// How many reminders there ever were.
    pub reminders: u64,
    /// The one that is open.
    pub open: Option<Reminder>,
    /// When the debtor was contacted, or may have been; as far back as a week's budget looks.
    pub recent: Vec<Timestamp>,
    /// The reminder closed last, where it reached nobody for certain. Its sender may still say what became of it, until
    /// another one is closed; a person may have it said again, until another one falls due.
    pub unsettled: Option<Closed>,
}

impl Contacts {
    /// The reminder that a person should see to.
    pub fn needs_person(&self) -> Option<u64> {
        self.unsettled.as_ref().filter(|_| self.open.is_none()).map(|closed| closed.number)
    }
}

/// An open item as a message lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedItem {
    /// Its invoice.
    pub invoice: DocumentNumber,
    /// Its instalment.
    pub instalment: u32,
    /// Its currency.
    pub currency: Currency,
    /// The day it falls due.
    pub due_date: Date,
    /// What is left, in minor units.
    pub open: i64,
    /// The step that it takes with this message, by its days after the due date; absent where it is only listed.
    pub takes: Option<i32>,
}

/// Open items of one currency that a message does not list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlisted {
    /// Their currency.
    pub currency: Currency,
    /// How many.
    pub items: u32,
    /// What is left of them, in minor units.
    pub open: i64,
    /// What of it is past due.
    pub overdue: i64,
}

/// An attempt as it was started: all that its message is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The reminder.
    pub reminder: u64,
    /// Its number on the reminder, from 1.
    pub attempt: u32,
    /// The claim that won.
    pub claim: Claim,
    /// How it speaks.
    pub saying: Saying,
    /// The language of the template, ISO 639-1.
    pub language: String,
    /// The debtor's name, as the account has it.
    pub name: Sealed,
    /// The address, as the account has it.
    pub address: Sealed,
    /// Keyed digest of the address.
    pub recipient: [u8; 32],
    /// When.
    pub at: Timestamp,
    /// The day of it, in the zone of the policy's windows.
    pub day: Date,
    /// Not a byte of it leaves from this instant on.
    pub send_before: Timestamp,
    /// What is open, oldest due first; all that takes a step, and of the rest as much as is listed.
    pub items: Vec<ListedItem>,
    /// What else is open.
    pub unlisted: Vec<Unlisted>,
    /// What is not applied yet, by currency in minor units: the rest of the balance, re-checked at this moment.
    pub unapplied: Vec<(Currency, i64)>,
}

/// What was handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// The Message-ID, or what the channel has in its place.
    pub message_id: String,
    /// SHA-256 of the exact bytes.
    pub sha256: [u8; 32],
    /// The exact bytes.
    pub message: Sealed,
}

/// Where and how a hand-over failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Where in the conversation with the provider, by its name.
    pub stage: String,
    /// The provider's number for it (SMTP: the reply code); 0 where it gave none.
    pub code: u32,
    /// The provider's words, which may repeat an address.
    pub reply: Option<Sealed>,
}

/// What became of one hand-over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandOver {
    /// The provider has it.
    Accepted {
        /// What it has.
        handed: Handed,
        /// Its words.
        reply: Option<Sealed>,
    },
    /// The provider will not have it.
    Rejected {
        /// Where and how.
        failed: Failed,
        /// What was handed over, where it came to that.
        handed: Option<Handed>,
    },
    /// Certainly not handed over; another try may do better.
    Deferred(Failed),
    /// It may or may not have been taken.
    Unknown {
        /// What was on its way.
        handed: Option<Handed>,
    },
}

/// Names of an enum's values, as stored and shown.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $value:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$about])* $value),* }

        impl $name {
            /// Its stable name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $text),* }
            }

            /// The value of a stable name.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$value),)* _ => None }
            }
        }
    };
}

named!(
    /// Why nothing was sent for a reminder.
    Withheld {
        /// Nothing of what it was about is open and due any more.
        Settled = "settled",
        /// The creditor has switched sending off, or has no policy.
        SendingOff = "sending_off",
        /// The debtor cannot be reached on the step's channel.
        NoContactPoint = "no_contact_point",
        /// A person decided so.
        Dropped = "dropped",
    }
);

named!(
    /// Why a reminder waits.
    Deferred {
        /// The debtor may not be contacted at this hour.
        OutsideHours = "outside_hours",
        /// The debtor was contacted often enough.
        Budget = "budget",
        /// The hand-over failed for the moment.
        HandOverFailed = "hand_over_failed",
    }
);

named!(
    /// Why a reminder was given up.
    Rejected {
        /// The provider refused it for good.
        Refused = "refused",
        /// The policy's last retry failed.
        RetriesExhausted = "retries_exhausted",
    }
);

named!(
    /// Why an outcome stands as unknown.
    Unknown {
        /// The provider did not answer after the message had begun.
        NoAnswer = "no_answer",
        /// Nobody recorded an outcome in time: the sender died, or was cut off.
        NoOutcome = "no_outcome",
    }
);

impl Withheld {
    /// Whether the reminder's steps are behind its items all the same, so that the ladder goes on.
    pub fn takes_steps(self) -> bool {
        matches!(self, Withheld::NoContactPoint | Withheld::Dropped)
    }
}
