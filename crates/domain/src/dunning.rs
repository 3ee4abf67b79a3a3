//! Dunning: when the ladder speaks, whether it may, and what became of it.
//!
//! A reminder falls due, is started, and is closed: accepted, rejected, unknown or withheld. An account has at most one open
//! reminder. A reminder's steps count as taken from the moment when it is closed. A reminder that certainly reached nobody
//! takes no step.

pub mod attempt;
mod fold;
pub mod hours;
pub mod ladder;
mod outcome;
pub mod policy;
pub mod preview;
pub mod reminder;
mod silence;
mod start;

use std::collections::HashSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use attempt::{
    Claim, Concerns, ContactAccepted, ContactDeferred, ContactRejected, ContactStarted, ContactUnknown,
    ContactWithheld, DeferredReason, HandOverFailure, HandedOver, ListedItem, MessageStamp, Outcome, RejectedReason,
    StepBefore, UnknownReason, UnlistedItems, WithheldReason,
};
pub use ladder::{ItemStep, LastStep, StepsTaken};
pub use policy::{Policy, Tone};
pub use reminder::{
    Closing, ItemBefore, Nothing, Notice, Reminder, ReminderDue, ReminderState, UnknownAttempt, Unsettled,
};
pub use silence::Silence;

use crate::{
    account::Account, command::Context, event::facts, ids::DocumentNumber, party::Channel, refusal::refusals,
    sealed::Sealed,
};

facts!(Dunning {
    /// reminder.due
    ReminderDue,
    /// contact.started
    ContactStarted,
    /// contact.withheld
    ContactWithheld,
    /// contact.deferred
    ContactDeferred,
    /// contact.accepted
    ContactAccepted,
    /// contact.rejected
    ContactRejected,
    /// contact.unknown
    ContactUnknown,
});

refusals! {
    /// Why a command about a reminder is not allowed.
    Refusal {
        NotFound ReminderUnknown { reminder: u64 } = "REMINDER_UNKNOWN", "the account has no reminder {reminder}";
        FailedPrecondition AttemptClosed { reminder: u64, attempt: u32 } = "ATTEMPT_CLOSED",
            "attempt {attempt} of reminder {reminder} is not this caller's, or has its outcome already";
        FailedPrecondition AttemptUnderWay { reminder: u64 } = "ATTEMPT_UNDER_WAY",
            "reminder {reminder} is on its way; its outcome comes first";
        FailedPrecondition NothingToSettle { reminder: u64, why: Nothing } = "NOTHING_TO_SETTLE",
            "reminder {reminder} can be neither retried nor dropped: {why}";
        FailedPrecondition OnHold { reminder: u64, hold: DocumentNumber } = "ON_HOLD",
            "what reminder {reminder} is about is on hold ({hold}); release the hold first";
        FailedPrecondition NothingOwed { reminder: u64 } = "NOTHING_OWED",
            "what reminder {reminder} is about is covered by credit: the debtor owes nothing";
        FailedPrecondition NoContactPoint { reminder: u64 } = "NO_CONTACT_POINT",
            "the account has no address for the channel of reminder {reminder}";
        FailedPrecondition SendingOff { why: Silence } = "SENDING_OFF", "{why}";
    }
}

/// The commands about reminders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Asks whether a reminder may be sent now, and claims it.
    StartContactAttempt {
        /// The reminder.
        reminder: u64,
        /// Drawn for this try.
        claim: Claim,
    },
    /// Says what became of an attempt.
    RecordContactOutcome {
        /// The reminder.
        reminder: u64,
        /// The attempt.
        attempt: u32,
        /// The claim that the attempt was started with.
        claim: Claim,
        /// The outcome of the attempt.
        outcome: Outcome,
    },
    /// A person has the newest reminder said again that reached nobody for certain, or whose outcome is unknown.
    RetryContact {
        /// The reminder.
        reminder: u64,
        /// Why, in the person's words.
        note: Option<Sealed>,
    },
    /// A person decides that a reminder is not sent, or not sent again.
    DropContact {
        /// The reminder.
        reminder: u64,
        /// Why, in the person's words.
        note: Option<Sealed>,
    },
}

/// The part of the account's state that is about reminders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dunning {
    /// How many reminders there ever were.
    pub reminders: u64,
    /// The open reminder.
    pub open: Option<Reminder>,
    /// When the debtor was contacted, or may have been; as far back as a week's budget looks.
    pub recent: Vec<Timestamp>,
    /// The reminder closed last, where it reached nobody for certain or its outcome is unknown. Its sender may still say what became of it, until
    /// another reminder is closed; a person may have it said again, until another falls due.
    pub unsettled: Option<Unsettled>,
    /// How the reminder ended that was closed last, where nobody need see to it.
    pub closed: Option<(u64, Closing)>,
    /// Keyed digests of addresses of the profile that a provider has refused.
    pub refused: Vec<[u8; 32]>,
    /// The channels on which a reminder reached nobody, since a new address could help there.
    pub failed_on: Vec<Channel>,
}

impl Dunning {
    /// The reminder that a person should see to.
    pub fn needs_person(&self) -> Option<u64> {
        self.unsettled.as_ref().filter(|_| self.open.is_none()).map(|unsettled| unsettled.reminder)
    }

    /// The attempt that was counted as a contact until this rejection came. A rejection of an older release left it counted.
    fn refuted(&self, rejected: &ContactRejected) -> Option<&UnknownAttempt> {
        let unsettled = self.unsettled.as_ref().filter(|unsettled| unsettled.reminder == rejected.reminder)?;
        unsettled.unknown.as_ref().filter(|_| rejected.tried.is_some())
    }
}

impl Fact {
    /// The steps of the ladder that a fact leaves behind its items.
    pub fn took(&self) -> Option<&StepsTaken> {
        match self {
            Fact::ContactWithheld(ContactWithheld { took, .. })
            | Fact::ContactAccepted(ContactAccepted { took, .. })
            | Fact::ContactRejected(ContactRejected { took, .. })
            | Fact::ContactUnknown(ContactUnknown { took, .. }) => Some(took),
            Fact::ReminderDue(_) | Fact::ContactStarted(_) | Fact::ContactDeferred(_) => None,
        }
    }

    /// The items that did not take a step after all, and the highest step that each has taken.
    pub fn steps_before(&self) -> &[StepBefore] {
        match self {
            Fact::ContactRejected(rejected) => &rejected.steps_before,
            _ => &[],
        }
    }

    /// The rungs of the ladder that a reminder used up without reaching anybody.
    fn tried(&self) -> Option<&StepsTaken> {
        match self {
            Fact::ContactWithheld(ContactWithheld { tried, .. })
            | Fact::ContactRejected(ContactRejected { tried, .. }) => tried.as_ref(),
            _ => None,
        }
    }
}

/// Decides a command about reminders.
pub fn decide(account: &Account, command: &Command, context: &Context<'_>) -> Result<Vec<Fact>, Refusal> {
    match command {
        Command::StartContactAttempt { reminder, claim } => start::start(account, *reminder, *claim, context),
        Command::RecordContactOutcome { reminder, attempt, claim, outcome } => {
            outcome::record(account, (*reminder, *attempt, *claim), outcome, context)
        }
        Command::RetryContact { reminder, note } => reminder::retry(account, *reminder, note, context),
        Command::DropContact { reminder, note } => reminder::drop(account, *reminder, note, context),
    }
}

/// The account after a fact of dunning.
pub fn evolve(account: &mut Account, fact: &Fact) {
    if let Fact::ContactWithheld(ContactWithheld { reminder, reason: WithheldReason::Held, .. }) = fact
        && let Some(open) = account.dunning.open.as_ref().filter(|open| open.number == *reminder)
    {
        ladder::for_each(&mut account.ledger.items, &open.takes, |item, step| {
            item.held_back = item.held_back.max(Some(step.offset_days));
        });
    }
    let before = match fact {
        Fact::ContactUnknown(_) => reminder::items_before(account),
        _ => Vec::new(),
    };
    if let Fact::ContactRejected(rejected) = fact
        && let Some(unknown) = account.dunning.refuted(rejected)
    {
        unknown.take_back(&mut account.ledger.items);
    }
    if let Some((tone, items)) = account.dunning.fold(fact) {
        let heard: HashSet<_> = items.iter().map(|(invoice, instalment)| (invoice, *instalment)).collect();
        let items = account.ledger.items.iter_mut().filter(|item| heard.contains(&(&item.invoice, item.instalment)));
        items.for_each(|item| item.tone_heard = Some(tone));
        if let Some(unknown) = account.dunning.unsettled.as_mut().and_then(|unsettled| unsettled.unknown.as_mut()) {
            unknown.before = before;
        }
    }
    if let Some(tried) = fact.tried() {
        ladder::for_each(&mut account.ledger.items, &tried.steps, |item, rung| {
            let highest = item.tried.map_or(rung.offset_days, |before| before.offset_days.max(rung.offset_days));
            item.tried = Some(LastStep { offset_days: highest, on: tried.on });
            item.held_back = None;
        });
    }
    if let Some(took) = fact.took() {
        ladder::for_each(&mut account.ledger.items, &took.steps, |item, step| {
            item.last_step = Some(LastStep { offset_days: step.offset_days, on: took.on });
            item.tried = None;
            item.held_back = None;
        });
    }
}

/// The profile has other addresses than `before`. A new address can help on a channel on which a reminder reached nobody: what
/// reached nobody is due again at once.
pub(crate) fn addresses_changed(account: &mut Account, before: &[(Channel, [u8; 32])]) {
    let now = account.party.addresses();
    let Dunning { refused, failed_on, .. } = &mut account.dunning;
    refused.retain(|refused| now.iter().any(|(_, address)| address == refused));
    if now.iter().any(|address| failed_on.contains(&address.0) && !before.contains(address)) {
        failed_on.clear();
        account.ledger.items.iter_mut().for_each(|item| item.tried = None);
    }
}

/// The next thing that time has brought by `context.now`.
pub fn due(account: &Account, context: &Context<'_>) -> Option<Fact> {
    match &account.dunning.open {
        Some(open) => outcome::expired(open, context.now).or_else(|| start::held(account, open, context)),
        None => reminder::due(account, context),
    }
}

/// When time will next bring something. An open reminder that waits for its sender needs no waking, unless a hold was placed
/// on all that it is about: then it is withheld at once.
pub fn next_wakeup(account: &Account, context: &Context<'_>) -> Option<Timestamp> {
    match &account.dunning.open {
        Some(open) => outcome::expiry(open).or_else(|| start::held(account, open, context).map(|_| context.now)),
        None => reminder::next_due(account, context),
    }
}
