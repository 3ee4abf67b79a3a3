//! The dispatcher on a real Postgres, with accounts and transports that follow a script.

mod accounts;
mod office;
mod scripted;

use std::{collections::BTreeSet, process::ExitCode, sync::Arc, time::Duration};

use saldo_domain::party::Channel;
use saldo_test_postgres::{Outcome, Test, on_a_database};
use tokio::{sync::watch, time::timeout};

use self::{
    office::{Office, POLICY},
    scripted::{Scripted, transports},
};

/// The longest that a test waits for something.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    saldo_test_postgres::main([
        test("a_creditors_ten_thousand_reminders_do_not_hold_up_anothers_single_one", one_beside_ten_thousand),
        test("creditors_have_their_reminders_sent_in_turn", in_turn),
        test("two_dispatchers_share_the_reminders", two_dispatchers),
        test("a_slow_channel_holds_up_no_other", slow_channel),
        test("u5_no_account_is_asked_while_the_route_is_down", route_down),
        test("u5_a_sender_that_is_refused_holds_up_its_creditor_alone", sender_refused),
        test("u5_a_route_that_fails_at_every_message_is_on_hold_though_it_answers", relapsing),
        test("u5_a_creditor_whose_policy_cannot_be_read_here_is_not_asked_for_until_it_can", unreadable_policy),
        test("u5_a_creditor_whose_policy_has_not_arrived_here_is_not_asked_for_until_it_has", late_policy),
        test("a_reminder_of_a_channel_without_a_transport_waits", without_transport),
    ])
}

fn test<F: Future<Output = Outcome> + 'static>(name: &'static str, body: fn(Office) -> F) -> Test {
    on_a_database(name, async move |database| body(Office::open(&database.url).await?).await)
}

async fn one_beside_ten_thousand(office: Office) -> Outcome {
    office.owe("acme", 10_000, Channel::Email, 60).await?;
    office.owe("beta", 1, Channel::Email, 30).await?;
    office.owe("zeta", 1, Channel::Email, 0).await?;
    let running = office.dispatch(4, transports([Scripted::quick(Channel::Email)])).await?;
    // Eight are leased at once. After the reminders of the first look, every tenant had a turn.
    let asked = office.asked(40).await?;
    for single in ["beta-1", "zeta-1"] {
        assert!(asked[..16].iter().any(|account| account == single), "{single} is not among {asked:?}");
    }
    running.stop().await
}

async fn in_turn(office: Office) -> Outcome {
    let tenants: BTreeSet<String> = (10..30).map(|number| format!("t{number}")).collect();
    for tenant in &tenants {
        office.owe(tenant, 5, Channel::Email, 10).await?;
    }
    let running = office.dispatch(4, transports([Scripted::quick(Channel::Email)])).await?;
    let asked = office.asked(100).await?;
    let first: BTreeSet<&str> = asked[..24].iter().filter_map(|account| account.split('-').next()).collect();
    assert_eq!(first.len(), tenants.len(), "{asked:?}");
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), 100, "each is asked for once");
    running.stop().await
}

async fn two_dispatchers(office: Office) -> Outcome {
    for tenant in ["acme", "beta", "zeta"] {
        office.owe(tenant, 300, Channel::Email, 10).await?;
    }
    let transports = transports([Scripted::quick(Channel::Email)]);
    let (one, other) = (office.dispatch(16, transports.clone()).await?, office.dispatch(16, transports).await?);
    let asked = office.asked(900).await?;
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), 900, "each is asked for once");
    one.stop().await?;
    other.stop().await
}

async fn slow_channel(office: Office) -> Outcome {
    office.owe("acme", 10, Channel::Email, 60).await?;
    office.owe("acme", 3, Channel::Sms, 0).await?;
    let (release, released) = watch::channel(false);
    let slow = Scripted { released, ..Scripted::quick(Channel::Email) };
    let running = office.dispatch(2, transports([slow, Scripted::quick(Channel::Sms)])).await?;
    // Two mails are stuck, which is as many as may be under way; the short messages go out meanwhile.
    let mut accepted = office.accepted(3).await?;
    accepted.sort();
    assert_eq!(accepted, ["acme-sms-1", "acme-sms-2", "acme-sms-3"]);
    release.send_replace(true);
    office.accepted(13).await?;
    running.stop().await
}

async fn route_down(office: Office) -> Outcome {
    office.owe("acme", 20, Channel::Email, 10).await?;
    let (open, is_open) = watch::channel(false);
    let (probes, probed) = watch::channel(0);
    let closed = Scripted { is_open, probes: Arc::new(probes), ..Scripted::quick(Channel::Email) };
    let running = office.dispatch(4, transports([closed])).await?;
    // One probe at a time: the first by the reminder that came first, the others at growing pauses.
    timeout(PATIENCE, probed.clone().wait_for(|probes| *probes >= 3)).await??;
    assert_eq!(office.seen.borrow().asked, Vec::<String>::new());
    open.send_replace(true);
    assert_eq!(office.accepted(20).await?.len(), 20);
    running.stop().await
}

async fn sender_refused(office: Office) -> Outcome {
    office.owe("acme", 50, Channel::Email, 60).await?;
    office.owe("zeta", 50, Channel::Email, 10).await?;
    let (refuse, refuses) = watch::channel(true);
    let email = Scripted { refuses, ..Scripted::quick(Channel::Email) };
    let running = office.dispatch(2, transports([email])).await?;
    let of = |asked: &[String], tenant: &str| asked.iter().filter(|account| account.starts_with(tenant)).count();
    office.until(|seen| of(&seen.asked, "zeta") == 50).await?;
    let asked = of(&office.seen.borrow().asked, "acme");
    assert!((1..=4).contains(&asked), "{asked} were asked for in vain");
    refuse.send_replace(false);
    office.accepted(50 - asked).await?;
    running.stop().await
}

async fn relapsing(office: Office) -> Outcome {
    office.owe("acme", 200, Channel::Email, 10).await?;
    let (work, works) = watch::channel(false);
    let (tries, tried) = watch::channel(0);
    let email = Scripted { works, tries: Arc::new(tries), ..Scripted::quick(Channel::Email) };
    let running = office.dispatch(2, transports([email])).await?;
    // Two messages at a time: at first, after the first probe, and after pauses of one, two and four seconds.
    timeout(PATIENCE, tried.clone().wait_for(|tries| *tries >= 7)).await??;
    let lost = *tried.borrow() as usize;
    assert!(lost <= 10, "{lost} messages were begun in vain");
    work.send_replace(true);
    office.accepted(200 - lost - 2).await?;
    running.stop().await
}

async fn unreadable_policy(office: Office) -> Outcome {
    let faulty = office.publish("acme", 2, office.published, "no policy").await?;
    office.owe("acme", 5, Channel::Email, 60).await?;
    office.owe("zeta", 3, Channel::Email, 0).await?;
    let running = office.dispatch(2, transports([Scripted::quick(Channel::Email)])).await?;
    assert!(office.asked(3).await?.iter().all(|account| account.starts_with("zeta")), "nobody asked for the others");
    office.publish("acme", 3, faulty, POLICY).await?;
    assert_eq!(office.accepted(5).await?.len(), 5);
    running.stop().await
}

async fn late_policy(office: Office) -> Outcome {
    // The account decides by version 1, and this dispatcher has read none.
    office.owe("acme2", 20, Channel::Email, 60).await?;
    let running = office.dispatch(2, transports([Scripted::quick(Channel::Email)])).await?;
    office.until(|seen| seen.deferred.len() >= 2).await?;
    office.owe("zeta", 3, Channel::Email, 0).await?;
    let asked = office.until(|seen| seen.asked.iter().any(|account| account == "zeta-3")).await?.asked;
    assert_eq!(asked.iter().filter(|account| account.starts_with("acme2")).count(), 2, "{asked:?}");
    office.publish("acme2", 1, office.first_parent("acme2"), POLICY).await?;
    assert_eq!(office.accepted(18).await?.len(), 18);
    running.stop().await
}

async fn without_transport(office: Office) -> Outcome {
    office.owe("acme", 2, Channel::Sms, 60).await?;
    office.owe("acme", 1, Channel::Email, 0).await?;
    let running = office.dispatch(2, transports([Scripted::quick(Channel::Email)])).await?;
    assert_eq!(office.accepted(1).await?, ["acme-1"]);
    running.stop().await?;
    assert_eq!(office.asked(1).await?, ["acme-1"], "nobody asked for the others");
    Ok(())
}
