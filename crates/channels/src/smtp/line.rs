//! One connection and the mails on it, one after the other. It always knows what may still be said on it.

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

use super::{Security, Server, Stage};
use crate::{Outcome, mail::Envelope};

/// The longest that a server's answer to QUIT is waited for: it changes nothing any more.
const GOODBYE: Duration = Duration::from_secs(5);

/// The server says that it closes the line, whatever was asked (RFC 5321, 3.8).
const CLOSING: u16 = 421;

/// A connection that was greeted, secured and authenticated.
pub(super) struct Line {
    connection: AsyncSmtpConnection,
    patience: Duration,
    /// Begun on it.
    mails: u32,
    state: State,
}

/// What may be said next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// MAIL.
    Ready,
    /// RSET: the server refused within a mail and may still hold its beginning.
    Begun,
    /// QUIT: the server would have no more of this line.
    Spent,
    /// Nothing: a message may be half on its way, or it is not known what the server waits for, and whatever came next
    /// could be read as part of a message.
    Silent,
}

/// Why a mail did not begin.
pub(super) struct NotBegun {
    pub(super) outcome: Outcome,
    /// The line is dead, which says nothing of the mail.
    pub(super) dead: bool,
}

/// What came instead of the answer hoped for.
enum Trouble {
    /// A no.
    No { code: u16, said: String },
    /// Nothing, or nothing that can be understood here.
    Lost { why: String },
}

impl Line {
    /// Opens one, up to the first mail.
    pub(super) async fn open(server: &Server) -> Result<Self, Outcome> {
        let (patience, us) = (server.patience, ClientId::default());
        let tls = || server.tls().map_err(|why| Trouble::Lost { why }.before_the_mail(Stage::Tls));
        let wrapped = if server.security == Security::Tls { Some(tls()?) } else { None };
        let stage = if wrapped.is_some() { Stage::Tls } else { Stage::Connect };
        let name = (server.host.as_str(), server.port);
        let connecting = AsyncSmtpConnection::connect_tokio1(name, Some(patience), &us, wrapped, None);
        let connected = within(patience, connecting).await;
        let mut connection = connected.map_err(|trouble| trouble.before_the_mail(stage))?;
        if server.security == Security::StartTls {
            let parameters = tls()?;
            let secured = within(patience, connection.starttls(parameters, &us)).await;
            secured.map_err(|trouble| trouble.before_the_mail(Stage::Tls))?;
        }
        if let Some(credentials) = &server.credentials {
            let known = within(patience, connection.auth(DEFAULT_MECHANISMS, credentials)).await;
            known.map_err(|trouble| trouble.before_the_mail(Stage::Auth))?;
        }
        Ok(Self { connection, patience, mails: 0, state: State::Ready })
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

    /// Says who the mail is from. Up to here nothing of it is anywhere, so it can be begun anew on another line.
    pub(super) async fn begin(&mut self, mail: &Envelope) -> Result<(), NotBegun> {
        if self.state == State::Begun {
            let reset = answer(self.patience, Severity::PositiveCompletion, self.connection.command(Rset)).await;
            if let Err(trouble) = reset {
                // Whatever is wrong with it, the mail had no part in it.
                self.state = State::Silent;
                return Err(NotBegun { outcome: trouble.before_the_mail(Stage::Mail), dead: true });
            }
        }
        self.mails += 1;
        let from = Mail::new(Some(mail.from.clone()), Vec::new());
        let begun = answer(self.patience, Severity::PositiveCompletion, self.connection.command(from)).await;
        begun.map(drop).map_err(|trouble| {
            // Whoever refuses already here is not asked again on this line: some servers limit the mails on one.
            self.state = if matches!(trouble, Trouble::No { .. }) { State::Spent } else { State::Silent };
            let dead = !matches!(trouble, Trouble::No { code, .. } if code != CLOSING);
            NotBegun { outcome: trouble.of_the_mail(Stage::Mail), dead }
        })
    }

    /// The rest of a mail that was begun.
    pub(super) async fn complete(&mut self, mail: &Envelope, last_look: impl FnOnce() -> bool) -> Outcome {
        let to = Rcpt::new(mail.to.clone(), Vec::new());
        let rcpt = answer(self.patience, Severity::PositiveCompletion, self.connection.command(to));
        if let Err(trouble) = rcpt.await {
            return self.refused(Stage::Rcpt, trouble);
        }
        // Any other yes than 354 would be to something else, and the message would be read as commands.
        let data = answer(self.patience, Severity::PositiveIntermediate, self.connection.command(Data));
        if let Err(trouble) = data.await {
            return self.refused(Stage::Data, trouble);
        }
        self.state = State::Silent;
        if !last_look() {
            return Outcome::Withdrawn;
        }
        // From the first byte on, only an answer is an answer.
        let sending = self.connection.command(on_the_wire(&mail.text));
        match answer(self.patience, Severity::PositiveCompletion, sending).await {
            Ok(reply) => {
                self.state = State::Ready;
                Outcome::Accepted { reply: reply.message().collect::<Vec<_>>().join(" ") }
            }
            Err(Trouble::Lost { why }) => Outcome::Unknown { why },
            Err(trouble) => self.refused(Stage::Message, trouble),
        }
    }

    /// The server did not agree to the mail.
    fn refused(&mut self, stage: Stage, trouble: Trouble) -> Outcome {
        self.state = match trouble {
            Trouble::No { code: CLOSING, .. } => State::Spent,
            Trouble::No { .. } => State::Begun,
            Trouble::Lost { .. } => State::Silent,
        };
        trouble.of_the_mail(stage)
    }

    /// Takes leave, unless another byte could be taken for a message's: then the line is dropped without one.
    pub(super) async fn close(mut self) {
        if self.state != State::Silent {
            let _ = timeout(self.patience.min(GOODBYE), self.connection.abort()).await;
        }
    }
}

impl Trouble {
    /// A no to the mail itself: 5xx is final for it.
    fn of_the_mail(self, stage: Stage) -> Outcome {
        match self {
            Self::No { code: 500.., said } => Outcome::Rejected { stage, reply: said },
            trouble => trouble.before_the_mail(stage),
        }
    }

    /// Trouble about us and not about the mail: a wrong password, a server that turns everybody away. These are ours to
    /// repair, and the mail waits.
    fn before_the_mail(self, stage: Stage) -> Outcome {
        let (Self::No { said: why, .. } | Self::Lost { why }) = self;
        Outcome::Deferred { stage, why }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error.status() {
            Some(code) => Self::No { code: code.into(), said: error.to_string() },
            None => Self::Lost { why: error.to_string() },
        }
    }
}

/// An answer of the kind that is due. One of another kind belongs to something else, and then nothing on the line does.
async fn answer(
    patience: Duration,
    due: Severity,
    asking: impl Future<Output = Result<Response, Error>>,
) -> Result<Response, Trouble> {
    let response = within(patience, asking).await?;
    if response.code().severity == due {
        Ok(response)
    } else {
        Err(Trouble::Lost { why: format!("the server answered {}, which is no answer here", response.code()) })
    }
}

async fn within<T>(patience: Duration, step: impl Future<Output = Result<T, Error>>) -> Result<T, Trouble> {
    match timeout(patience, step).await {
        Ok(done) => done.map_err(Trouble::from),
        Err(_) => Err(Trouble::Lost { why: format!("no answer within {} seconds", patience.as_secs()) }),
    }
}

/// The message with its dots doubled (RFC 5321, 4.5.2), and its end; its last line is ended already. In one piece, so that
/// it is written at once: an end by itself would wait for the peer to acknowledge the rest (Nagle's algorithm), which peers
/// put off by 40 ms.
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
