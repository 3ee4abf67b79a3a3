//! Schema `bi`: the public face. Names are stable; every column says what it holds.

mod contacts;

/// The statements that make `bi` show the build in `schema`.
pub fn sql(schema: &str) -> String {
    let aging =
        AGING.replace("{as_of}", &figures("aging_as_of.as_of", AS_OF)).replace("{today}", &figures("today", TODAY));
    [TYPES, VIEWS, &aging, COMMENTS, contacts::VIEWS, contacts::COMMENTS, GRANTS].concat().replace("{s}", schema)
}

const TYPES: &str = "
CREATE SCHEMA IF NOT EXISTS bi;
DO $$ BEGIN
  IF to_regtype('bi.aging_figures') IS NULL THEN
    CREATE TYPE bi.aging_figures AS (
      tenant text, account text, currency char(3), not_due bigint, d1_30 bigint, d31_60 bigint, d61_90 bigint,
      d91_plus bigint, unapplied bigint, balance bigint, balance_major numeric);
  END IF;
END $$;
";

const VIEWS: &str = "
CREATE OR REPLACE VIEW bi.open_items AS
  SELECT tenant, account, kind, document, instalment, currency, issue_date, due_date, original_minor, open_minor,
         round(open_minor / (10::numeric ^ decimals), decimals) AS open_major, decimals
  FROM {s}.items WHERE open_minor <> 0;
CREATE OR REPLACE VIEW bi.ledger AS
  SELECT tenant, account, kind, document, instalment, currency, due_date, effective_date, known_at, amount_minor,
         round(amount_minor / (10::numeric ^ decimals), decimals) AS amount_major, partition, record_offset, line,
         decimals
  FROM {s}.ledger;
CREATE OR REPLACE VIEW bi.debtor_history AS
  SELECT tenant, account, version, index, type, effective_date, recorded_at, known_at, actor, summary, partition,
         record_offset
  FROM {s}.history;
CREATE OR REPLACE VIEW bi.accounts AS
  SELECT tenant, account, kind, language, time_zone, country, version FROM {s}.accounts;
CREATE OR REPLACE VIEW bi.parked AS SELECT tenant, account, parked_at, reason FROM {s}.parked;
CREATE OR REPLACE VIEW bi.clock AS
  SELECT present AS now, (present AT TIME ZONE 'UTC')::date AS today
  FROM (SELECT now() + coalesce((SELECT ahead FROM saldo.clock), interval '0') AS present) AS clock;
CREATE OR REPLACE VIEW bi.tenants AS
  SELECT tenant, name, time_zone, languages, fiscal_year_month, fiscal_year_day,
         ((SELECT now FROM bi.clock) AT TIME ZONE time_zone)::date AS today
  FROM saldo.tenants;
";

/// Receivables by age on `day`, an expression over `items`.
fn figures(day: &str, items: &str) -> String {
    FIGURES.replace("{day}", day).replace("{items}", items)
}

const FIGURES: &str = "
  SELECT tenant, account, currency, not_due, d1_30, d31_60, d61_90, d91_plus, unapplied, balance,
         round(balance / (10::numeric ^ decimals), decimals)
  FROM (
    SELECT tenant, account, currency, decimals,
      coalesce(sum(open) FILTER (WHERE kind = 'invoice' AND {day} - due_date <= 0), 0)::bigint AS not_due,
      coalesce(sum(open) FILTER (WHERE kind = 'invoice' AND {day} - due_date BETWEEN 1 AND 30), 0)::bigint AS d1_30,
      coalesce(sum(open) FILTER (WHERE kind = 'invoice' AND {day} - due_date BETWEEN 31 AND 60), 0)::bigint AS d31_60,
      coalesce(sum(open) FILTER (WHERE kind = 'invoice' AND {day} - due_date BETWEEN 61 AND 90), 0)::bigint AS d61_90,
      coalesce(sum(open) FILTER (WHERE kind = 'invoice' AND {day} - due_date > 90), 0)::bigint AS d91_plus,
      coalesce(sum(open) FILTER (WHERE kind <> 'invoice'), 0)::bigint AS unapplied,
      sum(open)::bigint AS balance
    FROM {items}
    GROUP BY tenant, account, currency, decimals) figure
  WHERE (not_due, d1_30, d31_60, d61_90, d91_plus, unapplied) <> (0, 0, 0, 0, 0, 0)";

/// What is open now, less what came to be true or known later: today's figures cost what is open and not all that ever
/// happened.
const AS_OF: &str = "(
      SELECT tenant, account, currency, decimals, kind, due_date, open_minor AS open FROM bi.open_items
      UNION ALL
      SELECT tenant, account, currency, decimals, kind, due_date, -amount_minor FROM bi.ledger
      WHERE effective_date > aging_as_of.as_of OR ledger.known_at > aging_as_of.known_at) item
    WHERE aging_as_of.as_of IS NOT NULL AND aging_as_of.known_at IS NOT NULL";

/// The same on each creditor's own day, with all that is known. A creditor that has published no settings has UTC's day. No zone's
/// day is before UTC's by more than one: by that bound the ledger's index finds the few changes that lie ahead.
const TODAY: &str = "(
      SELECT o.tenant, account, currency, decimals, kind, due_date, open_minor AS open,
             coalesce(t.today, (SELECT today FROM bi.clock)) AS today
      FROM bi.open_items o LEFT JOIN bi.tenants t ON t.tenant = o.tenant
      UNION ALL
      SELECT l.tenant, account, currency, decimals, kind, due_date, -amount_minor,
             coalesce(t.today, (SELECT today FROM bi.clock))
      FROM bi.ledger l LEFT JOIN bi.tenants t ON t.tenant = l.tenant
      WHERE effective_date > (SELECT today - 1 FROM bi.clock)
        AND effective_date > coalesce(t.today, (SELECT today FROM bi.clock))) item";

/// The functions read through the views, with their owner's rights, so that Postgres can take them into the query that asks
/// and look at the accounts that are asked for alone.
const AGING: &str = "
CREATE OR REPLACE FUNCTION bi.aging_as_of(as_of date, known_at timestamptz DEFAULT 'infinity')
RETURNS SETOF bi.aging_figures LANGUAGE sql STABLE AS $${as_of}
$$;
CREATE OR REPLACE FUNCTION bi.aging_today() RETURNS SETOF bi.aging_figures LANGUAGE sql STABLE AS $${today}
$$;
CREATE OR REPLACE VIEW bi.aging AS SELECT * FROM bi.aging_today();
";

const COMMENTS: &str = "
COMMENT ON SCHEMA bi IS 'Saldo for analysts: stable names; amounts in minor units beside their currency';
COMMENT ON TYPE bi.aging_figures IS 'Receivables of one account in one currency by age; the buckets plus unapplied equal the balance';
COMMENT ON COLUMN bi.aging_figures.tenant IS 'The creditor';
COMMENT ON COLUMN bi.aging_figures.account IS 'What one debtor owes the creditor; opaque id';
COMMENT ON COLUMN bi.aging_figures.currency IS 'ISO 4217; currencies are never added up';
COMMENT ON COLUMN bi.aging_figures.not_due IS 'Open, due on or after the as-of day; minor units';
COMMENT ON COLUMN bi.aging_figures.d1_30 IS 'Open, 1 to 30 days past due; minor units';
COMMENT ON COLUMN bi.aging_figures.d31_60 IS 'Open, 31 to 60 days past due; minor units';
COMMENT ON COLUMN bi.aging_figures.d61_90 IS 'Open, 61 to 90 days past due; minor units';
COMMENT ON COLUMN bi.aging_figures.d91_plus IS 'Open, 91 days past due or more; minor units';
COMMENT ON COLUMN bi.aging_figures.unapplied IS 'Payments and credits not yet applied, as a negative amount; minor units';
COMMENT ON COLUMN bi.aging_figures.balance IS 'Sum of the buckets and unapplied; minor units';
COMMENT ON COLUMN bi.aging_figures.balance_major IS 'The balance in major units, for people';
COMMENT ON FUNCTION bi.aging_as_of(date, timestamptz) IS 'Ageing as true on day as_of, as known at instant known_at; what was known then stays known then';
COMMENT ON FUNCTION bi.aging_today() IS 'Ageing on each creditor''s own day, with all that is known';
COMMENT ON VIEW bi.aging IS 'Ageing today, by each creditor''s own day, with all that is known';
COMMENT ON COLUMN bi.aging.tenant IS 'The creditor';
COMMENT ON COLUMN bi.aging.account IS 'What one debtor owes the creditor; opaque id';
COMMENT ON COLUMN bi.aging.currency IS 'ISO 4217; currencies are never added up';
COMMENT ON COLUMN bi.aging.not_due IS 'Open and not past due; minor units';
COMMENT ON COLUMN bi.aging.d1_30 IS 'Open, 1 to 30 days past due; minor units';
COMMENT ON COLUMN bi.aging.d31_60 IS 'Open, 31 to 60 days past due; minor units';
COMMENT ON COLUMN bi.aging.d61_90 IS 'Open, 61 to 90 days past due; minor units';
COMMENT ON COLUMN bi.aging.d91_plus IS 'Open, 91 days past due or more; minor units';
COMMENT ON COLUMN bi.aging.unapplied IS 'Payments and credits not yet applied, as a negative amount; minor units';
COMMENT ON COLUMN bi.aging.balance IS 'Sum of the buckets and unapplied; minor units';
COMMENT ON COLUMN bi.aging.balance_major IS 'The balance in major units, for people';
COMMENT ON VIEW bi.open_items IS 'One row per open invoice instalment or unapplied credit, with all that is known';
COMMENT ON COLUMN bi.open_items.tenant IS 'The creditor';
COMMENT ON COLUMN bi.open_items.account IS 'The debtor''s account; opaque id';
COMMENT ON COLUMN bi.open_items.kind IS 'invoice, payment (unapplied) or credit_note (unapplied)';
COMMENT ON COLUMN bi.open_items.document IS 'Invoice number, payment reference or credit note number';
COMMENT ON COLUMN bi.open_items.instalment IS 'Number of the instalment from 1; 0 for unapplied credit';
COMMENT ON COLUMN bi.open_items.currency IS 'ISO 4217';
COMMENT ON COLUMN bi.open_items.issue_date IS 'The document''s own date';
COMMENT ON COLUMN bi.open_items.due_date IS 'When it falls due; null for unapplied credit. Its bucket depends on the day asked';
COMMENT ON COLUMN bi.open_items.original_minor IS 'What it was at first; minor units, credit negative';
COMMENT ON COLUMN bi.open_items.open_minor IS 'What is left; minor units, credit negative';
COMMENT ON COLUMN bi.open_items.open_major IS 'What is left in major units, for people';
COMMENT ON COLUMN bi.open_items.decimals IS 'Decimal places of the currency';
COMMENT ON VIEW bi.ledger IS 'Every change of every item, on both axes of time';
COMMENT ON COLUMN bi.ledger.tenant IS 'The creditor';
COMMENT ON COLUMN bi.ledger.account IS 'The debtor''s account; opaque id';
COMMENT ON COLUMN bi.ledger.kind IS 'invoice, payment or credit_note';
COMMENT ON COLUMN bi.ledger.document IS 'Number or reference of the item changed';
COMMENT ON COLUMN bi.ledger.instalment IS 'Number of the instalment from 1; 0 for credit';
COMMENT ON COLUMN bi.ledger.currency IS 'ISO 4217';
COMMENT ON COLUMN bi.ledger.due_date IS 'When the item falls due; null for credit';
COMMENT ON COLUMN bi.ledger.effective_date IS 'From this day the change is true';
COMMENT ON COLUMN bi.ledger.known_at IS 'From this instant it was known: running maximum of recorded_at in its partition';
COMMENT ON COLUMN bi.ledger.amount_minor IS 'The change; minor units, negative lowers what is owed';
COMMENT ON COLUMN bi.ledger.amount_major IS 'The change in major units, for people';
COMMENT ON COLUMN bi.ledger.partition IS 'Partition of the record it comes from';
COMMENT ON COLUMN bi.ledger.record_offset IS 'Offset of the record it comes from';
COMMENT ON COLUMN bi.ledger.line IS 'Number of the change within the record';
COMMENT ON COLUMN bi.ledger.decimals IS 'Decimal places of the currency';
COMMENT ON VIEW bi.debtor_history IS 'One row per event in order, and one per refused command';
COMMENT ON COLUMN bi.debtor_history.tenant IS 'The creditor';
COMMENT ON COLUMN bi.debtor_history.account IS 'The debtor''s account; opaque id';
COMMENT ON COLUMN bi.debtor_history.version IS 'Version of the account''s commit, from 1';
COMMENT ON COLUMN bi.debtor_history.index IS 'Place within the commit, from 0';
COMMENT ON COLUMN bi.debtor_history.type IS 'Type of the event; refused for a refused command';
COMMENT ON COLUMN bi.debtor_history.effective_date IS 'The day it is true of, where it has one';
COMMENT ON COLUMN bi.debtor_history.recorded_at IS 'When it was recorded, by the deciding service''s clock';
COMMENT ON COLUMN bi.debtor_history.known_at IS 'From this instant it was known';
COMMENT ON COLUMN bi.debtor_history.actor IS 'Who asked: subject of the credential';
COMMENT ON COLUMN bi.debtor_history.summary IS 'One line, without personal data';
COMMENT ON COLUMN bi.debtor_history.partition IS 'Partition of the record it comes from';
COMMENT ON COLUMN bi.debtor_history.record_offset IS 'Offset of the record it comes from';
COMMENT ON VIEW bi.accounts IS 'Accounts without personal data';
COMMENT ON COLUMN bi.accounts.tenant IS 'The creditor';
COMMENT ON COLUMN bi.accounts.account IS 'The debtor''s account; opaque id';
COMMENT ON COLUMN bi.accounts.kind IS 'consumer or business';
COMMENT ON COLUMN bi.accounts.language IS 'ISO 639-1';
COMMENT ON COLUMN bi.accounts.time_zone IS 'IANA time zone';
COMMENT ON COLUMN bi.accounts.country IS 'ISO 3166-1 alpha-2';
COMMENT ON COLUMN bi.accounts.version IS 'Version of the newest commit';
COMMENT ON VIEW bi.clock IS 'The present as the services see it: ahead of the database''s where they run under another clock';
COMMENT ON COLUMN bi.clock.now IS 'The present instant';
COMMENT ON COLUMN bi.clock.today IS 'The present day in UTC';
COMMENT ON VIEW bi.tenants IS 'Settings of the creditors that have published in the catalog';
COMMENT ON COLUMN bi.tenants.tenant IS 'The creditor';
COMMENT ON COLUMN bi.tenants.name IS 'What the creditor is called; empty until it is published';
COMMENT ON COLUMN bi.tenants.time_zone IS 'IANA time zone that the creditor''s days are counted in; UTC where this database does not know the published one';
COMMENT ON COLUMN bi.tenants.languages IS 'ISO 639-1, the preferred one first';
COMMENT ON COLUMN bi.tenants.fiscal_year_month IS 'Month in which the fiscal year begins';
COMMENT ON COLUMN bi.tenants.fiscal_year_day IS 'Day of that month on which the fiscal year begins';
COMMENT ON COLUMN bi.tenants.today IS 'The present day in the creditor''s time zone';
COMMENT ON VIEW bi.parked IS 'Accounts whose read models stand still, and why; figures without them are incomplete';
COMMENT ON COLUMN bi.parked.tenant IS 'The creditor';
COMMENT ON COLUMN bi.parked.account IS 'The debtor''s account; opaque id';
COMMENT ON COLUMN bi.parked.parked_at IS 'Recorded instant of the commit that could not be read';
COMMENT ON COLUMN bi.parked.reason IS 'What could not be read, and what to do';
";

const GRANTS: &str = "
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'saldo_bi') THEN CREATE ROLE saldo_bi NOLOGIN; END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
REVOKE ALL ON FUNCTION bi.aging_as_of(date, timestamptz), bi.aging_today() FROM PUBLIC;
GRANT USAGE ON SCHEMA bi TO saldo_bi;
GRANT SELECT ON ALL TABLES IN SCHEMA bi TO saldo_bi;
GRANT EXECUTE ON FUNCTION bi.aging_as_of(date, timestamptz), bi.aging_today() TO saldo_bi;
";
