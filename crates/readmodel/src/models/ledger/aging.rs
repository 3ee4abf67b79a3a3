//! The open amounts of a day: the ageing and the open items, on any day as known at any instant, and today.

use super::ITEMS_VIEW;
use crate::engine::comment_on_column;

/// Columns of an ageing: name, type, and comment.
const FIGURES: [(&str, &str, &str); 11] = [
    ("tenant", "text", "The creditor"),
    ("account", "text", "What one debtor owes the creditor; opaque id"),
    ("currency", "char(3)", "ISO 4217; currencies are never added up"),
    ("not_due", "bigint", "Open, due on or after the as-of day; minor units"),
    ("d1_30", "bigint", "Open, 1 to 30 days past due; minor units"),
    ("d31_60", "bigint", "Open, 31 to 60 days past due; minor units"),
    ("d61_90", "bigint", "Open, 61 to 90 days past due; minor units"),
    ("d91_plus", "bigint", "Open, 91 days past due or more; minor units"),
    ("unapplied", "bigint", "Payments and credits not yet applied, as a negative amount; minor units"),
    ("balance", "bigint", "Sum of the buckets and unapplied; minor units"),
    ("balance_major", "numeric", "The balance in major units, for people"),
];

/// The functions of a day, and the views of today.
pub(super) fn face() -> String {
    let columns: Vec<String> = FIGURES.iter().map(|(name, kind, _)| format!("{name} {kind}")).collect();
    let ages = |day: &str, items: &str| AGES.replace("{day}", day).replace("{items}", items);
    let as_of = |function: &str| AS_OF.replace("{function}", function);
    let mut sql = FACE
        .replace("{columns}", &columns.join(", "))
        .replace("{aging_as_of}", &ages("aging_as_of.as_of", &as_of("aging_as_of")))
        .replace("{open_items_as_of}", &OPEN_ITEMS_AS_OF.replace("{items}", &as_of("open_items_as_of")))
        .replace("{aging_today}", &ages("today", TODAY))
        .replace("{open_items_today}", &OPEN_ITEMS_TODAY.replace("{items}", TODAY));
    for (name, _, comment) in FIGURES {
        sql += &comment_on_column(&format!("bi.aging_figures.{name}"), comment);
        let today = if name == "not_due" { "Open and not past due; minor units" } else { comment };
        sql += &comment_on_column(&format!("bi.aging.{name}"), today);
    }
    for (name, _, comment) in ITEMS_VIEW.shown() {
        let today = "What is left today; minor units, credit negative";
        let comment = if name == "open_minor" { today } else { comment.unwrap_or_default() };
        sql += &comment_on_column(&format!("bi.open_items.{name}"), comment);
    }
    sql
}

/// Receivables by age on `{day}`, an expression over `{items}`.
const AGES: &str = "
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

/// The amount that is left with all that is known, less the changes that came to be true or known later. So the cost of today's
/// figures depends on open items and not on all that ever happened. `{function}` is the function that is asked for a day and an
/// instant.
const AS_OF: &str = "(
      SELECT tenant, account, kind, document, instalment, currency, decimals, due_date, open_minor AS open
      FROM bi.items WHERE open_minor <> 0
      UNION ALL
      SELECT tenant, account, kind, document, instalment, currency, decimals, due_date, -amount_minor
      FROM bi.ledger
      WHERE effective_date > {function}.as_of OR ledger.known_at > {function}.known_at) item
    WHERE {function}.as_of IS NOT NULL AND {function}.known_at IS NOT NULL";

/// The same on each creditor's own day, with all that is known. A creditor that has published no settings has UTC's day. No
/// zone's day is before UTC's by more than one: by that bound the ledger's index finds the few changes that lie ahead.
const TODAY: &str = "(
      SELECT i.tenant, account, kind, document, instalment, currency, decimals, due_date, issue_date, original_minor,
             open_minor AS open, coalesce(t.today, (SELECT today FROM bi.clock)) AS today
      FROM bi.items i LEFT JOIN bi.tenants t ON t.tenant = i.tenant
      WHERE open_minor <> 0
      UNION ALL
      SELECT l.tenant, account, kind, document, instalment, currency, decimals, due_date, NULL, NULL,
             -amount_minor, coalesce(t.today, (SELECT today FROM bi.clock))
      FROM bi.ledger l LEFT JOIN bi.tenants t ON t.tenant = l.tenant
      WHERE effective_date > (SELECT today - 1 FROM bi.clock)
        AND effective_date > coalesce(t.today, (SELECT today FROM bi.clock))) item";

/// Each item on a day: as the ageing has it, one row an item.
const OPEN_ITEMS_AS_OF: &str = "
  SELECT tenant, account, kind, document, instalment, currency, due_date, sum(open)::bigint
  FROM {items}
  GROUP BY tenant, account, kind, document, instalment, currency, due_date HAVING sum(open) <> 0";

/// Each item today. An item that is settled by what lies ahead is looked up alone: a join would read every settled item.
const OPEN_ITEMS_TODAY: &str = "
  SELECT today.tenant, today.account, today.kind, today.document, today.instalment, today.currency,
         coalesce(today.issue_date, settled.issue_date) AS issue_date, today.due_date,
         coalesce(today.original_minor, settled.original_minor) AS original_minor, today.open_minor,
         round(today.open_minor / (10::numeric ^ today.decimals), today.decimals) AS open_major, today.decimals
  FROM (
    SELECT tenant, account, kind, document, instalment, currency, decimals, due_date,
           max(issue_date) AS issue_date, max(original_minor) AS original_minor, sum(open)::bigint AS open_minor
    FROM {items}
    GROUP BY tenant, account, kind, document, instalment, currency, decimals, due_date HAVING sum(open) <> 0) today
  LEFT JOIN LATERAL (
    SELECT i.issue_date, i.original_minor FROM bi.items i
    WHERE today.issue_date IS NULL
      AND (i.tenant, i.account, i.kind, i.document, i.instalment)
        = (today.tenant, today.account, today.kind, today.document, today.instalment)
    LIMIT 1) settled ON true";

/// The functions read through the views, with their owner's rights, so that Postgres can take them into the query that asks
/// and look at the accounts that are asked for alone.
const FACE: &str = "
DO $$ BEGIN
  IF to_regtype('bi.aging_figures') IS NULL THEN
    CREATE TYPE bi.aging_figures AS ({columns});
  END IF;
END $$;
CREATE OR REPLACE FUNCTION bi.aging_as_of(as_of date, known_at timestamptz DEFAULT 'infinity')
RETURNS SETOF bi.aging_figures LANGUAGE sql STABLE AS $${aging_as_of}
$$;
CREATE OR REPLACE FUNCTION bi.open_items_as_of(as_of date, known_at timestamptz DEFAULT 'infinity')
RETURNS TABLE (tenant text, account text, kind text, document text, instalment integer, currency char(3), due_date date,
               open_minor bigint) LANGUAGE sql STABLE AS $${open_items_as_of}
$$;
CREATE OR REPLACE FUNCTION bi.aging_today() RETURNS SETOF bi.aging_figures LANGUAGE sql STABLE AS $${aging_today}
$$;
CREATE OR REPLACE VIEW bi.aging AS SELECT * FROM bi.aging_today();
CREATE OR REPLACE VIEW bi.open_items AS{open_items_today};
COMMENT ON TYPE bi.aging_figures IS 'Receivables of one account in one currency by age; the buckets plus unapplied equal the balance';
COMMENT ON FUNCTION bi.aging_as_of(date, timestamptz) IS 'Ageing as true on day as_of, as known at instant known_at; what was known then stays known then';
COMMENT ON FUNCTION bi.open_items_as_of(date, timestamptz) IS 'Open instalments and unapplied credit (negative) as true on day as_of, as known at instant known_at';
COMMENT ON FUNCTION bi.aging_today() IS 'Ageing on each creditor''s own day, with all that is known';
COMMENT ON VIEW bi.aging IS 'Ageing today, by each creditor''s own day, with all that is known';
COMMENT ON VIEW bi.open_items IS 'One row per open invoice instalment or unapplied credit today, by each creditor''s own day, with all that is known';
REVOKE ALL ON FUNCTION bi.aging_as_of(date, timestamptz), bi.open_items_as_of(date, timestamptz), bi.aging_today() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bi.aging_as_of(date, timestamptz), bi.open_items_as_of(date, timestamptz), bi.aging_today() TO saldo_bi;
";
