//! Rows from a log, checked and rebuilt.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp, civil::date};
use saldo_domain::{
    dunning::{ContactDeferred, ContactWithheld, DeferredReason, Notice, ReminderDue, Tone, WithheldReason},
    event::Event,
    party::Channel,
};
use saldo_facts::{CatalogVersions, Commit, DecodeError, event_type};
use saldo_keyring::Keyring;
use saldo_log::{
    Log, NewRecord,
    embedded::EmbeddedLog,
    frame::{self, Kind},
    genesis::{self, Identity},
    keys::LogKeys,
};
use saldo_projector::{End, Phase, Progress, ProjectorError, Rebuild, Report, rebuild, verify, verify_within};
use saldo_readmodel::ReadModelError;
use saldo_test_postgres::{Failure, Outcome, on_a_database};
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let name = "what_stands_elsewhere_than_the_log_says_is_found_and_nothing_is_changed";
    saldo_test_postgres::main([on_a_database(name, async |database| checked(&database.url, &database.dir).await)])
}

async fn checked(url: &str, dir: &Path) -> Outcome {
    let log = EmbeddedLog::connect(url, "accounts").await?;
    let identity = genesis::create(&log, 1, &LogKeys::fixed([3; 32])).await?;
    for (account, events) in histories() {
        append(&log, &identity, account, events).await?;
    }
    let pool = PgPool::connect(url).await?;
    let keys = Keyring::open(&dir.join("keys"), identity.log_id, saldo_keyring::WhereMissing::Create)?;
    leaves_what_is_live(&log, &identity, &pool).await?;
    compares_what_was_left(&log, &identity, &pool, &keys).await?;
    replaces_an_earlier_form(&log, &identity, &pool, &keys).await?;
    renews_what_is_older(&log, &identity, &pool, &keys).await?;
    heals_what_an_older_reader_parked(&log, &identity, &pool, &keys).await?;
    finds_reminders(&log, &identity, &pool, &keys).await?;
    batches_are_bounded_by_bytes(&log, &identity, &pool, &keys).await?;
    what_is_in_force_is_not_made_again(&log, &identity, &pool, &keys).await?;
    a_swap_lets_queries_pass(&log, &identity, &pool, &keys).await?;
    wording_is_not_compared(&log, &identity, &pool, &keys).await?;
    pool.close().await;
    Ok(())
}

/// A check of no read models, or of some that another release made, makes none.
async fn leaves_what_is_live(log: &EmbeddedLog, identity: &Identity, pool: &PgPool) -> Outcome {
    let refused = async || -> Result<ReadModelError, Failure> {
        match verify(log, identity, pool, None, Duration::ZERO, |_| {}).await {
            Err(ProjectorError::ReadModel(error)) => Ok(error),
            other => Err(format!("{other:?}").into()),
        }
    };
    assert!(matches!(refused().await?, ReadModelError::Missing));
    let live = saldo_readmodel::ensure(pool, identity).await?;
    let form: i32 = sqlx::query_scalar("SELECT format FROM saldo.live").fetch_one(pool).await?;
    let become_form =
        async |form: i32| sqlx::query("UPDATE saldo.live SET format = $1").bind(form).execute(pool).await.map(|_| ());
    become_form(form - 1).await?;
    assert!(matches!(refused().await?, ReadModelError::Older(older) if older == form - 1));
    become_form(form + 1).await?;
    assert!(matches!(refused().await?, ReadModelError::Newer(newer) if newer == form + 1));
    become_form(form).await?;
    assert_eq!(saldo_readmodel::ensure(pool, identity).await?, live, "it is the one in force still");
    Ok(())
}

/// A rebuild that was interrupted further in the log than the live build, which is empty, waits for it and compares.
async fn compares_what_was_left(log: &EmbeddedLog, identity: &Identity, pool: &PgPool, keys: &Keyring) -> Outcome {
    let options = Rebuild::default();
    let interrupt = |progress: Progress| {
        if progress.phase == Phase::Indexing {
            options.pause.cancel();
        }
    };
    let left = rebuild(log, identity, pool, keys, &options, interrupt).await?;
    assert_eq!((left.end, left.records), (End::Paused, 7));
    let go_on = async || rebuild(log, identity, pool, keys, &Rebuild::default(), |_| {}).await;
    assert!(matches!(go_on().await, Err(ProjectorError::LiveStandsStill)), "no projector works");
    let cancel = CancellationToken::new();
    let (log, identity, pool, keys) = (Arc::new(log.clone()), identity.clone(), pool.clone(), keys.clone());
    let projector = tokio::spawn(saldo_projector::run(log, identity, pool, keys, cancel.clone()));
    let rebuilt = go_on().await?;
    assert_eq!((rebuilt.end, rebuilt.compared_at, rebuilt.found.differences), (End::Swapped, Some(7), 0));
    cancel.cancel();
    projector.await??;
    Ok(())
}

/// Tables of an earlier release are in force until all tables of this one stand beside them. There is nothing to compare.
async fn replaces_an_earlier_form(log: &EmbeddedLog, identity: &Identity, pool: &PgPool, keys: &Keyring) -> Outcome {
    let live = async || sqlx::query_as::<_, (i64, i32)>("SELECT number, format FROM saldo.live").fetch_one(pool).await;
    let (number, form) = live().await?;
    sqlx::query("UPDATE saldo.live SET format = format - 1").execute(pool).await?;
    let options = Rebuild::default();
    let interrupt = |progress: Progress| {
        if progress.phase == Phase::Indexing {
            options.pause.cancel();
        }
    };
    assert_eq!(rebuild(log, identity, pool, keys, &options, interrupt).await?.end, End::Paused);
    assert_eq!(live().await?, (number, form - 1));
    let rebuilt = rebuild(log, identity, pool, keys, &Rebuild::default(), |_| {}).await?;
    assert_eq!((rebuilt.end, rebuilt.compared_at, rebuilt.records), (End::Swapped, None, 7));
    let (new, new_form) = live().await?;
    assert!(new != number && new_form == form);
    Ok(())
}

/// One model of an earlier release and one that is missing are made anew by the projector, beside the live ones. These
/// answer until then, and go on; the tables of all other models are the same ones afterwards.
async fn renews_what_is_older(log: &EmbeddedLog, identity: &Identity, pool: &PgPool, keys: &Keyring) -> Outcome {
    let number = async || sqlx::query_scalar::<_, i64>("SELECT number FROM saldo.live").fetch_one(pool).await;
    let first = number().await?;
    let table = async |build: i64, table: &str| {
        let oid = format!("SELECT 'rm_{build}.{table}'::regclass::oid::bigint");
        sqlx::query_scalar::<_, i64>(AssertSqlSafe(oid)).fetch_one(pool).await
    };
    let (reminders, attempts) = (table(first, "reminders").await?, table(first, "attempts").await?);
    sqlx::raw_sql(AssertSqlSafe(format!(
        "UPDATE rm_{first}.models SET version = version - 1 WHERE model = 'reminders';
         UPDATE rm_{first}.reminders SET tone = 'as the earlier release had it';
         DELETE FROM rm_{first}.models WHERE model = 'agenda';
         DROP TABLE rm_{first}.agenda;
         INSERT INTO rm_{first}.parked VALUES ('acme', 'D-0', '2026-03-02', 'in the words of the earlier release', 0, 1)"
    )))
    .execute(pool)
    .await?;
    let refused = verify(log, identity, pool, None, Duration::ZERO, |_| {}).await.expect_err("not all can be compared");
    assert!(matches!(refused, ProjectorError::ReadModel(ReadModelError::OlderModel(_))), "{refused}");
    append(log, identity, "D-4", vec![due(1)]).await?;
    let cancel = CancellationToken::new();
    let run = saldo_projector::run(Arc::new(log.clone()), identity.clone(), pool.clone(), keys.clone(), cancel.clone());
    let projector = tokio::spawn(run);
    let mut served = 0;
    let second = loop {
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM bi.reminders").fetch_one(pool).await?;
        assert!(rows >= 4, "reminders are served all the while");
        served += 1;
        match number().await? {
            same if same == first => tokio::time::sleep(Duration::from_millis(5)).await,
            other => break other,
        }
        assert!(served < 4_000, "the new models come into force");
    };
    assert_ne!(table(second, "reminders").await?, reminders);
    assert_eq!(table(second, "attempts").await?, attempts, "what is of this release stays");
    let parked = sqlx::query("DELETE FROM bi.parked WHERE account = 'D-0'").execute(pool).await?;
    assert_eq!(parked.rows_affected(), 1, "an account that stood still does so still");
    append(log, identity, "D-5", vec![due(1)]).await?;
    let report = verify(log, identity, pool, Some(keys), Duration::from_secs(10), |_| {}).await?;
    assert_eq!((report.found.differences, report.behind), (0, 0), "{report:?}");
    let older: i64 =
        sqlx::query_scalar("SELECT count(*) FROM saldo.models WHERE superseded_by IS NOT NULL").fetch_one(pool).await?;
    assert_eq!(older, 0);
    cancel.cancel();
    projector.await??;
    Ok(())
}

/// However large records are, one transaction holds no more than a batch and what is read at once.
async fn batches_are_bounded_by_bytes(
    log: &EmbeddedLog,
    identity: &Identity,
    pool: &PgPool,
    keys: &Keyring,
) -> Outcome {
    const LARGE: usize = 800_000;
    append_with(
        log,
        identity,
        "D-8",
        std::iter::once(due(1)).chain((1..40).map(|_| waits())).collect(),
        vec![0; LARGE],
    )
    .await?;
    let cancel = CancellationToken::new();
    let run = saldo_projector::run(Arc::new(log.clone()), identity.clone(), pool.clone(), keys.clone(), cancel.clone());
    let projector = tokio::spawn(run);
    let report = verify(log, identity, pool, Some(keys), Duration::from_secs(20), |_| {}).await?;
    assert_eq!((report.found.differences, report.behind), (0, 0), "{report:?}");
    let number: i64 = sqlx::query_scalar("SELECT number FROM saldo.live").fetch_one(pool).await?;
    let most: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT max(count) FROM (SELECT count(*) FROM rm_{number}.history WHERE account = 'D-8' GROUP BY xmin::text) AS one"
    )))
    .fetch_one(pool)
    .await?;
    let bound = 2 * saldo_log::READ_BYTES + 2 * LARGE;
    assert!(most as usize * LARGE < bound, "{most} records of {LARGE} bytes in one transaction");
    cancel.cancel();
    projector.await??;
    Ok(())
}

/// A release before `contact.deferred`.
fn older_reader(payload: &[u8]) -> Result<Commit, DecodeError> {
    let commit = Commit::decode(payload)?;
    if commit.events.iter().any(|event| event_type(event) == "contact.deferred") {
        return Err(DecodeError::UnknownVersion { kind: "contact.deferred".into(), version: 1 });
    }
    Ok(commit)
}

/// A projector of an older release parks an account whose fact it does not know. The newer one reads that account again by
/// itself, and its rows are those of the log.
async fn heals_what_an_older_reader_parked(
    log: &EmbeddedLog,
    identity: &Identity,
    pool: &PgPool,
    keys: &Keyring,
) -> Outcome {
    append(log, identity, "D-6", vec![due(1), waits(), withheld(WithheldReason::Dropped)]).await?;
    append(log, identity, "D-7", vec![due(1)]).await?;
    let parked = async |expected: &[&str]| -> Outcome {
        for _ in 0..2_000 {
            let found: Vec<String> = sqlx::query_scalar("SELECT account FROM bi.parked").fetch_all(pool).await?;
            let reached: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM bi.accounts WHERE account = 'D-7')")
                .fetch_one(pool)
                .await?;
            if found == expected && reached {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(format!("these are not the parked accounts: {expected:?}").into())
    };
    for (decode, expected) in [(older_reader as saldo_projector::Decode, &["D-6"][..]), (Commit::decode, &[])] {
        let cancel = CancellationToken::new();
        let (log, keys) = (Arc::new(log.clone()), keys.clone());
        let run = saldo_projector::run_reading(decode, log, identity.clone(), pool.clone(), keys, cancel.clone());
        let projector = tokio::spawn(run);
        parked(expected).await?;
        cancel.cancel();
        projector.await??;
    }
    let report = verify(log, identity, pool, Some(keys), Duration::from_secs(10), |_| {}).await?;
    assert_eq!((report.found.differences, report.behind, report.parked), (0, 0, 0), "{report:?}");
    Ok(())
}

async fn finds_reminders(log: &EmbeddedLog, identity: &Identity, pool: &PgPool, keys: &Keyring) -> Outcome {
    let check = async || -> Result<Report, Failure> {
        Ok(verify(log, identity, pool, Some(keys), Duration::from_secs(10), |_| {}).await?)
    };
    let report = check().await?;
    assert_eq!((report.found.differences, report.events), (0, 12), "{report:?}");
    let number: i64 = sqlx::query_scalar("SELECT number FROM saldo.live").fetch_one(pool).await?;
    for (change, back) in [
        ("attempts = 1", "attempts = 0"),
        ("needs_person = NOT needs_person", "needs_person = NOT needs_person"),
        ("until = until + interval '1 hour'", "until = until - interval '1 hour'"),
    ] {
        let update = |change| AssertSqlSafe(format!("UPDATE rm_{number}.reminders SET {change}"));
        sqlx::query(update(change)).execute(pool).await?;
        let report = check().await?;
        // Rows are compared with the projections' own fold too; this is about the domain's.
        let by_domain = report.found.examples.iter().any(|one| one.what == "reminders" && !one.account.is_empty());
        assert!(by_domain, "{change}: {report:?}");
        sqlx::query(update(back)).execute(pool).await?;
        assert_eq!(check().await?.found.differences, 0, "{back}");
    }
    // With memory for one account at a time the log is read again and again, and all of them are compared.
    let within = async |at_once| verify_within(at_once, log, identity, pool, Some(keys), Duration::ZERO, |_| {}).await;
    assert_eq!(within(1).await?.found.differences, 0);
    let change = format!("UPDATE rm_{number}.reminders SET attempts = attempts + 1");
    let changed = sqlx::query(AssertSqlSafe(change)).execute(pool).await?.rows_affected();
    let (at_once, one_by_one) = (within(usize::MAX).await?, within(1).await?);
    assert_eq!(at_once.found.differences, one_by_one.found.differences, "{at_once:?}, {one_by_one:?}");
    assert!(at_once.found.differences >= 2 * changed);
    sqlx::query(AssertSqlSafe(format!("UPDATE rm_{number}.reminders SET attempts = attempts - 1")))
        .execute(pool)
        .await?;
    Ok(())
}

/// Somebody else's rebuild that was waited for has made all that was lacking.
async fn what_is_in_force_is_not_made_again(
    log: &EmbeddedLog,
    identity: &Identity,
    pool: &PgPool,
    keys: &Keyring,
) -> Outcome {
    let number = async || sqlx::query_scalar::<_, i64>("SELECT number FROM saldo.live").fetch_one(pool).await;
    let before = number().await?;
    let options = Rebuild { only_lacking: true, ..Rebuild::default() };
    let rebuilt = rebuild(log, identity, pool, keys, &options, |_| {}).await?;
    assert_eq!((rebuilt.end, rebuilt.records, number().await?), (End::InForce, 0, before));
    Ok(())
}

/// An analyst's long query holds up the swap, and the swap holds up no other query for long.
async fn a_swap_lets_queries_pass(log: &EmbeddedLog, identity: &Identity, pool: &PgPool, keys: &Keyring) -> Outcome {
    let mut analyst = pool.begin().await?;
    sqlx::query("SELECT count(*) FROM bi.aging").fetch_one(&mut *analyst).await?;
    let (swapping, mut swaps) = tokio::sync::watch::channel(false);
    let tell = move |progress: Progress| {
        if progress.phase == Phase::Swapping {
            swapping.send_replace(true);
        }
    };
    let options = Rebuild::default();
    let rebuilt = rebuild(log, identity, pool, keys, &options, tell);
    let others = async {
        swaps.wait_for(|swaps| *swaps).await?;
        for _ in 0..3 {
            let query = sqlx::query("SELECT count(*) FROM bi.aging").fetch_one(pool);
            tokio::time::timeout(Duration::from_secs(5), query).await??;
            // Until the next try of the swap has begun to wait.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        analyst.rollback().await?;
        Ok::<_, Failure>(())
    };
    let (rebuilt, others) = tokio::join!(rebuilt, others);
    others?;
    assert_eq!(rebuilt?.end, End::Swapped);
    Ok(())
}

/// The reason of a parked account is for people. Another release may word it otherwise, and the rows are the same.
async fn wording_is_not_compared(log: &EmbeddedLog, identity: &Identity, pool: &PgPool, keys: &Keyring) -> Outcome {
    let key = "acme/D-9";
    let parent = frame::first_parent(&identity.log_id, key);
    let value = frame::encode(Kind::Commit, "acme", "D-9", 1, parent, b"no commit", &identity.keys);
    log.append(vec![NewRecord { partition: 0, key: key.into(), value: value.into(), trace: None }]).await?;
    let cancel = CancellationToken::new();
    let run = saldo_projector::run(Arc::new(log.clone()), identity.clone(), pool.clone(), keys.clone(), cancel.clone());
    let projector = tokio::spawn(run);
    let report = verify(log, identity, pool, Some(keys), Duration::from_secs(10), |_| {}).await?;
    assert_eq!((report.found.differences, report.behind, report.parked), (0, 0, 1), "{report:?}");
    cancel.cancel();
    projector.await??;
    let number: i64 = sqlx::query_scalar("SELECT number FROM saldo.live").fetch_one(pool).await?;
    let reworded = format!("UPDATE rm_{number}.parked SET reason = 'in other words' WHERE account = 'D-9'");
    assert_eq!(sqlx::query(AssertSqlSafe(reworded)).execute(pool).await?.rows_affected(), 1);
    let report = verify(log, identity, pool, Some(keys), Duration::ZERO, |_| {}).await?;
    assert_eq!(report.found.differences, 0, "{report:?}");
    let rebuilt = rebuild(log, identity, pool, keys, &Rebuild::default(), |_| {}).await?;
    assert_eq!((rebuilt.end, rebuilt.found.differences), (End::Swapped, 0));
    Ok(())
}

fn due(reminder: u64) -> Event {
    let notice = Notice { step: "second".into(), tone: Tone::Firm, channel: Channel::Email, template: "second".into() };
    ReminderDue { reminder, notice, takes: Vec::new(), retry_of: None, note: None }.into()
}

fn waits() -> Event {
    let (reason, until) = (DeferredReason::OutsideHours, at(600));
    ContactDeferred { reminder: 1, attempt: 0, reason, until, failure: None, route: false }.into()
}

fn withheld(reason: WithheldReason) -> Event {
    ContactWithheld::of(1, reason, date(2026, 3, 2)).into()
}

fn histories() -> [(&'static str, Vec<Event>); 3] {
    let nobody = withheld(WithheldReason::NoContactPoint);
    [("D-1", vec![due(1)]), ("D-2", vec![due(1), waits()]), ("D-3", vec![due(1), nobody, due(2)])]
}

fn at(minute: i64) -> Timestamp {
    "2026-03-02T09:00:00Z".parse::<Timestamp>().expect("an instant") + SignedDuration::from_mins(minute)
}

async fn append(log: &EmbeddedLog, identity: &Identity, account: &str, events: Vec<Event>) -> Outcome {
    append_with(log, identity, account, events, Vec::new()).await
}

/// A commit for each event, with this command in it.
async fn append_with(
    log: &EmbeddedLog,
    identity: &Identity,
    account: &str,
    events: Vec<Event>,
    command: Vec<u8>,
) -> Outcome {
    let key = format!("acme/{account}");
    let mut parent = frame::first_parent(&identity.log_id, &key);
    for (version, event) in (1..).zip(events) {
        let commit = Commit {
            request_id: version.to_string(),
            method: "AdvanceTime".into(),
            fingerprint: [0; 32],
            command: command.clone(),
            sealed: Vec::new(),
            actor: "scheduler".into(),
            actor_roles: Vec::new(),
            recorded_at: at(version as i64),
            catalog: CatalogVersions { tenant: 1, system: 0 },
            next_wakeup: None,
            refusal: None,
            events: vec![event],
        };
        let value = frame::encode(Kind::Commit, "acme", account, version, parent, &commit.encode(), &identity.keys);
        parent = frame::hash(&value);
        log.append(vec![NewRecord { partition: 0, key: key.clone().into(), value: value.into(), trace: None }]).await?;
    }
    Ok(())
}
