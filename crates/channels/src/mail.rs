//! The exact bytes of a mail.

use std::time::SystemTime;

use jiff::Timestamp;
use lettre::{
    Address,
    message::{Mailbox, Message, MultiPart, SinglePart, header},
};

/// A mail before it is bytes.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The sender's name, as people read it.
    pub from_name: String,
    /// The sender's address, which failures come back to as well.
    pub from: String,
    /// Answers go here, if not to the sender.
    pub reply_to: Option<String>,
    /// The recipient's address.
    pub to: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
    /// The left part of the Message-ID; its right part is the sender's domain.
    pub id: String,
    /// The Date header.
    pub date: Timestamp,
}

/// Bytes to hand over, with the envelope.
#[derive(Debug, Clone)]
pub struct Envelope {
    pub(crate) from: Address,
    pub(crate) to: Address,
    /// The whole mail, header and body, lines ended by CR LF; ASCII, since what is not is encoded.
    pub bytes: Vec<u8>,
}

/// A part that cannot stand in a mail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct MailError {
    /// Which.
    pub field: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

impl Mail {
    /// Builds the bytes. Nothing that stands in a header can end its line.
    pub fn build(&self) -> Result<Envelope, MailError> {
        let one_line = |field, text: &str| {
            let rule = "must be without control characters";
            if text.chars().any(char::is_control) { Err(MailError { field, rule }) } else { Ok(()) }
        };
        for (field, text) in [("from_name", &self.from_name), ("subject", &self.subject), ("id", &self.id)] {
            one_line(field, text)?;
        }
        let address = |field, text: &str| {
            let rule = "must be an e-mail address in ASCII";
            one_line(field, text)?;
            let address = text.parse::<Address>().ok().filter(|_| text.is_ascii());
            address.ok_or(MailError { field, rule })
        };
        let (from, to) = (address("from", &self.from)?, address("to", &self.to)?);
        let mut builder = Message::builder()
            .from(Mailbox::new(Some(self.from_name.clone()), from.clone()))
            .to(Mailbox::new(None, to.clone()))
            .subject(self.subject.as_str())
            .message_id(Some(format!("<{}@{}>", self.id, from.domain())))
            .date(SystemTime::from(self.date));
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(Mailbox::new(None, address("reply_to", reply_to)?));
        }
        let text = SinglePart::plain(self.text.clone());
        let message = match &self.html {
            None => builder.header(header::ContentType::TEXT_PLAIN).singlepart(text),
            Some(html) => {
                builder.multipart(MultiPart::alternative().singlepart(text).singlepart(SinglePart::html(html.clone())))
            }
        };
        let message = message.map_err(|_| MailError { field: "mail", rule: "could not be put together" })?;
        Ok(Envelope { from, to, bytes: message.formatted() })
    }
}
