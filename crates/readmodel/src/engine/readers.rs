//! Who may read what: three roles, which an operator grants to logins.
//!
//! | role | reads |
//! |---|---|
//! | `saldo_bi` | `bi`: every tenant, no personal data |
//! | `saldo_bi_tenant` | `bi_tenant`: the same, of the tenants that `saldo.readers` gives to the reader |
//! | `saldo_bi_names` | `bi_names`: debtors' names, of the tenants that the reader sees through one of the roles above |
//!
//! Row-level security would not hold: Postgres checks a view's tables with the rights of the view's owner, and no policy binds the
//! owner. A view that is a barrier does hold: no function of the reader's query sees a row before the view's condition has let it
//! pass. The planner cannot take such a view apart, so the views of `bi`, which queries read, are none.

use super::batch::ENGINE;
use crate::DECLARATIONS;

/// Which tenants a reader sees in `bi_tenant`: those of every role that the reader has. A role that was dropped gives nothing.
pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS saldo.readers (
    role text NOT NULL, tenant text COLLATE \"C\" NOT NULL, PRIMARY KEY (role, tenant))";

/// Schemas and roles. Saldo may have no right to make roles where they are there already.
pub(super) const ROLES: &str = "
CREATE SCHEMA IF NOT EXISTS bi;
CREATE SCHEMA IF NOT EXISTS bi_tenant;
CREATE SCHEMA IF NOT EXISTS bi_names;
COMMENT ON SCHEMA bi IS 'Saldo for analysts: stable names; amounts in minor units beside their currency';
COMMENT ON SCHEMA bi_tenant IS 'The same as bi, of the tenants that saldo.readers gives to the reader';
COMMENT ON SCHEMA bi_names IS 'Debtors'' names, which are personal data';
DO $$ DECLARE role text; BEGIN
  FOREACH role IN ARRAY ARRAY['saldo_bi', 'saldo_bi_tenant', 'saldo_bi_names'] LOOP
    BEGIN
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN EXECUTE format('CREATE ROLE %I NOLOGIN', role); END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
  END LOOP;
END $$;
";

/// The tenants of whoever asks. It is found once for a query.
const THEIR_TENANTS: &str = "ANY (ARRAY(
    SELECT tenant FROM saldo.readers WHERE pg_has_role(to_regrole(quote_ident(role)), 'USAGE')))";

/// What anybody who may connect could do besides reading, and nobody of ours needs. Functions of the server are their owner's, so
/// this takes a superuser; deploy/OPERATIONS.md has the statements for a database where Saldo is none.
const REVOKED: &str = "
DO $$ DECLARE routine regprocedure; BEGIN
  IF has_database_privilege('public', current_database(), 'TEMPORARY') THEN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
  END IF;
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO saldo_bi, saldo_bi_tenant, saldo_bi_names', current_database());
  IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    FOR routine IN
      SELECT oid FROM pg_proc
      WHERE pronamespace = 'pg_catalog'::regnamespace AND has_function_privilege('public', oid, 'EXECUTE')
        AND proname ~ '^(pg_(try_)?advisory|lo_(creat|from_bytea)|lowrite|lo_put)'
    LOOP
      EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', routine);
    END LOOP;
  END IF;
EXCEPTION WHEN insufficient_privilege THEN
  RAISE WARNING 'Saldo may not take rights in this database from PUBLIC: see deploy/OPERATIONS.md';
END $$;
";

/// Comments of `bi`, again in `bi_tenant`.
const COMMENTS: &str = "
DO $$ DECLARE shown record; BEGIN
  FOR shown IN
    SELECT v.relname, a.attname, col_description(v.oid, a.attnum) AS said
    FROM pg_class v JOIN pg_attribute a ON a.attrelid = v.oid
    JOIN pg_class t ON t.relname = v.relname AND t.relnamespace = 'bi_tenant'::regnamespace
    JOIN pg_attribute b ON b.attrelid = t.oid AND b.attname = a.attname
    WHERE v.relnamespace = 'bi'::regnamespace AND v.relkind = 'v' AND a.attnum > 0
  LOOP
    EXECUTE format('COMMENT ON COLUMN bi_tenant.%I.%I IS %L', shown.relname, shown.attname, shown.said);
  END LOOP;
END $$;
COMMENT ON VIEW bi_names.debtors IS 'One row per account: its debtor''s name';
COMMENT ON COLUMN bi_names.debtors.tenant IS 'The creditor';
COMMENT ON COLUMN bi_names.debtors.account IS 'The debtor''s account; opaque id';
COMMENT ON COLUMN bi_names.debtors.display_name IS 'The debtor''s name; null where it was erased';
";

const GRANTS: &str = "
GRANT USAGE ON SCHEMA bi TO saldo_bi;
GRANT SELECT ON ALL TABLES IN SCHEMA bi TO saldo_bi;
GRANT USAGE ON SCHEMA bi_tenant TO saldo_bi_tenant;
GRANT SELECT ON ALL TABLES IN SCHEMA bi_tenant TO saldo_bi_tenant;
GRANT USAGE ON SCHEMA bi_names TO saldo_bi_names;
GRANT SELECT ON ALL TABLES IN SCHEMA bi_names TO saldo_bi_names;
";

/// Makes `bi_tenant` and `bi_names` from `bi`, and gives each role its rights. Runs after the views of `bi` are made.
pub(super) fn face() -> String {
    let declared = std::iter::once(&ENGINE).chain(DECLARATIONS.iter().copied());
    let mut sql = "CREATE OR REPLACE VIEW bi_tenant.clock AS SELECT * FROM bi.clock;\n".to_owned();
    for view in declared.clone().flat_map(|one| one.views).map(|view| view.name).chain(["tenants"]) {
        sql += &format!(
            "CREATE OR REPLACE VIEW bi_tenant.{view} WITH (security_barrier) AS
             SELECT * FROM bi.{view} WHERE tenant = {THEIR_TENANTS};\n"
        );
    }
    // What reads through the views of `bi` with the rights of who asks reads through these.
    for more in declared.map(|one| (one.more)()) {
        sql += &more.replace("bi.", "bi_tenant.").replace("TO saldo_bi;", "TO saldo_bi_tenant;");
    }
    sql += &format!(
        "CREATE OR REPLACE VIEW bi_names.debtors WITH (security_barrier) AS
         SELECT tenant, account, display_name FROM saldo.personal_names
         WHERE (SELECT pg_has_role('saldo_bi', 'USAGE')) OR tenant = {THEIR_TENANTS};\n"
    );
    sql + COMMENTS + GRANTS + REVOKED
}
