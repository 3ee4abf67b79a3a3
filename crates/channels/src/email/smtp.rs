//! SMTP, stage by stage (RFC 5321). Before the message's first byte every failure means that nothing was handed over. After
//! it only the server's reply says what happened.
//!
//! [`Pool`] keeps connections for the next mail. [`Server::hand_over`] opens one connection for one mail.

mod connection;
mod pool;
pub mod stage;

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use lettre::transport::smtp::{
    authentication::Credentials,
    client::{Certificate, CertificateStore, TlsParameters},
};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::{Outcome, email::Envelope};
use connection::Connection;
pub use pool::{MAX_POOL, Pool};

/// How a connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// Not at all.
    Plain,
    /// From the first byte on.
    Tls,
    /// After STARTTLS, which the server must offer.
    StartTls,
}

/// A mail server and how to reach it:
///
/// - `smtps://user:password@host[:465]` with TLS from the first byte on,
/// - `smtp://user:password@host[:587]` with STARTTLS,
/// - `smtp://host[:25]?tls=none` without encryption. No password is ever sent this way.
#[derive(Clone)]
pub struct Server {
    host: String,
    port: u16,
    security: Security,
    credentials: Option<Credentials>,
    /// The only authorities that may certify it; absent: the authorities that browsers trust.
    ca: Option<PathBuf>,
    /// The longest that each step of a conversation may take.
    pub limits: Limits,
}

/// The longest that each step of a conversation may take. A server that needs longer is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One connection attempt of TCP. An address that does not answer at all is given up before a server that is busy.
    pub connect: Duration,
    /// The greeting, and each command (RFC 5321, 4.5.3.2.1 to 4.5.3.2.3).
    pub command: Duration,
    /// The leave to send the message (4.5.3.2.4).
    pub data: Duration,
    /// The message itself, of which each block may take 3 minutes (4.5.3.2.5), and its answer, which may take 10 minutes
    /// (4.5.3.2.6). A message is of so few blocks that one limit holds for all of them.
    pub message: Duration,
}

impl Limits {
    /// As RFC 5321, 4.5.3.2, asks.
    pub const RFC_5321: Self = Self {
        connect: Duration::from_secs(30),
        command: Duration::from_secs(5 * 60),
        data: Duration::from_secs(2 * 60),
        message: Duration::from_secs(13 * 60),
    };

    /// The same limit for each step.
    pub const fn all(limit: Duration) -> Self {
        Self { connect: limit, command: limit, data: limit, message: limit }
    }
}

/// Not the address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be smtps://user:password@host, smtp://user:password@host:587 or smtp://host:25?tls=none: {0}")]
pub struct InvalidServer(&'static str);

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
        Ok(Self { host, port: url.port().unwrap_or(port), security, credentials, ca: None, limits: Limits::RFC_5321 })
    }
}

/// Without the password.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ({:?})", self.host, self.port, self.security)
    }
}

impl Server {
    /// Trusts the authorities in this PEM file and no others. The file is read for each connection. It is also read now, so
    /// that a fault in it is reported at the start.
    pub fn trusting(mut self, ca: PathBuf) -> Result<Self, String> {
        self.ca = Some(ca);
        self.tls().map(|_| self)
    }

    /// How a connection is secured.
    fn tls(&self) -> Result<TlsParameters, String> {
        let mut parameters = TlsParameters::builder(self.host.clone());
        if let Some(path) = &self.ca {
            parameters = parameters.certificate_store(CertificateStore::None);
            for authority in saldo_tls::certificates(path).map_err(|error| error.to_string())? {
                let authority = Certificate::from_der(authority.to_vec());
                parameters = parameters.add_root_certificate(authority.map_err(|error| error.to_string())?);
            }
        }
        parameters.build().map_err(|error| error.to_string())
    }

    /// Hands one mail over on a connection of its own.
    pub async fn hand_over(&self, mail: &Envelope) -> Outcome {
        let mut connection = match Connection::open(self).await {
            Ok(connection) => connection,
            Err(failure) => return failure.into(),
        };
        let outcome = connection.hand_over(mail, || true).await;
        connection.close().await;
        outcome
    }
}

#[cfg(test)]
mod peer;
#[cfg(test)]
mod tests;
