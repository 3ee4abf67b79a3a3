//! A mail that was taken.

use std::sync::OnceLock;

use bytes::Bytes;
use jiff::Timestamp;
use mail_parser::{Address, MessageParser, PartType};

/// A mail that was taken.
#[derive(Debug)]
pub struct Received {
    /// The first is 1.
    pub number: u64,
    /// The envelope's sender; empty for a report of failure (RFC 5321, 4.5.5).
    pub envelope_from: String,
    /// The envelope's recipients.
    pub envelope_to: Vec<String>,
    /// When it was taken.
    pub received_at: Timestamp,
    /// The message, byte for byte as its sender built it.
    pub raw: Bytes,
    parsed: OnceLock<Parsed>,
}

/// The content of a mail. A part that is missing or cannot be read is empty.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The subject, decoded.
    pub subject: Option<String>,
    /// The From header's mailboxes, decoded, as `Name <address>`.
    pub from: Vec<String>,
    /// The To header's.
    pub to: Vec<String>,
    /// The Date header.
    pub date: Option<Timestamp>,
    /// The Message-ID, without its angle brackets.
    pub message_id: Option<String>,
    /// The first plain text.
    pub text: Option<String>,
    /// The first HTML. It comes from outside and must not be trusted.
    pub html: Option<String>,
    /// All header lines, as they stand.
    pub headers: Vec<(String, String)>,
}

impl Received {
    pub(crate) fn new(number: u64, from: String, to: Vec<String>, at: Timestamp, raw: Bytes) -> Self {
        Self { number, envelope_from: from, envelope_to: to, received_at: at, raw, parsed: OnceLock::new() }
    }

    /// The content. It is parsed when it is first asked for, so that taking mails does not wait for it.
    pub fn parsed(&self) -> &Parsed {
        self.parsed.get_or_init(|| Parsed::of(&self.raw))
    }
}

impl Parsed {
    fn of(raw: &[u8]) -> Self {
        let Some(message) = MessageParser::default().parse(raw) else { return Self::default() };
        let text = message.text_bodies().find_map(|part| match &part.body {
            PartType::Text(text) => Some(text.to_string()),
            _ => None,
        });
        let html = message.html_bodies().find_map(|part| match &part.body {
            PartType::Html(html) => Some(html.to_string()),
            _ => None,
        });
        let date = message.date().filter(|date| date.is_valid());
        Self {
            subject: message.subject().map(str::to_owned),
            from: mailboxes(message.from()),
            to: mailboxes(message.to()),
            date: date.and_then(|date| Timestamp::from_second(date.to_timestamp()).ok()),
            message_id: message.message_id().map(str::to_owned),
            text,
            html,
            headers: message.headers_raw().map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect(),
        }
    }
}

fn mailboxes(address: Option<&Address<'_>>) -> Vec<String> {
    let boxes = address.into_iter().flat_map(Address::iter);
    let shown = boxes.map(|mailbox| match (mailbox.name(), mailbox.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (name, address) => name.or(address).unwrap_or_default().to_owned(),
    });
    shown.collect()
}
