//! SMTP, stage by stage (RFC 5321): up to the message's first byte a failure is certainly no hand-over; behind it only the
//! server's answer says what happened.

use std::{fmt, str::FromStr, time::Duration};

use lettre::transport::smtp::{
    Error,
    authentication::{Credentials, DEFAULT_MECHANISMS},
    client::{AsyncSmtpConnection, TlsParameters},
    commands::{Data, Mail, Rcpt},
    extension::ClientId,
};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::time::timeout;
use url::Url;

use crate::{Outcome, mail::Envelope};

/// Where in the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Reaching the server, its greeting, EHLO.
    Connect,
    /// STARTTLS, or TLS from the start.
    Tls,
    /// Who we are.
    Auth,
    /// The sender.
    Mail,
    /// The recipient.
    Rcpt,
    /// Leave to send the message.
    Data,
    /// The message itself.
    Message,
}

/// How the line is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// Not at all.
    Plain,
    /// From the first byte on.
    Tls,
    /// After STARTTLS, which the server must offer.
    StartTls,
}

/// A server and how to speak to it: `smtps://user:password@host[:465]`, or `smtp://…[:587]` with STARTTLS, or in the clear
/// with `?tls=none`, which a password is never sent over.
#[derive(Clone)]
pub struct Server {
    host: String,
    port: u16,
    security: Security,
    credentials: Option<Credentials>,
    /// The longest that one step of the conversation may take (RFC 5321, 4.5.3.2, allows minutes).
    pub patience: Duration,
}

/// Not the address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be smtps://user:password@host, smtp://user:password@host:587 or smtp://host:25?tls=none: {0}")]
pub struct InvalidServer(&'static str);

/// The longest one step may take, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

impl FromStr for Server {
    type Err = InvalidServer;

    fn from_str(text: &str) -> Result<Self, InvalidServer> {
        let url = Url::parse(text).map_err(|_| InvalidServer("it is no URL"))?;
        let option = url.query_pairs().find(|(key, _)| key == "tls").map(|(_, value)| value.into_owned());
        let (security, port) = match (url.scheme(), option.as_deref()) {
            ("smtps", None) => (Security::Tls, 465),
            ("smtp", None | Some("starttls")) => (Security::StartTls, 587),
            ("smtp", Some("none")) => (Security::Plain, 25),
            _ => return Err(InvalidServer("its scheme or tls is another")),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(InvalidServer("it has no host"))?.to_owned();
        let clear = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, Some(password)) if !user.is_empty() => {
                let not_text = |_| InvalidServer("user or password is not UTF-8");
                Some(Credentials::new(clear(user).map_err(not_text)?, clear(password).map_err(not_text)?))
            }
            _ => return Err(InvalidServer("user and password belong together")),
        };
        if credentials.is_some() && security == Security::Plain {
            return Err(InvalidServer("a password is never sent in the clear"));
        }
        Ok(Self { host, port: url.port().unwrap_or(port), security, credentials, patience: PATIENCE })
    }
}

/// Without the password.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ({:?})", self.host, self.port, self.security)
    }
}

/// Why the conversation ended before the message.
struct Ended(Outcome);

impl Server {
    /// Hands one mail over on a connection of its own.
    pub async fn hand_over(&self, mail: &Envelope) -> Outcome {
        let mut connection = match self.open().await {
            Ok(connection) => connection,
            Err(Ended(outcome)) => return outcome,
        };
        let outcome = self.converse(&mut connection, mail).await;
        // Where the message may be half on its way, not a byte more is sent: the line is dropped.
        if !matches!(outcome, Outcome::Unknown { .. }) {
            // What the server says to QUIT changes nothing any more.
            let _ = timeout(self.patience, connection.abort()).await;
        }
        outcome
    }

    async fn open(&self) -> Result<AsyncSmtpConnection, Ended> {
        let us = ClientId::default();
        let tls = || {
            let parameters = TlsParameters::new(self.host.clone());
            parameters.map_err(|error| Ended(deferred(Stage::Tls, error.to_string())))
        };
        let wrapped = if self.security == Security::Tls { Some(tls()?) } else { None };
        let stage = if wrapped.is_some() { Stage::Tls } else { Stage::Connect };
        let server = (self.host.as_str(), self.port);
        let connecting = AsyncSmtpConnection::connect_tokio1(server, Some(self.patience), &us, wrapped, None);
        let mut connection = self.step(stage, connecting).await?;
        if self.security == Security::StartTls {
            let parameters = tls()?;
            self.step(Stage::Tls, connection.starttls(parameters, &us)).await?;
        }
        if let Some(credentials) = &self.credentials {
            self.step(Stage::Auth, connection.auth(DEFAULT_MECHANISMS, credentials)).await?;
        }
        Ok(connection)
    }

    async fn converse(&self, connection: &mut AsyncSmtpConnection, mail: &Envelope) -> Outcome {
        let from = Mail::new(Some(mail.from.clone()), Vec::new());
        let to = Rcpt::new(mail.to.clone(), Vec::new());
        let before = async {
            self.step(Stage::Mail, connection.command(from)).await?;
            self.step(Stage::Rcpt, connection.command(to)).await?;
            self.step(Stage::Data, connection.command(Data)).await
        };
        if let Err(Ended(outcome)) = before.await {
            return outcome;
        }
        // From the first byte on, only an answer is an answer.
        match timeout(self.patience, connection.message(&mail.bytes)).await {
            Ok(Ok(reply)) => Outcome::Accepted { reply: reply.message().collect::<Vec<_>>().join(" ") },
            Ok(Err(error)) if error.status().is_some() => refused(Stage::Message, &error),
            Ok(Err(error)) => Outcome::Unknown { why: error.to_string() },
            Err(_) => Outcome::Unknown { why: format!("no answer within {} seconds", self.patience.as_secs()) },
        }
    }

    /// One step before the message: whatever goes wrong, nothing was handed over.
    async fn step<T>(&self, stage: Stage, step: impl Future<Output = Result<T, Error>>) -> Result<T, Ended> {
        match timeout(self.patience, step).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(Ended(refused(stage, &error))),
            Err(_) => Err(Ended(deferred(stage, format!("no answer within {} seconds", self.patience.as_secs())))),
        }
    }
}

/// 5xx is final for this message, save where it is about us and not about the message: a wrong password, a server that
/// turns everybody away. These are ours to repair, and the message waits.
fn refused(stage: Stage, error: &Error) -> Outcome {
    let of_the_message = matches!(stage, Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Message);
    if error.is_permanent() && of_the_message {
        Outcome::Rejected { stage, reply: error.to_string() }
    } else {
        deferred(stage, error.to_string())
    }
}

fn deferred(stage: Stage, why: String) -> Outcome {
    Outcome::Deferred { stage, why }
}

#[cfg(test)]
mod tests;
