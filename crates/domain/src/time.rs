//! What time brings by itself. No rule makes anything fall due yet: without a policy there is no reminder.

use jiff::Timestamp;

use crate::{account::Account, command::Context, event::Event};

/// What is due on the account at `context.now`.
pub fn advance(_account: &Account, _context: &Context) -> Vec<Event> {
    Vec::new()
}

/// When the account next needs waking.
pub fn next_wakeup(_account: &Account, _context: &Context) -> Option<Timestamp> {
    None
}
