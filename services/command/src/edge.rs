//! From a request to a domain command: every field checked, every broken rule named, personal values sealed.

mod contact;
mod fields;
mod money;
mod profile;

use prost::Message;
use saldo_api::v1;
use saldo_domain::{
    command::Command,
    dunning,
    ids::{AccountId, AccountKey, TenantId},
    ledger::{self, invoice},
    party,
};
use saldo_facts::sealed::{DESCRIPTION, REASON, REMITTANCE};

pub use crate::personal::{Count, Seal, UnderKey};
use crate::{
    failure::Failure,
    violations::{Violation, Violations},
};

/// Longest request id, in bytes; a UUID has 36.
pub const MAX_REQUEST_ID_LEN: usize = 64;

/// A request the edge can read.
pub trait Request: Message + Clone + Default + 'static {
    /// The RPC's name, as stored.
    const METHOD: &'static str;
    /// The client's id.
    fn request_id(&self) -> &str;
    /// The account asked.
    fn account_id(&self) -> &str;
    /// Builds the command, noting every broken rule.
    fn build(&self, rules: &mut Violations, seal: &mut dyn Seal) -> Option<Command>;
    /// The claim that a sender asks with.
    fn claim(&self) -> &[u8] {
        &[]
    }
    /// Empties what identifies the try and, with `personal`, what is sealed.
    fn strip(&mut self, personal: bool);
}

/// Reads the account's key from a request and its caller's tenant.
pub fn account_key<R: Request>(tenant: &TenantId, request: &R) -> Result<AccountKey, Failure> {
    AccountId::new(request.account_id())
        .map(|account| AccountKey::new(tenant.clone(), account))
        .map_err(|rule| Failure::Invalid(vec![Violation { field: "account_id".into(), rule: rule.to_string() }]))
}

/// Whether a text can be a request's id.
pub fn is_request_id(id: &str) -> bool {
    (1..=MAX_REQUEST_ID_LEN).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What [`is_request_id`] wants.
pub const REQUEST_ID_RULE: &str = "must be 1 to 64 printable ASCII characters without spaces, for example a UUID";

/// Checks the whole request without sealing anything. Returns how many personal values it holds.
pub fn check<R: Request>(request: &R) -> Result<usize, Failure> {
    let mut rules = Violations::default();
    if !is_request_id(request.request_id()) {
        rules.add("request_id", REQUEST_ID_RULE);
    }
    if let Err(rule) = AccountId::new(request.account_id()) {
        rules.add("account_id", rule);
    }
    let mut count = Count::default();
    request.build(&mut rules, &mut count);
    let violations = rules.into_vec();
    if violations.is_empty() { Ok(count.0) } else { Err(Failure::Invalid(violations)) }
}

/// Builds the command of a request that [`check`] has passed.
pub fn command<R: Request>(request: &R, seal: &mut dyn Seal) -> Result<Command, Failure> {
    let mut rules = Violations::default();
    request.build(&mut rules, seal).ok_or_else(|| Failure::Invalid(rules.into_vec()))
}

/// The request re-encoded without its request id: what the fingerprint covers.
pub fn fingerprint_body<R: Request>(request: &R) -> Vec<u8> {
    let mut request = request.clone();
    request.strip(false);
    request.encode_to_vec()
}

/// The request re-encoded without its personal values: what the commit stores.
pub fn stored_body<R: Request>(request: &R) -> Vec<u8> {
    let mut request = request.clone();
    request.strip(true);
    request.encode_to_vec()
}

macro_rules! request {
    ($type:ident, $method:literal, personal: [$($personal:ident),*] $(, claim $claim:ident)?; $build:expr) => {
        impl Request for v1::$type {
            const METHOD: &'static str = $method;
            fn request_id(&self) -> &str {
                &self.request_id
            }
            fn account_id(&self) -> &str {
                &self.account_id
            }
            fn build(&self, rules: &mut Violations, seal: &mut dyn Seal) -> Option<Command> {
                let build: fn(&Self, &mut Violations, &mut dyn Seal) -> Option<Command> = $build;
                build(self, rules, seal)
            }
            $(fn claim(&self) -> &[u8] {
                &self.$claim
            })?
            #[allow(unused_variables)]
            fn strip(&mut self, personal: bool) {
                self.request_id.clear();
                if personal {
                    $(self.$personal.strip();)*
                }
            }
        }
    };
}

/// Empties personal values.
trait Strip {
    fn strip(&mut self);
}

impl Strip for String {
    fn strip(&mut self) {
        self.clear();
    }
}

impl Strip for Option<v1::Profile> {
    fn strip(&mut self) {
        if let Some(profile) = self {
            profile.display_name.clear();
            profile.contact_points.iter_mut().for_each(|point| point.address.clear());
        }
    }
}

impl Strip for Option<v1::record_contact_outcome_request::Outcome> {
    fn strip(&mut self) {
        if let Some(outcome) = self {
            contact::strip(outcome);
        }
    }
}

request!(OpenAccountRequest, "OpenAccount", personal: [profile]; |request, rules, seal| {
    profile::whole(request.profile.as_ref(), rules, seal).map(|profile| party::Command::OpenAccount(profile).into())
});

request!(AmendAccountRequest, "AmendAccount", personal: [profile]; |request, rules, seal| {
    profile::change(request.profile.as_ref(), request.update_mask.as_ref(), rules, seal).map(|change| party::Command::AmendAccount(change).into())
});

request!(IssueInvoiceRequest, "IssueInvoice", personal: [description]; |request, rules, seal| {
    let number = fields::number("number", &request.number, rules);
    let total = money::amount("total", request.total.as_ref(), rules);
    let issue_date = fields::date("issue_date", request.issue_date, rules);
    let due_date = request.due_date.map(|due| fields::date("due_date", Some(due), rules));
    let mut parts = Vec::with_capacity(request.instalments.len());
    for (index, part) in request.instalments.iter().enumerate() {
        let due = fields::date(&format!("instalments[{index}].due_date"), part.due_date, rules);
        parts.push(due.map(|due| (due, part.amount_minor)));
    }
    let description =
        fields::free_text("description", "invoice.issued", DESCRIPTION, &request.description, rules, seal);
    let (number, total, issue_date) = (number?, total?, issue_date?);
    let due_date = match due_date {
        Some(due) => Some(due?),
        None => None,
    };
    let parts: Vec<_> = parts.into_iter().collect::<Option<_>>()?;
    match invoice::schedule(total, issue_date, due_date, &parts) {
        Ok(instalments) => {
            Some(ledger::Command::IssueInvoice { number, total, issue_date, instalments, description: description? }.into())
        }
        Err(faults) => {
            faults.into_iter().for_each(|fault| rules.add(fault.field, fault.rule));
            None
        }
    }
});

request!(CreditInvoiceRequest, "CreditInvoice", personal: [reason]; |request, rules, seal| {
    let credit_note = fields::number("credit_note_number", &request.credit_note_number, rules);
    let invoice = fields::number("invoice_number", &request.invoice_number, rules);
    let amount = money::amount("amount", request.amount.as_ref(), rules);
    let credit_date = fields::date("credit_date", request.credit_date, rules);
    let reason = fields::free_text("reason", "invoice.credited", REASON, &request.reason, rules, seal);
    Some(ledger::Command::CreditInvoice {
        credit_note: credit_note?,
        invoice: invoice?,
        amount: amount?,
        credit_date: credit_date?,
        reason: reason?,
    }.into())
});

request!(VoidInvoiceRequest, "VoidInvoice", personal: [reason]; |request, rules, seal| {
    let number = fields::number("invoice_number", &request.invoice_number, rules);
    let void_date = fields::date("void_date", request.void_date, rules);
    let reason = fields::free_text("reason", "invoice.voided", REASON, &request.reason, rules, seal);
    Some(ledger::Command::VoidInvoice { number: number?, void_date: void_date?, reason: reason? }.into())
});

request!(RecordPaymentRequest, "RecordPayment", personal: [remittance]; |request, rules, seal| {
    let reference = fields::number("reference", &request.reference, rules);
    let amount = money::amount("amount", request.amount.as_ref(), rules);
    let value_date = fields::date("value_date", request.value_date, rules);
    let designations = money::designations(&request.allocations, rules);
    let remittance =
        fields::free_text("remittance", "payment.recorded", REMITTANCE, &request.remittance, rules, seal);
    Some(ledger::Command::RecordPayment {
        reference: reference?,
        amount: amount?,
        value_date: value_date?,
        designations: designations?,
        remittance: remittance?,
    }.into())
});

request!(AllocatePaymentRequest, "AllocatePayment", personal: []; |request, rules, _seal| {
    let reference = fields::number("reference", &request.reference, rules);
    let designations = money::designations(&request.allocations, rules);
    Some(ledger::Command::AllocatePayment { reference: reference?, designations: designations? }.into())
});

request!(ReversePaymentRequest, "ReversePayment", personal: [reason]; |request, rules, seal| {
    let reference = fields::number("reference", &request.reference, rules);
    let reversal_date = fields::date("reversal_date", request.reversal_date, rules);
    let reason = fields::free_text("reason", "payment.reversed", REASON, &request.reason, rules, seal);
    Some(ledger::Command::ReversePayment { reference: reference?, reversal_date: reversal_date?, reason: reason? }.into())
});

request!(AdvanceTimeRequest, "AdvanceTime", personal: []; |_request, _rules, _seal| Some(Command::AdvanceTime));

request!(StartContactAttemptRequest, "StartContactAttempt", personal: [], claim claim; |request, rules, _seal| {
    let reminder = contact::reminder(request.reminder, rules);
    let claim = contact::claim(&request.claim, rules);
    Some(dunning::Command::StartContactAttempt { reminder: reminder?, claim: claim? }.into())
});

request!(RecordContactOutcomeRequest, "RecordContactOutcome", personal: [outcome]; |request, rules, seal| {
    let reminder = contact::reminder(request.reminder, rules);
    let attempt = contact::attempt(request.attempt, rules);
    let claim = contact::claim(&request.claim, rules);
    let outcome = contact::outcome(request.outcome.as_ref(), rules, seal);
    Some(dunning::Command::RecordContactOutcome { reminder: reminder?, attempt: attempt?, claim: claim?, outcome: outcome? }.into())
});

request!(RetryContactRequest, "RetryContact", personal: []; |request, rules, _seal| {
    Some(dunning::Command::RetryContact { reminder: contact::reminder(request.reminder, rules)? }.into())
});

request!(DropContactRequest, "DropContact", personal: []; |request, rules, _seal| {
    Some(dunning::Command::DropContact { reminder: contact::reminder(request.reminder, rules)? }.into())
});
