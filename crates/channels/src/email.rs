//! E-mail: MIME over SMTP.
//!
//! [`mime`] makes the exact bytes of a mail. [`smtp`] hands them over, stage by stage. [`Email`] is the channel's
//! [`Transport`].

pub mod mime;
pub mod smtp;

use std::time::Duration;

use futures::future::BoxFuture;
use saldo_domain::party::Channel;

use crate::{Concerns, Draft, LastLook, Message, Outcome, RenderError, RouteFailure, Stage, Transport};
pub use mime::{Envelope, Mail};
pub use smtp::{Pool, Server};

/// A message that is no mail of ours reached the hand-over.
const NOT_A_MAIL: Stage = Stage::new("envelope");

/// E-mail by one mail server.
#[derive(Debug, Clone)]
pub struct Email(Pool);

impl Email {
    /// Hands mails over on the connections of this pool.
    pub fn new(pool: Pool) -> Self {
        Self(pool)
    }
}

impl Transport for Email {
    fn channel(&self) -> Channel {
        Channel::Email
    }

    fn patience(&self) -> Duration {
        self.0.patience()
    }

    fn capacity(&self) -> usize {
        self.0.size()
    }

    fn reach<'t>(&'t self, sender: Option<&'t str>) -> BoxFuture<'t, Result<(), RouteFailure>> {
        Box::pin(self.0.reach(sender))
    }

    fn render(&self, draft: &Draft<'_>) -> Result<Message, RenderError> {
        let parts = draft.template.render(draft.variables).map_err(|error| RenderError(error.to_string()))?;
        let mail = Mail {
            from_name: draft.sender.name.clone(),
            from: draft.sender.email.clone(),
            reply_to: draft.sender.reply_to.clone(),
            to: draft.address.to_owned(),
            subject: parts.subject,
            text: parts.text,
            html: parts.html,
            id: draft.id.to_owned(),
            date: draft.at,
        };
        mail.build().map(Message::from).map_err(|error| RenderError(error.to_string()))
    }

    fn hand_over<'t>(&'t self, message: &'t Message, last_look: LastLook) -> BoxFuture<'t, Outcome> {
        Box::pin(async move {
            match Envelope::try_from(message) {
                Ok(mail) => self.0.hand_over(&mail, last_look).await,
                Err(error) => {
                    let (reply, concerns) = (error.to_string(), Concerns::Message);
                    Outcome::Rejected { stage: NOT_A_MAIL, code: 0, reply, concerns, content_left: false }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use saldo_domain::dunning::policy::Sender;
    use saldo_templates::{Language, Template, Variables, samples};

    use super::*;

    fn email() -> Email {
        let nobody = "smtp://localhost?tls=none".parse().expect("a server");
        Email::new(Pool::new(nobody, 1))
    }

    fn rendered(address: &str, id: &str) -> Result<Message, RenderError> {
        let template = Template {
            name: "courtesy".into(),
            language: "en".into(),
            subject: "Your account with {{ creditor.name }}".into(),
            text: "{% for item in items %}{{ item.document }} {{ item.open }}\n{% endfor %}".into(),
            html: None,
        };
        let variables: Variables = samples(Language::English).remove(2);
        let sender = Sender {
            name: "Ejemplo, S.L.".into(),
            email: "cobros@example.com".into(),
            reply_to: Some("administracion@example.com".into()),
            payment: "IBAN ES91 2100 0418 4502 0005 1332".into(),
            language: "en".into(),
        };
        let at = "2026-03-02T09:00:00Z".parse().expect("an instant");
        email().render(&Draft { id, template: &template, variables: &variables, sender: &sender, address, at })
    }

    #[test]
    fn a_draft_becomes_a_mail() {
        let message = rendered("ana@example.com", "1bb23c2c").expect("a mail");
        assert_eq!(message.id, "1bb23c2c@example.com");
        let text = String::from_utf8(message.content).expect("ASCII");
        for part in [
            "To: ana@example.com",
            "Reply-To: administracion@example.com",
            "Date: Mon, 02 Mar 2026 09:00:00 +0000",
            "Message-ID: <1bb23c2c@example.com>",
            "Auto-Submitted: auto-generated",
            "F-2026/001 1,234.50 EUR",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn an_address_that_no_mail_can_have_gives_no_mail_and_is_not_repeated() {
        let error = rendered("ana\r\nBcc: all@example.com", "1bb23c2c").expect_err("no address").to_string();
        assert!(!error.is_empty() && !error.contains("ana"), "{error}");
    }

    #[test]
    fn a_mail_is_the_same_after_its_way_through_the_port() {
        let mail = mime::tests::sample().build().expect("a mail");
        let message = Message::from(mail.clone());
        assert_eq!((message.id.as_str(), message.media_type), ("reminder-1@example.com", "message/rfc822"));
        assert_eq!((message.from.as_str(), message.to.as_str()), ("cobros@example.com", "ana@example.org"));
        let again = Envelope::try_from(&message).expect("the same mail");
        assert_eq!((again.bytes(), again.message_id()), (mail.bytes(), mail.message_id()));
    }

    #[test]
    fn what_is_no_mail_is_not_handed_over() {
        let good = Message::from(mime::tests::sample().build().expect("a mail"));
        for wrong in [
            Message { media_type: "text/plain", ..good.clone() },
            Message { to: "ana@example.org> SIZE=1".into(), ..good.clone() },
            Message { content: "ñ\r\n".into(), ..good.clone() },
            Message { content: "no end of the last line".into(), ..good.clone() },
        ] {
            assert!(Envelope::try_from(&wrong).is_err(), "{wrong:?}");
        }
    }
}
