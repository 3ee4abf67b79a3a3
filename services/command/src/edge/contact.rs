//! What a sender says of its attempts, checked.

use saldo_api::v1::{self, record_contact_outcome_request::Outcome as Told};
use saldo_domain::{
    dunning::{Claim, HandOverFailure, HandedOver, Outcome, policy::is_name},
    sealed::Sealed,
};
use saldo_facts::sealed::{MESSAGE, REPLY};
use sha2::{Digest, Sha256};

use super::fields::free_text;
use crate::{
    personal::{CONTACT, Personal, Seal},
    violations::Violations,
};

/// Longest message, in bytes: sealed, with the rest of its commit, it fits a record.
const MAX_MESSAGE: usize = 600_000;
/// Longest Message-ID, in bytes (RFC 5322, 2.1.1: a line).
const MAX_MESSAGE_ID: usize = 998;

/// A reminder's number.
pub fn reminder(number: u64, rules: &mut Violations) -> Option<u64> {
    if (1..=i64::MAX as u64).contains(&number) {
        return Some(number);
    }
    rules.add("reminder", "must be a reminder's number, from 1");
    None
}

/// An attempt's number.
pub fn attempt(number: u32, rules: &mut Violations) -> Option<u32> {
    if (1..=i32::MAX as u32).contains(&number) {
        return Some(number);
    }
    rules.add("attempt", "must be an attempt's number, from 1");
    None
}

/// A claim.
pub fn claim(bytes: &[u8], rules: &mut Violations) -> Option<Claim> {
    match bytes.try_into() {
        Ok(claim) => Some(Claim(claim)),
        Err(_) => {
            rules.add("claim", "must be 16 random bytes");
            None
        }
    }
}

/// What became of an attempt.
pub fn outcome(outcome: Option<&Told>, rules: &mut Violations, seal: &mut dyn Seal) -> Option<Outcome> {
    match outcome {
        None => {
            rules.add("outcome", "is required");
            None
        }
        Some(Told::Accepted(accepted)) => {
            let handed = handed("accepted.handed", accepted.handed.as_ref(), rules, seal);
            let reply = reply("accepted.reply", &accepted.reply, rules, seal);
            match handed? {
                Some(handed) => Some(Outcome::Accepted { handed, reply: reply? }),
                None => {
                    rules.add("accepted.handed", "is required");
                    None
                }
            }
        }
        Some(Told::Rejected(rejected)) => {
            let failure = failed("rejected.error", rejected.error.as_ref(), rules, seal);
            let handed = handed("rejected.handed", rejected.handed.as_ref(), rules, seal);
            Some(Outcome::Rejected { failure: failure?, handed: handed? })
        }
        Some(Told::Deferred(error)) => Some(Outcome::Deferred(failed("deferred", Some(error), rules, seal)?)),
        Some(Told::Unknown(unknown)) => {
            Some(Outcome::Unknown { handed: handed("unknown.handed", unknown.handed.as_ref(), rules, seal)? })
        }
    }
}

fn handed(
    path: &str,
    handed: Option<&v1::HandedMessage>,
    rules: &mut Violations,
    seal: &mut dyn Seal,
) -> Option<Option<HandedOver>> {
    let Some(handed) = handed else { return Some(None) };
    let id = &handed.message_id;
    let id_fits = (1..=MAX_MESSAGE_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    if !id_fits {
        rules.add(format!("{path}.message_id"), "must be printable ASCII without spaces");
    }
    let text = &handed.message;
    let text_fits = (1..=MAX_MESSAGE).contains(&text.len()) && text.is_ascii() && !text.contains('\0');
    if !text_fits {
        rules.add(format!("{path}.message"), format!("must be 1 to {MAX_MESSAGE} bytes of ASCII without NUL"));
    }
    if !(id_fits && text_fits) {
        return None;
    }
    let path = &format!("{path}.message");
    let message = seal.seal(Personal { path, event_type: CONTACT, field: MESSAGE, text });
    Some(Some(HandedOver { message_id: id.clone(), sha256: Sha256::digest(text.as_bytes()).into(), message }))
}

fn failed(
    path: &str,
    error: Option<&v1::HandOverError>,
    rules: &mut Violations,
    seal: &mut dyn Seal,
) -> Option<HandOverFailure> {
    let Some(error) = error else {
        rules.add(path, "is required");
        return None;
    };
    if !is_name(&error.stage) {
        rules.add(format!("{path}.stage"), "must be 1 to 32 lower case letters, digits and hyphens");
        return None;
    }
    if error.code > i32::MAX as u32 {
        rules.add(format!("{path}.code"), "must be at most 2147483647");
        return None;
    }
    let reply = reply(&format!("{path}.reply"), &error.reply, rules, seal)?;
    Some(HandOverFailure { stage: error.stage.clone(), code: error.code, reply })
}

fn reply(path: &str, text: &str, rules: &mut Violations, seal: &mut dyn Seal) -> Option<Option<Sealed>> {
    free_text(path, CONTACT, REPLY, text, rules, seal)
}

/// Empties what is personal of an outcome.
pub fn strip(outcome: &mut Told) {
    let empty = |handed: &mut Option<v1::HandedMessage>| {
        if let Some(handed) = handed {
            handed.message.clear();
        }
    };
    match outcome {
        Told::Accepted(accepted) => {
            empty(&mut accepted.handed);
            accepted.reply.clear();
        }
        Told::Rejected(rejected) => {
            empty(&mut rejected.handed);
            if let Some(error) = &mut rejected.error {
                error.reply.clear();
            }
        }
        Told::Deferred(error) => error.reply.clear(),
        Told::Unknown(unknown) => empty(&mut unknown.handed),
    }
}
