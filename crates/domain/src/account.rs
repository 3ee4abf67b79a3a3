//! One debtor's account with one creditor: composes the subjects, and says in which order time's effects happen.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    agreement::Agreement,
    command::{Command, Context},
    document::Documents,
    dunning::{self, Dunning, reminder::day_of},
    event::Event,
    ledger::Ledger,
    party::{self, Party},
    refusal::Refusal,
};

/// The state of one account: bounded by what is open, never by the length of its history. The default is an account that was
/// never opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The debtor.
    pub party: Party,
    /// The debts and payments.
    pub ledger: Ledger,
    /// The reminders and contacts.
    pub dunning: Dunning,
    /// The holds.
    pub agreement: Agreement,
}

/// The content of one commit: first the facts that time brought, then those of the command or its refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// In order.
    pub events: Vec<Event>,
    /// Present where the command itself was refused; what time brought stands.
    pub refusal: Option<Refusal>,
}

/// Lets happen what is due at `context.now`, then decides the command on what that leaves. The account is folded in place: it
/// stands behind the decision's events afterwards.
pub fn handle(account: &mut Account, documents: &dyn Documents, command: &Command, context: &Context<'_>) -> Decision {
    let mut events = advance(account, context);
    match decide(account, documents, command, context) {
        Ok(decided) => {
            decided.iter().for_each(|event| evolve(account, event));
            events.extend(decided);
            Decision { events, refusal: None }
        }
        Err(refusal) => Decision { events, refusal: Some(refusal) },
    }
}

/// Decides the command alone.
pub fn decide(
    account: &Account,
    documents: &dyn Documents,
    command: &Command,
    context: &Context<'_>,
) -> Result<Vec<Event>, Refusal> {
    let opens = matches!(command, Command::Party(party::Command::OpenAccount(_)));
    if account.party.profile.is_none() && !opens {
        return Err(party::Refusal::AccountUnknown.into());
    }
    Ok(match command {
        Command::AdvanceTime => Vec::new(),
        Command::Party(command) => events(account.party.decide(command)?),
        Command::Ledger(command) => events(account.ledger.decide(documents, command, context)?),
        Command::Dunning(command) => events(dunning::decide(account, command, context)?),
        Command::Agreement(command) => {
            events(account.agreement.decide(documents, command, day_of(account, context, context.now))?)
        }
    })
}

fn events<F: Into<Event>>(facts: Vec<F>) -> Vec<Event> {
    facts.into_iter().map(Into::into).collect()
}

/// Folds an event into the account. Total: any event on any account gives an account.
pub fn evolve(account: &mut Account, event: &Event) {
    match event {
        Event::Party(fact) => {
            let before = account.party.addresses();
            account.party.evolve(fact);
            dunning::addresses_changed(account, &before);
        }
        Event::Ledger(fact) => account.ledger.evolve(fact),
        Event::Dunning(fact) => dunning::evolve(account, fact),
        Event::Agreement(fact) => {
            account.agreement.evolve(fact);
            // Under other holds a step that was withheld before is told anew.
            account.ledger.items.iter_mut().for_each(|item| item.held_back = None);
        }
    }
}

/// The next thing that time has brought by `context.now`. The subjects are asked in this order, and again after each effect.
fn due(account: &Account, context: &Context<'_>) -> Option<Event> {
    let sources: [fn(&Account, &Context<'_>) -> Option<Event>; 1] =
        [|account, context| dunning::due(account, context).map(Into::into)];
    sources.into_iter().find_map(|due| due(account, context))
}

/// Lets happen what time has brought by `context.now`, each effect on what the effect before it leaves.
pub fn advance(account: &mut Account, context: &Context<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = due(account, context) {
        evolve(account, &event);
        events.push(event);
    }
    events
}

/// When time will next bring something: the earliest of what the subjects say.
pub fn next_wakeup(account: &Account, context: &Context<'_>) -> Option<Timestamp> {
    [dunning::next_wakeup(account, context)].into_iter().flatten().min()
}
