//! Attacks by logins of the database that have a role of analysts. Such a login reads its own creditors and does nothing else.

use std::{sync::Arc, time::Duration};

use saldo_auth::Role;
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};

use crate::{
    Failure, Outcome,
    commands::{invoice, open},
    env::Env,
    process::{Saldo, dev_setting},
};

const LOGINS: &str = "
    CREATE ROLE of_acme LOGIN PASSWORD 'p' IN ROLE saldo_bi_tenant;
    CREATE ROLE of_nobody LOGIN PASSWORD 'p' IN ROLE saldo_bi_tenant;
    CREATE ROLE with_names LOGIN PASSWORD 'p' IN ROLE saldo_bi_tenant, saldo_bi_names;
    CREATE ROLE of_all LOGIN PASSWORD 'p' IN ROLE saldo_bi, saldo_bi_names;
    CREATE ROLE stranger LOGIN PASSWORD 'p';
    INSERT INTO saldo.readers VALUES ('of_acme', 'acme'), ('with_names', 'acme'), ('a role that was dropped', 'other');
";

struct Site {
    saldo: Saldo,
    owner: PgConnectOptions,
    _dir: tempfile::TempDir,
}

impl Site {
    /// Two creditors with a debtor each, and a login for each kind of analyst.
    async fn start() -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let saldo = Saldo::start(dir.path(), &[]).await?;
        let theirs = saldo.clients_as("other", &[Role::Writer], Duration::from_secs(3_600)).await?;
        for mut clients in [saldo.clients().await?, theirs] {
            clients.command.open_account(open("1", "D-1")).await?;
            clients.command.issue_invoice(invoice("2", "D-1", "F-1", 1_234)).await?;
        }
        saldo.verify().await?;
        let owner: PgConnectOptions = dev_setting(&saldo.config, "url")?.parse()?;
        sqlx::raw_sql(LOGINS).execute(&mut PgConnection::connect_with(&owner).await?).await?;
        Ok(Self { saldo, owner, _dir: dir })
    }

    async fn login(&self, role: &str, database: &str) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.owner.clone().username(role).password("p").database(database)).await
    }
}

async fn texts(connection: &mut PgConnection, sql: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await
}

/// A creditor's analyst sees that creditor's rows and no other's, however it asks.
pub async fn one_tenant(_: Arc<Env>) -> Outcome {
    let site = Site::start().await?;
    let mut of_acme = site.login("of_acme", "saldo").await?;
    let mut of_nobody = site.login("of_nobody", "saldo").await?;
    for view in [
        "accounts",
        "items",
        "ledger",
        "debtor_history",
        "open_items",
        "open_items_as_of('2026-02-01')",
        "aging",
        "aging_as_of('2026-02-01')",
    ] {
        let tenants = format!("SELECT DISTINCT tenant FROM bi_tenant.{view}");
        assert_eq!(texts(&mut of_acme, &tenants).await?, ["acme"], "{view}");
        assert_eq!(texts(&mut of_nobody, &tenants).await?, [""; 0], "{view}");
    }
    // A condition that fails, or says in its error what it read, is not asked about a row that is hidden.
    let divided = "SELECT tenant FROM bi_tenant.accounts WHERE 1 / (CASE WHEN tenant = 'other' THEN 0 ELSE 1 END) = 1";
    assert_eq!(texts(&mut of_acme, divided).await?, ["acme"]);
    let read = texts(&mut of_acme, "SELECT tenant FROM bi_tenant.accounts WHERE tenant::int = 1").await;
    let said = read.expect_err("no number").to_string();
    assert!(said.contains("acme") && !said.contains("other"), "{said}");
    // Names are for those who may see them, and of their tenants alone.
    let names = "SELECT tenant || ' ' || display_name FROM bi_names.debtors ORDER BY 1";
    let mut with_names = site.login("with_names", "saldo").await?;
    let seen = texts(&mut with_names, names).await?;
    assert!(seen.len() == 1 && seen[0].starts_with("acme Ana"), "{seen:?}");
    let mut of_all = site.login("of_all", "saldo").await?;
    assert_eq!(texts(&mut of_all, names).await?.len(), 2);
    site.saldo.stop().await
}

/// An analyst can neither write nor stop anything.
pub async fn nothing_else(_: Arc<Env>) -> Outcome {
    let site = Site::start().await?;
    for (role, foreign) in [("of_acme", "bi"), ("with_names", "bi"), ("of_all", "bi_tenant"), ("stranger", "bi")] {
        let mut login = site.login(role, "saldo").await?;
        for forbidden in [
            format!("SELECT * FROM {foreign}.items"),
            format!("SELECT * FROM {foreign}.aging"),
            format!("SELECT * FROM {foreign}.aging_as_of('2026-02-01')"),
            "SELECT * FROM saldo.personal_names".to_owned(),
            "SELECT * FROM saldo.readers".to_owned(),
            "INSERT INTO saldo.readers VALUES ('of_acme', 'other')".to_owned(),
            "DELETE FROM saldo.locks".to_owned(),
            "SELECT * FROM saldo.locks FOR UPDATE".to_owned(),
            "SELECT pg_advisory_lock(1)".to_owned(),
            "SELECT pg_advisory_xact_lock(1, 2)".to_owned(),
            "SELECT pg_try_advisory_lock_shared(1)".to_owned(),
            "CREATE TEMPORARY TABLE mine ()".to_owned(),
            "CREATE TABLE public.mine ()".to_owned(),
            "CREATE SCHEMA mine".to_owned(),
            "CREATE VIEW bi_tenant.mine AS SELECT 1".to_owned(),
            "SELECT lo_create(0)".to_owned(),
            "SET ROLE saldo".to_owned().replace("saldo", site.owner.get_username()),
        ] {
            let refused = sqlx::raw_sql(AssertSqlSafe(forbidden.clone())).execute(&mut login).await;
            assert!(
                refused.as_ref().is_err_and(|error| error.to_string().contains("permission denied")),
                "{role}: {forbidden}: {refused:?}"
            );
        }
        let log = site.login(role, "saldo_log").await;
        assert!(log.as_ref().is_err_and(|error| error.to_string().contains("permission denied")), "{role}: {log:?}");
    }
    let mut of_acme = site.login("of_acme", "saldo").await?;
    let names = sqlx::raw_sql("SELECT * FROM bi_names.debtors").execute(&mut of_acme).await;
    assert!(names.is_err_and(|error| error.to_string().contains("permission denied")));
    site.saldo.stop().await
}
