//! The exact bytes of a mail. They are a pure function of its parts, so that a second attempt hands over the same bytes.

use std::time::SystemTime;

use jiff::Timestamp;
use lettre::{
    Address,
    message::{
        Mailbox, Message, MultiPart, SinglePart,
        header::{self, Header, HeaderName, HeaderValue},
    },
};
use saldo_domain::line::{ONE_LINE, is_one_line};
use sha2::{Digest, Sha256};

use crate::Message as Rendered;

/// The media type of a mail (RFC 2046, 5.2.1).
const MEDIA_TYPE: &str = "message/rfc822";
/// Longest mail, encoded, in bytes: some pages of text and the same as HTML, and far below what any server takes.
pub const MAX_MAIL_BYTES: usize = 600_000;
/// Longest id, in bytes: the Message-ID's line stays below 998 (RFC 5322, 2.1.1) whatever the domain.
const MAX_ID: usize = 128;

/// Tells machines that a machine wrote the mail, so that no vacation notice answers it (RFC 3834, 5).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// A mail before it is bytes.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The sender's name, as people read it.
    pub from_name: String,
    /// The sender's address. Bounces come back to it as well.
    pub from: String,
    /// Replies go here, if not to the sender.
    pub reply_to: Option<String>,
    /// The recipient's address.
    pub to: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
    /// The left part of the Message-ID; its right part is the sender's domain. Words of letters, digits, `-` and `_`,
    /// joined by dots.
    pub id: String,
    /// The Date header; not before 1970.
    pub date: Timestamp,
}

/// A mail as bytes, with the envelope that SMTP needs (RFC 5321, 2.3.1).
#[derive(Debug, Clone)]
pub struct Envelope {
    pub(super) from: Address,
    pub(super) to: Address,
    pub(super) text: String,
    message_id: String,
}

impl Envelope {
    /// The whole mail, header and body. Every line ends with CR LF. All of it is ASCII, since everything else is encoded.
    pub fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The Message-ID, without its angle brackets.
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// SHA-256 of the bytes. The server receives exactly these bytes.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.text).into()
    }
}

impl From<Envelope> for Rendered {
    fn from(mail: Envelope) -> Self {
        Self {
            id: mail.message_id,
            from: mail.from.to_string(),
            to: mail.to.to_string(),
            media_type: MEDIA_TYPE,
            content: mail.text.into_bytes(),
        }
    }
}

/// The envelope of a message that [`Mail::build`] made.
impl TryFrom<&Rendered> for Envelope {
    type Error = MailError;

    fn try_from(message: &Rendered) -> Result<Self, MailError> {
        if message.media_type != MEDIA_TYPE {
            return Err(MailError { field: "media_type", rule: "must be message/rfc822" });
        }
        let text = str::from_utf8(&message.content).ok().filter(|text| text.is_ascii() && text.ends_with("\r\n"));
        let text = text.ok_or(MailError { field: "content", rule: "must be ASCII that ends with CR LF" })?.to_owned();
        let (from, to) = (address("from", &message.from)?, address("to", &message.to)?);
        Ok(Self { from, to, text, message_id: message.id.clone() })
    }
}

/// A part that cannot stand in a mail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct MailError {
    /// The part.
    pub field: &'static str,
    /// The rule for the part.
    pub rule: &'static str,
}

impl Mail {
    /// Builds the bytes. Nothing that stands in a header can end its line.
    pub fn build(&self) -> Result<Envelope, MailError> {
        for (field, text) in [("from_name", &self.from_name), ("subject", &self.subject)] {
            one_line(field, text)?;
        }
        for (field, text) in [("text", Some(&self.text)), ("html", self.html.as_ref())] {
            if text.is_some_and(|text| text.contains('\0')) {
                return Err(MailError { field, rule: "must be without NUL (RFC 5322, 4)" });
            }
        }
        let (from, to) = (address("from", &self.from)?, address("to", &self.to)?);
        let message_id = self.message_id(&from)?;
        if self.date < Timestamp::UNIX_EPOCH {
            return Err(MailError { field: "date", rule: "must not be before 1970" });
        }
        // Encoding only adds bytes, so a mail that is too long already need not be encoded first.
        let parts = [Some(&self.text), self.html.as_ref(), Some(&self.subject), Some(&self.from_name)];
        within_bounds(parts.into_iter().flatten().map(String::len).sum())?;
        let mut builder = Message::builder()
            .from(Mailbox::new(Some(self.from_name.clone()), from.clone()))
            .to(Mailbox::new(None, to.clone()))
            .subject(self.subject.as_str())
            .message_id(Some(format!("<{message_id}>")))
            .date(SystemTime::from(self.date))
            .header(AutoSubmitted);
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(Mailbox::new(None, address("reply_to", reply_to)?));
        }
        let text = SinglePart::plain(lines(&self.text));
        let message = match &self.html {
            None => builder.header(header::ContentType::TEXT_PLAIN).singlepart(text),
            Some(html) => {
                let both = MultiPart::alternative().boundary(self.boundary(html));
                builder.multipart(both.singlepart(text).singlepart(SinglePart::html(lines(html))))
            }
        };
        let unusual = MailError { field: "mail", rule: "could not be put together" };
        let message = message.map_err(|_| unusual.clone())?;
        let mut text = String::from_utf8(message.formatted()).ok().filter(|text| text.is_ascii()).ok_or(unusual)?;
        // The end of the last line belongs to the mail. On the wire it is the first half of the mark that ends a message.
        if !text.ends_with("\r\n") {
            text.push_str("\r\n");
        }
        within_bounds(text.len())?;
        Ok(Envelope { from, to, text, message_id })
    }

    fn message_id(&self, from: &Address) -> Result<String, MailError> {
        let word =
            |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if self.id.len() > MAX_ID || !self.id.split('.').all(word) {
            let rule = "must be words of letters, digits, - and _, joined by dots, of at most 128 bytes";
            return Err(MailError { field: "id", rule });
        }
        Ok(format!("{}@{}", self.id, from.domain()))
    }

    /// The line between the parts. It is a hash of the id and of the parts. So every mail has its own, every build of one
    /// mail has the same, and no part can contain it, whoever wrote the part.
    fn boundary(&self, html: &str) -> String {
        let mut hash = Sha256::new();
        for part in [&self.id, &self.text, html] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn one_line(field: &'static str, text: &str) -> Result<(), MailError> {
    if is_one_line(text) { Ok(()) } else { Err(MailError { field, rule: ONE_LINE }) }
}

fn address(field: &'static str, text: &str) -> Result<Address, MailError> {
    one_line(field, text)?;
    let address = text.parse::<Address>().ok().filter(|_| text.is_ascii());
    address.ok_or(MailError { field, rule: "must be an e-mail address in ASCII" })
}

/// The text with CR LF at the end of every line, whatever stood there. Servers disagree whether a CR or LF alone ends a
/// line, and bytes that two servers read differently can hide a second mail in a first one (SMTP smuggling).
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n")
}

fn within_bounds(bytes: usize) -> Result<(), MailError> {
    let rule = "must be of at most 600000 bytes as it is sent";
    if bytes > MAX_MAIL_BYTES { Err(MailError { field: "mail", rule }) } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod tests;
