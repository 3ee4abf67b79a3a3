//! Several mails against a peer that follows a script.

use std::cell::Cell;

use tokio::task::JoinSet;

use super::{
    super::peer::{Heard, Moment, Peer, Trouble},
    *,
};
use crate::mail::tests::letter;

fn mail(number: usize) -> Envelope {
    let mut letter = letter();
    letter.id = format!("reminder-{number}");
    letter.build().expect("a mail")
}

fn accepted(outcome: Outcome) {
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
}

/// The first words of what was said on a connection after the greeting.
fn commands(heard: &Heard, connection: usize) -> Vec<&str> {
    let on_it = heard.commands.iter().filter(|(on, _)| *on == connection);
    on_it.filter_map(|(_, line)| line.split([' ', ':']).next()).skip(1).collect()
}

/// How often the message of a mail arrived, whole or in part.
fn arrivals(heard: &Heard, number: usize) -> usize {
    heard.messages.matches(&format!("Message-ID: <{}>", mail(number).message_id())).count()
}

#[tokio::test]
async fn several_mails_go_over_one_connection() {
    let peer = Peer::start(|_| None).await;
    let pool = Pool::new(peer.server.clone(), 4);
    for number in 1..=5 {
        accepted(pool.hand_over(&mail(number), || true).await);
    }
    let heard = peer.heard();
    assert_eq!(heard.connections, 1);
    assert_eq!(commands(&heard, 1), ["MAIL", "RCPT", "DATA"].repeat(5));
    assert!((1..=5).all(|number| arrivals(&heard, number) == 1), "{}", heard.messages);
}

#[tokio::test]
async fn a_kept_connection_that_died_is_replaced_and_nothing_is_handed_over_twice() {
    let at_the_second_mail = |trouble| {
        move |moment: Moment<'_>| match moment {
            Moment { connection: 1, mail: 2, stage: "MAIL" } => Some(trouble),
            _ => None,
        }
    };
    let after_the_first_mail = |trouble| {
        move |moment: Moment<'_>| match moment {
            Moment { connection: 1, stage: "message", .. } => Some(trouble),
            _ => None,
        }
    };
    let peers = [
        Peer::start(at_the_second_mail(Trouble::Drops)).await,
        Peer::start(at_the_second_mail(Trouble::Sleeps)).await,
        Peer::start(at_the_second_mail(Trouble::Says("421 4.7.0 too many mails"))).await,
        Peer::start(at_the_second_mail(Trouble::Says("354 what?"))).await,
        Peer::start(after_the_first_mail(Trouble::SaysAndDrops("250 ok"))).await,
        Peer::start(after_the_first_mail(Trouble::SaysAndDrops("250 ok\r\n421 4.4.2 idle for too long"))).await,
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
        let heard = peer.heard();
        assert_eq!((heard.connections, looks.get()), (2, 3), "case {case}");
        assert!((1..=3).all(|number| arrivals(&heard, number) == 1), "case {case}: {}", heard.messages);
    }
}

#[tokio::test]
async fn it_is_replaced_once_and_only_if_it_is_dead() {
    // A server that takes one mail and then no more, on no connection.
    let peer = Peer::start(|moment| match moment {
        Moment { connection: 1, mail: 1, .. } => None,
        Moment { stage: "MAIL", .. } => Some(Trouble::Drops),
        _ => None,
    })
    .await;
    let pool = Pool::new(peer.server.clone(), 1);
    accepted(pool.hand_over(&mail(1), || true).await);
    let outcome = pool.hand_over(&mail(2), || true).await;
    assert!(matches!(outcome, Outcome::Deferred { stage: Stage::Mail, .. }), "{outcome:?}");
    assert_eq!(peer.heard().connections, 2);
    // A no to the sender is an answer.
    let peer = Peer::start(|moment| match moment {
        Moment { connection: 1, mail: 2, stage: "MAIL" } => Some(Trouble::Says("550 5.7.1 not you")),
        _ => None,
    })
    .await;
    let pool = Pool::new(peer.server.clone(), 1);
    accepted(pool.hand_over(&mail(1), || true).await);
    let outcome = pool.hand_over(&mail(2), || true).await;
    assert!(matches!(outcome, Outcome::Rejected { stage: Stage::Mail, .. }), "{outcome:?}");
    accepted(pool.hand_over(&mail(3), || true).await);
    assert_eq!(commands(&peer.heard(), 1), ["MAIL", "RCPT", "DATA", "MAIL", "QUIT"]);
}

#[tokio::test]
async fn behind_the_first_byte_nothing_is_sent_again() {
    for trouble in [Trouble::Drops, Trouble::Sleeps, Trouble::Says("nonsense")] {
        let peer = Peer::start(move |moment| match moment {
            Moment { connection: 1, mail: 2, stage: "message" } => Some(trouble),
            _ => None,
        })
        .await;
        let pool = Pool::new(peer.server.clone(), 1);
        accepted(pool.hand_over(&mail(1), || true).await);
        let outcome = pool.hand_over(&mail(2), || true).await;
        assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
        accepted(pool.hand_over(&mail(3), || true).await);
        let heard = peer.heard();
        assert_eq!(heard.connections, 2);
        assert!((1..=3).all(|number| arrivals(&heard, number) == 1), "{}", heard.messages);
        assert_eq!(commands(&heard, 1), ["MAIL", "RCPT", "DATA"].repeat(2), "not a byte more");
    }
}

#[tokio::test]
async fn a_last_look_that_says_no_sends_no_byte_of_the_message() {
    let peer = Peer::start(|_| None).await;
    let pool = Pool::new(peer.server.clone(), 1);
    assert_eq!(pool.hand_over(&mail(1), || false).await, Outcome::Withdrawn);
    let heard = peer.until(|heard| heard.open == 0).await;
    assert_eq!((heard.messages.as_str(), commands(&heard, 1)), ("", vec!["MAIL", "RCPT", "DATA"]));
    accepted(pool.hand_over(&mail(2), || true).await);
    assert_eq!((arrivals(&peer.heard(), 1), arrivals(&peer.heard(), 2)), (0, 1));
}

#[tokio::test]
async fn the_last_look_is_after_the_server_gave_leave() {
    let peer = Peer::start(|moment| (moment.stage == "RCPT").then_some(Trouble::Says("550 5.1.1 no such user"))).await;
    let pool = Pool::new(peer.server.clone(), 1);
    let outcome = pool.hand_over(&mail(1), || panic!("nothing is about to be sent")).await;
    assert!(matches!(outcome, Outcome::Rejected { stage: Stage::Rcpt, .. }), "{outcome:?}");
}

#[tokio::test]
async fn after_a_no_to_one_mail_the_next_goes_over_the_same_connection() {
    for stage in ["RCPT", "DATA", "message"] {
        for no in ["550 5.1.1 no such user", "452 4.2.2 mailbox full"] {
            let peer =
                Peer::start(move |moment| (moment.mail == 1 && moment.stage == stage).then_some(Trouble::Says(no)))
                    .await;
            let pool = Pool::new(peer.server.clone(), 1);
            let outcome = pool.hand_over(&mail(1), || true).await;
            assert!(matches!(outcome, Outcome::Rejected { .. } | Outcome::Deferred { .. }), "{outcome:?}");
            accepted(pool.hand_over(&mail(2), || true).await);
            let heard = peer.heard();
            assert_eq!(heard.connections, 1, "{stage}, {no}");
            assert!(commands(&heard, 1).ends_with(&["RSET", "MAIL", "RCPT", "DATA"]), "{:?}", heard.commands);
        }
    }
}

#[tokio::test]
async fn a_server_that_will_not_reset_says_nothing_of_the_next_mail() {
    for trouble in [Trouble::Says("502 what?"), Trouble::Drops] {
        let peer = Peer::start(move |moment| match moment {
            Moment { connection: 1, stage: "RCPT", .. } => Some(Trouble::Says("550 5.1.1 no such user")),
            Moment { stage: "RSET", .. } => Some(trouble),
            _ => None,
        })
        .await;
        let pool = Pool::new(peer.server.clone(), 1);
        let outcome = pool.hand_over(&mail(1), || true).await;
        assert!(matches!(outcome, Outcome::Rejected { .. }), "{outcome:?}");
        accepted(pool.hand_over(&mail(2), || true).await);
        assert_eq!(peer.heard().connections, 2);
    }
}

/// One answer too many would make every answer that of the command before it.
#[tokio::test]
async fn answers_that_are_out_of_step_are_noticed_before_the_message() {
    let peer = Peer::start(|moment| match moment {
        Moment { connection: 1, stage: "message", .. } => Some(Trouble::Says("250 ok\r\n250 and ok again")),
        _ => None,
    })
    .await;
    let pool = Pool::new(peer.server.clone(), 1);
    accepted(pool.hand_over(&mail(1), || true).await);
    let outcome = pool.hand_over(&mail(2), || true).await;
    assert!(matches!(outcome, Outcome::Deferred { stage: Stage::Data, .. }), "{outcome:?}");
    accepted(pool.hand_over(&mail(3), || true).await);
    let heard = peer.until(|heard| heard.open == 1).await;
    assert_eq!([1, 2, 3].map(|number| arrivals(&heard, number)), [1, 0, 1]);
    assert!(!heard.messages.contains("QUIT"), "{}", heard.messages);
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
    let heard = peer.heard();
    assert_eq!((heard.most_open, heard.connections), (3, 3));
    assert!((1..=30).all(|number| arrivals(&heard, number) == 1), "{}", heard.messages);
}

#[tokio::test]
async fn a_connection_ends_after_its_share_of_mails() {
    let peer = Peer::start(|_| None).await;
    let pool = Pool::with_limits(peer.server.clone(), 1, MAX_IDLE, 2);
    for number in 1..=5 {
        accepted(pool.hand_over(&mail(number), || true).await);
    }
    let heard = peer.heard();
    assert_eq!((heard.connections, heard.most_open), (3, 1));
    assert_eq!(commands(&heard, 1).last(), Some(&"QUIT"));
}

#[tokio::test]
async fn a_connection_that_waits_too_long_is_closed() {
    let peer = Peer::start(|_| None).await;
    let pool = Pool::with_limits(peer.server.clone(), 2, Duration::from_millis(50), MAX_MAILS);
    for number in 1..=2 {
        accepted(pool.hand_over(&mail(number), || true).await);
        let heard = peer.until(|heard| heard.open == 0).await;
        assert_eq!(commands(&heard, number).last(), Some(&"QUIT"), "it took leave");
    }
    assert!(!pool.0.idle().swept, "nobody looks after an empty pool");
}

#[test]
fn a_pool_does_not_show_the_password() {
    let server: Server = "smtps://ana:secret@mail.example.com".parse().expect("a server");
    assert_eq!(format!("{:?}", Pool::new(server, 4)), "mail.example.com:465 (Tls), 4 free");
}
