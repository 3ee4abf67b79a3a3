//! One SMTP connection and the mails on it, one after the other. It always knows what may still be said on it.

use std::time::Duration;

use lettre::{
    Address,
    transport::smtp::{
        Error,
        authentication::DEFAULT_MECHANISMS,
        client::AsyncSmtpConnection,
        commands::{Data, Mail, Rcpt, Rset},
        extension::ClientId,
        response::{Response, Severity},
    },
};
use tokio::time::timeout;

use super::{Limits, Security, Server, stage};
use crate::{Concerns, Outcome, RouteFailure, Stage, email::Envelope};

/// The longest that the reply to QUIT is waited for. It changes nothing any more.
const GOODBYE: Duration = Duration::from_secs(5);

/// The server says that it closes the connection, whatever was asked (RFC 5321, 3.8).
const CLOSING: u16 = 421;

/// A connection that was greeted, secured and authenticated.
pub(super) struct Connection {
    smtp: AsyncSmtpConnection,
    limits: Limits,
    /// How many mails were begun on it.
    mails: u32,
    state: State,
}

/// The command that may be sent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// MAIL.
    Ready,
    /// RSET. The server refused within a mail and may still hold its beginning.
    Begun,
    /// QUIT. The server wants no more on this connection.
    Spent,
    /// Nothing. A message may be half on its way, or it is not known what the server waits for. The server could read the next
    /// command as part of a message.
    Silent,
}

/// Why a mail did not begin.
pub(super) struct NotBegun {
    pub(super) outcome: Outcome,
    /// The connection is dead, which says nothing about the mail.
    pub(super) dead: bool,
}

/// A failure in place of the positive reply.
enum Failure {
    /// A negative reply.
    Negative { code: u16, text: String },
    /// No reply, or a reply that cannot be understood here.
    Lost { why: String },
}

impl Connection {
    /// Opens a connection, up to the first mail.
    pub(super) async fn open(server: &Server) -> Result<Self, RouteFailure> {
        let (limits, us) = (server.limits, ClientId::default());
        let tls = || server.tls().map_err(|why| Failure::Lost { why }.of_the_route(stage::TLS));
        let wrapped = if server.security == Security::Tls { Some(tls()?) } else { None };
        let first = if wrapped.is_some() { stage::TLS } else { stage::CONNECT };
        let name = (server.host.as_str(), server.port);
        let connecting = AsyncSmtpConnection::connect_tokio1(name, Some(limits.connect), &us, wrapped, None);
        let connected = within(limits.command, connecting).await;
        let mut smtp = connected.map_err(|failure| failure.of_the_route(first))?;
        if server.security == Security::StartTls {
            let parameters = tls()?;
            let secured = within(limits.command, smtp.starttls(parameters, &us)).await;
            secured.map_err(|failure| failure.of_the_route(stage::TLS))?;
        }
        if let Some(credentials) = &server.credentials {
            let known = within(limits.command, smtp.auth(DEFAULT_MECHANISMS, credentials)).await;
            known.map_err(|failure| failure.of_the_route(stage::AUTH))?;
        }
        Ok(Self { smtp, limits, mails: 0, state: State::Ready })
    }

    /// Whether another mail may follow.
    pub(super) fn is_reusable(&self) -> bool {
        matches!(self.state, State::Ready | State::Begun)
    }

    /// How many mails were begun on it.
    pub(super) fn mails(&self) -> u32 {
        self.mails
    }

    /// Begins a mail and hands it over.
    pub(super) async fn hand_over(&mut self, mail: &Envelope, last_look: impl FnOnce() -> bool) -> Outcome {
        let offered = match self.begin(&mail.from).await {
            Ok(()) => self.offer(mail).await,
            refused => refused,
        };
        match offered {
            Ok(()) => self.send(mail, last_look).await,
            Err(NotBegun { outcome, .. }) => outcome,
        }
    }

    /// Asks whether the server takes mails of a sender, without a mail.
    pub(super) async fn asks_for(&mut self, sender: &Address) -> Result<(), NotBegun> {
        self.begin(sender).await?;
        self.state = State::Begun;
        Ok(())
    }

    /// Names the sender. Up to here nothing of the mail is anywhere, so it can begin again on another connection.
    pub(super) async fn begin(&mut self, sender: &Address) -> Result<(), NotBegun> {
        if self.state == State::Begun {
            let reset = reply(self.limits.command, Severity::PositiveCompletion, self.smtp.command(Rset)).await;
            if let Err(failure) = reset {
                // The mail has no part in this failure.
                self.state = State::Silent;
                return Err(NotBegun { outcome: failure.of_the_mail(stage::MAIL), dead: true });
            }
        }
        self.mails += 1;
        let from = Mail::new(Some(sender.clone()), Vec::new());
        let begun = reply(self.limits.command, Severity::PositiveCompletion, self.smtp.command(from)).await;
        begun.map(drop).map_err(|failure| {
            // A server that refuses here is not asked again on this connection: some servers limit the mails on one.
            self.state = if matches!(failure, Failure::Negative { .. }) { State::Spent } else { State::Silent };
            let dead = !matches!(failure, Failure::Negative { code, .. } if code != CLOSING);
            NotBegun { outcome: failure.of_the_mail(stage::MAIL), dead }
        })
    }

    /// Names the recipient of a mail that was begun, and asks for leave to send the message. Up to here nothing of the message
    /// is anywhere.
    pub(super) async fn offer(&mut self, mail: &Envelope) -> Result<(), NotBegun> {
        let not_begun = |connection: &mut Self, stage, failure| {
            let dead = matches!(failure, Failure::Lost { .. });
            NotBegun { outcome: connection.refused(stage, failure), dead }
        };
        let to = Rcpt::new(mail.to.clone(), Vec::new());
        let rcpt = reply(self.limits.command, Severity::PositiveCompletion, self.smtp.command(to)).await;
        rcpt.map_err(|failure| not_begun(self, stage::RCPT, failure))?;
        // Any other positive reply than 354 belongs to another command, and the message would be read as commands.
        let data = reply(self.limits.data, Severity::PositiveIntermediate, self.smtp.command(Data)).await;
        data.map_err(|failure| not_begun(self, stage::DATA, failure))?;
        Ok(())
    }

    /// Sends the message of a mail that was offered.
    pub(super) async fn send(&mut self, mail: &Envelope, last_look: impl FnOnce() -> bool) -> Outcome {
        self.state = State::Silent;
        if !last_look() {
            return Outcome::Withdrawn;
        }
        // From the first byte on, only a reply says what happened.
        let sending = self.smtp.command(on_the_wire(&mail.text));
        match reply(self.limits.message, Severity::PositiveCompletion, sending).await {
            Ok(reply) => {
                self.state = State::Ready;
                Outcome::Accepted { reply: reply.message().collect::<Vec<_>>().join(" ") }
            }
            Err(Failure::Lost { why }) => Outcome::Unknown { why },
            Err(failure) => self.refused(stage::MESSAGE, failure),
        }
    }

    /// The server did not agree to the mail.
    fn refused(&mut self, stage: Stage, failure: Failure) -> Outcome {
        self.state = match failure {
            Failure::Negative { code: CLOSING, .. } => State::Spent,
            Failure::Negative { .. } => State::Begun,
            Failure::Lost { .. } => State::Silent,
        };
        failure.of_the_mail(stage)
    }

    /// Says QUIT, unless another byte could be taken for a part of a message. Then the connection is dropped silently.
    pub(super) async fn close(mut self) {
        if self.state != State::Silent {
            let _ = timeout(self.limits.command.min(GOODBYE), self.smtp.abort()).await;
        }
    }
}

impl Failure {
    /// A failure within a mail. 5yz is final for what it concerns (RFC 5321, 4.2.1). A sender that is refused, and a server
    /// that closes, concern us and not the mail: people have to repair this, and the mail waits.
    fn of_the_mail(self, stage: Stage) -> Outcome {
        let concerns = self.concerns(stage);
        match self {
            Self::Negative { code: code @ 500.., text: reply }
                if matches!(concerns, Concerns::Message | Concerns::Recipient) =>
            {
                let content_left = stage == stage::MESSAGE;
                Outcome::Rejected { stage, code: code.into(), reply, concerns, content_left }
            }
            Self::Negative { code, text: why } => Outcome::Deferred { stage, code: code.into(), why, concerns },
            Self::Lost { why } => Outcome::Deferred { stage, code: 0, why, concerns },
        }
    }

    fn concerns(&self, stage: Stage) -> Concerns {
        match self {
            Self::Negative { code: CLOSING, .. } => Concerns::Route,
            _ if stage == stage::MAIL => Concerns::Sender,
            Self::Negative { code, text } if stage == stage::RCPT && refuses_the_address(*code, text) => {
                Concerns::Recipient
            }
            _ => Concerns::Message,
        }
    }

    /// A failure before any mail: the server cannot be reached, turns everybody away, or does not know us.
    fn of_the_route(self, stage: Stage) -> RouteFailure {
        match self {
            Self::Negative { code, text } => RouteFailure { stage, code: code.into(), why: text },
            Self::Lost { why } => RouteFailure { stage, code: 0, why },
        }
    }
}

/// Whether a reply to RCPT says that the address is bad: X.1.z, or a mailbox that is disabled (RFC 3463, 3.2 and 3.3). Servers
/// refuse us here too, with X.7.z. A reply without an enhanced code goes by its basic code (RFC 5321, 4.2.3).
fn refuses_the_address(code: u16, text: &str) -> bool {
    let enhanced = text.split_whitespace().find_map(|word| word.strip_prefix("5."));
    match enhanced.and_then(|enhanced| enhanced.split_once('.')) {
        Some((subject, detail)) => subject == "1" || (subject == "2" && detail == "1"),
        None => matches!(code, 550 | 551 | 553),
    }
}

impl From<RouteFailure> for Outcome {
    fn from(failure: RouteFailure) -> Self {
        let RouteFailure { stage, code, why } = failure;
        Outcome::Deferred { stage, code, why, concerns: Concerns::Route }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.status() {
            Some(code) => Self::Negative { code: code.into(), text: error.to_string() },
            None => Self::Lost { why: error.to_string() },
        }
    }
}

/// A reply of the kind that is due. A reply of another kind belongs to another command, and then no later reply can be
/// trusted either.
async fn reply(
    patience: Duration,
    due: Severity,
    asking: impl Future<Output = Result<Response, Error>>,
) -> Result<Response, Failure> {
    let response = within(patience, asking).await?;
    if response.code().severity == due {
        Ok(response)
    } else {
        Err(Failure::Lost { why: format!("the server answered {}, which is no answer here", response.code()) })
    }
}

async fn within<T>(patience: Duration, step: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    match timeout(patience, step).await {
        Ok(done) => done.map_err(Failure::from),
        Err(_) => Err(Failure::Lost { why: format!("no answer within {} seconds", patience.as_secs()) }),
    }
}

/// The message with its dots doubled (RFC 5321, 4.5.2), and the mark that ends it. The last line has its own end already.
/// All of it is one piece, so that it is written at once. An end that is written alone would wait until the peer has
/// acknowledged the rest (Nagle's algorithm). Peers delay the acknowledgement by 40 ms.
fn on_the_wire(mail: &str) -> String {
    let mut wire = String::with_capacity(mail.len() + mail.len() / 50 + 5);
    for line in mail.split_inclusive('\n') {
        if line.starts_with('.') {
            wire.push('.');
        }
        wire.push_str(line);
    }
    wire.push_str(".\r\n");
    wire
}
