//! How a message leaves, and how its fate is put to the account.

use futures::future::BoxFuture;
use saldo_api::v1::{
    HandOverError, HandedMessage,
    record_contact_outcome_request::{Accepted, Outcome as Told, Rejected, Unknown},
};
use saldo_channels::{
    Outcome,
    mail::Envelope,
    smtp::{Pool, Stage},
};
use saldo_domain::dunning::attempt::LAST_LOOK;

/// Longest words of a provider that are kept, in characters, as the command service takes them.
const MAX_REPLY: usize = 2_000;

/// Asked right before a message's first byte: whether it may still leave. Must not block.
pub type LastLook = Box<dyn FnOnce() -> bool + Send>;

/// A way for messages to leave.
pub trait Channel: Send + Sync {
    /// Hands one message over. Nothing of it leaves unless `last_look` was asked right before and said yes. Ends by
    /// itself, within minutes, whatever the provider does.
    fn hand_over<'c>(&'c self, mail: &'c Envelope, last_look: LastLook) -> BoxFuture<'c, Outcome>;
}

impl Channel for Pool {
    fn hand_over<'c>(&'c self, mail: &'c Envelope, last_look: LastLook) -> BoxFuture<'c, Outcome> {
        Box::pin(Pool::hand_over(self, mail, last_look))
    }
}

/// A hand-over's fate as the account is told it, and its name in figures.
pub(crate) fn told(outcome: Outcome, mail: &Envelope) -> (Told, &'static str) {
    let handed = || {
        let message = String::from_utf8_lossy(mail.bytes()).into_owned();
        Some(HandedMessage { message_id: mail.message_id().to_owned(), message })
    };
    match outcome {
        Outcome::Accepted { reply } => {
            (Told::Accepted(Accepted { handed: handed(), reply: words(&reply) }), "accepted")
        }
        Outcome::Rejected { stage, reply } => {
            // Before that stage nothing of the message itself had left.
            let handed = if stage == Stage::Message { handed() } else { None };
            (Told::Rejected(Rejected { error: Some(failure(name(stage), &reply)), handed }), "rejected")
        }
        Outcome::Deferred { stage, why } => (Told::Deferred(failure(name(stage), &why)), "deferred"),
        Outcome::Withdrawn => (Told::Deferred(failure(LAST_LOOK, "")), "withdrawn"),
        Outcome::Unknown { .. } => (Told::Unknown(Unknown { handed: handed() }), "unknown"),
    }
}

/// Where and how something failed.
pub(crate) fn failure(stage: &str, said: &str) -> HandOverError {
    HandOverError { stage: stage.to_owned(), code: code(said), reply: words(said) }
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Connect => "connect",
        Stage::Tls => "tls",
        Stage::Auth => "auth",
        Stage::Mail => "mail",
        Stage::Rcpt => "rcpt",
        Stage::Data => "data",
        Stage::Message => "message",
    }
}

/// The reply code of SMTP (RFC 5321, 4.2) in what the channel says, `permanent error (550): no such user`, or at the
/// beginning of a reply; 0 where there is none.
fn code(said: &str) -> u32 {
    let behind = said.find("error (").map_or(said, |at| &said[at + "error (".len()..]);
    let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
    let code = behind.get(..digits).filter(|_| digits == 3).and_then(|digits| digits.parse().ok());
    code.filter(|code| (200..600).contains(code)).unwrap_or(0)
}

/// Words on one line, cut to what is kept.
fn words(said: &str) -> String {
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REPLY).collect()
}

#[cfg(test)]
mod tests {
    use saldo_channels::mail::Mail;

    use super::*;

    fn mail() -> Envelope {
        let mail = Mail {
            from_name: "Ejemplo".into(),
            from: "cobros@example.com".into(),
            reply_to: None,
            to: "ana@example.com".into(),
            subject: "Recordatorio".into(),
            text: "Hola".into(),
            html: None,
            id: "abc".into(),
            date: jiff::Timestamp::UNIX_EPOCH,
        };
        mail.build().expect("mail")
    }

    #[test]
    fn the_reply_code_is_found_where_there_is_one() {
        for (said, expected) in [
            ("permanent error (550): 5.1.1 no such user", 550),
            ("transient error (451): try again in 300 seconds", 451),
            ("250 2.0.0 queued as 4711", 250),
            ("no answer within 300 seconds", 0),
            ("network error: connection refused (os error 111)", 0),
            ("permanent error (5500): ?", 0),
            ("999 nonsense", 0),
            ("12", 0),
            ("", 0),
        ] {
            assert_eq!(code(said), expected, "{said}");
        }
    }

    #[test]
    fn words_are_one_line_and_bounded() {
        assert_eq!(words("no\r\nsuch\tuser"), "no  such user");
        assert_eq!(words(&"ñ".repeat(5_000)).chars().count(), MAX_REPLY);
    }

    #[test]
    fn each_fate_is_told_as_what_is_certain_of_it() {
        let mail = mail();
        let (accepted, name) = told(Outcome::Accepted { reply: "ok".into() }, &mail);
        let Told::Accepted(Accepted { handed: Some(handed), reply }) = accepted else { panic!("{accepted:?}") };
        assert_eq!((handed.message.as_bytes(), reply.as_str(), name), (mail.bytes(), "ok", "accepted"));
        assert_eq!(handed.message_id, "abc@example.com");

        let refused = |stage| Outcome::Rejected { stage, reply: "permanent error (554): spam".into() };
        for (stage, expected) in [(Stage::Rcpt, false), (Stage::Data, false), (Stage::Message, true)] {
            let (Told::Rejected(rejected), _) = told(refused(stage), &mail) else { panic!("{stage:?}") };
            assert_eq!((rejected.handed.is_some(), rejected.error.map(|error| error.code)), (expected, Some(554)));
        }

        let (Told::Deferred(error), name) = told(Outcome::Withdrawn, &mail) else { panic!("not deferred") };
        assert_eq!((error.stage.as_str(), error.code, name), ("last-look", 0, "withdrawn"));

        let (unknown, _) = told(Outcome::Unknown { why: "line lost".into() }, &mail);
        assert!(matches!(unknown, Told::Unknown(Unknown { handed: Some(_) })), "{unknown:?}");
    }
}
