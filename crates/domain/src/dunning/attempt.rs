//! Attempts: the facts of a hand-over, and the limits that they keep.

use std::fmt;

use jiff::{SignedDuration, Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

use super::{
    ladder::{LastStep, StepsTaken},
    reminder::Notice,
};
use crate::{ids::DocumentNumber, money::Currency, named::named, party::Channel, sealed::Sealed};

/// How long after its start an attempt may be handed over at most.
pub const SEND_WITHIN: SignedDuration = SignedDuration::from_mins(2);

/// How long after `send_before` an attempt without an outcome stands as unknown: longer than a hand-over that began in
/// time can take until it is answered and recorded.
pub const fn unknown_after(channel: Channel) -> SignedDuration {
    match channel {
        // RFC 5321, 4.5.3.2.5 and 4.5.3.2.6, ask for 3 minutes to send a message, and for 10 minutes until it is answered.
        // The other machines answer sooner.
        Channel::Email | Channel::Sms | Channel::Whatsapp => SignedDuration::from_mins(15),
        // A person calls, and notes the outcome on the same day.
        Channel::Phone => SignedDuration::from_hours(24),
        // A letter that cannot be delivered takes weeks to come back.
        Channel::Post => SignedDuration::from_hours(28 * 24),
    }
}

/// Items that one contact lists, and that take a step with it, at most: a message stays readable, and its commits small
/// whatever is open. What is beyond is summed up, and takes its step with the next contact.
pub const MAX_LISTED: usize = 1_000;
/// The stage of a hand-over that a last look at the clock kept from happening.
pub const LAST_LOOK: &str = "last-look";
/// How often the message of one reminder may be too late to leave without using up a retry. A server that is too slow more
/// often than this fails as one that refuses does, so it is not asked for ever.
pub const MAX_TOO_LATE: u32 = 3;
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
pub struct UnlistedItems {
    /// Their currency.
    pub currency: Currency,
    /// How many.
    pub items: u32,
    /// What is left of them, in minor units.
    pub open: i64,
    /// What of it is past due.
    pub overdue: i64,
}

/// What makes a message the same message. A retry that finds nothing changed says the same message again, byte for byte, so
/// that a mail program which has the first one can see this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageStamp {
    /// Of an e-mail its Message-ID, without the angle brackets.
    pub id: String,
    /// The instant that the message is dated.
    pub at: Timestamp,
    /// The day that the message speaks of as today.
    pub day: Date,
}

/// contact.started: the account allows the contact. The fact holds all that the message is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactStarted {
    /// The reminder.
    pub reminder: u64,
    /// Its number on the reminder, from 1.
    pub attempt: u32,
    /// The claim that won.
    pub claim: Claim,
    /// How it speaks.
    pub notice: Notice,
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
    pub unlisted: Vec<UnlistedItems>,
    /// What is not applied yet, by currency in minor units: the rest of the balance, re-checked at this moment.
    pub unapplied: Vec<(Currency, i64)>,
    /// What makes it the same message when it is said again; absent before version 2.
    pub stamp: Option<MessageStamp>,
}

/// What was handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOver {
    /// The Message-ID, or what the channel has in its place.
    pub message_id: String,
    /// SHA-256 of the exact bytes.
    pub sha256: [u8; 32],
    /// The exact bytes.
    pub message: Sealed,
}

/// Where and how a hand-over failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOverFailure {
    /// Where in the conversation with the provider, by its name.
    pub stage: String,
    /// The provider's number for it (SMTP: the reply code); 0 where it gave none.
    pub code: u32,
    /// The provider's words, which may repeat an address.
    pub reply: Option<Sealed>,
}

/// What a failure concerns, and so whom it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concerns {
    /// This message, or nobody can tell: it uses up a retry.
    Message,
    /// The recipient's address.
    Recipient,
    /// The route of every message, such as a server that is down or a sender that is refused. It uses up nothing.
    Route,
}

/// What became of one hand-over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The provider has it.
    Accepted {
        /// What it has.
        handed: HandedOver,
        /// Its words.
        reply: Option<Sealed>,
    },
    /// The provider will not have it.
    Rejected {
        /// Where and how.
        failure: HandOverFailure,
        /// What the provider refused.
        concerns: Concerns,
        /// What was handed over, where it came to that.
        handed: Option<HandedOver>,
    },
    /// Certainly not handed over; another try may do better.
    Deferred {
        /// Where and how.
        failure: HandOverFailure,
        /// What failed.
        concerns: Concerns,
    },
    /// It may or may not have been taken.
    Unknown {
        /// What was on its way.
        handed: Option<HandedOver>,
    },
}

/// contact.withheld
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactWithheld {
    /// The reminder.
    pub reminder: u64,
    /// Why.
    pub reason: WithheldReason,
    /// The steps that are behind their items all the same.
    pub took: StepsTaken,
    /// The hold that kept the message back.
    pub hold: Option<DocumentNumber>,
    /// The balances for which nothing is owed, by currency in minor units; nil or less.
    pub balances: Vec<(Currency, i64)>,
    /// The rungs of the ladder that the reminder used up without reaching anybody. None of these steps is taken.
    pub tried: Option<StepsTaken>,
    /// Why a person dropped the reminder.
    pub note: Option<Sealed>,
    /// Of sending that is off: it was held for every creditor, whatever this creditor's switch says.
    pub for_every_creditor: bool,
}

impl ContactWithheld {
    /// Nothing is sent for a reminder, and no step is taken.
    pub fn of(reminder: u64, reason: WithheldReason, on: Date) -> Self {
        let took = StepsTaken { steps: Vec::new(), on };
        Self {
            reminder,
            reason,
            took,
            hold: None,
            balances: Vec::new(),
            tried: None,
            note: None,
            for_every_creditor: false,
        }
    }
}

/// contact.deferred
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactDeferred {
    /// The reminder.
    pub reminder: u64,
    /// The attempt that failed; 0 where none was started.
    pub attempt: u32,
    /// Why.
    pub reason: DeferredReason,
    /// From this instant the reminder is due again.
    pub until: Timestamp,
    /// Where and how the hand-over failed.
    pub failure: Option<HandOverFailure>,
    /// The route failed and not this message, so no retry is used up.
    pub route: bool,
}

/// contact.accepted
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactAccepted {
    /// The reminder.
    pub reminder: u64,
    /// The attempt.
    pub attempt: u32,
    /// What the provider has.
    pub handed: HandedOver,
    /// The provider's words.
    pub reply: Option<Sealed>,
    /// The steps that its items took; none where they took them when the outcome was unknown.
    pub took: StepsTaken,
}

/// contact.rejected
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactRejected {
    /// The reminder.
    pub reminder: u64,
    /// The attempt.
    pub attempt: u32,
    /// Why.
    pub reason: RejectedReason,
    /// Where and how.
    pub failure: HandOverFailure,
    /// What was handed over, where it came to that.
    pub handed: Option<HandedOver>,
    /// The steps that its items took. Since version 2 a rejected reminder takes none.
    pub took: StepsTaken,
    /// The rungs of the ladder that the reminder used up without reaching anybody. None of these steps is taken.
    pub tried: Option<StepsTaken>,
    /// The items that took a step while the outcome was unknown. They have not taken it: the highest step of each is this one.
    pub steps_before: Vec<StepBefore>,
}

/// The highest step that an item had taken before a message that reached nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepBefore {
    /// The item's invoice.
    pub invoice: DocumentNumber,
    /// The item's instalment.
    pub instalment: u32,
    /// The step; absent where the item had taken none.
    pub last: Option<LastStep>,
}

/// contact.unknown
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactUnknown {
    /// The reminder.
    pub reminder: u64,
    /// The attempt.
    pub attempt: u32,
    /// Why.
    pub reason: UnknownReason,
    /// What was on its way, where it is known.
    pub handed: Option<HandedOver>,
    /// The steps that its items took.
    pub took: StepsTaken,
}

named!(
    /// Why nothing was sent for a reminder.
    WithheldReason {
        /// Nothing of what it was about is open and due any more.
        Settled = "settled",
        /// The creditor has switched sending off or has no policy, or the operator has held sending for every creditor.
        SendingOff = "sending_off",
        /// The debtor cannot be reached on the step's channel.
        NoContactPoint = "no_contact_point",
        /// A person decided so.
        Dropped = "dropped",
        /// What the reminder is about is on hold.
        Held = "held",
        /// The debtor owes nothing: what is open is covered by credit.
        NothingOwed = "nothing_owed",
    }
);

named!(
    /// Why a reminder waits.
    DeferredReason {
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
    RejectedReason {
        /// The provider refused it for good.
        Refused = "refused",
        /// The policy's last retry failed.
        RetriesExhausted = "retries_exhausted",
        /// The provider refused the recipient's address for good.
        AddressRefused = "address_refused",
    }
);

named!(
    /// Why an outcome stands as unknown.
    UnknownReason {
        /// The provider did not answer after the message had begun.
        NoAnswer = "no_answer",
        /// Nobody recorded an outcome in time: the sender died, or was cut off.
        NoOutcome = "no_outcome",
    }
);
