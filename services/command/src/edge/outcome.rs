//! Reads what a sender reports of an attempt.

use saldo_api::v1::{self, record_contact_outcome_request::Outcome as Reported};
use saldo_domain::{
    dunning::{Concerns, HandOverFailure, HandedOver, Outcome, policy::is_name},
    sealed::Sealed,
};
use saldo_facts::sealed::{MESSAGE, REPLY};
use sha2::{Digest, Sha256};

use super::{Fields, seal::CONTACT};

/// Longest message, in bytes: sealed, with the rest of its commit, it fits a record.
const MAX_MESSAGE: usize = 600_000;
/// Longest Message-ID, in bytes (RFC 5322, 2.1.1: a line).
const MAX_MESSAGE_ID: usize = 998;

/// The outcome of an attempt.
pub fn read(outcome: Option<&Reported>, fields: &mut Fields<'_>) -> Option<Outcome> {
    match outcome {
        None => {
            fields.add("outcome", "is required");
            None
        }
        Some(Reported::Accepted(accepted)) => {
            let handed = handed("accepted.handed", accepted.handed.as_ref(), fields);
            let reply = reply("accepted.reply", &accepted.reply, fields);
            match handed? {
                Some(handed) => Some(Outcome::Accepted { handed, reply: reply? }),
                None => {
                    fields.add("accepted.handed", "is required");
                    None
                }
            }
        }
        Some(Reported::Rejected(rejected)) => {
            let failure = failed("rejected.error", rejected.error.as_ref(), fields);
            let handed = handed("rejected.handed", rejected.handed.as_ref(), fields);
            let (failure, concerns) = failure?;
            Some(Outcome::Rejected { failure, concerns, handed: handed? })
        }
        Some(Reported::Deferred(error)) => {
            let (failure, concerns) = failed("deferred", Some(error), fields)?;
            Some(Outcome::Deferred { failure, concerns })
        }
        Some(Reported::Unknown(unknown)) => {
            Some(Outcome::Unknown { handed: handed("unknown.handed", unknown.handed.as_ref(), fields)? })
        }
    }
}

fn handed(path: &str, handed: Option<&v1::HandedMessage>, fields: &mut Fields<'_>) -> Option<Option<HandedOver>> {
    let Some(handed) = handed else { return Some(None) };
    let id = &handed.message_id;
    let id_fits = (1..=MAX_MESSAGE_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    if !id_fits {
        fields.add(format!("{path}.message_id"), "must be printable ASCII without spaces");
    }
    let text = &handed.message;
    let text_fits = (1..=MAX_MESSAGE).contains(&text.len()) && text.is_ascii() && !text.contains('\0');
    if !text_fits {
        fields.add(format!("{path}.message"), format!("must be 1 to {MAX_MESSAGE} bytes of ASCII without NUL"));
    }
    if !(id_fits && text_fits) {
        return None;
    }
    let path = &format!("{path}.message");
    let message = fields.seal(path, CONTACT, MESSAGE, text);
    Some(Some(HandedOver { message_id: id.clone(), sha256: Sha256::digest(text.as_bytes()).into(), message }))
}

fn failed(
    path: &str,
    error: Option<&v1::HandOverError>,
    fields: &mut Fields<'_>,
) -> Option<(HandOverFailure, Concerns)> {
    let Some(error) = error else {
        fields.add(path, "is required");
        return None;
    };
    if !is_name(&error.stage) {
        fields.add(format!("{path}.stage"), "must be 1 to 32 lower case letters, digits and hyphens");
        return None;
    }
    if error.code > i32::MAX as u32 {
        fields.add(format!("{path}.code"), "must be at most 2147483647");
        return None;
    }
    let concerns = match v1::Concerns::try_from(error.concerns) {
        Ok(v1::Concerns::Unspecified | v1::Concerns::Message) => Concerns::Message,
        Ok(v1::Concerns::Recipient) => Concerns::Recipient,
        Ok(v1::Concerns::Route) => Concerns::Route,
        Err(_) => {
            fields.add(format!("{path}.concerns"), "must be the message, the recipient or the route");
            return None;
        }
    };
    let reply = reply(&format!("{path}.reply"), &error.reply, fields)?;
    Some((HandOverFailure { stage: error.stage.clone(), code: error.code, reply }, concerns))
}

fn reply(path: &str, text: &str, fields: &mut Fields<'_>) -> Option<Option<Sealed>> {
    fields.free_text(path, CONTACT, REPLY, text)
}

/// Empties every value that [`read`] seals.
pub fn clear_personal(outcome: &mut Reported) {
    let empty = |handed: &mut Option<v1::HandedMessage>| {
        if let Some(handed) = handed {
            handed.message.clear();
        }
    };
    match outcome {
        Reported::Accepted(accepted) => {
            empty(&mut accepted.handed);
            accepted.reply.clear();
        }
        Reported::Rejected(rejected) => {
            empty(&mut rejected.handed);
            if let Some(error) = &mut rejected.error {
                error.reply.clear();
            }
        }
        Reported::Deferred(error) => error.reply.clear(),
        Reported::Unknown(unknown) => empty(&mut unknown.handed),
    }
}
