//! Where in an SMTP conversation a hand-over stood.

use crate::Stage;

/// Reaching the server, its greeting, EHLO.
pub const CONNECT: Stage = Stage::new("connect");
/// STARTTLS, or TLS from the first byte on.
pub const TLS: Stage = Stage::new("tls");
/// The login.
pub const AUTH: Stage = Stage::new("auth");
/// The sender's address.
pub const MAIL: Stage = Stage::new("mail");
/// The recipient's address.
pub const RCPT: Stage = Stage::new("rcpt");
/// The permission to send the message.
pub const DATA: Stage = Stage::new("data");
/// The message itself.
pub const MESSAGE: Stage = Stage::new("message");
