//! The read models and `bi`.

use std::sync::Arc;

use saldo_api::v1;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::{
    Failure, Outcome,
    commands::{date, invoice, open, payment},
    env::{Env, eventually},
    mailbox::Moody,
    process::{Saldo, dev_setting},
    talking,
};

async fn database(saldo: &Saldo) -> Result<PgConnection, Failure> {
    Ok(PgConnection::connect(&dev_setting(&saldo.config, "url")?).await?)
}

pub async fn comments(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let mut connection = database(&saldo).await?;
    let bare: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE c.relnamespace = 'bi'::regnamespace AND a.attnum > 0 AND col_description(c.oid, a.attnum) IS NULL
         UNION ALL
         SELECT relname FROM pg_class c WHERE relnamespace = 'bi'::regnamespace AND relkind = 'v'
           AND obj_description(c.oid, 'pg_class') IS NULL
         UNION ALL
         SELECT proname FROM pg_proc p WHERE pronamespace = 'bi'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL",
    )
    .fetch_all(&mut connection)
    .await?;
    assert!(bare.is_empty(), "without a comment: {bare:?}");
    let columns: i64 = sqlx::query_scalar("SELECT count(*) FROM information_schema.columns WHERE table_schema = 'bi'")
        .fetch_one(&mut connection)
        .await?;
    assert!(columns > 50, "the test looks at something");
    Ok(())
}

/// An invoice of January, due on the 31st; a payment of 10 February that is booked, and later reversed as of 15 February.
pub async fn both_axes(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let mut clients = saldo.clients().await?;
    clients.command.open_account(open("1", "D-1")).await?;
    clients.command.issue_invoice(invoice("2", "D-1", "F-1", 10_000)).await?;
    let paid = clients.command.record_payment(payment("3", "D-1", "P-1", 12_000)).await?.into_inner();
    let reversed = clients
        .command
        .reverse_payment(v1::ReversePaymentRequest {
            request_id: "4".into(),
            account_id: "D-1".into(),
            reference: "P-1".into(),
            reversal_date: date(2026, 2, 15),
            reason: String::new(),
        })
        .await?
        .into_inner();
    let before_payment = {
        let at = paid.recorded_at.ok_or("recorded_at")?;
        saldo_api::Timestamp { nanos: at.nanos - 1_000, ..at }
    };
    let mut figures = Vec::new();
    for (day, known_at) in [
        (date(2025, 12, 31), None),
        (date(2026, 1, 31), None),
        (date(2026, 2, 9), None),
        (date(2026, 2, 10), None),
        (date(2026, 2, 14), Some(before_payment)),
        (date(2026, 2, 15), paid.recorded_at),
        (date(2026, 2, 15), None),
        (date(2026, 4, 1), None),
        (date(2026, 5, 2), None),
    ] {
        let request = v1::GetAgingRequest {
            as_of: day,
            known_at,
            consistency_token: reversed.consistency_token.clone(),
            ..Default::default()
        };
        let row = clients.query.get_aging(request).await?.into_inner().rows.into_iter().next().unwrap_or_default();
        let buckets = [row.not_due, row.d1_30, row.d31_60, row.d61_90, row.d91_plus, row.unapplied];
        assert_eq!(buckets.iter().sum::<i64>(), row.balance, "buckets and unapplied are the balance");
        let request = v1::ListOpenItemsRequest { account_id: "D-1".into(), as_of: day, known_at, ..Default::default() };
        let items = clients.query.list_open_items(request).await?.into_inner().items;
        assert_eq!(items.iter().map(|item| item.open_minor).sum::<i64>(), row.balance, "the items are the balance");
        figures.push((buckets, row.balance));
    }
    assert_eq!(
        figures,
        [
            ([0, 0, 0, 0, 0, 0], 0),
            ([10_000, 0, 0, 0, 0, 0], 10_000),
            ([0, 10_000, 0, 0, 0, 0], 10_000),
            ([0, 0, 0, 0, 0, -2_000], -2_000),
            ([0, 10_000, 0, 0, 0, 0], 10_000),
            ([0, 0, 0, 0, 0, -2_000], -2_000),
            ([0, 10_000, 0, 0, 0, 0], 10_000),
            ([0, 0, 10_000, 0, 0, 0], 10_000),
            ([0, 0, 0, 0, 10_000, 0], 10_000),
        ]
    );
    Ok(())
}

async fn rows(connection: &mut PgConnection) -> Result<Vec<String>, Failure> {
    let schema: String =
        sqlx::query_scalar("SELECT 'rm_' || number FROM saldo.live").fetch_one(&mut *connection).await?;
    let mut all = Vec::new();
    for table in [
        "checkpoints",
        "heads",
        "accounts",
        "agenda",
        "ledger",
        "items",
        "history",
        "reminders",
        "attempts",
        "parked",
        "personal_names",
        "personal_contact_points",
    ] {
        let statement = format!("SELECT t::text FROM {schema}.{table} t ORDER BY 1");
        for row in sqlx::query(AssertSqlSafe(statement)).fetch_all(&mut *connection).await? {
            all.push(format!("{table} {}", row.try_get::<String, _>(0)?));
        }
    }
    Ok(all)
}

pub async fn rebuild(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let mut clients = saldo.clients().await?;
    for n in 0..5 {
        let account = format!("D-{n}");
        clients.command.open_account(open("1", &account)).await?;
        clients.command.issue_invoice(invoice("2", &account, "F-1", 1_000 + n)).await?;
        clients.command.record_payment(payment("3", &account, "P-1", 400)).await?;
    }
    saldo.verify().await?;
    let mut connection = database(&saldo).await?;
    let before = rows(&mut connection).await?;
    assert!(before.len() > 50);
    saldo.succeed(&["rebuild"]).await?;
    assert_eq!(rows(&mut connection).await?, before, "made anew, the rows are the same");
    // The projector has moved over to the new build.
    clients.command.issue_invoice(invoice("4", "D-1", "F-2", 1)).await?;
    let report = saldo.verify().await?;
    // 16 times Genesis, and the probe of the log's clock with which the instance began.
    assert_eq!((report["differences"].as_u64(), report["records"].as_u64()), (Some(0), Some(16 + 16 + 1)), "{report}");
    assert_eq!(report["void"], serde_json::json!({ "a probe of the clock": 1 }));
    let builds: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'rm\\_%'")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(builds, 1, "the former build is gone");
    Ok(())
}

/// Accounts with an invoice and a payment each: three records an account.
async fn history(saldo: &Saldo, accounts: std::ops::Range<u64>) -> Outcome {
    let clients = saldo.clients().await?;
    let all = accounts.map(|number| {
        let (mut clients, account) = (clients.clone(), format!("D-{number}"));
        async move {
            clients.command.open_account(open("1", &account)).await?;
            clients.command.issue_invoice(invoice("2", &account, "F-1", 1_000)).await?;
            clients.command.record_payment(payment("3", &account, "P-1", 400)).await?;
            Ok::<_, Failure>(())
        }
    });
    futures::future::try_join_all(all).await?;
    Ok(())
}

async fn live(connection: &mut PgConnection) -> Result<String, Failure> {
    Ok(sqlx::query_scalar("SELECT 'rm_' || number FROM saldo.live").fetch_one(connection).await?)
}

/// How many records the build beside the live one holds.
async fn half_built(url: &str) -> Result<Option<i64>, Failure> {
    let mut connection = PgConnection::connect(url).await?;
    let begun: Option<String> =
        sqlx::query_scalar("SELECT 'rm_' || number FROM saldo.rebuild").fetch_optional(&mut connection).await?;
    let Some(schema) = begun else { return Ok(None) };
    let statement = format!("SELECT sum(next_offset)::bigint FROM {schema}.checkpoints");
    Ok(Some(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut connection).await?))
}

/// A rebuild, slow enough to be met in the middle.
fn slowly(saldo: &Saldo) -> Result<std::process::Child, Failure> {
    let mut command = saldo.prepare(&["rebuild", "--records-per-second", "40"])?;
    Ok(command.stderr(std::process::Stdio::null()).spawn()?)
}

pub async fn rebuild_resumed(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    history(&saldo, 0..200).await?;
    let all = saldo.verify().await?["records"].as_u64().ok_or("records")?;
    let url = dev_setting(&saldo.config, "url")?;
    let mut connection = database(&saldo).await?;
    let before = (live(&mut connection).await?, rows(&mut connection).await?);

    let has_come = async |least: i64| {
        eventually(&format!("{least} records are rebuilt"), || async {
            matches!(half_built(&url).await, Ok(Some(records)) if records >= least)
        })
        .await
    };
    let mut first = slowly(&saldo)?;
    has_come(1).await?;
    std::process::Command::new("kill").args(["-INT", &first.id().to_string()]).status()?;
    let ended = tokio::task::spawn_blocking(move || first.wait()).await??;
    assert_eq!(ended.code(), Some(130), "it says that it was interrupted");
    let interrupted = half_built(&url).await?.ok_or("it is left")?;

    let mut second = slowly(&saldo)?;
    has_come(interrupted + 1).await?;
    second.kill()?;
    second.wait()?;
    let killed = half_built(&url).await?.ok_or("it is left")?;
    assert!(killed > interrupted && killed < all.cast_signed(), "{interrupted}, {killed}");
    assert_eq!((live(&mut connection).await?, rows(&mut connection).await?), before, "the live ones stand");

    let third = saldo.command(&["rebuild", "--json"]).await?;
    let said = String::from_utf8(third.stderr)?;
    let rebuilt: serde_json::Value = serde_json::from_slice(&third.stdout)?;
    assert_eq!((rebuilt["end"].as_str(), rebuilt["records"].as_u64()), (Some("swapped"), Some(all)), "{rebuilt}");
    assert_eq!(rebuilt["compared_at"].as_u64(), Some(all), "{rebuilt}");
    let first_line: serde_json::Value = serde_json::from_str(said.lines().next().ok_or("no progress")?)?;
    assert!(first_line["done"].as_i64() >= Some(killed), "it went on: {said}");
    assert_ne!(live(&mut connection).await?, before.0);
    assert_eq!(rows(&mut connection).await?, before.1);
    saldo.verify().await?;
    Ok(())
}

pub async fn rebuild_different(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    history(&saldo, 0..3).await?;
    saldo.verify().await?;
    let mut connection = database(&saldo).await?;
    let before = live(&mut connection).await?;
    for change in ["ledger SET amount_minor = 7 WHERE account = 'D-1'", "personal_names SET display_name = 'Eva'"] {
        sqlx::query(AssertSqlSafe(format!("UPDATE {before}.{change}"))).execute(&mut connection).await?;
    }
    let output = saldo.command(&["rebuild"]).await?;
    let said = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("ledger") && said.contains("D-1") && said.contains("personal_names"), "{said}");
    assert!(!said.contains("Eva") && !said.contains("Ana"), "values of personal data are not repeated: {said}");
    assert_eq!(live(&mut connection).await?, before, "the live ones stay in force");
    let said = saldo.succeed(&["rebuild", "--accept-differences"]).await?;
    assert!(said.contains("in force"), "{said}");
    assert_ne!(live(&mut connection).await?, before);
    saldo.verify().await?;
    Ok(())
}

pub async fn rebuild_under_load(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    history(&saldo, 0..50).await?;
    saldo.verify().await?;
    let rebuilding = async {
        for _ in 0..3 {
            let rebuilt: serde_json::Value =
                serde_json::from_str(&saldo.succeed(&["rebuild", "--json", "--records-per-second", "300"]).await?)?;
            assert_eq!((rebuilt["end"].as_str(), rebuilt["differences"].as_u64()), (Some("swapped"), Some(0)));
            assert!(rebuilt["compared_at"].as_u64() > Some(0), "{rebuilt}");
        }
        Ok::<_, Failure>(())
    };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let commands = async {
        let mut next = 50;
        while !*stopped.borrow() {
            history(&saldo, next..next + 5).await?;
            next += 5;
        }
        Ok::<_, Failure>(next)
    };
    let rebuilding = async {
        let outcome = rebuilding.await;
        let _ = stop.send(true);
        outcome
    };
    let (_, accounts) = futures::future::try_join(rebuilding, commands).await?;
    let report = saldo.verify().await?;
    assert_eq!((report["differences"].as_u64(), report["accounts"].as_u64()), (Some(0), Some(accounts)), "{report}");
    Ok(())
}

/// A reminder waits, since the mail server put it off. The rebuild is no reason to try again.
pub async fn rebuild_is_silent(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let server = Moody::start(0).await?;
    let saldo = Saldo::start(&dir.path().join("data"), &["--smtp", &server.url()]).await?;
    let clients = saldo.clients().await?;
    talking::speaking(&saldo, dir.path()).await?;
    talking::debtor(&clients, "D-1", "later@example.com", 10).await?;
    talking::becomes(&clients, "D-1", "deferred").await?;
    let heard = server.heard();
    let before = saldo.verify().await?;
    saldo.succeed(&["rebuild"]).await?;
    // The projector, scheduler and dispatcher have moved over once this command's commit is projected.
    let mut clients = saldo.clients().await?;
    clients.command.open_account(open("1", "D-2")).await?;
    let after = saldo.verify().await?;
    assert_eq!(after["records"].as_u64(), before["records"].as_u64().map(|records| records + 1), "{after}");
    assert_eq!(server.heard(), heard);
    let waits = talking::becomes(&clients, "D-1", "deferred").await?;
    assert_eq!(waits.attempts, 1);
    Ok(())
}

/// The check finds every change of the rows, and says so by its exit code.
pub async fn tampered(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let mut clients = saldo.clients().await?;
    clients.command.open_account(open("1", "D-1")).await?;
    clients.command.issue_invoice(invoice("2", "D-1", "F-1", 1_000)).await?;
    saldo.verify().await?;
    let mut connection = database(&saldo).await?;
    let schema: String =
        sqlx::query_scalar("SELECT 'rm_' || number FROM saldo.live").fetch_one(&mut connection).await?;
    for (change, back) in [
        ("ledger SET due_date = due_date - 90", "ledger SET due_date = due_date + 90"),
        ("items SET open_minor = open_minor - 1", "items SET open_minor = open_minor + 1"),
        ("history SET summary = summary || '.'", "history SET summary = rtrim(summary, '.')"),
        ("accounts SET country = 'FR'", "accounts SET country = 'ES'"),
    ] {
        sqlx::query(AssertSqlSafe(format!("UPDATE {schema}.{change}"))).execute(&mut connection).await?;
        let output = saldo.command(&["verify", "--json"]).await?;
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        assert!(report["differences"].as_u64() > Some(0) && output.status.code() == Some(3), "{change}: {report}");
        sqlx::query(AssertSqlSafe(format!("UPDATE {schema}.{back}"))).execute(&mut connection).await?;
        saldo.verify().await?;
    }
    Ok(())
}

pub async fn tampered_name(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    history(&saldo, 0..2).await?;
    saldo.verify().await?;
    let mut connection = database(&saldo).await?;
    let schema = live(&mut connection).await?;
    for change in [
        "UPDATE {s}.personal_names SET display_name = 'Eva' WHERE account = 'D-1'",
        "UPDATE {s}.personal_contact_points SET address = 'eva@example.com' WHERE account = 'D-1'",
        "DELETE FROM {s}.personal_names WHERE account = 'D-1'",
    ] {
        let changed = sqlx::query(AssertSqlSafe(change.replace("{s}", &schema))).execute(&mut connection).await?;
        assert_eq!(changed.rows_affected(), 1, "{change}");
        let output = saldo.command(&["verify", "--json"]).await?;
        let said = String::from_utf8(output.stdout)?;
        assert_eq!(output.status.code(), Some(3), "{change}: {said}");
        assert!(said.contains("acme/D-1") && !said.contains("Eva") && !said.contains("eva@"), "{said}");
    }
    saldo.command(&["rebuild", "--accept-differences"]).await?;
    saldo.verify().await?;
    Ok(())
}

pub async fn role(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let mut clients = saldo.clients().await?;
    clients.command.open_account(open("1", "D-1")).await?;
    clients.command.issue_invoice(invoice("2", "D-1", "F-1", 1_234)).await?;
    saldo.verify().await?;
    let mut connection = database(&saldo).await?;
    let schema: String =
        sqlx::query_scalar("SELECT 'rm_' || number FROM saldo.live").fetch_one(&mut connection).await?;
    let names: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {schema}.personal_names")))
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(names, 1, "there is something to hide");
    sqlx::query("SET ROLE saldo_bi").execute(&mut connection).await?;
    for view in [
        "items",
        "open_items",
        "open_items_as_of('2026-02-01')",
        "aging",
        "aging_as_of('2026-02-01')",
        "debtor_history",
        "ledger",
        "accounts",
        "parked",
    ] {
        let found =
            sqlx::query(AssertSqlSafe(format!("SELECT t::text FROM bi.{view} t"))).fetch_all(&mut connection).await?;
        assert_eq!(found.is_empty(), view == "parked", "{view}");
        for row in found {
            let text: String = row.try_get(0)?;
            assert!(!text.contains("Ana") && !text.contains("example.com"), "{text}");
        }
    }
    for forbidden in [
        format!("SELECT * FROM {schema}.personal_names"),
        format!("SELECT * FROM {schema}.ledger"),
        "UPDATE bi.accounts SET kind = ''".to_owned(),
        "CREATE TABLE bi.mine ()".to_owned(),
    ] {
        let refused = sqlx::query(AssertSqlSafe(forbidden.clone())).execute(&mut connection).await;
        assert!(refused.is_err_and(|error| error.to_string().contains("permission denied")), "{forbidden}");
    }
    Ok(())
}
