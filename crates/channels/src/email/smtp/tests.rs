//! Hand-overs to a scripted server: the outcome says what is certain, and everything else is unknown.

use std::{sync::Arc, time::Duration};

use saldo_test_certificates::{Authority, Certified, EXPIRED, VALID};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::{
    peer::{Fault, Peer},
    *,
};
use crate::{Concerns, email::mime::tests::sample};

/// A peer that answers each command with success, save at `at`.
async fn peer(at: &'static str, fault: Option<Fault>) -> Peer {
    Peer::start(move |point| fault.filter(|_| point.stage == at)).await
}

async fn outcome(at: &'static str, fault: Option<Fault>) -> Outcome {
    peer(at, fault).await.server.hand_over(&sample().build().expect("a mail")).await
}

#[tokio::test]
async fn what_is_accepted_is_what_was_built() {
    let peer = peer("", None).await;
    let mail = sample().build().expect("a mail");
    let outcome = peer.server.hand_over(&mail).await;
    assert_eq!(outcome, Outcome::Accepted { reply: "2.0.0 queued as 42".into() });
    let transcript = peer.transcript().messages;
    for header in [
        // "Ejemplo, S.L.", whose comma and dots must not be read as more addresses (RFC 2047, 5).
        "From: =?utf-8?b?RWplbXBsbywgUy5MLg==?= <cobros@example.com>",
        "To: ana@example.org",
        "Reply-To: administracion@example.com",
        "Message-ID: <reminder-1@example.com>",
        "Date: Mon, 02 Mar 2026 09:00:00 +0000",
    ] {
        assert!(transcript.contains(header), "{header:?} is missing in:\n{transcript}");
    }
    // A dot alone on a line was doubled on its way (RFC 5321, 4.5.2), and nothing else was changed.
    assert!(mail.bytes().is_ascii(), "no server has to know 8BITMIME");
    let sent = String::from_utf8(mail.bytes().to_vec()).expect("text").replace("\r\n", "\n");
    assert_eq!(transcript.replace("\n..", "\n."), sent);
}

#[tokio::test]
async fn before_the_message_a_temporary_answer_or_none_is_no_hand_over() {
    for (at, stage) in [
        ("greeting", stage::CONNECT),
        ("EHLO", stage::CONNECT),
        ("MAIL", stage::MAIL),
        ("RCPT", stage::RCPT),
        ("DATA", stage::DATA),
    ] {
        for fault in [Fault::Says("451 4.3.0 try later"), Fault::Drops, Fault::Sleeps] {
            let outcome = outcome(at, Some(fault)).await;
            assert!(matches!(outcome, Outcome::Deferred { stage: found, .. } if found == stage), "{at}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_final_no_is_final_and_quotes_the_server() {
    for (at, stage) in [("RCPT", stage::RCPT), ("DATA", stage::DATA), ("message", stage::MESSAGE)] {
        let outcome = outcome(at, Some(Fault::Says("550 5.1.1 no such user"))).await;
        let Outcome::Rejected { stage: found, reply, .. } = &outcome else { panic!("{at}: {outcome:?}") };
        assert!(*found == stage && reply.contains("550") && reply.contains("no such user"), "{outcome:?}");
        let Outcome::Rejected { code, content_left, .. } = outcome else { panic!("{at}") };
        assert_eq!((code, content_left), (550, at == "message"));
    }
    // A server that refuses the sender says nothing of this mail.
    let refused = outcome("MAIL", Some(Fault::Says("550 5.7.1 not you"))).await;
    assert!(matches!(refused, Outcome::Deferred { code: 550, concerns: Concerns::Sender, .. }), "{refused:?}");
    // A server that turns everybody away says nothing of the message.
    let outcome = outcome("greeting", Some(Fault::Says("554 no service"))).await;
    assert!(matches!(outcome, Outcome::Deferred { stage: stage::CONNECT, .. }), "{outcome:?}");
}

#[tokio::test]
async fn u14_a_reply_to_rcpt_says_whether_it_is_about_the_address() {
    for (reply, expected) in [
        ("550 5.1.1 no such user", Concerns::Recipient),
        ("550 no such user", Concerns::Recipient),
        ("553 5.1.3 bad address", Concerns::Recipient),
        ("550 5.2.1 mailbox disabled", Concerns::Recipient),
        ("552 5.2.2 mailbox full", Concerns::Message),
        ("554 5.7.1 client host rejected", Concerns::Message),
        ("550 5.7.1 relaying denied", Concerns::Message),
        ("554 no", Concerns::Message),
    ] {
        let Outcome::Rejected { concerns, .. } = outcome("RCPT", Some(Fault::Says(reply))).await else {
            panic!("{reply}")
        };
        assert_eq!(concerns, expected, "{reply}");
    }
    for at in ["RCPT", "DATA", "message"] {
        let closing = outcome(at, Some(Fault::SaysAndDrops("421 4.3.2 closing"))).await;
        assert!(matches!(closing, Outcome::Deferred { code: 421, concerns: Concerns::Route, .. }), "{closing:?}");
    }
}

#[test]
fn u11_a_server_has_the_time_that_the_standard_gives_it() {
    let server: Server = "smtps://mail.example.com".parse().expect("a server");
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    assert!(server.limits.command >= minutes(5) && server.limits.data >= minutes(2));
    assert!(server.limits.message >= minutes(3 + 10));
    let account_waits =
        saldo_domain::dunning::attempt::unknown_after(saldo_domain::party::Channel::Email).unsigned_abs();
    assert!(server.limits.message < account_waits, "the outcome is recorded before the account gives it up");
}

#[tokio::test]
async fn u11_a_server_that_answers_the_message_late_has_it() {
    let late = Duration::from_secs(1);
    let mut peer = peer("message", Some(Fault::SaysLate("250 2.0.0 taken at last", late))).await;
    // The other steps have less time than this one takes.
    assert!(peer.server.limits.command < late && peer.server.limits.message < late);
    peer.server.limits.message = late * 20;
    let outcome = peer.server.hand_over(&sample().build().expect("a mail")).await;
    assert_eq!(outcome, Outcome::Accepted { reply: "2.0.0 taken at last".into() });
}

#[tokio::test]
async fn behind_the_first_byte_only_an_answer_is_an_answer() {
    for fault in [Fault::Drops, Fault::Sleeps, Fault::Says("nonsense")] {
        let outcome = outcome("message", Some(fault)).await;
        assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    }
    let outcome = outcome("message", Some(Fault::Says("452 4.2.2 mailbox full"))).await;
    assert!(matches!(outcome, Outcome::Deferred { stage: stage::MESSAGE, code: 452, .. }), "{outcome:?}");
}

/// A positive reply that can only belong to another command. After it the message would be read as commands.
#[tokio::test]
async fn without_leave_no_message_is_sent() {
    let peer = peer("DATA", Some(Fault::Says("250 ok"))).await;
    let outcome = peer.server.hand_over(&sample().build().expect("a mail")).await;
    assert!(matches!(outcome, Outcome::Deferred { stage: stage::DATA, .. }), "{outcome:?}");
    let transcript = peer.until(|transcript| transcript.open == 0).await;
    assert_eq!(transcript.commands.last().map(|(_, command)| command.as_str()), Some("DATA"));
}

#[tokio::test]
async fn nobody_listening_and_no_tls_where_it_was_asked_for_are_no_hand_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let mail = sample().build().expect("a mail");
    let nobody: Server = format!("smtp://127.0.0.1:{port}?tls=none").parse().expect("a server");
    assert!(matches!(nobody.hand_over(&mail).await, Outcome::Deferred { stage: stage::CONNECT, .. }));
    let plain = peer("", None).await;
    let asked: Server = format!("smtp://127.0.0.1:{}", plain.server.port).parse().expect("a server");
    let outcome = asked.hand_over(&mail).await;
    assert!(matches!(outcome, Outcome::Deferred { stage: stage::TLS, .. }), "{outcome:?}");
    assert_eq!(plain.transcript().messages, "", "nothing was said in the clear");
    let plain = peer("", None).await;
    let mut wrapped: Server = format!("smtps://127.0.0.1:{}", plain.server.port).parse().expect("a server");
    wrapped.limits = Limits::all(Duration::from_millis(500));
    let outcome = wrapped.hand_over(&mail).await;
    assert!(matches!(outcome, Outcome::Deferred { stage: stage::TLS, .. }), "{outcome:?}");
}

fn acceptor(certified: &Certified) -> TlsAcceptor {
    let chain = CertificateDer::from_pem_slice(certified.certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).expect("a key");
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("a server");
    TlsAcceptor::from(Arc::new(tls))
}

/// A certificate that is expired, for another name or of an unknown authority is not our server's. The mail stays unsaid, with
/// TLS from the first byte as well as after STARTTLS.
#[tokio::test]
async fn a_wrong_certificate_is_no_hand_over() {
    let dir = tempfile::tempdir().expect("a folder");
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let ca = ours.write(dir.path(), "ca").expect("written");
    for (certified, trusts_ours, scheme, said) in [
        (ours.certify(&["localhost"], VALID), false, "smtps", "UnknownIssuer"),
        (ours.certify(&["localhost"], VALID), false, "smtp", "UnknownIssuer"),
        (foreign.certify(&["localhost"], VALID), true, "smtps", "UnknownIssuer"),
        (ours.certify(&["localhost"], EXPIRED), true, "smtps", "expired"),
        (ours.certify(&["mail.example.com"], VALID), true, "smtp", "not valid for name"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let acceptor = acceptor(&certified);
        let shaken = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let mut stream = BufReader::new(stream);
            if scheme == "smtp" {
                let mut line = String::new();
                for answer in ["220 peer", "250-peer\r\n250 STARTTLS", "220 go ahead"] {
                    stream.write_all(format!("{answer}\r\n").as_bytes()).await.expect("written");
                    if answer != "220 go ahead" {
                        stream.read_line(&mut line).await.expect("a command");
                    }
                }
            }
            acceptor.accept(stream).await.is_ok()
        });
        let mut server: Server = format!("{scheme}://ana:secret@localhost:{port}").parse().expect("a server");
        if trusts_ours {
            server = server.trusting(ca.clone()).expect("an authority");
        }
        let outcome = server.hand_over(&sample().build().expect("a mail")).await;
        let Outcome::Deferred { stage: stage::TLS, why, .. } = &outcome else { panic!("{scheme}: {outcome:?}") };
        assert!(why.contains(said), "{said}: {why}");
        assert!(!shaken.await.expect("the peer"), "no session came about");
    }
}

/// A mail server that a private authority certifies. We log in only once the server has shown who it is. The authority's
/// file is read for each connection.
#[tokio::test]
async fn a_private_mail_server_is_trusted_by_its_authority() {
    let dir = tempfile::tempdir().expect("a folder");
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let ca = ours.write(dir.path(), "ca").expect("written");
    let peer = Peer::start_secured(acceptor(&ours.certify(&["localhost"], VALID))).await;
    let mail = sample().build().expect("a mail");
    let server = peer.server.clone().trusting(ca).expect("an authority");
    assert!(matches!(server.hand_over(&mail).await, Outcome::Accepted { .. }));
    // "\0ana\0s:cret" (RFC 4616).
    let known = peer.transcript().commands.iter().any(|(_, command)| command == "AUTH PLAIN AGFuYQBzOmNyZXQ=");
    assert!(known, "{:?}", peer.transcript().commands);
    let transcript = peer.transcript().commands.len();
    foreign.write(dir.path(), "ca").expect("written");
    assert!(matches!(server.hand_over(&mail).await, Outcome::Deferred { stage: stage::TLS, .. }));
    assert_eq!(peer.transcript().commands.len(), transcript, "nothing more was said to it");
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").expect("written");
    let refused = peer.server.clone().trusting(empty.clone()).expect_err("nobody is trusted");
    assert!(refused.starts_with(&format!("{}: holds no certificate", empty.display())), "{refused}");
    assert!(peer.server.clone().trusting("/no/such.pem".into()).expect_err("no file").starts_with("/no/such.pem: "));
}

#[test]
fn a_server_is_named_by_its_url_and_its_password_is_not_shown() {
    let server: Server = "smtps://ana%40example.com:s%3Acret@mail.example.com".parse().expect("a server");
    assert_eq!(format!("{server:?}"), "mail.example.com:465 (Tls)");
    for wrong in [
        "mail.example.com:25",
        "http://mail.example.com",
        "smtp://",
        "smtp://u:p@mail.example.com?tls=none",
        "smtp://u@mail.example.com",
        "smtps://mail.example.com?tls=none",
    ] {
        assert!(wrong.parse::<Server>().is_err(), "{wrong}");
    }
}
