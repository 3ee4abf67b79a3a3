//! Open items and balances against the domain.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt;
use saldo_domain::{account::Account, ledger::CreditKind};
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::accounts::Accounts;
use crate::{ProjectorError, compare::Differences};

/// kind, document, instalment, currency -> open minor units.
type Items = BTreeMap<(String, String, u32, String), i64>;

fn expected(account: &Account) -> Items {
    let open = account.ledger.items.iter().map(|item| {
        (("invoice".to_owned(), item.invoice.to_string(), item.instalment, item.currency.to_string()), item.open)
    });
    let credits = account.ledger.credits.iter().map(|credit| {
        let kind = match credit.kind {
            CreditKind::Payment => "payment",
            CreditKind::CreditNote => "credit_note",
        };
        ((kind.to_owned(), credit.document.to_string(), 0, credit.currency.to_string()), -credit.remaining)
    });
    open.chain(credits).collect()
}

/// The domain's state gives the same open items.
pub async fn compare(
    connection: &mut PgConnection,
    schema: &str,
    accounts: &Accounts,
    found: &mut Differences,
) -> Result<(), ProjectorError> {
    let mut rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT tenant || '/' || account, kind, document, instalment, currency::text, open_minor
         FROM {schema}.items WHERE open_minor <> 0"
    )))
    .fetch(connection);
    let mut items: HashMap<String, Items> = HashMap::new();
    while let Some(row) = rows.try_next().await? {
        let key: String = row.try_get(0)?;
        if accounts.compares(&key) {
            let item = (row.try_get(1)?, row.try_get(2)?, row.try_get::<i32, _>(3)? as u32, row.try_get(4)?);
            items.entry(key).or_default().insert(item, row.try_get(5)?);
        }
    }
    accounts.differ("open items", expected, items, found);
    Ok(())
}

/// The ledger sums to each account's balance.
pub async fn balances(
    connection: &mut PgConnection,
    schema: &str,
    accounts: &Accounts,
    found: &mut Differences,
) -> Result<(), ProjectorError> {
    let mut rows = sqlx::query(AssertSqlSafe(format!(
        "SELECT tenant || '/' || account, currency::text, sum(amount_minor)::bigint
         FROM {schema}.ledger GROUP BY tenant, account, currency HAVING sum(amount_minor) <> 0"
    )))
    .fetch(connection);
    let mut sums: HashMap<String, BTreeMap<String, i64>> = HashMap::new();
    while let Some(row) = rows.try_next().await? {
        let key: String = row.try_get(0)?;
        if accounts.compares(&key) {
            sums.entry(key).or_default().insert(row.try_get(1)?, row.try_get(2)?);
        }
    }
    let balances = |account: &Account| {
        let mut balances: BTreeMap<String, i64> = BTreeMap::new();
        for ((_, _, _, currency), open) in expected(account) {
            *balances.entry(currency).or_default() += open;
        }
        balances.retain(|_, balance| *balance != 0);
        balances
    };
    accounts.differ("ledger sums by currency", balances, sums, found);
    Ok(())
}
