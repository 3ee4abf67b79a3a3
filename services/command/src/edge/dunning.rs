//! The rpcs about reminders and the attempts to hand them over.

use saldo_api::v1;
use saldo_auth::Role;
use saldo_domain::{
    command::Command,
    dunning::{self, Claim, ContactWithheld, ReminderDue},
};
use saldo_facts::{declare::Fact, sealed::NOTE};

use super::{Fields, OPERATORS, Rpc, SENDERS, outcome};

impl Rpc for v1::StartContactAttemptRequest {
    const ROLES: &'static [Role] = SENDERS;
    const REFUSALS: &'static [&'static str] = &["REMINDER_UNKNOWN"];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let reminder = reminder(self.reminder, fields);
        let claim = claim(&self.claim, fields);
        Some(dunning::Command::StartContactAttempt { reminder: reminder?, claim: claim? }.into())
    }

    fn clear_personal(&mut self) {}

    fn claim(&self) -> &[u8] {
        &self.claim
    }
}

impl Rpc for v1::RecordContactOutcomeRequest {
    const ROLES: &'static [Role] = SENDERS;
    const REFUSALS: &'static [&'static str] = &["ATTEMPT_CLOSED"];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let reminder = reminder(self.reminder, fields);
        let attempt = attempt(self.attempt, fields);
        let claim = claim(&self.claim, fields);
        let outcome = outcome::read(self.outcome.as_ref(), fields);
        Some(
            dunning::Command::RecordContactOutcome {
                reminder: reminder?,
                attempt: attempt?,
                claim: claim?,
                outcome: outcome?,
            }
            .into(),
        )
    }

    fn clear_personal(&mut self) {
        self.outcome.as_mut().map(outcome::clear_personal);
    }
}

impl Rpc for v1::RetryContactRequest {
    const ROLES: &'static [Role] = OPERATORS;
    const REFUSALS: &'static [&'static str] = &[
        "REMINDER_UNKNOWN",
        "ATTEMPT_UNDER_WAY",
        "NOTHING_TO_SETTLE",
        "SENDING_OFF",
        "ON_HOLD",
        "NOTHING_OWED",
        "NO_CONTACT_POINT",
    ];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let reminder = reminder(self.reminder, fields);
        let note = fields.free_text("note", ReminderDue::TYPE, NOTE, &self.note);
        Some(dunning::Command::RetryContact { reminder: reminder?, note: note? }.into())
    }

    fn clear_personal(&mut self) {
        self.note.clear();
    }
}

impl Rpc for v1::DropContactRequest {
    const ROLES: &'static [Role] = OPERATORS;
    const REFUSALS: &'static [&'static str] = &["REMINDER_UNKNOWN", "ATTEMPT_UNDER_WAY", "NOTHING_TO_SETTLE"];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let reminder = reminder(self.reminder, fields);
        let note = fields.free_text("note", ContactWithheld::TYPE, NOTE, &self.note);
        Some(dunning::Command::DropContact { reminder: reminder?, note: note? }.into())
    }

    fn clear_personal(&mut self) {
        self.note.clear();
    }
}

fn reminder(number: u64, fields: &mut Fields<'_>) -> Option<u64> {
    let number = Some(number).filter(|number| (1..=i64::MAX as u64).contains(number));
    fields.check("reminder", number.ok_or("must be a reminder's number, from 1"))
}

fn attempt(number: u32, fields: &mut Fields<'_>) -> Option<u32> {
    let number = Some(number).filter(|number| (1..=i32::MAX as u32).contains(number));
    fields.check("attempt", number.ok_or("must be an attempt's number, from 1"))
}

fn claim(bytes: &[u8], fields: &mut Fields<'_>) -> Option<Claim> {
    fields.check("claim", bytes.try_into().map(Claim).map_err(|_| "must be 16 random bytes"))
}
