//! What time brings by itself: reminders that fall due, and attempts nobody says the outcome of.

use jiff::Timestamp;

use crate::{account::Account, command::Context, event::Event, evolve::evolve, speak};

/// What time has brought by `context.now`, each thing on what the one before it leaves.
pub fn advance(account: &Account, context: &Context<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    let Some(first) = speak::due(account, context) else { return events };
    let mut now = account.clone();
    let mut next = Some(first);
    while let Some(event) = next {
        evolve(&mut now, &event);
        events.push(event);
        next = speak::due(&now, context);
    }
    events
}

/// When the account next needs waking.
pub fn next_wakeup(account: &Account, context: &Context<'_>) -> Option<Timestamp> {
    speak::next_wakeup(account, context)
}
