//! The catalog from outside: the format that a log allows, and the day that it is for a creditor.

use std::{
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    sync::Arc,
};

use jiff::{
    Timestamp,
    civil::{Date, date as day},
    tz::TimeZone,
};
use prost::Message;
use saldo::client::{Clients, Target};
use saldo_api::v1;
use saldo_clock::Clock;
use saldo_domain::event::Event;
use saldo_facts::{CatalogEvent, Commit, Format, StoredEvent};
use saldo_keyring::{Keyring, WhereMissing};
use saldo_log::{Log, embedded::EmbeddedLog, genesis, keys::LogKeys};
use sqlx::{Connection, PgConnection};
use tonic::Code;

use crate::{
    Failure, Outcome,
    commands::{date, eur, invoice, open, reason},
    env::{Env, eventually, free_port},
    process::{Saldo, dev_setting, ready, saldo},
    talking, the_log,
};

/// `saldo serve` on a log and a database of its own, as an older release has left them: a Genesis and nothing else.
struct Served {
    dir: tempfile::TempDir,
    child: Child,
    target: Target,
    accounts: EmbeddedLog,
    catalog: EmbeddedLog,
    database: String,
}

impl Served {
    async fn start(env: &Env) -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let (log, database) = (env.database().await?, env.database().await?);
        let accounts = EmbeddedLog::connect(&log, "saldo.accounts").await?;
        let catalog = EmbeddedLog::connect(&log, "saldo.catalog").await?;
        let keys = LogKeys::at(dir.path().join("data/keyring").join(saldo_log::keys::FILE));
        keys.finish(genesis::begin(&accounts, 2, || keys.begin(), &keys).await?)?;
        let identity = genesis::complete(&accounts, &keys).await?;
        genesis::create(&catalog, 1, &keys).await?;
        // The key store was made by that release, too.
        Keyring::open(&dir.path().join("data/keyring"), identity.log_id, WhereMissing::Create)?;
        let public = dir.path().join("pub.pem");
        std::fs::write(&public, token(dir.path(), &["--public-key"])?.stdout)?;
        let listen = format!("127.0.0.1:{}", free_port()?);
        let settings = format!(
            "listen = '{listen}'\ndata_dir = '{}'\n[log]\nembedded_url = '{log}'\n[database]\nurl = '{database}'\n\
             [auth]\npublic_keys = ['{}']\n",
            dir.path().join("data").display(),
            public.display()
        );
        let config = config(dir.path());
        std::fs::write(&config, settings)?;
        let mut command = saldo(&["serve", "--config"])?;
        command.arg(&config).env("SALDO__TRACING__FILTER", "warn").stdout(Stdio::null());
        let child = command.spawn()?;
        let roles = ["--role", "writer", "--role", "reader", "--role", "operator"];
        let issued = token(dir.path(), &[&["--tenant", "acme"], &roles[..]].concat())?;
        let issued = String::from_utf8(issued.stdout)?.trim().to_owned();
        let target = Target::new(format!("http://{listen}"), issued);
        ready(&target.endpoint).await?;
        Ok(Self { dir, child, target, accounts, catalog, database })
    }

    /// The answer of `saldo log upgrade --json`.
    fn upgrade(&self) -> Result<serde_json::Value, Failure> {
        let output = saldo(&["log", "upgrade", "--json", "--config"])?.arg(config(self.dir.path())).output()?;
        serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(dir: &Path) -> PathBuf {
    dir.join("saldo.toml")
}

fn token(dir: &Path, args: &[&str]) -> Result<Output, Failure> {
    Ok(saldo(&["token", "--key"])?.arg(dir.join("key.pem")).args(args).output()?)
}

/// How many facts a log holds, as a release reads them that knows nothing beyond `format`.
async fn read_as<E: StoredEvent>(log: &dyn Log, format: Format) -> Result<usize, Failure> {
    let mut facts = 0;
    for commit in the_log::read(log).await?.chains.into_values().flatten() {
        facts += Commit::<E>::decode_as(format, &commit.encode_to_vec())?.events.len();
    }
    Ok(facts)
}

fn settings(id: &str, time_zone: &str) -> v1::PublishSettingsRequest {
    let settings = v1::TenantSettings {
        name: "Ejemplo, S.L.".into(),
        time_zone: time_zone.into(),
        languages: vec!["es".into()],
        fiscal_year_start: None,
        ..Default::default()
    };
    v1::PublishSettingsRequest { request_id: id.into(), settings: Some(settings) }
}

/// An older release can read everything that this release writes on its log. A newer fact is refused until the format is
/// raised; then the same request succeeds, and every account is decided anew.
pub async fn format_gate(env: Arc<Env>) -> Outcome {
    let served = Served::start(&env).await?;
    let mut clients = served.target.connect().await?;
    let opened = clients.command.open_account(open("1", "D-1")).await?.into_inner();
    assert_eq!((opened.policy_version, opened.system_version), (0, 0));
    clients.command.open_account(open("1", "D-2")).await?;
    let on = v1::SetSendingRequest { request_id: "on".into(), on: true };
    clients.catalog.set_sending(on).await?;
    for refused in [
        clients.command.place_hold(hold("h", "D-2")).await.map(|_| ()),
        clients.catalog.publish_settings(settings("s", "America/Chicago")).await.map(|_| ()),
    ] {
        let refused = refused.expect_err("a newer fact");
        assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "FORMAT_NOT_RAISED".into()));
        assert!(refused.message().contains("saldo log upgrade"), "{}", refused.message());
    }
    clients.command.issue_invoice(invoice("2", "D-2", "F-1", 100)).await?;
    assert_eq!(read_as::<Event>(&served.accounts, Format::FIRST).await?, 3, "an older release parks nothing");
    assert_eq!(read_as::<CatalogEvent>(&served.catalog, Format::FIRST).await?, 1);

    for (from, raised) in [(1, true), (2, false)] {
        let said = served.upgrade()?;
        let told = (said["from"].as_u64(), said["to"].as_u64(), said["raised"].as_bool());
        assert_eq!(told, (Some(from), Some(2), Some(raised)), "{said}");
    }
    // The refusals were no recorded answers: the same requests succeed.
    let published = clients.catalog.publish_settings(settings("s", "America/Chicago")).await?.into_inner();
    assert_eq!((published.version, published.replayed), (2, false));
    eventually("the format read by the command service", || {
        let mut clients = clients.clone();
        async move { clients.command.place_hold(hold("h", "D-2")).await.is_ok() }
    })
    .await?;
    let in_force = clients.catalog.get_catalog(v1::GetCatalogRequest {}).await?.into_inner();
    assert_eq!((in_force.format, in_force.system_version, in_force.version), (2, 1, 2));
    // Now an older release would park the account, and the creditor's chain.
    assert!(read_as::<Event>(&served.accounts, Format::FIRST).await.is_err());
    assert!(read_as::<CatalogEvent>(&served.catalog, Format::FIRST).await.is_err());

    // The other account is woken for both versions, by itself; nothing is due, so nothing is recorded.
    eventually("the account decided under both versions", || async {
        woken_under(&served.database).await.ok() == Some((2, 1))
    })
    .await?;
    assert_eq!(read_as::<Event>(&served.accounts, Format::NEWEST).await?, 4);

    let refused = token(served.dir.path(), &["--tenant", "system", "--role", "operator"])?;
    let why = String::from_utf8(refused.stderr)?;
    assert!(!refused.status.success() && why.contains("--tenant system is reserved"), "{why}");
    Ok(())
}

fn hold(id: &str, account: &str) -> v1::PlaceHoldRequest {
    let terms = v1::HoldTerms { invoices: Vec::new(), from: None, until: None, reason: "complaint".into() };
    v1::PlaceHoldRequest {
        request_id: id.into(),
        account_id: account.into(),
        hold_id: "H-1".into(),
        terms: Some(terms),
        note: String::new(),
    }
}

/// The versions of the catalog that the one account's newest answer used.
async fn woken_under(database: &str) -> Result<(i64, i64), Failure> {
    let mut connection = PgConnection::connect(database).await?;
    let used = "SELECT catalog_version, system_version FROM saldo.wakeups WHERE account = 'D-1'";
    Ok(sqlx::query_as(used).fetch_one(&mut connection).await?)
}

/// Due on 3 September, and it is half past eight in the evening of that day in Chicago, which is the fourth in UTC.
const DUE: Date = day(2026, 9, 3);

/// One question about a day has one answer: the ladder, the ageing over gRPC and the one in SQL count the creditor's days, by
/// one clock.
pub async fn u13_todays_day(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let evening = DUE.at(20, 30, 0, 0).to_zoned(TimeZone::get("America/Chicago")?)?.timestamp();
    let saldo = Saldo::start(&dir.path().join("data"), &[&ahead(evening)]).await?;
    let mut clients = saldo.clients().await?;
    let policy = talking::policy(dir.path(), |text| text)?;
    saldo.succeed(&["policy", "publish", &policy]).await?;
    let mut account = open("1", "D-1");
    if let Some(profile) = &mut account.profile {
        profile.time_zone = "America/Chicago".into();
    }
    clients.command.open_account(account).await?;
    let invoice = v1::IssueInvoiceRequest {
        request_id: "2".into(),
        account_id: "D-1".into(),
        number: "F-1".into(),
        total: eur(10_000),
        issue_date: date(2026, 8, 3),
        due_date: date(2026, 9, 3),
        ..Default::default()
    };
    let token = clients.command.issue_invoice(invoice).await?.into_inner().consistency_token;

    // Nothing is published: a creditor's day is UTC's, where the fourth has begun.
    let ages = ages(&saldo, &mut clients, &token).await?;
    assert_eq!(ages, ("2026-09-04".into(), (0, 10_000), (0, 10_000)), "UTC");
    saldo.succeed(&["settings", "set", "--time-zone", "America/Chicago", "--name", "Ejemplo, S.L."]).await?;
    eventually("the creditor's day in SQL", || async {
        let day = sql::<String>(&saldo, "SELECT today::text FROM bi.tenants WHERE tenant = 'acme'").await;
        day.is_ok_and(|day| day == "2026-09-03")
    })
    .await?;
    let ages = self::ages(&saldo, &mut clients, &token).await?;
    assert_eq!(ages, ("2026-09-03".into(), (10_000, 0), (10_000, 0)), "not due yet, whoever asks");
    let planned = saldo.succeed(&["preview", "D-1", "--json"]).await?;
    let planned: serde_json::Value = serde_json::from_str(&planned)?;
    let steps: Vec<&str> =
        planned["contacts"].as_array().into_iter().flatten().filter_map(|one| one["step"].as_str()).collect();
    assert!(!steps.is_empty() && steps[0] != "first-reminder", "the ladder stands at the due date: {planned}");

    let shown: serde_json::Value = serde_json::from_str(&saldo.succeed(&["settings", "show", "--json"]).await?)?;
    assert_eq!(
        (shown["time_zone"].as_str(), shown["fiscal_year_start"].as_str()),
        (Some("America/Chicago"), Some("01-01"))
    );
    saldo.succeed(&["settings", "set", "--fiscal-year-start", "04-01"]).await?;
    let shown = saldo.succeed(&["settings", "show"]).await?;
    assert!(shown.contains("04-01") && shown.contains("America/Chicago") && shown.contains("Ejemplo"), "{shown}");
    let odd = saldo.command(&["settings", "set", "--time-zone", "Mars/Olympus"]).await?;
    let why = String::from_utf8(odd.stderr)?;
    assert!(!odd.status.success() && why.contains("--time-zone"), "{why}");
    Ok(())
}

/// The flag that sets the clock of `dev` to an instant, past or to come.
fn ahead(instant: Timestamp) -> String {
    format!("--clock-ahead={}s", instant.duration_since(Clock::system().now()).as_secs())
}

/// Not due, and due for 1 to 30 days.
type Ages = (i64, i64);

/// The day that `saldo aging` speaks of, and the account's ages there and in `bi.aging`.
async fn ages(saldo: &Saldo, clients: &mut Clients, token: &str) -> Result<(String, Ages, Ages), Failure> {
    let request = v1::GetAgingRequest { consistency_token: token.into(), ..Default::default() };
    clients.query.get_aging(request).await?;
    let said: serde_json::Value = serde_json::from_str(&saldo.succeed(&["aging", "--json"]).await?)?;
    let row = &said["rows"][0];
    let over_grpc = (row["not_due"].as_i64().unwrap_or(-1), row["d1_30"].as_i64().unwrap_or(-1));
    let mut connection = PgConnection::connect(&dev_setting(&saldo.config, "url")?).await?;
    let in_sql =
        sqlx::query_as("SELECT not_due, d1_30 FROM bi.aging WHERE tenant = 'acme'").fetch_one(&mut connection).await?;
    Ok((said["as_of"].as_str().unwrap_or_default().to_owned(), over_grpc, in_sql))
}

async fn sql<T>(saldo: &Saldo, question: &'static str) -> Result<T, Failure>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let mut connection = PgConnection::connect(&dev_setting(&saldo.config, "url")?).await?;
    Ok(sqlx::query_scalar(question).fetch_one(&mut connection).await?)
}
