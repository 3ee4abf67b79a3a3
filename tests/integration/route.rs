//! A failure of the route costs no reminder. A reminder that reached nobody takes no step.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use saldo::client::Clients;
use saldo_api::{FieldMask, v1};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    task::JoinHandle,
};

use crate::{
    Failure, Outcome,
    env::{Env, eventually},
    mailbox::{Mailpit, Moody},
    process::Saldo,
    talking::{becomes, debtor, history, reminder, speaking},
};

/// A mail server that turns everybody away.
struct Closed {
    visits: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Closed {
    async fn start(port: u16) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let visits = Arc::new(AtomicUsize::new(0));
        let counted = visits.clone();
        let serving = tokio::spawn(async move {
            while let Ok((mut line, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                // A visitor who has left already has heard it, or need not.
                let _ = line.write_all(b"554 no service\r\n").await;
            }
        });
        Ok(Self { visits, serving })
    }

    async fn visited(&self, times: usize) -> Outcome {
        eventually(&format!("it is visited {times} times"), || async { self.visits.load(Ordering::SeqCst) >= times })
            .await
    }

    async fn stop(self) {
        self.serving.abort();
        // The port is free once the task has let its listener go.
        let _ = self.serving.await;
    }
}

/// A mail server that greets, and says nothing to a mail.
async fn silent(port: u16) -> Result<JoinHandle<()>, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    Ok(tokio::spawn(async move {
        let mut lines = tokio::task::JoinSet::new();
        while let Ok((line, _)) = listener.accept().await {
            lines.spawn(async move {
                let mut line = BufReader::new(line);
                // A client that is gone ends the conversation.
                let _ = line.write_all(b"220 silent\r\n").await;
                let _ = line.read_line(&mut String::new()).await;
                let _ = line.write_all(b"250 silent\r\n").await;
                while line.read_line(&mut String::new()).await.is_ok_and(|bytes| bytes > 0) {}
            });
        }
    }))
}

/// Gives an account these addresses.
async fn reached_at(clients: &Clients, account: &str, addresses: &[&str]) -> Outcome {
    let point =
        |address: &&str| v1::ContactPoint { channel: v1::Channel::Email.into(), address: (*address).to_owned() };
    let contact_points = addresses.iter().map(point).collect();
    let request = v1::AmendAccountRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        account_id: account.into(),
        profile: Some(v1::Profile { contact_points, ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["contact_points".into()] }),
        ..Default::default()
    };
    clients.command.clone().amend_account(request).await?;
    Ok(())
}

/// The server turns everybody away. Meanwhile no account is asked and nothing is recorded.
pub async fn server_down(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let port = crate::env::free_port()?;
    let url = format!("smtp://127.0.0.1:{port}?tls=none");
    let saldo = Saldo::start(&dir.path().join("data"), &["--smtp", &url]).await?;
    let clients = saldo.clients().await?;
    speaking(&saldo, dir.path()).await?;
    let closed = Closed::start(port).await?;
    for number in 1..=3 {
        debtor(&clients, &format!("D-{number}"), &format!("ana{number}@example.com"), 10).await?;
    }
    closed.visited(4).await?;
    for number in 1..=3 {
        let account = format!("D-{number}");
        let waits = reminder(&clients, &account).await?.ok_or("no reminder")?;
        assert_eq!((waits.status.as_str(), waits.attempts), ("due", 0), "{waits:?}");
        assert_eq!(history(&clients, &account).await?, ["account.opened", "invoice.issued", "reminder.due"]);
    }
    closed.stop().await;
    let server = Moody::start(port).await?;
    for number in 1..=3 {
        let sent = becomes(&clients, &format!("D-{number}"), "accepted").await?;
        assert_eq!((sent.attempts, sent.step.as_str()), (1, "first-reminder"), "{sent:?}");
    }
    assert_eq!(server.heard().len(), 3, "each once");
    assert_eq!(saldo.verify().await?["differences"].as_u64(), Some(0));
    Ok(())
}

/// The second good address is used, and an account without an address is written to once it has one.
pub async fn addresses(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let server = Moody::start(0).await?;
    let saldo = Saldo::start(&dir.path().join("data"), &["--smtp", &server.url()]).await?;
    let clients = saldo.clients().await?;
    debtor(&clients, "two", "refused@example.com", 10).await?;
    reached_at(&clients, "two", &["refused@example.com", "good@example.com"]).await?;
    debtor(&clients, "none", "ana@example.com", 10).await?;
    reached_at(&clients, "none", &[]).await?;
    debtor(&clients, "bad", "refused@example.com", 10).await?;
    speaking(&saldo, dir.path()).await?;

    let refused = becomes(&clients, "two", "rejected").await?;
    assert_eq!(refused.reason, "address_refused: rcpt 550");
    let outbox = saldo.succeed(&["outbox", "two"]).await?;
    assert!(outbox.contains("add another address"), "{outbox}");
    let told = saldo.succeed(&["attempt", "retry", "two", "1", "--reason", "a second address"]).await?;
    assert!(told.contains("is sent again now"), "{told}");
    becomes(&clients, "two", "accepted").await?;
    assert_eq!(server.messages_to("good@example.com").len(), 1);

    let nobody = becomes(&clients, "none", "withheld").await?;
    assert!(nobody.needs_person && nobody.reason == "no_contact_point", "{nobody:?}");
    reached_at(&clients, "none", &["eva@example.com"]).await?;
    let sent = becomes(&clients, "none", "accepted").await?;
    assert_eq!((sent.step.as_str(), server.messages_to("eva@example.com").len()), ("first-reminder", 1));

    // The same list once more is no help; a new address is.
    becomes(&clients, "bad", "rejected").await?;
    reached_at(&clients, "bad", &["refused@example.com"]).await?;
    reached_at(&clients, "bad", &["refused@example.com", "iris@example.com"]).await?;
    let sent = becomes(&clients, "bad", "accepted").await?;
    assert_eq!((sent.reminder, server.messages_to("iris@example.com").len()), (2, 1));
    assert_eq!(saldo.verify().await?["differences"].as_u64(), Some(0));
    Ok(())
}

/// Many unknown outcomes are settled at once, by the Message-ID that stands there from the start.
pub async fn in_bulk(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let server = Moody::start(0).await?;
    let saldo = Saldo::start(&dir.path().join("data"), &["--smtp", &server.url()]).await?;
    let clients = saldo.clients().await?;
    speaking(&saldo, dir.path()).await?;
    for number in 1..=5 {
        debtor(&clients, &format!("S-{number}"), "silent@example.com", 10).await?;
    }
    debtor(&clients, "R-1", "refused@example.com", 10).await?;
    for number in 1..=5 {
        becomes(&clients, &format!("S-{number}"), "unknown").await?;
    }
    becomes(&clients, "R-1", "rejected").await?;
    let json = |text: String| serde_json::from_str::<serde_json::Value>(&text);
    let outbox = json(saldo.succeed(&["outbox", "--json"]).await?)?;
    let ids: Vec<&str> = (outbox["reminders"].as_array().ok_or("no reminders")?.iter())
        .filter(|one| one["status"] == "unknown")
        .filter_map(|one| one["message_id"].as_str())
        .collect();
    assert_eq!(ids.len(), 5, "{outbox}");
    for (_, message) in server.messages() {
        let message = String::from_utf8(message)?;
        assert!(ids.iter().any(|id| message.contains(&format!("Message-ID: <{id}>"))), "{message}");
        assert!(message.contains("Auto-Submitted: auto-generated"), "{message}");
    }

    let all = ["--all", "--status", "unknown", "--reason", "they are in the log", "--json"];
    let drop = |more: &[&'static str]| [&["attempt", "drop"], &all[..], more].concat();
    let dry = json(saldo.succeed(&drop(&["--dry-run"])).await?)?;
    assert_eq!((dry["would"].as_str(), dry["reminders"].as_array().map(Vec::len)), (Some("drop"), Some(5)), "{dry}");
    let later = json(saldo.succeed(&drop(&["--since", "2100-01-01T00:00:00Z"])).await?)?;
    assert_eq!(later["done"].as_u64(), Some(0), "{later}");
    let done = json(saldo.succeed(&drop(&[])).await?)?;
    assert_eq!((done["done"].as_u64(), done["refused"].as_array().map(Vec::len)), (Some(5), Some(0)), "{done}");
    eventually("nobody need see to them", || async {
        matches!(reminder(&clients, "S-5").await, Ok(Some(found)) if !found.needs_person)
    })
    .await?;
    let again = json(saldo.succeed(&drop(&[])).await?)?;
    assert_eq!(again["done"].as_u64(), Some(0), "{again}");
    let one = saldo.command(&["attempt", "drop", "S-1", "1"]).await?;
    let said = String::from_utf8_lossy(&one.stderr).into_owned();
    assert!(!one.status.success() && said.contains("it was dropped already"), "{said}");
    let without_reason = saldo.command(&["attempt", "retry", "--all"]).await?;
    assert!(!without_reason.status.success());
    let retried = saldo.succeed(&["attempt", "retry", "--all", "--reason", "once more"]).await?;
    assert!(retried.contains("retried 1 reminder; 0 settled meanwhile, 0 refused"), "{retried}");
    assert_eq!(saldo.verify().await?["differences"].as_u64(), Some(0));
    Ok(())
}

/// A process that is killed leaves in doubt what it had started, and that is two messages for each connection.
pub async fn killed(_: Arc<Env>) -> Outcome {
    const DEBTORS: usize = 20;
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let port = crate::env::free_port()?;
    let url = format!("smtp://127.0.0.1:{port}?tls=none");
    let two = [("SALDO__SENDING__SMTP_CONNECTIONS", "2")];
    let serving = silent(port).await?;
    let mut saldo = Saldo::start_with(&data, &["--smtp", &url], &two).await?;
    let clients = saldo.clients().await?;
    for number in 1..=DEBTORS {
        debtor(&clients, &format!("D-{number}"), &format!("ana{number}@example.com"), 10).await?;
    }
    speaking(&saldo, dir.path()).await?;
    eventually("four are started", || async { standing(&clients, "started").await.is_ok_and(|count| count == 4) })
        .await?;
    eventually("the others are due", || async {
        standing(&clients, "due").await.is_ok_and(|count| count == DEBTORS - 4)
    })
    .await?;
    saldo.kill()?;
    drop(saldo);
    serving.abort();
    let _ = serving.await;
    let server = Moody::start(port).await?;
    let saldo = Saldo::start(&data, &["--smtp", &url, "--clock-ahead", "1h"]).await?;
    let clients = saldo.clients().await?;
    eventually("all others are sent", || async {
        standing(&clients, "accepted").await.is_ok_and(|count| count == DEBTORS - 4)
    })
    .await?;
    eventually("four are in doubt", || async { standing(&clients, "unknown").await.is_ok_and(|count| count == 4) })
        .await?;
    assert_eq!(server.heard().len(), DEBTORS - 4);
    Ok(())
}

/// How many of all accounts' reminders stand so.
async fn standing(clients: &Clients, status: &str) -> Result<usize, Failure> {
    let request = v1::ListRemindersRequest { page_size: 1_000, ..Default::default() };
    let reminders = clients.query.clone().list_reminders(request).await?.into_inner().reminders;
    Ok(reminders.iter().filter(|reminder| reminder.status == status).count())
}

/// A whole Mailpit that is not there yet: everything goes out when it comes.
pub async fn mailpit_comes_late(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let (web, smtp) = (crate::env::free_port()?, crate::env::free_port()?);
    let url = format!("smtp://127.0.0.1:{smtp}?tls=none");
    let saldo = Saldo::start(&dir.path().join("data"), &["--smtp", &url]).await?;
    let clients = saldo.clients().await?;
    speaking(&saldo, dir.path()).await?;
    debtor(&clients, "D-1", "ana@example.com", 10).await?;
    becomes(&clients, "D-1", "due").await?;
    let mailpit = Mailpit::start_at(web, smtp).await?;
    let sent = becomes(&clients, "D-1", "accepted").await?;
    assert_eq!(sent.attempts, 1);
    let list: serde_json::Value = serde_json::from_str(&mailpit.get("/api/v1/messages").await?)?;
    assert_eq!(list["messages"][0]["MessageID"].as_str(), Some(sent.message_id.as_str()), "{list}");
    Ok(())
}
