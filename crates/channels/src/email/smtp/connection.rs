//! One SMTP connection and the mails on it, one after the other. It always knows what may still be said on it.

use std::time::Duration;

use lettre::transport::smtp::{
    Error,
    authentication::DEFAULT_MECHANISMS,
    client::AsyncSmtpConnection,
    commands::{Data, Mail, Rcpt, Rset},
    extension::ClientId,
    response::{Response, Severity},
};
use tokio::time::timeout;

use super::{Security, Server, stage};
use crate::{Outcome, Stage, email::Envelope};

/// The longest that the reply to QUIT is waited for. It changes nothing any more.
const GOODBYE: Duration = Duration::from_secs(5);

/// The server says that it closes the connection, whatever was asked (RFC 5321, 3.8).
const CLOSING: u16 = 421;

/// A connection that was greeted, secured and authenticated.
pub(super) struct Connection {
    smtp: AsyncSmtpConnection,
    patience: Duration,
    /// How many mails were begun on it.
    mails: u32,
    state: State,
}

/// What may be said next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// MAIL.
    Ready,
    /// RSET. The server refused within a mail and may still hold its beginning.
    Begun,
    /// QUIT. The server wants no more on this connection.
    Spent,
    /// Nothing. A message may be half on its way, or it is not known what the server waits for. Whatever came next could be
    /// read as part of a message.
    Silent,
}

/// Why a mail did not begin.
pub(super) struct NotBegun {
    pub(super) outcome: Outcome,
    /// The connection is dead, which says nothing about the mail.
    pub(super) dead: bool,
}

/// What came instead of the positive reply.
enum Failure {
    /// A negative reply.
    Negative { code: u16, text: String },
    /// No reply, or a reply that cannot be understood here.
    Lost { why: String },
}

impl Connection {
    /// Opens a connection, up to the first mail.
    pub(super) async fn open(server: &Server) -> Result<Self, Outcome> {
        let (patience, us) = (server.patience, ClientId::default());
        let tls = || server.tls().map_err(|why| Failure::Lost { why }.before_the_mail(stage::TLS));
        let wrapped = if server.security == Security::Tls { Some(tls()?) } else { None };
        let first = if wrapped.is_some() { stage::TLS } else { stage::CONNECT };
        let name = (server.host.as_str(), server.port);
        let connecting = AsyncSmtpConnection::connect_tokio1(name, Some(patience), &us, wrapped, None);
        let connected = within(patience, connecting).await;
        let mut smtp = connected.map_err(|failure| failure.before_the_mail(first))?;
        if server.security == Security::StartTls {
            let parameters = tls()?;
            let secured = within(patience, smtp.starttls(parameters, &us)).await;
            secured.map_err(|failure| failure.before_the_mail(stage::TLS))?;
        }
        if let Some(credentials) = &server.credentials {
            let known = within(patience, smtp.auth(DEFAULT_MECHANISMS, credentials)).await;
            known.map_err(|failure| failure.before_the_mail(stage::AUTH))?;
        }
        Ok(Self { smtp, patience, mails: 0, state: State::Ready })
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
        match self.begin(mail).await {
            Ok(()) => self.complete(mail, last_look).await,
            Err(NotBegun { outcome, .. }) => outcome,
        }
    }

    /// Names the sender. Up to here nothing of the mail is anywhere, so it can begin again on another connection.
    pub(super) async fn begin(&mut self, mail: &Envelope) -> Result<(), NotBegun> {
        if self.state == State::Begun {
            let reset = reply(self.patience, Severity::PositiveCompletion, self.smtp.command(Rset)).await;
            if let Err(failure) = reset {
                // The mail has no part in this failure.
                self.state = State::Silent;
                return Err(NotBegun { outcome: failure.before_the_mail(stage::MAIL), dead: true });
            }
        }
        self.mails += 1;
        let from = Mail::new(Some(mail.from.clone()), Vec::new());
        let begun = reply(self.patience, Severity::PositiveCompletion, self.smtp.command(from)).await;
        begun.map(drop).map_err(|failure| {
            // A server that refuses here is not asked again on this connection: some servers limit the mails on one.
            self.state = if matches!(failure, Failure::Negative { .. }) { State::Spent } else { State::Silent };
            let dead = !matches!(failure, Failure::Negative { code, .. } if code != CLOSING);
            NotBegun { outcome: failure.of_the_mail(stage::MAIL), dead }
        })
    }

    /// The rest of a mail that was begun.
    pub(super) async fn complete(&mut self, mail: &Envelope, last_look: impl FnOnce() -> bool) -> Outcome {
        let to = Rcpt::new(mail.to.clone(), Vec::new());
        let rcpt = reply(self.patience, Severity::PositiveCompletion, self.smtp.command(to));
        if let Err(failure) = rcpt.await {
            return self.refused(stage::RCPT, failure);
        }
        // Any other positive reply than 354 belongs to another command, and the message would be read as commands.
        let data = reply(self.patience, Severity::PositiveIntermediate, self.smtp.command(Data));
        if let Err(failure) = data.await {
            return self.refused(stage::DATA, failure);
        }
        self.state = State::Silent;
        if !last_look() {
            return Outcome::Withdrawn;
        }
        // From the first byte on, only a reply says what happened.
        let sending = self.smtp.command(on_the_wire(&mail.text));
        match reply(self.patience, Severity::PositiveCompletion, sending).await {
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
            let _ = timeout(self.patience.min(GOODBYE), self.smtp.abort()).await;
        }
    }
}

impl Failure {
    /// A reply to the mail itself: 5yz is final for this mail (RFC 5321, 4.2.1).
    fn of_the_mail(self, stage: Stage) -> Outcome {
        match self {
            Self::Negative { code: code @ 500.., text } => {
                let content_left = stage == stage::MESSAGE;
                Outcome::Rejected { stage, code: code.into(), reply: text, content_left }
            }
            failure => failure.before_the_mail(stage),
        }
    }

    /// A failure that concerns us and not the mail: a wrong password, a server that turns everybody away. People have to
    /// repair it, and the mail waits.
    fn before_the_mail(self, stage: Stage) -> Outcome {
        match self {
            Self::Negative { code, text } => Outcome::Deferred { stage, code: code.into(), why: text },
            Self::Lost { why } => Outcome::Deferred { stage, code: 0, why },
        }
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
