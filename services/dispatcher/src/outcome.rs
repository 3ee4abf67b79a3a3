//! The outcome of an attempt, in the words of the command service.

use saldo_api::v1::{
    self, HandOverError, HandedMessage,
    record_contact_outcome_request::{Accepted, Outcome as Recorded, Rejected, Unknown},
};
use saldo_channels::{Concerns, Message, Outcome, RouteFailure, Stage};
use saldo_domain::dunning::attempt::LAST_LOOK;

/// Longest words of a provider that are kept, in characters, as the command service takes them.
const MAX_REPLY: usize = 2_000;

/// The news that an outcome brings of the route.
#[derive(Debug)]
pub(crate) enum RouteNews {
    /// Nothing.
    None,
    /// The provider was reached.
    Works,
    /// The route of every message failed.
    Failed(RouteFailure),
    /// The provider refused the sender.
    SenderRefused(RouteFailure),
    /// This dispatcher could not make the message, and waits for this version of the creditor's catalog.
    NotMade(u64, RouteFailure),
}

/// The outcome of an attempt.
#[derive(Debug)]
pub(crate) struct AttemptOutcome {
    /// As the account records it.
    pub(crate) recorded: Recorded,
    /// In one word, for figures.
    pub(crate) name: &'static str,
    /// The news of the route that the message took.
    pub(crate) route: RouteNews,
}

/// The outcome of a hand-over.
pub(crate) fn of_hand_over(outcome: Outcome, message: &Message) -> AttemptOutcome {
    let handed = || {
        let content = String::from_utf8_lossy(&message.content).into_owned();
        Some(HandedMessage { message_id: message.id.clone(), message: content })
    };
    let route = match &outcome {
        Outcome::Deferred { stage, code, why, concerns } => {
            let failure = RouteFailure { stage: *stage, code: *code, why: why.clone() };
            match concerns {
                Concerns::Route => RouteNews::Failed(failure),
                Concerns::Sender => RouteNews::SenderRefused(failure),
                Concerns::Message | Concerns::Recipient => RouteNews::Works,
            }
        }
        Outcome::Accepted { .. } | Outcome::Rejected { .. } => RouteNews::Works,
        Outcome::Withdrawn | Outcome::Unknown { .. } => RouteNews::None,
    };
    let (recorded, name) = match outcome {
        Outcome::Accepted { reply } => {
            (Recorded::Accepted(Accepted { handed: handed(), reply: one_line(&reply) }), "accepted")
        }
        Outcome::Rejected { stage, code, reply, concerns, content_left } => {
            let handed = if content_left { handed() } else { None };
            let error = Some(failure(stage.name(), code, &reply, concerns));
            (Recorded::Rejected(Rejected { error, handed }), "rejected")
        }
        Outcome::Deferred { stage, code, why, concerns } => {
            let name = match concerns {
                Concerns::Message | Concerns::Recipient => "deferred",
                Concerns::Sender | Concerns::Route => "route_failed",
            };
            (Recorded::Deferred(failure(stage.name(), code, &why, concerns)), name)
        }
        Outcome::Withdrawn => (Recorded::Deferred(failure(LAST_LOOK, 0, "", Concerns::Message)), "withdrawn"),
        Outcome::Unknown { .. } => (Recorded::Unknown(Unknown { handed: handed() }), "unknown"),
    };
    AttemptOutcome { recorded, name, route }
}

/// There is no message for a reason of ours, so no retry is used up.
pub(crate) fn deferred(stage: Stage, why: String, route: impl FnOnce(RouteFailure) -> RouteNews) -> AttemptOutcome {
    let recorded = Recorded::Deferred(failure(stage.name(), 0, &why, Concerns::Route));
    AttemptOutcome { recorded, name: "deferred", route: route(RouteFailure { stage, code: 0, why }) }
}

/// There is no message, and another attempt would fail in the same way.
pub(crate) fn rejected(stage: &str, why: &str) -> AttemptOutcome {
    let rejected = Rejected { error: Some(failure(stage, 0, why, Concerns::Message)), handed: None };
    AttemptOutcome { recorded: Recorded::Rejected(rejected), name: "rejected", route: RouteNews::None }
}

fn failure(stage: &str, code: u32, reply: &str, concerns: Concerns) -> HandOverError {
    let concerns = match concerns {
        Concerns::Message => v1::Concerns::Message,
        Concerns::Recipient => v1::Concerns::Recipient,
        Concerns::Sender | Concerns::Route => v1::Concerns::Route,
    };
    HandOverError { stage: stage.to_owned(), code, reply: one_line(reply), concerns: concerns.into() }
}

/// Words on one line, cut to the length that is kept.
fn one_line(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REPLY).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGE: Stage = Stage::new("recipient");

    fn message() -> Message {
        Message {
            id: "abc@example.com".into(),
            from: "cobros@example.com".into(),
            to: "ana@example.com".into(),
            media_type: "text/plain",
            content: b"Hola".to_vec(),
        }
    }

    #[test]
    fn words_are_one_line_and_bounded() {
        assert_eq!(one_line("no\r\nsuch\tuser"), "no  such user");
        assert_eq!(one_line(&"ñ".repeat(5_000)).chars().count(), MAX_REPLY);
    }

    #[test]
    fn the_account_is_told_what_is_certain() {
        let message = message();
        let accepted = of_hand_over(Outcome::Accepted { reply: "ok".into() }, &message);
        assert_eq!(accepted.name, "accepted");
        let Recorded::Accepted(Accepted { handed: Some(handed), reply }) = accepted.recorded else {
            panic!("not accepted")
        };
        assert_eq!((handed.message.as_bytes(), reply.as_str()), (&message.content[..], "ok"));
        assert_eq!(handed.message_id, "abc@example.com");

        for content_left in [false, true] {
            let concerns = Concerns::Message;
            let refused = Outcome::Rejected { stage: STAGE, code: 554, reply: "spam".into(), concerns, content_left };
            let Recorded::Rejected(rejected) = of_hand_over(refused, &message).recorded else { panic!("not rejected") };
            let error = rejected.error.expect("an error");
            assert_eq!((rejected.handed.is_some(), error.stage.as_str(), error.code), (content_left, "recipient", 554));
        }

        let withdrawn = of_hand_over(Outcome::Withdrawn, &message);
        assert_eq!(withdrawn.name, "withdrawn");
        let Recorded::Deferred(error) = withdrawn.recorded else { panic!("not deferred") };
        assert_eq!((error.stage.as_str(), error.code), ("last-look", 0));

        let unknown = of_hand_over(Outcome::Unknown { why: "connection lost".into() }, &message).recorded;
        assert!(matches!(unknown, Recorded::Unknown(Unknown { handed: Some(_) })), "{unknown:?}");
    }
}
