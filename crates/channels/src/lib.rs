//! Channels: how a message leaves the house, and what is certainly known of it afterwards.

pub mod mail;
pub mod smtp;

use serde::Serialize;

/// What became of one hand-over. Only what is certain is said to be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// The provider has it.
    Accepted {
        /// Its words, which often carry the number it gave.
        reply: String,
    },
    /// The provider will not have it: asking again is useless.
    Rejected {
        /// Where in the conversation.
        stage: smtp::Stage,
        /// Its words.
        reply: String,
    },
    /// Certainly not handed over, and another try may do better.
    Deferred {
        /// Where in the conversation.
        stage: smtp::Stage,
        /// What went wrong.
        why: String,
    },
    /// Certainly not handed over: the caller's last look, before the message's first byte, said no.
    Withdrawn,
    /// The message was on its way and no answer came: it may or may not have been taken.
    Unknown {
        /// What went wrong.
        why: String,
    },
}
