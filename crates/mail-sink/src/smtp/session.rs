//! The conversation on one connection (RFC 5321): bytes in, answers and mails out. It does no I/O, so the result does not
//! depend on how the bytes were cut up on their way.

use bytes::{Buf, Bytes, BytesMut};

use super::command::Command;

/// Largest message, in bytes: three times the largest that Saldo sends.
pub const MAX_MESSAGE_BYTES: usize = 2 << 20;
/// Most recipients of a message (RFC 5321, 4.5.3.1.8, asks for at least so many).
pub const MAX_RECIPIENTS: usize = 100;
/// Longest command, in bytes with its end: twice what RFC 5321, 4.5.3.1.4, asks for, since extensions add to MAIL.
const MAX_COMMAND: usize = 1024;
/// Longest line of a message, in bytes with its end (RFC 5321, 4.5.3.1.6). Other servers refuse longer lines.
const MAX_LINE: usize = 1000;
/// Most lines of a connection that are no commands. A client that sends more does not speak SMTP.
const MAX_FAULTS: u32 = 20;

/// The first line of every conversation.
pub(super) const GREETING: &[u8] = b"220 mail-sink ESMTP, takes every mail and delivers none\r\n";

const NEEDS_GREETING: &str = "503 5.5.1 EHLO first";
const NEEDS_MAIL: &str = "503 5.5.1 MAIL first";

/// Whether more may come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    More,
    Close,
}

/// One connection's state. `Keep` receives each mail that is taken, and returns its number.
pub(super) struct Session<Keep> {
    keep: Keep,
    greeted: bool,
    mail: Option<Mail>,
    /// The message's bytes. Between messages it is empty and keeps its capacity.
    message: Vec<u8>,
    faults: u32,
}

/// A mail that was begun.
struct Mail {
    from: String,
    to: Vec<String>,
    /// Present from DATA to the message's end.
    receiving: Option<Receiving>,
}

/// Where in a message.
#[derive(Default)]
struct Receiving {
    /// The beginning of the current line was dropped already, since the line is too long.
    within_line: bool,
    /// Why the message will not be taken.
    refusal: Option<&'static str>,
}

impl<Keep: FnMut(String, Vec<String>, Bytes) -> u64> Session<Keep> {
    pub(super) fn new(keep: Keep) -> Self {
        Self { keep, greeted: false, mail: None, message: Vec::new(), faults: 0 }
    }

    /// Takes everything complete from the input and adds the answers. The rest is shorter than the longest line.
    pub(super) fn take(&mut self, input: &mut BytesMut, answers: &mut Vec<u8>) -> Next {
        let mut at = 0;
        let next = loop {
            let rest = &input[at..];
            let receiving = self.mail.as_mut().and_then(|mail| mail.receiving.as_mut());
            let (used, next) = match receiving {
                Some(receiving) => {
                    let (used, ended) = receiving.take(rest, &mut self.message);
                    if ended {
                        self.end_of_message(answers);
                    }
                    (used, if ended { Some(Next::More) } else { None })
                }
                None => match memchr::memchr(b'\n', rest) {
                    Some(end) if end < MAX_COMMAND => {
                        (end + 1, Some(self.command(rest[..end].strip_suffix(b"\r"), answers)))
                    }
                    // Without an end of the line, nothing after it can be told apart.
                    None if rest.len() < MAX_COMMAND => (0, None),
                    _ => {
                        say(answers, "500 5.5.2 line too long");
                        (rest.len(), Some(Next::Close))
                    }
                },
            };
            at += used;
            match next {
                Some(Next::More) => {}
                Some(Next::Close) => break Next::Close,
                None => break Next::More,
            }
        };
        input.advance(at);
        next
    }

    /// Answers one line. `None` stands for a line without CR LF at its end.
    fn command(&mut self, line: Option<&[u8]>, answers: &mut Vec<u8>) -> Next {
        let command = line.ok_or("500 5.5.2 a line is ended by CR LF").and_then(Command::parse);
        let command = match command {
            Ok(command) => command,
            Err(wrong) => {
                say(answers, wrong);
                self.faults += 1;
                if self.faults < MAX_FAULTS {
                    return Next::More;
                }
                say(answers, "421 4.7.0 too many faults");
                return Next::Close;
            }
        };
        let answer = match command {
            Command::Ehlo => {
                (self.greeted, self.mail) = (true, None);
                say(answers, "250-mail-sink");
                say(answers, &format!("250-SIZE {MAX_MESSAGE_BYTES}"));
                "250-8BITMIME\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES"
            }
            Command::Helo => {
                (self.greeted, self.mail) = (true, None);
                "250 mail-sink"
            }
            Command::Mail { .. } if !self.greeted => NEEDS_GREETING,
            Command::Mail { .. } if self.mail.is_some() => "503 5.5.1 a mail has begun already",
            Command::Mail { size: Some(size), .. } if size > MAX_MESSAGE_BYTES as u64 => TOO_LARGE,
            Command::Mail { from, .. } => {
                self.mail = Some(Mail { from: from.to_owned(), to: Vec::new(), receiving: None });
                "250 2.1.0 ok"
            }
            Command::Rcpt { to } => match &mut self.mail {
                None => NEEDS_MAIL,
                Some(mail) if mail.to.len() >= MAX_RECIPIENTS => "452 4.5.3 too many recipients",
                Some(mail) => {
                    mail.to.push(to.to_owned());
                    "250 2.1.5 ok"
                }
            },
            Command::Data => match &mut self.mail {
                None => NEEDS_MAIL,
                Some(mail) if mail.to.is_empty() => "554 5.5.1 no recipients",
                Some(mail) => {
                    mail.receiving = Some(Receiving::default());
                    "354 the message, ended by a dot alone on a line"
                }
            },
            Command::Rset => {
                self.mail = None;
                "250 2.0.0 ok"
            }
            Command::Noop => "250 2.0.0 ok",
            Command::Vrfy => "252 2.1.5 send it and see",
            Command::Quit => {
                say(answers, "221 2.0.0 bye");
                return Next::Close;
            }
        };
        say(answers, answer);
        Next::More
    }

    fn end_of_message(&mut self, answers: &mut Vec<u8>) {
        let Some(Mail { from, to, receiving }) = self.mail.take() else { return };
        match receiving.and_then(|receiving| receiving.refusal) {
            Some(refusal) => say(answers, refusal),
            None => {
                let number = (self.keep)(from, to, Bytes::copy_from_slice(&self.message));
                say(answers, &format!("250 2.0.0 taken as {number}"));
            }
        }
        self.message.clear();
    }
}

const TOO_LARGE: &str = "552 5.3.4 the message is too large";

impl Receiving {
    /// Takes lines of the message, until a dot alone on one. Says how many bytes it used and whether that was the end.
    /// Only CR LF ends a line: what took a bare LF for one could find a second mail in the first.
    fn take(&mut self, input: &[u8], message: &mut Vec<u8>) -> (usize, bool) {
        let mut start = 0;
        let mut ends = memchr::memchr_iter(b'\n', input);
        while let Some(line) = ends.find(|&end| end > start && input[end - 1] == b'\r').map(|end| &input[start..=end]) {
            start += line.len();
            if std::mem::take(&mut self.within_line) {
                continue;
            }
            if line == b".\r\n" {
                return (start, true);
            }
            // RFC 5321, 4.5.2.
            self.add(line.strip_prefix(b".").unwrap_or(line), message);
        }
        let rest = &input[start..];
        if rest.len() > MAX_LINE {
            self.add(rest, message);
            self.within_line = true;
            // A CR may be the first half of the line's end.
            start = input.len() - usize::from(rest.ends_with(b"\r"));
        }
        (start, false)
    }

    fn add(&mut self, line: &[u8], message: &mut Vec<u8>) {
        if line.len() > MAX_LINE {
            self.refusal = Some("554 5.6.0 a line of the message is longer than 1000 bytes");
        } else if message.len() + line.len() > MAX_MESSAGE_BYTES {
            self.refusal = Some(TOO_LARGE);
        }
        if self.refusal.is_none() {
            message.extend_from_slice(line);
        }
    }
}

fn say(answers: &mut Vec<u8>, answer: &str) {
    answers.extend_from_slice(answer.as_bytes());
    answers.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
