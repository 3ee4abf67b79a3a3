//! One request on its way from its queue to its answer.

use std::{sync::Arc, time::Instant};

use saldo_domain::command::Command;
use saldo_gate::Admission;
use saldo_telemetry::span::{Steps, Trace};
use tokio::sync::oneshot;

use super::queue::Permit;
use crate::{answer::Answer, failure::Failure};

/// A checked command that has no permit of a queue yet.
#[derive(Clone)]
pub struct NewCommand {
    /// `tenant/account`.
    pub key: Box<str>,
    /// The creditor, for the frame.
    pub tenant: String,
    /// The debtor's account, for the frame.
    pub account: String,
    /// The commit, as far as it is known before the decision.
    pub draft: Draft,
    /// The command to decide.
    pub command: Command,
    /// The trace that the request stands in.
    pub trace: Trace,
    /// When the client stops waiting.
    pub deadline: Instant,
    /// The admission to the process; absent where no gate admitted the request.
    pub admission: Option<Arc<Admission>>,
}

/// A command that waits for its account's worker, or is in flight.
pub struct QueuedCommand {
    /// `tenant/account`.
    pub key: Box<str>,
    /// The creditor, for the frame.
    pub tenant: String,
    /// The debtor's account, for the frame.
    pub account: String,
    /// The commit, as far as it is known before the decision.
    pub draft: Draft,
    /// The command to decide.
    pub command: Command,
    /// Nothing is decided before the tail has read up to this offset.
    pub after: u64,
    /// How often the account was lost to another writer.
    pub races: u32,
    /// When the client stops waiting.
    pub deadline: Instant,
    /// Where the answer goes.
    reply: oneshot::Sender<Result<Reply, Failure>>,
    /// The spans of the request.
    pub steps: Steps,
    /// The permit of the queue, given back with the command.
    _permit: Permit,
    /// The admission to the process, likewise; absent where no gate admitted it.
    _admission: Option<Arc<Admission>>,
}

/// The parts of a commit that are known before the decision.
#[derive(Clone)]
pub struct Draft {
    /// The client's id of the request.
    pub request_id: String,
    /// The rpc's name.
    pub method: &'static str,
    /// HMAC-SHA-256 under the tenant's key over method and request.
    pub fingerprint: [u8; 32],
    /// The request re-encoded, personal values emptied.
    pub command: Vec<u8>,
    /// The personal values, sealed.
    pub sealed: Vec<saldo_api::v1::SealedField>,
    /// The token's subject.
    pub actor: String,
    /// The token's roles.
    pub actor_roles: Vec<String>,
}

/// An answer, and whether it was given before.
#[derive(Debug)]
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// Whether it was given before.
    pub replayed: bool,
}

impl QueuedCommand {
    /// A command with a permit of its queue, and the receiver of its answer. `after` is the offset that must be read before
    /// the decision.
    pub fn new(new: NewCommand, permit: Permit, after: u64) -> (Self, oneshot::Receiver<Result<Reply, Failure>>) {
        let (reply, answer) = oneshot::channel();
        let queued = Self {
            key: new.key,
            tenant: new.tenant,
            account: new.account,
            draft: new.draft,
            command: new.command,
            after,
            races: 0,
            deadline: new.deadline,
            reply,
            steps: Steps::begin(new.trace, "queue"),
            _permit: permit,
            _admission: new.admission,
        };
        (queued, answer)
    }

    /// Whether the client has stopped waiting. Then the command is not decided.
    pub fn is_over(&self, now: Instant) -> bool {
        self.deadline <= now || self.reply.is_closed()
    }

    /// Answers. The permit is given back first, so that a client that asks again at once finds it free.
    pub fn answer(self, reply: Result<Reply, Failure>) {
        // A client that has gone away asks again with its request id.
        let _ = self.into_sender().send(reply);
    }

    fn into_sender(self) -> oneshot::Sender<Result<Reply, Failure>> {
        self.reply
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::pipeline::queue::QueueSender;

    /// A command, and where its answer comes.
    pub struct Waiting {
        pub queued: QueuedCommand,
        pub answer: oneshot::Receiver<Result<Reply, Failure>>,
    }

    /// Lets time pass on an account.
    pub fn queued(queue: &QueueSender<QueuedCommand>, request_id: &str, deadline: Instant) -> Waiting {
        let now = Instant::now();
        let draft = Draft {
            request_id: request_id.into(),
            method: "AdvanceTime",
            fingerprint: [0; 32],
            command: Vec::new(),
            sealed: Vec::new(),
            actor: "scheduler".into(),
            actor_roles: Vec::new(),
        };
        let new = NewCommand {
            key: "acme/D-1".into(),
            tenant: "acme".into(),
            account: "D-1".into(),
            draft,
            command: Command::AdvanceTime,
            trace: Trace::current(),
            deadline,
            admission: None,
        };
        let (queued, answer) = QueuedCommand::new(new, queue.acquire("acme", now, now).expect("a permit"), 0);
        Waiting { queued, answer }
    }
}
