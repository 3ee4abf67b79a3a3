//! Killed at every step of an attempt: no reminder vanishes, none is handed over twice, what is unknown stands as unknown.

use std::sync::Arc;

use crate::{
    Failure, Outcome,
    env::{Env, eventually},
    mailbox::Moody,
    process::Saldo,
    talking::{becomes, debtor, policy},
};

/// Where it is killed, what the reminder has become in the end, and how many mails have left the house.
const POINTS: [(&str, &str, usize); 9] = [
    ("scheduler.before-wake", "accepted", 1),
    ("scheduler.after-wake", "accepted", 1),
    ("command.decided", "accepted", 1),
    ("command.appended", "accepted", 1),
    ("dispatcher.leased", "accepted", 1),
    // The message was started and not sent. The outcome cannot be known, so it is unknown.
    ("dispatcher.started", "unknown", 0),
    ("dispatcher.rendered", "unknown", 0),
    ("dispatcher.handed-over", "unknown", 1),
    ("dispatcher.recorded", "accepted", 1),
];

pub async fn every_point(_: Arc<Env>) -> Outcome {
    for (point, status, mails) in POINTS {
        killed_at(point, status, mails).await.map_err(|error| -> Failure { format!("{point}: {error}").into() })?;
    }
    Ok(())
}

async fn killed_at(point: &str, status: &str, mails: usize) -> Outcome {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let server = Moody::start(0).await?;
    let url = server.url();
    // Everything is ready to speak, and nothing is due for some weeks.
    let saldo = Saldo::start(&data, &["--smtp", &url]).await?;
    saldo.succeed(&["policy", "publish", &policy(dir.path(), |text| text)?]).await?;
    saldo.succeed(&["sending", "on"]).await?;
    debtor(&saldo.clients().await?, "D-2", "eva@example.com", -30).await?;
    saldo.stop().await?;
    // On the due date it is, and the process dies on the way.
    let ahead = ["--smtp", &url, "--clock-ahead", "720h"];
    let mut dying = Saldo::start_with(&data, &ahead, &[("SALDO_CRASH_AT", point)]).await?;
    eventually("it was killed", || {
        let dead = dying.has_ended();
        async move { dead }
    })
    .await?;
    drop(dying);
    // Back again, a little later: an attempt without outcome has expired.
    let later = ["--smtp", &url, "--clock-ahead", "721h"];
    let saldo = Saldo::start(&data, &later).await?;
    let clients = saldo.clients().await?;
    becomes(&clients, "D-2", status).await?;
    let heard = server.messages_to("eva@example.com").len();
    if heard != mails {
        return Err(format!("{heard} mails have left the house, not {mails}").into());
    }
    let report = saldo.verify().await?;
    assert_eq!(report["differences"].as_u64(), Some(0), "{report}");
    Ok(())
}
