//! What would be said to an account and when, if nothing else happened: lived through with the same decisions that the
//! account itself will make.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::{
    account::Account,
    command::{Command, Context},
    contact::{Claim, HandOver, Handed, ListedItem, Saying, Stage, Withheld},
    decide::handle,
    document::{Document, DocumentKey},
    event::Event,
    evolve::evolve,
    profile::Sealed,
    speak,
};

/// A contact to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// When.
    pub at: Timestamp,
    /// How it speaks.
    pub saying: Saying,
    /// The language of the template; empty where nothing is sent.
    pub language: String,
    /// What it lists.
    pub items: Vec<ListedItem>,
    /// Why nothing is sent, where nothing is.
    pub withheld: Option<Withheld>,
}

/// The next contacts from `context.now` on, at most `most`, as if every one were taken by its provider.
pub fn preview(account: &Account, context: &Context<'_>, most: usize) -> Vec<Planned> {
    let mut account = account.clone();
    let mut planned = Vec::new();
    let mut now = context.now;
    // Each turn of an open reminder starts, defers or closes it, so that this many turns are enough.
    for _ in 0..most.saturating_mul(8) {
        if planned.len() >= most {
            break;
        }
        let context = Context { now, ..*context };
        ask(&mut account, &Command::AdvanceTime, &context);
        let Some(open) = account.contacts.open.clone() else {
            match speak::next_wakeup(&account, &context) {
                Some(at) if at > now => now = at,
                _ => break,
            }
            continue;
        };
        let claim = Claim([0; 16]);
        if let Stage::Due { from: Some(from) } = open.stage {
            now = now.max(from);
        }
        let context = Context { now, ..context };
        for event in ask(&mut account, &Command::StartContactAttempt { reminder: open.number, claim }, &context) {
            match event {
                Event::ContactStarted(started) => planned.push(Planned {
                    at: now,
                    saying: started.saying,
                    language: started.language,
                    items: started.items,
                    withheld: None,
                }),
                Event::ContactWithheld { reason, .. } => planned.push(Planned {
                    at: now,
                    saying: open.saying.clone(),
                    language: String::new(),
                    items: Vec::new(),
                    withheld: Some(reason),
                }),
                _ => {}
            }
        }
        if let Some(open) = &account.contacts.open
            && let Stage::Started { claim, .. } = open.stage
        {
            let handed = Handed { message_id: String::new(), sha256: [0; 32], message: Sealed(Vec::new()) };
            let outcome = HandOver::Accepted { handed, reply: None };
            let (reminder, attempt) = (open.number, open.attempts);
            ask(&mut account, &Command::RecordContactOutcome { reminder, attempt, claim, outcome }, &context);
        }
    }
    planned
}

fn ask(account: &mut Account, command: &Command, context: &Context<'_>) -> Vec<Event> {
    let none: HashMap<DocumentKey, Document> = HashMap::new();
    let events = handle(account, &none, command, context).events;
    events.iter().for_each(|event| evolve(account, event));
    events
}
