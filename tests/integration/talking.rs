//! From a due date to a message in a mailbox.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::{ToSpan, tz::TimeZone};
use saldo::client::Clients;
use saldo_api::v1;
use saldo_clock::Clock;
use saldo_facts::date_to_api;
use sha2::{Digest, Sha256};
use sqlx::{Connection, Row};

use crate::{
    Failure, Outcome,
    commands::{eur, reason},
    env::{Env, eventually},
    mailbox::{Mailpit, Moody},
    process::{Saldo, dev_setting},
};

/// The example policy with a window that is always open; what is to be different is said by `change`.
pub fn policy(dir: &Path, change: impl Fn(String) -> String) -> Result<String, Failure> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy");
    let copy: PathBuf = dir.join("policy");
    std::fs::create_dir_all(copy.join("templates"))?;
    for entry in std::fs::read_dir(example.join("templates"))? {
        let entry = entry?;
        std::fs::copy(entry.path(), copy.join("templates").join(entry.file_name()))?;
    }
    let text = std::fs::read_to_string(example.join("policy.toml"))?;
    let always = text
        .replace(
            r#"days = ["mon", "tue", "wed", "thu", "fri"]"#,
            r#"days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]"#,
        )
        .replace(r#"from = "09:00""#, r#"from = "00:00""#)
        .replace(r#"to = "20:00""#, r#"to = "24:00""#);
    assert_ne!(always, text, "the example has another window");
    std::fs::write(copy.join("policy.toml"), change(always))?;
    Ok(copy.display().to_string())
}

/// An account with this e-mail address and an invoice of 123.40 that fell due so many days ago. Returns where that stands.
pub async fn debtor(clients: &Clients, account: &str, email: &str, days_past_due: i64) -> Result<String, Failure> {
    let mut clients = clients.clone();
    let profile = v1::Profile {
        display_name: "Ana Gil".into(),
        kind: v1::DebtorKind::Business.into(),
        language: "es".into(),
        time_zone: "Europe/Madrid".into(),
        country: "ES".into(),
        contact_points: vec![v1::ContactPoint { channel: v1::Channel::Email.into(), address: email.into() }],
    };
    let request_id = || uuid::Uuid::new_v4().to_string();
    let open = v1::OpenAccountRequest { request_id: request_id(), account_id: account.into(), profile: Some(profile) };
    clients.command.open_account(open).await?;
    let today = Clock::system().now().to_zoned(TimeZone::get("Europe/Madrid")?).date();
    let due = today.saturating_sub(days_past_due.days());
    let invoice = v1::IssueInvoiceRequest {
        request_id: request_id(),
        account_id: account.into(),
        number: format!("F-{account}"),
        total: eur(12_340),
        issue_date: Some(date_to_api(due.saturating_sub(30.days()))),
        due_date: Some(date_to_api(due)),
        ..Default::default()
    };
    Ok(clients.command.issue_invoice(invoice).await?.into_inner().consistency_token)
}

/// The newest reminder of an account.
pub async fn reminder(clients: &Clients, account: &str) -> Result<Option<v1::ReminderView>, Failure> {
    let request = v1::ListRemindersRequest { account_id: account.into(), page_size: 1, ..Default::default() };
    let answer = clients.query.clone().list_reminders(request).await?.into_inner();
    Ok(answer.reminders.into_iter().next())
}

/// Waits until the account's newest reminder has this status.
pub async fn becomes(clients: &Clients, account: &str, status: &str) -> Result<v1::ReminderView, Failure> {
    let what = format!("{account}'s reminder is {status}");
    eventually(&what, || async {
        matches!(reminder(clients, account).await, Ok(Some(found)) if found.status == status)
    })
    .await?;
    Ok(reminder(clients, account).await?.ok_or("gone")?)
}

/// The types of an account's facts.
pub async fn history(clients: &Clients, account: &str) -> Result<Vec<String>, Failure> {
    let request = v1::ListHistoryRequest { account_id: account.into(), page_size: 1_000, ..Default::default() };
    let entries = clients.query.clone().list_history(request).await?.into_inner().entries;
    Ok(entries.into_iter().map(|entry| entry.r#type).collect())
}

pub async fn speaking(saldo: &Saldo, dir: &Path) -> Outcome {
    let policy = policy(dir, |text| text)?;
    saldo.succeed(&["policy", "publish", &policy]).await?;
    saldo.succeed(&["sending", "on"]).await?;
    Ok(())
}

pub async fn mailbox(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let server = Moody::start(0).await?;
    let saldo = Saldo::start(&dir.path().join("data"), &["--smtp", &server.url()]).await?;
    let clients = saldo.clients().await?;
    // Before anything is published, and while sending is off, nothing is said.
    let token = debtor(&clients, "D-1", "ana@example.com", 10).await?;
    let request = v1::ListRemindersRequest { consistency_token: token, ..Default::default() };
    assert!(clients.query.clone().list_reminders(request).await?.into_inner().reminders.is_empty());
    speaking(&saldo, dir.path()).await?;
    let sent = becomes(&clients, "D-1", "accepted").await?;
    assert_eq!((sent.step.as_str(), sent.attempts, sent.reminder), ("first-reminder", 1, 1));

    // The bytes in the mailbox are those whose hash stands in the history, and they say what is owed.
    let messages = server.messages_to("ana@example.com");
    assert_eq!(messages.len(), 1);
    let request = v1::ListAttemptsRequest { account_id: "D-1".into(), ..Default::default() };
    let attempts = clients.query.clone().list_attempts(request).await?.into_inner().attempts;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].message_sha256, Sha256::digest(&messages[0]).to_vec());
    let text = String::from_utf8(messages[0].clone())?;
    assert!(
        text.contains("123,40 EUR") && text.contains(&format!("Message-ID: <{}>", attempts[0].message_id)),
        "{text}"
    );
    let told = ["account.opened", "invoice.issued", "reminder.due", "contact.started", "contact.accepted"];
    assert_eq!(history(&clients, "D-1").await?, told);

    // Analysts see the attempt, and no address.
    let mut database = sqlx::PgConnection::connect(&dev_setting(&saldo.config, "url")?).await?;
    let row = sqlx::query("SELECT status, channel, recipient FROM bi.contact_attempts WHERE account = 'D-1'")
        .fetch_one(&mut database)
        .await?;
    let (status, channel, recipient): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    assert_eq!((status.as_str(), channel.as_str(), recipient.len()), ("accepted", "email", 64));

    // A debtor who pays hears no more. The preview of another debtor shows what is then said.
    assert!(saldo.succeed(&["outbox"]).await?.contains("nothing waits"));
    assert!(saldo.succeed(&["outbox", "--all"]).await?.contains("first-reminder"));
    let preview: serde_json::Value = serde_json::from_str(&saldo.succeed(&["preview", "D-1", "--json"]).await?)?;
    let steps: Vec<&str> =
        preview["contacts"].as_array().ok_or("contacts")?.iter().filter_map(|one| one["step"].as_str()).collect();
    assert_eq!(steps, ["second-reminder", "formal-demand"], "{preview}");
    let shown = saldo.succeed(&["policy", "show"]).await?;
    assert!(shown.contains("version 2, sending on") && shown.contains("policy published"), "{shown}");
    assert_eq!(saldo.verify().await?["differences"].as_u64(), Some(0));
    Ok(())
}

pub async fn mailpit(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let mailpit = Mailpit::start().await?;
    let saldo = Saldo::start(&dir.path().join("data"), &["--smtp", &mailpit.url()]).await?;
    let clients = saldo.clients().await?;
    speaking(&saldo, dir.path()).await?;
    for number in 1..=5 {
        debtor(&clients, &format!("D-{number}"), &format!("ana{number}@example.com"), 10 * number).await?;
    }
    for number in 1..=5 {
        becomes(&clients, &format!("D-{number}"), "accepted").await?;
    }
    let list: serde_json::Value = serde_json::from_str(&mailpit.get("/api/v1/messages").await?)?;
    assert_eq!(list["total"].as_u64(), Some(5), "{list}");
    let id = list["messages"][0]["ID"].as_str().ok_or("no id")?;
    let message: serde_json::Value = serde_json::from_str(&mailpit.get(&format!("/api/v1/message/{id}")).await?)?;
    assert_eq!(message["From"]["Address"], "cobros@example.com");
    assert!(message["Text"].as_str().is_some_and(|text| text.contains("123,40 EUR")), "{message}");
    assert!(message["HTML"].as_str().is_some_and(|html| html.contains("123,40 EUR")), "{message}");
    Ok(())
}

pub async fn moods(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let server = Moody::start(0).await?;
    let saldo = Saldo::start(&data, &["--smtp", &server.url()]).await?;
    let clients = saldo.clients().await?;
    speaking(&saldo, dir.path()).await?;
    for name in ["fine", "refused", "later", "silent"] {
        debtor(&clients, name, &format!("{name}@example.com"), 10).await?;
    }
    becomes(&clients, "fine", "accepted").await?;
    let refused = becomes(&clients, "refused", "rejected").await?;
    assert!(refused.needs_person && refused.reason.contains("550"), "{refused:?}");
    let later = becomes(&clients, "later", "deferred").await?;
    assert!(!later.needs_person && later.until.is_some(), "{later:?}");
    let silent = becomes(&clients, "silent", "unknown").await?;
    assert!(silent.needs_person, "{silent:?}");
    let outbox: serde_json::Value = serde_json::from_str(&saldo.succeed(&["outbox", "--json"]).await?)?;
    assert_eq!(outbox["reminders"].as_array().map(Vec::len), Some(3), "{outbox}");

    // The unknown is never sent again by itself; a person may have it said again, though not on the same day.
    saldo.succeed(&["attempt", "retry", "silent", "1"]).await?;
    let again = becomes(&clients, "silent", "deferred").await?;
    assert_eq!((again.reminder, again.retry_of, again.reason.as_str()), (2, 1, "budget"), "{again:?}");
    saldo.succeed(&["attempt", "drop", "refused", "1"]).await?;
    let request = v1::ListRemindersRequest { account_id: "refused".into(), ..Default::default() };
    let dropped = clients.query.clone().list_reminders(request).await?.into_inner().reminders;
    assert!(dropped.iter().all(|one| one.status == "rejected"), "{dropped:?}");
    eventually("it wants nobody any more", || async {
        matches!(reminder(&clients, "refused").await, Ok(Some(found)) if !found.needs_person)
    })
    .await?;
    // A machine's word is not a person's, and a closed one has none to say.
    let refused = saldo.command(&["attempt", "retry", "fine", "1"]).await?;
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("reminder 1"));

    // Restarted a day later, with a server that is down and then up again.
    let port = server.address.port();
    saldo.stop().await?;
    let other = Moody::start(0).await?;
    let saldo = Saldo::start(&data, &["--smtp", &other.url(), "--clock-ahead", "26h"]).await?;
    let clients = saldo.clients().await?;
    becomes(&clients, "silent", "unknown").await?;
    // U15: nothing has changed, so it is the same message, byte for byte.
    let (first, again) = (server.messages_to("silent@example.com"), other.messages_to("silent@example.com"));
    assert_eq!((first.len(), &again), (1, &first));
    assert_eq!(saldo.verify().await?["differences"].as_u64(), Some(0));
    assert_ne!(port, other.address.port());
    Ok(())
}

/// A publication of a person is checked whole, and published once.
pub async fn publishing(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(&dir.path().join("data"), &[]).await?;
    let mut clients = saldo.clients().await?;
    let file = |name: &str, source: &str| v1::PolicyFile { name: name.into(), source: source.into() };
    let publish = |id: &str, files: Vec<v1::PolicyFile>| v1::PublishPolicyRequest {
        request_id: id.into(),
        files,
        validate_only: false,
    };
    let odd = vec![
        file("policy.toml", "[sender]\nname = 1"),
        file("../../etc/passwd", "x"),
        file("templates/first.es.toml", "subject = '{{ secret }}'\ntext = 'x'"),
        file(
            "templates/first.en.toml",
            "subject = 'x'\ntext = '{% for a in items %}{% for b in items %}{{ b.open * 1000 }}{% endfor %}{% endfor %}",
        ),
    ];
    let status = clients.catalog.publish_policy(publish("a", odd)).await.expect_err("faults");
    assert_eq!(reason(&status), "INVALID_REQUEST");
    let named: Vec<String> = tonic_types::StatusExt::get_details_bad_request(&status)
        .map(|bad| bad.field_violations.into_iter().map(|one| one.field).collect())
        .unwrap_or_default();
    for expected in ["policy.toml: line 2", "../../etc/passwd: name", "templates/first.es.toml: subject"] {
        assert!(named.iter().any(|field| field == expected), "{expected} in {named:?}");
    }
    let status = clients.catalog.publish_policy(publish("", Vec::new())).await.expect_err("no id");
    assert_eq!(reason(&status), "INVALID_REQUEST");

    let folder = policy(dir.path(), |text| text)?;
    let mut files = vec![file("policy.toml", &std::fs::read_to_string(Path::new(&folder).join("policy.toml"))?)];
    for entry in std::fs::read_dir(Path::new(&folder).join("templates"))? {
        let entry = entry?;
        let name = format!("templates/{}", entry.file_name().to_string_lossy());
        files.push(file(&name, &std::fs::read_to_string(entry.path())?));
    }
    let first = clients.catalog.publish_policy(publish("b", files.clone())).await?.into_inner();
    assert_eq!((first.version, first.sending, first.replayed), (1, false, false));
    let again = clients.catalog.publish_policy(publish("b", files.clone())).await?.into_inner();
    assert_eq!((again.version, again.replayed), (1, true));
    files.pop();
    let status = clients.catalog.set_sending(v1::SetSendingRequest { request_id: "b".into(), on: true }).await;
    assert_eq!(reason(&status.expect_err("another request")), "REQUEST_ID_REUSED");
    let on =
        clients.catalog.set_sending(v1::SetSendingRequest { request_id: "c".into(), on: true }).await?.into_inner();
    assert_eq!((on.version, on.sending), (2, true));

    // Decisions name the version they used, and what was published is there to be read after a restart.
    let mut other = clients.clone();
    let answer = other.command.open_account(crate::commands::open("d", "D-1")).await?.into_inner();
    assert_eq!(answer.policy_version, 2);
    saldo.stop().await?;
    let saldo = Saldo::start(&dir.path().join("data"), &[]).await?;
    let mut clients = saldo.clients().await?;
    let in_force = clients.catalog.get_catalog(v1::GetCatalogRequest {}).await?.into_inner();
    assert_eq!((in_force.version, in_force.sending, in_force.changes.len()), (2, true, 2));
    let copy = dir.path().join("copy").display().to_string();
    saldo.succeed(&["policy", "show", "--into", &copy]).await?;
    saldo.succeed(&["policy", "validate", &copy]).await?;
    Ok(())
}

/// Two whole instances on one log and one database: the work is shared, and nobody hears anything twice.
pub async fn two_instances(env: Arc<Env>) -> Outcome {
    const DEBTORS: usize = 60;
    let dir = tempfile::tempdir()?;
    let server = Moody::start(0).await?;
    let brokers = env.kafka().await?.brokers.clone();
    let (topic, database) = (crate::conformance::topic(), env.database().await?);
    let keys = dir.path().join("keys").display().to_string();
    let args = [
        "--kafka",
        &brokers,
        "--topic",
        &topic,
        "--database-url",
        &database,
        "--keyring-dir",
        &keys,
        "--smtp",
        &server.url(),
    ];
    let one = Saldo::start(&dir.path().join("one"), &args).await?;
    let two = Saldo::start(&dir.path().join("two"), &args).await?;
    let clients = one.clients().await?;
    for number in 0..DEBTORS {
        debtor(&clients, &format!("D-{number}"), &format!("ana{number}@example.com"), 10).await?;
    }
    speaking(&two, dir.path()).await?;
    for number in 0..DEBTORS {
        becomes(&clients, &format!("D-{number}"), "accepted").await?;
    }
    let mut heard = server.heard();
    heard.sort();
    heard.dedup();
    assert_eq!((heard.len(), server.heard().len()), (DEBTORS, DEBTORS), "each once");
    // The other one has read what was published here.
    let shown = one.succeed(&["policy", "show"]).await?;
    assert!(shown.contains("sending on"), "{shown}");
    assert_eq!(one.verify().await?["differences"].as_u64(), Some(0));
    Ok(())
}
