//! Mails that Saldo's own channel hands over are taken as they were built.

use std::{net::SocketAddr, time::Duration};

use saldo_channels::{
    Outcome,
    email::{Envelope, Mail, Pool, Server},
};
use saldo_mail_sink::{MAX_CONNECTIONS, MailSink};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

const ANYWHERE: &str = "127.0.0.1:0";

fn sample(number: usize) -> Mail {
    Mail {
        from_name: "Ejemplo, S.L.".into(),
        from: "cobros@example.com".into(),
        reply_to: Some("administracion@example.com".into()),
        to: format!("ana{number}@example.org"),
        subject: "Próximo vencimiento: 1.234,56 €".into(),
        text: "A la atención de Ana:\n.\n..\nUn punto solo no acaba el mensaje.\n".into(),
        html: Some("<p>A la atención de <b>Ana</b></p>".into()),
        id: format!("reminder-{number}"),
        date: "2026-03-02T09:00:00Z".parse().expect("an instant"),
    }
}

fn mail(number: usize) -> Envelope {
    sample(number).build().expect("a mail")
}

async fn sink() -> (MailSink, Server) {
    let sink = MailSink::start(ANYWHERE.parse().expect("an address"), None).await.expect("a sink");
    let server = format!("smtp://{}?tls=none", sink.smtp_address()).parse().expect("a server");
    (sink, server)
}

/// Sends this and reads until the server closes.
async fn says(address: SocketAddr, input: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(input).await.expect("written");
    let mut answers = String::new();
    let read = timeout(Duration::from_secs(20), stream.read_to_string(&mut answers)).await;
    read.expect("it closes in time").expect("answers");
    answers
}

#[tokio::test]
async fn a_mail_arrives_byte_for_byte_and_is_read() {
    let (sink, server) = sink().await;
    let mail = mail(1);
    let outcome = server.hand_over(&mail).await;
    assert_eq!(outcome, Outcome::Accepted { reply: "2.0.0 taken as 1".into() });
    let taken = sink.wait_for(1).await;
    let received = &taken[0];
    assert_eq!(String::from_utf8_lossy(&received.raw), String::from_utf8_lossy(mail.bytes()));
    assert_eq!((received.number, received.envelope_from.as_str()), (1, "cobros@example.com"));
    assert_eq!(received.envelope_to, ["ana1@example.org"]);
    let parsed = received.parsed();
    assert_eq!(parsed.subject.as_deref(), Some("Próximo vencimiento: 1.234,56 €"));
    assert_eq!(parsed.from, ["Ejemplo, S.L. <cobros@example.com>"]);
    assert_eq!(parsed.to, ["ana1@example.org"]);
    assert_eq!(parsed.message_id.as_deref(), Some(mail.message_id()));
    assert_eq!(parsed.date, Some(sample(1).date));
    assert_eq!(parsed.text.as_deref().map(|text| text.replace("\r\n", "\n")), Some(sample(1).text));
    assert_eq!(parsed.html, sample(1).html);
    sink.stop().await;
}

#[tokio::test]
async fn whatever_a_senders_name_is_the_mail_has_one_sender_and_one_recipient() {
    let (sink, server) = sink().await;
    let pool = Pool::new(server, 1);
    let names = [
        "Ana <all@example.com>, Luis",
        "\"Ana\" <all@example.com>",
        "a\\",
        "\\\" <all@example.com>",
        "(a",
        "=?utf-8?q?=0D=0ABcc:_x?=",
    ];
    for name in names {
        let mail = Mail { from_name: name.into(), subject: name.into(), ..sample(1) }.build().expect("a mail");
        assert!(matches!(pool.hand_over(&mail, || true).await, Outcome::Accepted { .. }));
    }
    for received in sink.wait_for(names.len() as u64).await {
        let parsed = received.parsed();
        assert_eq!((parsed.from.len(), &received.envelope_to), (1, &parsed.to), "{parsed:?}");
        assert!(parsed.from[0].ends_with(" <cobros@example.com>"), "{parsed:?}");
        assert!(!parsed.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("bcc")), "{parsed:?}");
    }
}

#[tokio::test]
async fn a_pool_hands_over_many_at_once() {
    let (sink, server) = sink().await;
    let pool = Pool::new(server, 8);
    let mut sending = JoinSet::new();
    for number in 1..=400 {
        let pool = pool.clone();
        sending.spawn(async move { pool.hand_over(&mail(number), || number % 4 != 0).await });
    }
    let outcomes = sending.join_all().await;
    let withdrawn = outcomes.iter().filter(|outcome| **outcome == Outcome::Withdrawn).count();
    let accepted = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Accepted { .. })).count();
    assert_eq!((accepted, withdrawn, sink.taken()), (300, 100, 300));
    let mut ids: Vec<_> = sink.messages().iter().filter_map(|mail| mail.parsed().message_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 300, "each is there once");
}

#[tokio::test]
async fn a_mail_that_was_not_ended_is_not_taken() {
    let (sink, _) = sink().await;
    let mut stream = TcpStream::connect(sink.smtp_address()).await.expect("a connection");
    let begun = b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nhalf\r\n.";
    stream.write_all(begun).await.expect("written");
    stream.shutdown().await.expect("closed");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.expect("answers");
    assert!(answers.ends_with("354 the message, ended by a dot alone on a line\r\n"), "{answers}");
    assert_eq!(sink.taken(), 0);
}

#[tokio::test]
async fn what_comes_at_once_is_answered_at_once() {
    let (sink, _) = sink().await;
    let mail = "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nSubject: x\r\n\r\n..\r\n.\r\n";
    let answers = says(sink.smtp_address(), format!("EHLO x\r\n{}QUIT\r\n", mail.repeat(50)).as_bytes()).await;
    assert_eq!(answers.matches("250 2.0.0 taken as ").count(), 50, "{answers}");
    assert!(answers.ends_with("221 2.0.0 bye\r\n"));
    assert!(sink.messages().iter().all(|mail| mail.raw == "Subject: x\r\n\r\n.\r\n"));
}

#[tokio::test]
async fn connections_are_bounded() {
    let (sink, _) = sink().await;
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = BufReader::new(TcpStream::connect(sink.smtp_address()).await.expect("a connection"));
        let mut greeting = String::new();
        stream.read_line(&mut greeting).await.expect("a greeting");
        assert!(greeting.starts_with("220 "), "{greeting}");
        held.push(stream);
    }
    assert_eq!(says(sink.smtp_address(), b"").await, "421 4.3.2 too many connections\r\n");
    sink.stop().await;
    let mut told = String::new();
    held[0].read_to_string(&mut told).await.expect("a farewell");
    assert_eq!(told, "421 4.3.2 the mail sink is stopping\r\n");
}

#[tokio::test]
async fn it_stops_when_it_is_dropped_and_says_where_it_cannot_listen() {
    let (sink, server) = sink().await;
    let address = sink.smtp_address();
    let error = MailSink::start(address, None).await.expect_err("the port is taken");
    assert!(error.to_string().starts_with(&format!("the mail sink cannot listen for mails on {address}: ")), "{error}");
    drop(sink);
    let free = async {
        while MailSink::start(address, None).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), free).await.expect("the port is free again");
    assert!(matches!(server.hand_over(&mail(1)).await, Outcome::Deferred { .. }), "and that one is dropped as well");
}
