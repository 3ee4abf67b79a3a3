//! Several mails to a scripted server.

use std::cell::Cell;

use tokio::task::JoinSet;

use super::{
    super::peer::{Fault, Peer, Point, Transcript},
    *,
};
use crate::email::mime::tests::sample;

fn mail(number: usize) -> Envelope {
    let mut mail = sample();
    mail.id = format!("reminder-{number}");
    mail.build().expect("a mail")
}

fn accepted(outcome: Outcome) {
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
}

/// The first words of what was said on a connection after the greeting.
fn commands(transcript: &Transcript, connection: usize) -> Vec<&str> {
    let on_it = transcript.commands.iter().filter(|(on, _)| *on == connection);
    on_it.filter_map(|(_, line)| line.split([' ', ':']).next()).skip(1).collect()
}

/// How often the message of a mail arrived, whole or in part.
fn arrivals(transcript: &Transcript, number: usize) -> usize {
    transcript.messages.matches(&format!("Message-ID: <{}>", mail(number).message_id())).count()
}

#[tokio::test]
async fn several_mails_go_over_one_connection() {
    let peer = Peer::start(|_| None).await;
    let pool = Pool::new(peer.server.clone(), 4);
    for number in 1..=5 {
        accepted(pool.hand_over(&mail(number), || true).await);
    }
    let transcript = peer.transcript();
    assert_eq!(transcript.connections, 1);
    assert_eq!(commands(&transcript, 1), ["MAIL", "RCPT", "DATA"].repeat(5));
    assert!((1..=5).all(|number| arrivals(&transcript, number) == 1), "{}", transcript.messages);
}

#[tokio::test]
async fn a_kept_connection_that_died_is_replaced_and_nothing_is_handed_over_twice() {
    let at_the_second_mail = |fault| {
        move |point: Point<'_>| match point {
            Point { connection: 1, mail: 2, stage: "MAIL" } => Some(fault),
            _ => None,
        }
    };
    let after_the_first_mail = |fault| {
        move |point: Point<'_>| match point {
            Point { connection: 1, stage: "message", .. } => Some(fault),
            _ => None,
        }
    };
    let peers = [
        Peer::start(at_the_second_mail(Fault::Drops)).await,
        Peer::start(at_the_second_mail(Fault::Sleeps)).await,
        Peer::start(at_the_second_mail(Fault::Says("421 4.7.0 too many mails"))).await,
        Peer::start(at_the_second_mail(Fault::Says("354 what?"))).await,
        Peer::start(after_the_first_mail(Fault::SaysAndDrops("250 ok"))).await,
        Peer::start(after_the_first_mail(Fault::SaysAndDrops("250 ok\r\n421 4.4.2 idle for too long"))).await,
    ];
    for (case, peer) in peers.iter().enumerate() {
        let pool = Pool::new(peer.server.clone(), 1);
        let looks = Cell::new(0);
        for number in 1..=3 {
            let look = || {
                looks.set(looks.get() + 1);
                true
            };
            accepted(pool.hand_over(&mail(number), look).await);
        }
        let transcript = peer.transcript();
        assert_eq!((transcript.connections, looks.get()), (2, 3), "case {case}");
        assert!((1..=3).all(|number| arrivals(&transcript, number) == 1), "case {case}: {}", transcript.messages);
    }
}

#[tokio::test]
async fn it_is_replaced_once_and_only_if_it_is_dead() {
    // A server that takes one mail and then no more, on no connection.
    let peer = Peer::start(|point| match point {
        Point { connection: 1, mail: 1, .. } => None,
        Point { stage: "MAIL", .. } => Some(Fault::Drops),
        _ => None,
    })
    .await;
    let pool = Pool::new(peer.server.clone(), 1);
    accepted(pool.hand_over(&mail(1), || true).await);
    let outcome = pool.hand_over(&mail(2), || true).await;
    assert!(matches!(outcome, Outcome::Deferred { stage: stage::MAIL, concerns: Concerns::Sender, .. }), "{outcome:?}");
    assert_eq!(peer.transcript().connections, 2);
    // A no to the sender is an answer, and concerns no recipient.
    let peer = Peer::start(|point| match point {
        Point { connection: 1, mail: 2, stage: "MAIL" } => Some(Fault::Says("550 5.7.1 not you")),
        _ => None,
    })
    .await;
    let pool = Pool::new(peer.server.clone(), 1);
    accepted(pool.hand_over(&mail(1), || true).await);
    let outcome = pool.hand_over(&mail(2), || true).await;
    assert!(
        matches!(outcome, Outcome::Deferred { stage: stage::MAIL, code: 550, concerns: Concerns::Sender, .. }),
        "{outcome:?}"
    );
    accepted(pool.hand_over(&mail(3), || true).await);
    assert_eq!(commands(&peer.transcript(), 1), ["MAIL", "RCPT", "DATA", "MAIL", "QUIT"]);
}

#[tokio::test]
async fn behind_the_first_byte_nothing_is_sent_again() {
    for fault in [Fault::Drops, Fault::Sleeps, Fault::Says("nonsense")] {
        let peer = Peer::start(move |point| match point {
            Point { connection: 1, mail: 2, stage: "message" } => Some(fault),
            _ => None,
        })
        .await;
        let pool = Pool::new(peer.server.clone(), 1);
        accepted(pool.hand_over(&mail(1), || true).await);
        let outcome = pool.hand_over(&mail(2), || true).await;
        assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
        accepted(pool.hand_over(&mail(3), || true).await);
        let transcript = peer.transcript();
        assert_eq!(transcript.connections, 2);
        assert!((1..=3).all(|number| arrivals(&transcript, number) == 1), "{}", transcript.messages);
        assert_eq!(commands(&transcript, 1), ["MAIL", "RCPT", "DATA"].repeat(2), "not a byte more");
    }
}

#[tokio::test]
async fn a_last_look_that_says_no_sends_no_byte_of_the_message() {
    let peer = Peer::start(|_| None).await;
    let pool = Pool::new(peer.server.clone(), 1);
    assert_eq!(pool.hand_over(&mail(1), || false).await, Outcome::Withdrawn);
    let transcript = peer.until(|transcript| transcript.open == 0).await;
    assert_eq!((transcript.messages.as_str(), commands(&transcript, 1)), ("", vec!["MAIL", "RCPT", "DATA"]));
    accepted(pool.hand_over(&mail(2), || true).await);
    assert_eq!((arrivals(&peer.transcript(), 1), arrivals(&peer.transcript(), 2)), (0, 1));
}

#[tokio::test]
async fn the_last_look_is_after_the_server_gave_leave() {
    let peer = Peer::start(|point| (point.stage == "RCPT").then_some(Fault::Says("550 5.1.1 no such user"))).await;
    let pool = Pool::new(peer.server.clone(), 1);
    let outcome = pool.hand_over(&mail(1), || panic!("nothing is about to be sent")).await;
    assert!(matches!(outcome, Outcome::Rejected { stage: stage::RCPT, .. }), "{outcome:?}");
}

#[tokio::test]
async fn after_a_no_to_one_mail_the_next_goes_over_the_same_connection() {
    for stage in ["RCPT", "DATA", "message"] {
        for no in ["550 5.1.1 no such user", "452 4.2.2 mailbox full"] {
            let peer =
                Peer::start(move |point| (point.mail == 1 && point.stage == stage).then_some(Fault::Says(no))).await;
            let pool = Pool::new(peer.server.clone(), 1);
            let outcome = pool.hand_over(&mail(1), || true).await;
            assert!(matches!(outcome, Outcome::Rejected { .. } | Outcome::Deferred { .. }), "{outcome:?}");
            accepted(pool.hand_over(&mail(2), || true).await);
            let transcript = peer.transcript();
            assert_eq!(transcript.connections, 1, "{stage}, {no}");
            assert!(commands(&transcript, 1).ends_with(&["RSET", "MAIL", "RCPT", "DATA"]), "{:?}", transcript.commands);
        }
    }
}

#[tokio::test]
async fn a_server_that_will_not_reset_says_nothing_of_the_next_mail() {
    for fault in [Fault::Says("502 what?"), Fault::Drops] {
        let peer = Peer::start(move |point| match point {
            Point { connection: 1, stage: "RCPT", .. } => Some(Fault::Says("550 5.1.1 no such user")),
            Point { stage: "RSET", .. } => Some(fault),
            _ => None,
        })
        .await;
        let pool = Pool::new(peer.server.clone(), 1);
        let outcome = pool.hand_over(&mail(1), || true).await;
        assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
        accepted(pool.hand_over(&mail(2), || true).await);
        assert_eq!(peer.transcript().connections, 2);
    }
}

/// One answer too many would make every answer that of the command before it.
#[tokio::test]
async fn answers_that_are_out_of_step_are_noticed_before_the_message() {
    let peer = Peer::start(|point| match point {
        Point { connection: 1, stage: "message", .. } => Some(Fault::Says("250 ok\r\n250 and ok again")),
        _ => None,
    })
    .await;
    let pool = Pool::new(peer.server.clone(), 1);
    accepted(pool.hand_over(&mail(1), || true).await);
    accepted(pool.hand_over(&mail(2), || true).await);
    accepted(pool.hand_over(&mail(3), || true).await);
    let transcript = peer.until(|transcript| transcript.open == 1).await;
    assert_eq!((transcript.connections, [1, 2, 3].map(|number| arrivals(&transcript, number))), (2, [1, 1, 1]));
    assert!(!transcript.messages.contains("QUIT"), "{}", transcript.messages);
}

#[tokio::test]
async fn no_more_are_handed_over_at_once_than_the_pool_is_large() {
    let peer = Peer::start(|_| None).await;
    let pool = Pool::new(peer.server.clone(), 3);
    let mut sending = JoinSet::new();
    for number in 1..=30 {
        let pool = pool.clone();
        sending.spawn(async move { pool.hand_over(&mail(number), || true).await });
    }
    sending.join_all().await.into_iter().for_each(accepted);
    let transcript = peer.transcript();
    assert_eq!((transcript.most_open, transcript.connections), (3, 3));
    assert!((1..=30).all(|number| arrivals(&transcript, number) == 1), "{}", transcript.messages);
}

#[tokio::test]
async fn a_connection_ends_after_its_share_of_mails() {
    let peer = Peer::start(|_| None).await;
    let pool = Pool::with_limits(peer.server.clone(), 1, MAX_IDLE, 2);
    for number in 1..=5 {
        accepted(pool.hand_over(&mail(number), || true).await);
    }
    let transcript = peer.transcript();
    assert_eq!((transcript.connections, transcript.most_open), (3, 1));
    assert_eq!(commands(&transcript, 1).last(), Some(&"QUIT"));
}

#[tokio::test]
async fn a_connection_that_waits_too_long_is_closed() {
    let peer = Peer::start(|_| None).await;
    let pool = Pool::with_limits(peer.server.clone(), 2, Duration::from_millis(50), MAX_MAILS);
    for number in 1..=2 {
        accepted(pool.hand_over(&mail(number), || true).await);
        let transcript = peer.until(|transcript| transcript.open == 0).await;
        assert_eq!(commands(&transcript, number).last(), Some(&"QUIT"), "it took leave");
    }
    assert!(!pool.0.idle().swept, "nobody looks after an empty pool");
}

#[tokio::test]
async fn u5_a_connection_that_breaks_at_a_mail_is_the_mails_fault_only_if_the_next_one_breaks_too() {
    for stage in ["RCPT", "DATA"] {
        let peer =
            Peer::start(move |point| (point.connection == 1 && point.stage == stage).then_some(Fault::Drops)).await;
        let pool = Pool::new(peer.server.clone(), 1);
        accepted(pool.hand_over(&mail(1), || true).await);
        assert_eq!((peer.transcript().connections, arrivals(&peer.transcript(), 1)), (2, 1), "{stage}");

        let peer = Peer::start(move |point| (point.stage == stage).then_some(Fault::Drops)).await;
        let pool = Pool::new(peer.server.clone(), 1);
        let outcome = pool.hand_over(&mail(1), || true).await;
        assert!(matches!(outcome, Outcome::Deferred { concerns: Concerns::Message, .. }), "{stage}: {outcome:?}");
        assert_eq!(peer.transcript().connections, 2, "{stage}");

        // The server goes down within the conversation: the second connection is not greeted any more.
        let peer = Peer::start(move |point| match point {
            Point { connection: 1, stage: at, .. } if at == stage => Some(Fault::Drops),
            Point { connection: 2, stage: "greeting", .. } => Some(Fault::Drops),
            _ => None,
        })
        .await;
        let pool = Pool::new(peer.server.clone(), 1);
        let outcome = pool.hand_over(&mail(1), || true).await;
        assert!(
            matches!(outcome, Outcome::Deferred { stage: stage::CONNECT, concerns: Concerns::Route, .. }),
            "{stage}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn u5_the_server_is_reached_without_a_mail_and_the_connection_is_kept_for_the_next_one() {
    let peer = Peer::start(|_| None).await;
    let pool = Pool::new(peer.server.clone(), 2);
    for _ in 0..3 {
        assert_eq!(pool.reach(None).await, Ok(()));
    }
    assert_eq!(pool.reach(Some("cobros@example.com")).await, Ok(()));
    accepted(pool.hand_over(&mail(1), || true).await);
    let transcript = peer.transcript();
    assert_eq!(transcript.connections, 1);
    assert_eq!(commands(&transcript, 1), ["MAIL", "RSET", "MAIL", "RCPT", "DATA"]);

    let peer = Peer::start(|point| (point.stage == "MAIL").then_some(Fault::Says("553 5.7.1 not you"))).await;
    let pool = Pool::new(peer.server.clone(), 1);
    assert_eq!(pool.reach(None).await, Ok(()));
    let refused = pool.reach(Some("cobros@example.com")).await.expect_err("the sender is refused");
    assert_eq!((refused.stage, refused.code), (stage::MAIL, 553));

    for fault in [Fault::Says("554 no service"), Fault::Says("421 later"), Fault::Drops, Fault::Sleeps] {
        let peer = Peer::start(move |point| (point.stage == "greeting").then_some(fault)).await;
        let refused = Pool::new(peer.server.clone(), 1).reach(None).await.expect_err("nobody is let in");
        assert_eq!(refused.stage, stage::CONNECT);
    }
}

#[test]
fn a_pool_does_not_show_the_password() {
    let server: Server = "smtps://ana:secret@mail.example.com".parse().expect("a server");
    assert_eq!(format!("{:?}", Pool::new(server, 4)), "mail.example.com:465 (Tls), 4 free");
}
