//! The rules of names and addresses, as requests and files give them.

use std::borrow::Cow;

use saldo_domain::{
    line::{ONE_LINE, is_one_line},
    party::{Channel, email::check_email},
};

/// Longest name or address, in characters; an e-mail address has at most 254 (RFC 5321, 4.5.3.1.3).
const MAX_TEXT: usize = 254;

/// The rule of a name and of an address: one line of text, not empty and not too long. It stands in headers and subjects.
pub fn check_line(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        Err("must not be empty".to_owned())
    } else if text.chars().count() > MAX_TEXT {
        Err(format!("must be at most {MAX_TEXT} characters"))
    } else if !is_one_line(text) {
        Err(ONE_LINE.to_owned())
    } else {
        Ok(())
    }
}

/// The address as messages are sent to it, where any can be.
pub fn check_address(channel: Channel, text: &str) -> Result<Cow<'_, str>, String> {
    check_line(text)?;
    match channel {
        Channel::Email => {
            let text = with_ascii_domain(text);
            check_email(&text)?;
            Ok(text)
        }
        Channel::Sms | Channel::Whatsapp | Channel::Phone if !is_e164(text) => {
            Err("must be a number in E.164 form, for example +34600000000".to_owned())
        }
        Channel::Sms | Channel::Whatsapp | Channel::Phone | Channel::Post => Ok(text.into()),
    }
}

/// An e-mail address whose domain is written in other letters, with the ASCII form that stands for the domain everywhere in
/// mail (IDNA, RFC 5891). The form is taken here and kept, so that a later table of letters changes no address.
fn with_ascii_domain(text: &str) -> Cow<'_, str> {
    let parts = text.rsplit_once('@').filter(|(_, domain)| !domain.is_ascii());
    let ascii = parts.and_then(|(local, domain)| Some(format!("{local}@{}", idna::domain_to_ascii(domain).ok()?)));
    ascii.map_or(Cow::Borrowed(text), Cow::Owned)
}

/// At most 15 digits, the first not 0 (ITU-T E.164).
fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
    })
}
