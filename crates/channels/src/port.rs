//! The port between the dispatcher and the channels.

use std::{fmt, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use saldo_domain::{dunning::policy::Sender, party::Channel};
use saldo_templates::{Template, Variables};
use serde::Serialize;

/// Asked right before a message's first byte leaves: whether it may still leave. Must not block.
pub type LastLook = Box<dyn FnOnce() -> bool + Send>;

/// A way for messages to leave, by one channel and one provider.
pub trait Transport: Send + Sync {
    /// The channel it serves.
    fn channel(&self) -> Channel;

    /// The longest that the provider may take once the last look has allowed the message. After this time the dispatcher
    /// drops the hand-over, and its outcome is unknown. Before the last look a hand-over is dropped when the time to send is
    /// over. An outcome that comes later than [`saldo_domain::dunning::attempt::unknown_after`] is too late for the account.
    fn patience(&self) -> Duration;

    /// How many messages are handed over at once.
    fn capacity(&self) -> usize;

    /// Reaches the provider without a message. Accounts are asked for messages only if a message can leave. Cheap where the
    /// provider was reached a moment ago. With a sender's address, asks the provider also whether it takes mail from there.
    fn reach<'t>(&'t self, sender: Option<&'t str>) -> BoxFuture<'t, Result<(), RouteFailure>>;

    /// The message as the channel sends it. Pure: the same draft gives the same bytes, whatever the transport is connected
    /// to.
    fn render(&self, draft: &Draft<'_>) -> Result<Message, RenderError>;

    /// Hands one message over. Nothing of it leaves unless `last_look` was asked right before and said yes. When the
    /// returned future is dropped, no further byte leaves.
    fn hand_over<'t>(&'t self, message: &'t Message, last_look: LastLook) -> BoxFuture<'t, Outcome>;
}

/// Everything that a message is made of.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'d> {
    /// Names the message by what it says, in lower case hexadecimal digits. An unchanged message that is sent again has the
    /// same name, so that the channel can mark it as the same message.
    pub id: &'d str,
    /// The template in force.
    pub template: &'d Template,
    /// The values that the template may use.
    pub variables: &'d Variables,
    /// The sender of the message.
    pub sender: &'d Sender,
    /// Where the debtor is reached on this channel.
    pub address: &'d str,
    /// When the account decided to send it.
    pub at: Timestamp,
}

/// Bytes to hand over, and who they go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// How the channel names this message; of an e-mail the Message-ID without its angle brackets.
    pub id: String,
    /// The sender's address, as the channel writes addresses.
    pub from: String,
    /// The recipient's address.
    pub to: String,
    /// The media type of the content (RFC 6838).
    pub media_type: &'static str,
    /// The exact bytes that the provider receives.
    pub content: Vec<u8>,
}

/// Why no message can be made of a draft: another attempt would fail in the same way. Never holds personal data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RenderError(pub String);

/// Where in the conversation with the provider a hand-over stood, in the channel's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Stage(&'static str);

impl Stage {
    /// A stage of this name: 1 to 32 lower case letters, digits and hyphens, since the history keeps the name. Anything
    /// else does not compile in a constant.
    pub const fn new(name: &'static str) -> Self {
        assert!(
            is_stage_name(name.as_bytes()),
            "a stage's name must be 1 to 32 lower case letters, digits and hyphens"
        );
        Self(name)
    }

    /// The name that the history keeps.
    pub fn name(self) -> &'static str {
        self.0
    }
}

/// The rule of [`saldo_domain::dunning::policy::is_name`], which cannot run while a constant is compiled.
const fn is_stage_name(name: &[u8]) -> bool {
    let mut at = 0;
    while at < name.len() {
        if !(name[at].is_ascii_lowercase() || name[at].is_ascii_digit() || name[at] == b'-') {
            return false;
        }
        at += 1;
    }
    1 <= at && at <= 32
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The part of a hand-over that a failure concerns. It decides who bears the failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Concerns {
    /// This message, or nobody can tell.
    Message,
    /// The recipient's address.
    Recipient,
    /// Every message of this sender.
    Sender,
    /// Every message.
    Route,
}

/// Why the provider cannot be reached, or does not take a sender's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteFailure {
    /// Where it failed.
    pub stage: Stage,
    /// The provider's number for the reason; 0 where it gave none.
    pub code: u32,
    /// The provider's words, or the error. Where the provider gave a number, these are the provider's words.
    pub why: String,
}

/// The outcome of one hand-over. It says only what is certain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// The provider has the message.
    Accepted {
        /// The provider's words, which often carry the number that it gave.
        reply: String,
    },
    /// The provider refuses this message. Asking again is useless.
    Rejected {
        /// Where the provider refused it.
        stage: Stage,
        /// The provider's number for the reason; 0 where it gave none.
        code: u32,
        /// The provider's words.
        reply: String,
        /// The part that the provider refused.
        concerns: Concerns,
        /// Whether the content itself had left before the refusal.
        content_left: bool,
    },
    /// Certainly not handed over. Another attempt may do better.
    Deferred {
        /// Where it failed.
        stage: Stage,
        /// The provider's number for the reason; 0 where it gave none.
        code: u32,
        /// The provider's words, or the error.
        why: String,
        /// The part that failed.
        concerns: Concerns,
    },
    /// Certainly not handed over: the last look said no.
    Withdrawn,
    /// The message had begun to leave and no answer came: the provider may or may not have it.
    Unknown {
        /// The provider's words, or the error.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use saldo_domain::dunning::policy::is_name;

    use super::*;

    #[test]
    fn a_stage_has_a_name_that_the_command_service_takes() {
        let long = "x".repeat(33);
        for name in ["connect", "last-look", "sms-2", "", "Connect", "no answer", "é", &long[..32], &long] {
            assert_eq!(is_stage_name(name.as_bytes()), is_name(name), "{name:?}");
        }
    }
}
