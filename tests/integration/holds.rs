//! Holds from the command line to the mailbox: nothing is said meanwhile, and the history says why.

use std::sync::Arc;

use saldo_api::v1;
use sqlx::{Connection, Row};

use crate::{
    Failure, Outcome,
    commands::reason,
    env::{Env, eventually},
    mailbox::Moody,
    process::{Saldo, dev_setting},
    talking::{becomes, debtor, reminder, speaking},
};

pub async fn whole_life(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let server = Moody::start(0).await?;
    let saldo = Saldo::start(&dir.path().join("data"), &["--smtp", &server.url()]).await?;
    let clients = saldo.clients().await?;
    debtor(&clients, "D-1", "ana@example.com", 10).await?;
    debtor(&clients, "D-2", "eva@example.com", 10).await?;
    let place = ["hold", "place", "D-1", "--id", "H-1", "--reason", "complaint", "--note", "Ana Gil called", "--json"];
    let placed: serde_json::Value = serde_json::from_str(&saldo.succeed(&place).await?)?;
    assert_eq!((placed["hold"].as_str(), placed["events"][0].as_str()), (Some("H-1"), Some("hold.placed")));

    // Reminders that come due meanwhile are withheld, and the hold is named. Other accounts are not kept waiting.
    speaking(&saldo, dir.path()).await?;
    becomes(&clients, "D-2", "accepted").await?;
    let held = becomes(&clients, "D-1", "withheld").await?;
    assert_eq!(held.reason, "held: H-1");
    assert!(server.messages_to("ana@example.com").is_empty());
    let outbox = saldo.succeed(&["outbox", "D-1"]).await?;
    assert!(outbox.contains("H-1") && outbox.contains("complaint"), "{outbox}");
    let listed: serde_json::Value = serde_json::from_str(&saldo.succeed(&["hold", "list", "--json"]).await?)?;
    assert_eq!((listed["holds"][0]["account"].as_str(), listed["holds"][0]["until"].as_str()), (Some("D-1"), None));

    // Bad words are named by their field, refusals by their reason, and neither changes anything.
    let mut command = clients.command.clone();
    let mut request = v1::PlaceHoldRequest {
        request_id: "bad".into(),
        account_id: "D-1".into(),
        hold_id: "H-2".into(),
        terms: Some(v1::HoldTerms { reason: "because".into(), ..Default::default() }),
        note: String::new(),
    };
    let status = command.place_hold(request.clone()).await.expect_err("no such reason");
    assert!(format!("{status:?}").contains("terms.reason"), "{status:?}");
    request.terms =
        Some(v1::HoldTerms { invoices: vec!["F-9".into()], reason: "delivery".into(), ..Default::default() });
    let status = command.place_hold(request).await.expect_err("no such invoice");
    assert_eq!(reason(&status), "INVOICE_UNKNOWN");

    // A second hold stacks: the reminder goes out when none is left.
    saldo.succeed(&["hold", "place", "D-1", "--id", "H-2", "--reason", "delivery", "--invoice", "F-D-1"]).await?;
    saldo.succeed(&["hold", "amend", "D-1", "H-2", "--until", "2199-01-31"]).await?;
    saldo.succeed(&["hold", "release", "D-1", "H-1", "--note", "settled"]).await?;
    let again = becomes(&clients, "D-1", "withheld").await?;
    eventually("the second hold keeps it back too", || async {
        matches!(reminder(&clients, "D-1").await, Ok(Some(found)) if found.reason == "held: H-2")
    })
    .await?;
    assert!(again.reminder >= held.reminder && server.messages_to("ana@example.com").is_empty());
    saldo.succeed(&["hold", "release", "D-1", "H-2"]).await?;
    let sent = becomes(&clients, "D-1", "accepted").await?;
    assert_eq!(sent.step, "first-reminder", "the step that was held back, and no other");
    assert_eq!(server.messages_to("ana@example.com").len(), 1);

    // A hold whose last day is past stood on that day, and stands no more.
    saldo.succeed(&["hold", "place", "D-2", "--id", "H-9", "--reason", "delivery", "--until", "2026-01-31"]).await?;
    let stands = async |day: Option<(i32, i32, i32)>| -> Result<Vec<bool>, Failure> {
        let as_of = day.map(|(year, month, day)| v1::Date { year, month, day });
        let request = v1::ListHoldsRequest { account_id: "D-2".into(), as_of, ..Default::default() };
        let answer = clients.query.clone().list_holds(request).await?.into_inner();
        assert!(answer.as_of.is_some() && (as_of.is_none() || answer.as_of == as_of), "{answer:?}");
        Ok(answer.holds.iter().map(|hold| hold.stands).collect())
    };
    eventually("the hold is listed", || async { stands(None).await.is_ok_and(|stands| stands == [false]) }).await?;
    assert_eq!(stands(Some((2026, 1, 31))).await?, [true]);
    assert_eq!(stands(Some((2026, 2, 1))).await?, [false]);

    // Analysts see the holds without the note, and the rows are what the log says.
    let mut database = sqlx::PgConnection::connect(&dev_setting(&saldo.config, "url")?).await?;
    let rows = sqlx::query(
        "SELECT hold, scope, cardinality(invoices), released_on IS NOT NULL FROM bi.holds
         WHERE account = 'D-1' AND NOT stands_today ORDER BY hold",
    )
    .fetch_all(&mut database)
    .await?;
    let rows: Vec<(String, String, i32, bool)> = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)))
        .collect::<Result<_, sqlx::Error>>()?;
    let expected = [("H-1", "account", 0, true), ("H-2", "invoices", 1, true)];
    assert_eq!(rows, expected.map(|(hold, scope, invoices, released)| (hold.into(), scope.into(), invoices, released)));
    let replay = saldo.succeed(&["replay", "acme/D-1"]).await?;
    assert!(replay.contains("Hold H-1 placed on the account until released (complaint)"), "{replay}");
    assert!(!replay.contains("Ana Gil called"), "{replay}");
    assert_eq!(saldo.verify().await?["differences"].as_u64(), Some(0));
    Ok(())
}
