//! What would be said to an account and when, if nothing else happened: lived through with the same decisions that the
//! account itself will make.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{
    Command, Fact,
    attempt::{Claim, ContactWithheld, HandedOver, ListedItem, Outcome, WithheldReason},
    reminder::{Notice, ReminderState},
};
use crate::{
    account::{self, Account},
    command::{self, Context},
    document::{Document, DocumentKey},
    event::Event,
    ids::DocumentNumber,
    sealed::Sealed,
};

/// A contact to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedContact {
    /// When.
    pub at: Timestamp,
    /// How it speaks.
    pub notice: Notice,
    /// The language of the template; empty where nothing is sent.
    pub language: String,
    /// What it lists.
    pub items: Vec<ListedItem>,
    /// Why nothing is sent, where nothing is.
    pub withheld: Option<WithheldReason>,
    /// The hold that keeps the message back.
    pub hold: Option<DocumentNumber>,
}

/// The next contacts from `context.now` on, at most `most`, as if every one were taken by its provider.
pub fn preview(account: &Account, context: &Context<'_>, most: usize) -> Vec<PlannedContact> {
    preview_while(account, context, most, || true)
}

/// The contacts of [`preview`], up to the first before which `goes_on` says no.
pub fn preview_while(
    account: &Account,
    context: &Context<'_>,
    most: usize,
    goes_on: impl Fn() -> bool,
) -> Vec<PlannedContact> {
    let mut account = account.clone();
    let mut planned = Vec::new();
    let mut now = context.now;
    // Each turn of an open reminder starts, defers or closes it, so that this many turns are enough.
    for _ in 0..most.saturating_mul(8) {
        if planned.len() >= most || !goes_on() {
            break;
        }
        let context = Context { now, ..*context };
        planned.extend(ask_and_plan(&mut account, &command::Command::AdvanceTime, &context));
        let Some(open) = account.dunning.open.clone() else {
            match account::next_wakeup(&account, &context) {
                Some(at) if at > now => now = at,
                _ => break,
            }
            continue;
        };
        let claim = Claim([0; 16]);
        if let ReminderState::Due { from: Some(from) } = open.state {
            now = now.max(from);
        }
        let context = Context { now, ..context };
        let start = Command::StartContactAttempt { reminder: open.number, claim }.into();
        planned.extend(ask_and_plan(&mut account, &start, &context));
        if let Some(open) = &account.dunning.open
            && let ReminderState::Started { claim, .. } = open.state
        {
            let handed = HandedOver { message_id: String::new(), sha256: [0; 32], message: Sealed(Vec::new()) };
            let outcome = Outcome::Accepted { handed, reply: None };
            let (reminder, attempt) = (open.number, open.attempts);
            ask(&mut account, &Command::RecordContactOutcome { reminder, attempt, claim, outcome }.into(), &context);
        }
    }
    planned.truncate(most);
    planned
}

/// Asks a command. What is said to the debtor by it, or by the time that it lets pass, and what is kept back.
fn ask_and_plan(account: &mut Account, command: &command::Command, context: &Context<'_>) -> Vec<PlannedContact> {
    let mut notice = account.dunning.open.as_ref().map(|open| open.notice.clone());
    let mut planned = Vec::new();
    for event in ask(account, command, context) {
        match event {
            Event::Dunning(Fact::ReminderDue(due)) => notice = Some(due.notice),
            Event::Dunning(Fact::ContactStarted(started)) => planned.push(PlannedContact {
                at: context.now,
                notice: started.notice,
                language: started.language,
                items: started.items,
                withheld: None,
                hold: None,
            }),
            Event::Dunning(Fact::ContactWithheld(ContactWithheld { reason, hold, .. })) => {
                planned.extend(notice.take().map(|notice| PlannedContact {
                    at: context.now,
                    notice,
                    language: String::new(),
                    items: Vec::new(),
                    withheld: Some(reason),
                    hold,
                }));
            }
            _ => {}
        }
    }
    planned
}

fn ask(account: &mut Account, command: &command::Command, context: &Context<'_>) -> Vec<Event> {
    let none: HashMap<DocumentKey, Document> = HashMap::new();
    account::handle(account, &none, command, context).events
}
