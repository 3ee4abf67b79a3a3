//! The commands of an account, and the context of their decisions.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::{
    agreement, dunning,
    dunning::{Policy, Silence},
    ledger::{self, ApplyCredit, arising},
    party,
};

/// One request to one account, by subject. A command is well-formed by construction; [`crate::handle`] says whether it is
/// allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Only what time brings.
    AdvanceTime,
    /// About who owes.
    Party(party::Command),
    /// About what is owed and paid.
    Ledger(ledger::Command),
    /// About what is said to the debtor.
    Dunning(dunning::Command),
    /// About what is agreed with the debtor.
    Agreement(agreement::Command),
}

macro_rules! subjects {
    ($($subject:ident: $module:ident),+) => {$(
        impl From<$module::Command> for Command {
            fn from(command: $module::Command) -> Self {
                Self::$subject(command)
            }
        }
    )+};
}
subjects!(Party: party, Ledger: ledger, Dunning: dunning, Agreement: agreement);

/// The creditor's rules, from the catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The policy in force.
    pub policy: Option<Policy>,
    /// The languages that its templates are written in.
    pub languages: Vec<String>,
    /// A digest of the words of each template, by its name and language.
    pub words: BTreeMap<(String, String), [u8; 32]>,
    /// The creditor's switch. While it is off, nothing is sent and ladders stand still.
    pub sending: bool,
    /// The operator has held sending for every creditor. Nothing is sent then, whatever the switch says.
    pub held: bool,
    /// The IANA name of the time zone that the creditor's days are counted in; UTC where it is empty.
    pub time_zone: String,
    /// The use of credit that waits when an item arises.
    pub apply_credit: ApplyCredit,
}

/// Before anything was published.
pub static NO_RULES: Rules = Rules {
    policy: None,
    languages: Vec::new(),
    words: BTreeMap::new(),
    sending: false,
    held: false,
    time_zone: String::new(),
    apply_credit: arising::DEFAULT,
};

impl Rules {
    /// The policy by which the debtor may be spoken to, or why nobody is spoken to.
    pub fn speaking(&self) -> Result<&Policy, Silence> {
        match &self.policy {
            _ if self.held => Err(Silence::Held),
            None => Err(Silence::NoPolicy),
            Some(_) if !self.sending => Err(Silence::SwitchedOff),
            Some(policy) => Ok(policy),
        }
    }
}

/// The context of a decision. A decision has no clock of its own.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c> {
    /// The instant of the decision.
    pub now: Timestamp,
    /// The creditor's rules, from the catalog.
    pub rules: &'c Rules,
    /// The time zones, by their IANA names.
    pub zones: fn(&str) -> Option<TimeZone>,
}

impl Context<'_> {
    /// The creditor's day: what is owed and paid is counted by it. Contacts go by the debtor's day instead.
    pub fn today(&self) -> Date {
        (self.zones)(&self.rules.time_zone).unwrap_or(TimeZone::UTC).to_datetime(self.now).date()
    }
}
