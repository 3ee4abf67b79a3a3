//! Reminders over gRPC, from rows as the projector writes them.

use std::process::ExitCode;

use saldo_api::v1::{self, query_service_server::QueryService};
use saldo_auth::{Caller, Role};
use saldo_facts::ConsistencyToken;
use saldo_log::{genesis::Identity, keys::LogKeys};
use saldo_query::QueryGrpc;
use saldo_test_postgres::{Database, Failure, Outcome, on_a_database};
use sqlx::{AssertSqlSafe, PgPool};
use tonic::{Code, Request};
use tonic_types::StatusExt;

const IDENTITY: Identity = Identity { log_id: [1; 16], partitions: 1, keys: LogKeys::NONE };

fn main() -> ExitCode {
    saldo_test_postgres::main([on_a_database("reminders_attempts_totals_and_o5_the_cost_of_aging", with_rows)])
}

async fn with_rows(database: Database) -> Outcome {
    let pool = PgPool::connect(&database.url).await?;
    let outcome = asked(&pool).await;
    pool.close().await;
    outcome
}

const ROWS: &str = "
INSERT INTO {s}.accounts (tenant, account, version)
SELECT tenant, account, 1 FROM (VALUES ('acme', 'D-1'), ('acme', 'D-2'), ('acme', 'D-3'), ('other', 'D-1')) a(tenant, account);
INSERT INTO {s}.personal_names VALUES ('acme', 'D-1', 'Ana Gil');
INSERT INTO {s}.personal_contact_points VALUES ('acme', 'D-1', 0, 'email', 'ana@example.com');
INSERT INTO {s}.parked VALUES ('acme', 'D-3', '2026-03-02', 'a newer event', 0, 0);
INSERT INTO {s}.reminders (tenant, account, reminder, step, tone, channel, template, due_at, retry_of, status, reason,
                           ready_at, until, attempts, changed_at, needs_person, version, partition, record_offset)
SELECT tenant, account, reminder, 'second', 'firm', 'email', 'second', due_at::timestamptz, retry_of, status, reason,
       NULL, NULL, 1, due_at::timestamptz, needs_person, 1, 0, 0
FROM (VALUES
    ('acme', 'D-1', 1, '2026-03-01T09:00:00Z', NULL::bigint, 'rejected', 'refused: rcpt 550', false),
    ('acme', 'D-1', 2, '2026-03-02T09:00:00.000001Z', 1, 'unknown', 'no_answer', true),
    ('acme', 'D-2', 1, '2026-03-02T09:00:00.000001Z', NULL, 'accepted', NULL, false),
    ('acme', 'D-2', 2, '2026-03-03T09:00:00Z', NULL, 'due', NULL, false),
    ('acme', 'D-3', 1, '2026-02-01T09:00:00Z', NULL, 'withheld', 'settled', false),
    ('other', 'D-1', 9, '2026-03-03T09:00:00Z', NULL, 'due', NULL, false))
  r(tenant, account, reminder, due_at, retry_of, status, reason, needs_person);
INSERT INTO {s}.attempts (tenant, account, reminder, attempt, step, tone, channel, recipient, template, language,
                          policy_version, started_at, send_before, status, reason, ended_at, message_id, message_sha256,
                          partition, record_offset)
VALUES ('acme', 'D-1', 1, 1, 'second', 'firm', 'email', '\\x0707', 'second', 'es', 7, '2026-03-01', '2026-03-01', 'rejected',
        'refused: rcpt 550', '2026-03-01', NULL, NULL, 0, 0),
       ('acme', 'D-1', 2, 1, 'second', 'firm', 'email', '\\x0707', 'second', 'es', 7, '2026-03-02', '2026-03-02', 'started',
        NULL, NULL, '<2@acme.example>', '\\x0909', 0, 0);
";

fn by<T>(roles: &[Role], message: T) -> Request<T> {
    of("acme", roles, message)
}

fn of<T>(tenant: &str, roles: &[Role], message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller { subject: "ana".into(), tenant: tenant.into(), roles: roles.to_vec() });
    request
}

fn listed(reminders: &[v1::ReminderView]) -> Vec<String> {
    reminders.iter().map(|one| format!("{} {} {}", one.account_id, one.reminder, one.status)).collect()
}

async fn asked(pool: &PgPool) -> Outcome {
    let schema = saldo_readmodel::ensure(pool, &IDENTITY).await?;
    sqlx::raw_sql(AssertSqlSafe(ROWS.replace("{s}", schema.name()))).execute(pool).await?;
    // A lock on a row would be a write, and fail here.
    let options = pool.connect_options().as_ref().clone().options([("default_transaction_read_only", "on")]);
    let service = QueryGrpc::new(PgPool::connect_with(options).await?, IDENTITY, || jiff::Timestamp::UNIX_EPOCH);
    personal(&service).await?;
    newest_first(&service).await?;
    outbox(&service).await?;
    of_one_account(&service).await?;
    totals(&service).await?;
    aging_in_pages(&service, pool, schema.name()).await?;
    o5_the_cost_of_aging_does_not_grow_with_its_pages(pool, schema.name()).await?;
    own_writes(pool, schema.name()).await?;
    too_slow(pool, schema.name()).await
}

/// A query that does not come to an end is ended, and said to be too slow.
async fn too_slow(pool: &PgPool, schema: &str) -> Outcome {
    let options = pool.connect_options().as_ref().clone().options([("statement_timeout", "50")]);
    let service = QueryGrpc::new(PgPool::connect_with(options).await?, IDENTITY, || jiff::Timestamp::UNIX_EPOCH);
    let mut holds = pool.begin().await?;
    sqlx::query(AssertSqlSafe(format!("LOCK TABLE {schema}.items"))).execute(&mut *holds).await?;
    let aging = by(&[Role::Reader], v1::GetAgingRequest::default());
    let status = service.get_aging(aging).await.expect_err("nobody gets the table");
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
    assert_eq!((status.code(), reason.as_deref()), (Code::DeadlineExceeded, Some("QUERY_TOO_SLOW")));
    holds.rollback().await?;
    service.get_aging(by(&[Role::Reader], v1::GetAgingRequest::default())).await?;
    Ok(())
}

async fn personal(service: &QueryGrpc) -> Outcome {
    let request = v1::GetAccountRequest { account_id: "D-1".into(), ..Default::default() };
    let account = service.get_account(by(&[Role::Reader], request)).await?.into_inner();
    assert_eq!((account.display_name.as_str(), account.contact_points.len()), ("Ana Gil", 1));
    Ok(())
}

/// Pages of any size show the same rows, and the first one the totals.
async fn aging_in_pages(service: &QueryGrpc, pool: &PgPool, schema: &str) -> Outcome {
    // Every third account owes nothing; every fifth has two currencies.
    sqlx::raw_sql(AssertSqlSafe(format!(
        "INSERT INTO {schema}.accounts (tenant, account, version) SELECT 'acme', 'O-' || n, 1 FROM generate_series(1, 60) n;
         INSERT INTO {schema}.items
         SELECT 'acme', 'O-' || n, 'invoice', c, 1, c, 2, '2026-01-01', '2026-02-01', n, n
         FROM generate_series(1, 60) n, unnest('{{EUR,USD}}'::text[]) c
         WHERE n % 3 <> 0 AND (c = 'EUR' OR n % 5 = 0);
         -- One that is not among the accounts yet, as while they are made anew.
         INSERT INTO {schema}.items VALUES ('acme', 'Z-9', 'invoice', 'EUR', 1, 'EUR', 2, '2026-01-01', '2026-02-01', 5, 5)"
    )))
    .execute(pool)
    .await?;
    let (rows, totals, pages) = all_pages(service, "acme", 1_000, true).await?;
    assert_eq!((rows.len(), totals.len(), pages), (49, 2, 1));
    assert_eq!(totals.iter().map(|total| total.balance).sum::<i64>(), rows.iter().map(|row| row.balance).sum::<i64>());
    for size in [1, 2, 7, 48, 49] {
        let (by_page, same, pages) = all_pages(service, "acme", size, true).await?;
        assert_eq!((by_page, same), (rows.clone(), totals.clone()), "{size} a page");
        assert_eq!(pages, 49usize.div_ceil(size as usize));
        assert_eq!(all_pages(service, "acme", size, false).await?, (rows.clone(), Vec::new(), pages), "without totals");
    }
    Ok(())
}

/// Every page of a creditor's ageing: the rows, the totals, and how many pages there were.
async fn all_pages(
    service: &QueryGrpc,
    tenant: &str,
    page_size: i32,
    with_totals: bool,
) -> Result<(Vec<v1::AgingRow>, Vec<v1::AgingRow>, usize), Failure> {
    let (mut rows, mut totals, mut page_token, mut pages) = (Vec::new(), Vec::new(), String::new(), 0);
    loop {
        let without_totals = !with_totals;
        let request = v1::GetAgingRequest { page_size, page_token, without_totals, ..Default::default() };
        let page = service.get_aging(of(tenant, &[Role::Reader], request)).await?.into_inner();
        rows.extend(page.rows);
        totals.extend(page.totals);
        (page_token, pages) = (page.next_page_token, pages + 1);
        if page_token.is_empty() {
            return Ok((rows, totals, pages));
        }
    }
}

/// All pages together compute each account once, however many they are; the totals compute each account once more.
async fn o5_the_cost_of_aging_does_not_grow_with_its_pages(pool: &PgPool, schema: &str) -> Outcome {
    sqlx::raw_sql(AssertSqlSafe(format!(
        "INSERT INTO {schema}.accounts (tenant, account, version) SELECT 'large', 'L-' || n, 1 FROM generate_series(1, 2000) n;
         INSERT INTO {schema}.items
         SELECT 'large', 'L-' || n, 'invoice', 'F', 1, 'EUR', 2, '2026-01-01', '2026-02-01', n, n FROM generate_series(1, 2000) n;
         ANALYZE"
    )))
    .execute(pool)
    .await?;
    let (two, pages) = rows_read(pool, schema, 1_000, false).await?;
    assert_eq!(pages, 2);
    let (hundred, pages) = rows_read(pool, schema, 20, false).await?;
    assert_eq!(pages, 100);
    let (with_totals, _) = rows_read(pool, schema, 20, true).await?;
    // A pass reads each account and its item. Besides, a page reads some rows, however many accounts there are.
    let (pass, of_a_page) = (2 * 2_000, 120);
    for (read, pages, passes) in [(two, 2, 1), (hundred, 100, 1), (with_totals, 100, 2)] {
        let most = passes * pass + pages * of_a_page;
        assert!(
            (pass..most).contains(&read),
            "{pages} pages read {read} rows, and {passes} passes are less than {most}"
        );
    }
    Ok(())
}

/// The rows that Postgres reads for all pages of the large creditor, and how many pages there are.
async fn rows_read(pool: &PgPool, schema: &str, page_size: i32, with_totals: bool) -> Result<(i64, usize), Failure> {
    let count = async || -> Result<i64, sqlx::Error> {
        let read = "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables
                    WHERE schemaname = $1";
        sqlx::query_scalar(read).bind(schema).fetch_one(pool).await
    };
    let before = count().await?;
    // A table that is small enough is read whole whatever is asked. The question is what the statement needs.
    let options = pool.connect_options().as_ref().clone().application_name("o5").options([("enable_seqscan", "off")]);
    let own = PgPool::connect_with(options).await?;
    let service = QueryGrpc::new(own.clone(), IDENTITY, || jiff::Timestamp::UNIX_EPOCH);
    let (rows, _, pages) = all_pages(&service, "large", page_size, with_totals).await?;
    assert_eq!(rows.len(), 2_000);
    own.close().await;
    // A session counts what it has read before it is gone.
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'o5'";
    while sqlx::query_scalar::<_, i64>(sessions).fetch_one(pool).await? > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok((count().await? - before, pages))
}

/// A model that stands still while it is made anew has not passed what came later; the others have.
async fn own_writes(pool: &PgPool, schema: &str) -> Outcome {
    let service = QueryGrpc::new(pool.clone(), IDENTITY, || jiff::Timestamp::UNIX_EPOCH);
    let token = ConsistencyToken { log_id: IDENTITY.log_id, partition: 0, offset: 7 }.to_string();
    sqlx::raw_sql(AssertSqlSafe(format!(
        "UPDATE {schema}.checkpoints SET next_offset = 8;
         UPDATE {schema}.models SET superseded_by = 2, stood_at = '{{7}}' WHERE model = 'history'"
    )))
    .execute(pool)
    .await?;
    let reminders = v1::ListRemindersRequest { consistency_token: token.clone(), ..Default::default() };
    service.list_reminders(by(&[Role::Reader], reminders)).await?;
    let history = v1::ListHistoryRequest { account_id: "D-1".into(), consistency_token: token, ..Default::default() };
    let reason = async |expected: &str| {
        let request = by(&[Role::Reader], history.clone());
        let status = service.list_history(request).await.expect_err(expected);
        let details = status.get_error_details();
        assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(expected), "{status}");
        assert!(details.retry_info().is_some(), "o11: it says when to ask again");
    };
    reason("READ_MODEL_BEHIND").await;
    // Before models had versions there was no such view.
    sqlx::query("ALTER VIEW saldo.models RENAME TO later_models").execute(pool).await?;
    reason("READ_MODELS_OLDER").await;
    sqlx::query("ALTER VIEW saldo.later_models RENAME TO models").execute(pool).await?;
    Ok(())
}

async fn newest_first(service: &QueryGrpc) -> Outcome {
    let mut token = String::new();
    let mut pages = Vec::new();
    loop {
        let request = v1::ListRemindersRequest { page_size: 2, page_token: token, ..Default::default() };
        let page = service.list_reminders(by(&[Role::Reader], request)).await?.into_inner();
        pages.push(listed(&page.reminders));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(
        pages,
        [vec!["D-2 2 due", "D-2 1 accepted"], vec!["D-1 2 unknown", "D-1 1 rejected"], vec!["D-3 1 withheld"]]
    );
    for token in ["nonsense", "1~2", "x~D-1~1", "9223372036854775807~D-1~1"] {
        let request = v1::ListRemindersRequest { page_token: token.into(), ..Default::default() };
        let refused = service.list_reminders(by(&[Role::Reader], request)).await.expect_err(token);
        assert_eq!(refused.code(), Code::InvalidArgument, "{token}");
    }
    Ok(())
}

async fn outbox(service: &QueryGrpc) -> Outcome {
    let request = v1::ListRemindersRequest { outbox: true, ..Default::default() };
    let page = service.list_reminders(by(&[Role::Operator], request)).await?.into_inner();
    assert_eq!(listed(&page.reminders), ["D-2 2 due", "D-1 2 unknown"]);
    let unknown = &page.reminders[1];
    assert!(unknown.needs_person && unknown.until.is_none());
    assert_eq!((unknown.reason.as_str(), unknown.retry_of, unknown.attempts), ("no_answer", 1, 1));
    Ok(())
}

async fn of_one_account(service: &QueryGrpc) -> Outcome {
    let request = v1::ListRemindersRequest { account_id: "D-1".into(), ..Default::default() };
    let page = service.list_reminders(by(&[Role::Operator], request)).await?.into_inner();
    assert_eq!(listed(&page.reminders), ["D-1 2 unknown", "D-1 1 rejected"]);
    let request = |account: &str| v1::ListAttemptsRequest { account_id: account.into(), ..Default::default() };
    let attempts = service.list_attempts(by(&[Role::Auditor], request("D-1"))).await?.into_inner().attempts;
    let [rejected, started] = attempts.as_slice() else { panic!("two attempts: {attempts:?}") };
    assert_eq!((rejected.status.as_str(), rejected.reason.as_str()), ("rejected", "refused: rcpt 550"));
    assert_eq!((rejected.recipient.as_slice(), rejected.message_sha256.len()), (&[7, 7][..], 0));
    assert_eq!((started.message_sha256.as_slice(), started.policy_version), (&[9, 9][..], 7));
    assert!(started.ended_at.is_none() && rejected.ended_at.is_some());
    for (account, code) in [("D-3", Code::FailedPrecondition), ("D-9", Code::NotFound), ("", Code::InvalidArgument)] {
        let refused = service.list_attempts(by(&[Role::Auditor], request(account))).await.expect_err(account);
        assert_eq!(refused.code(), code, "{account}");
    }
    Ok(())
}

async fn totals(service: &QueryGrpc) -> Outcome {
    let request = v1::GetContactTotalsRequest::default();
    let refused = service.get_contact_totals(by(&[], request.clone())).await.expect_err("nobody's token");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let totals = service.get_contact_totals(by(&[Role::Reader], request)).await?.into_inner();
    let by_step: Vec<_> = totals.by_step.iter().map(|one| (one.status.as_str(), one.reminders)).collect();
    assert_eq!(by_step, [("accepted", 1), ("due", 1), ("rejected", 1), ("unknown", 1), ("withheld", 1)]);
    let withheld: Vec<_> = totals.withheld.iter().map(|one| (one.reason.as_str(), one.reminders)).collect();
    assert_eq!(withheld, [("settled", 1)]);
    Ok(())
}
