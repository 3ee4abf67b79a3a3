//! One truth about a day: the domain, the ageing, the open items and the ladder say the same of it.

mod life;
mod reference;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date};
use jiff_sqlx::ToSqlx;
use saldo_domain::{
    Context, Rules,
    dunning::preview::{PlannedContact, preview},
    event::Event,
    ledger::{self, ApplyCredit, Excess, invoice::schedule},
    money::{Currency, Money},
};
use saldo_facts::event_type;
use saldo_readmodel::{TenantRow, ensure, write_clock, write_tenants};
use saldo_test_postgres::{Failure, Outcome};
use sqlx::{PgPool, Row};

use self::{
    life::{Dice, Life, ZONE, number, zone},
    reference::{Change, Key, View, aged, changes, view},
};
use crate::{
    story::Story,
    tables::{IDENTITY, log, write},
};

const ACCOUNTS: u64 = 24;
const COMMANDS: u64 = 70;

async fn aging(
    pool: &PgPool,
    account: &str,
    day: Date,
    known_at: Option<Timestamp>,
) -> Result<BTreeMap<String, [i64; 6]>, Failure> {
    let rows = sqlx::query(
        "SELECT currency::text, not_due, d1_30, d31_60, d61_90, d91_plus, unapplied
         FROM bi.aging_as_of($1, coalesce($2, 'infinity'::timestamptz)) WHERE account = $3",
    )
    .bind(day.to_sqlx())
    .bind(known_at.map(ToSqlx::to_sqlx))
    .bind(account);
    figures(&rows.fetch_all(pool).await?)
}

fn figures(rows: &[sqlx::postgres::PgRow]) -> Result<BTreeMap<String, [i64; 6]>, Failure> {
    let mut figures = BTreeMap::new();
    for row in rows {
        let mut own = [0; 6];
        for (index, figure) in own.iter_mut().enumerate() {
            *figure = row.try_get(index + 1)?;
        }
        figures.insert(row.try_get(0)?, own);
    }
    Ok(figures)
}

async fn open_items(
    pool: &PgPool,
    account: &str,
    day: Date,
    known_at: Option<Timestamp>,
) -> Result<BTreeMap<(String, String, u32), i64>, Failure> {
    let rows = sqlx::query(
        "SELECT kind, document, instalment, open_minor
         FROM bi.open_items_as_of($1, coalesce($2, 'infinity'::timestamptz)) WHERE account = $3",
    )
    .bind(day.to_sqlx())
    .bind(known_at.map(ToSqlx::to_sqlx))
    .bind(account)
    .fetch_all(pool)
    .await?;
    let read = |row: &sqlx::postgres::PgRow| -> Result<_, sqlx::Error> {
        Ok(((row.try_get(0)?, row.try_get(1)?, row.try_get::<i32, _>(2)? as u32), row.try_get(3)?))
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// What is unapplied of each payment and credit note on a day, by the documents and what was applied of them.
async fn by_documents(pool: &PgPool, account: &str, day: Date) -> Result<BTreeMap<(String, String), i64>, Failure> {
    let rows = sqlx::query(
        "SELECT kind, document, unapplied FROM (
             SELECT d.kind, d.document, (d.amount_minor
                 - coalesce((SELECT sum(a.amount_minor) FROM bi.allocations a WHERE a.account = d.account
                             AND a.kind = d.kind AND a.document = d.document AND a.effective_date <= $2), 0)
                 - coalesce((SELECT sum(r.amount_minor) FROM bi.documents r WHERE r.account = d.account
                             AND r.kind = 'refund' AND r.about_kind = d.kind AND r.about = d.document
                             AND r.counts_from <= $2), 0))::bigint AS unapplied
             FROM bi.documents d
             WHERE d.account = $1 AND d.kind IN ('payment', 'credit_note') AND d.counts_from <= $2
               AND coalesce(d.ended_on > $2, true)) credit
         WHERE unapplied <> 0",
    )
    .bind(account)
    .bind(day.to_sqlx())
    .fetch_all(pool)
    .await?;
    let read = |row: &sqlx::postgres::PgRow| -> Result<_, sqlx::Error> {
        Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?))
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// The next contact lists what is open on its day in every currency in which something is owed, and nothing else.
fn compare_with_ladder(life: &Life, all: &[Change]) {
    let rules = Rules { sending: true, ..life.rules.clone() };
    let context = Context { rules: &rules, ..life.context() };
    let owed_on = |view: &View| {
        let mut balances: BTreeMap<Currency, i64> = BTreeMap::new();
        for (currency, _, open) in view.values() {
            *balances.entry(*currency).or_default() += open;
        }
        balances.retain(|_, balance| *balance > 0);
        balances
    };
    let Some(PlannedContact { at, items, withheld, .. }) = preview(&life.account, &context, 1).pop() else {
        let ever = view(all, Date::constant(2199, 1, 1), None);
        assert_eq!(owed_on(&ever), BTreeMap::new(), "what is owed is chased");
        return;
    };
    assert_eq!(withheld, None);
    let debtors = zone(&life.account.party.profile.as_ref().expect("open").time_zone).expect("a zone");
    let day = debtors.to_datetime(at).date();
    let on_that_day = view(all, day, None);
    let owed = owed_on(&on_that_day);
    let expected: BTreeMap<(String, u32), i64> = on_that_day
        .iter()
        .filter(|((kind, ..), (currency, ..))| *kind == "invoice" && owed.contains_key(currency))
        .map(|((_, document, instalment), (_, _, open))| ((document.clone(), *instalment), *open))
        .collect();
    let listed: BTreeMap<(String, u32), i64> =
        items.iter().map(|item| ((item.invoice.to_string(), item.instalment), item.open)).collect();
    assert_eq!(listed, expected, "what is listed on {day}");
}

fn lives() -> Vec<(String, Life)> {
    let mut dice = Dice(0x5a1d_0000_2026_1127);
    let mut lives = Vec::new();
    for index in 0..ACCOUNTS {
        let debtors_zone = [ZONE, "Europe/Madrid", "Pacific/Auckland"][dice.below(3) as usize];
        let apply_credit = if dice.below(3) == 0 { ApplyCredit::Leave } else { ApplyCredit::OldestFirst };
        let mut life = Life::new(debtors_zone, apply_credit);
        for command in 0..COMMANDS {
            life.now += SignedDuration::from_hours(dice.below(60) as i64);
            life.try_something(&mut dice, command);
            let known = view(&changes(&life.commits), life.today(), Some(life.now));
            assert_eq!(life.says_of(life.today()), known, "D-{index} on {}", life.today());
        }
        lives.push((format!("D-{index}"), life));
    }
    lives
}

/// Random histories with facts of the past and the future. At every moment the domain's state says the same of its day as the
/// facts. Afterwards the ageing, the open items and the ladder say the same of any day.
pub async fn one_truth(pool: PgPool) -> Outcome {
    let lives = lives();
    let accepted: usize = lives.iter().map(|(_, life)| life.commits.len()).sum();
    assert!(accepted > 600, "most of what is tried happens: {accepted}");
    let facts = lives.iter().flat_map(|(_, life)| life.commits.iter().flat_map(|(_, events)| events));
    let kinds: BTreeSet<&str> = facts.filter(|event| matches!(event, Event::Ledger(_))).map(event_type).collect();
    assert_eq!(kinds.len(), 10, "every fact of the ledger happens: {kinds:?}");
    assert!(
        lives.iter().any(|(_, life)| !life.account.ledger.ahead.is_empty()),
        "items are paid before they are issued"
    );
    let stories: Vec<Story> = lives.iter().map(|(name, life)| Story::told(name, &life.commits)).collect();
    let log = log(&stories);
    let live = ensure(&pool, &IDENTITY).await?;
    write(&mut *pool.acquire().await?, &live, &log, 0..log.len()).await?;
    let mut dice = Dice(7);
    for (name, life) in &lives {
        let all = changes(&life.commits);
        for _ in 0..12 {
            let day = life.today() + dice.days(-200, 60);
            let known_at = (dice.below(3) > 0).then(|| life.commits[dice.below(life.commits.len() as u64) as usize].0);
            let expected = view(&all, day, known_at);
            assert_eq!(aging(&pool, name, day, known_at).await?, aged(&expected, day), "{name} on {day}, {known_at:?}");
            let items: BTreeMap<_, _> = expected
                .iter()
                .map(|((kind, document, instalment), (_, _, open))| {
                    ((String::from(*kind), document.clone(), *instalment), *open)
                })
                .collect();
            assert_eq!(open_items(&pool, name, day, known_at).await?, items, "{name} on {day}, {known_at:?}");
        }
        // On the newest days too: what is dated ahead counts already.
        for ahead in -1..3i64 {
            let day = life.today().saturating_add(ahead.days());
            let mut expected = view(&all, day, None);
            expected.retain(|(kind, ..), _| *kind != "invoice");
            let unapplied: BTreeMap<_, _> = expected
                .into_iter()
                .map(|((kind, document, _), (.., open))| ((kind.to_owned(), document), -open))
                .collect();
            assert_eq!(by_documents(&pool, name, day).await?, unapplied, "{name} on {day}");
        }
        compare_with_ladder(life, &all);
    }
    today_is_the_creditors(&pool, &lives).await
}

async fn set_clock(pool: &PgPool, now: Timestamp) -> Outcome {
    let machine: jiff_sqlx::Timestamp = sqlx::query_scalar("SELECT now()").fetch_one(pool).await?;
    Ok(write_clock(pool, now.duration_since(machine.to_jiff())).await?)
}

/// The items that are open on a day: the first amount of each, the day from which it counts, and the open amount.
fn open_on(changes: &[Change], day: Date) -> BTreeMap<(String, String, u32), (Date, i64, i64)> {
    let with_its_beginning = |(key, (_, _, open)): (Key, (Currency, Option<Date>, i64))| {
        let first = changes.iter().find(|change| change.key == key).expect("what is open came about");
        let (kind, document, instalment) = key;
        ((kind.to_owned(), document, instalment), (first.day, first.amount, open))
    };
    view(changes, day, None).into_iter().map(with_its_beginning).collect()
}

/// `bi.open_items` of an account.
async fn open_today(
    pool: &PgPool,
    account: &str,
) -> Result<BTreeMap<(String, String, u32), (Date, i64, i64)>, Failure> {
    let rows = sqlx::query(
        "SELECT kind, document, instalment, issue_date, original_minor, open_minor FROM bi.open_items WHERE account = $1",
    )
    .bind(account)
    .fetch_all(pool)
    .await?;
    let read = |row: &sqlx::postgres::PgRow| -> Result<_, sqlx::Error> {
        let key = (row.try_get(0)?, row.try_get(1)?, row.try_get::<i32, _>(2)? as u32);
        Ok((key, (row.try_get::<jiff_sqlx::Date, _>(3)?.to_jiff(), row.try_get(4)?, row.try_get(5)?)))
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// U13: in the evening in Chicago UTC has the next day already. The ageing and the open items of today are those of Chicago's
/// day, once everything is true, and while much of it lies ahead.
async fn today_is_the_creditors(pool: &PgPool, lives: &[(String, Life)]) -> Outcome {
    let row = TenantRow {
        tenant: "acme".into(),
        name: String::new(),
        time_zone: ZONE.into(),
        languages: Vec::new(),
        fiscal_year_start: (1, 1),
    };
    assert_eq!(write_tenants(pool, &[row]).await?, Vec::<String>::new());
    for (now, day) in
        [("2026-05-04T01:30:00Z", Date::constant(2026, 5, 3)), ("2026-03-02T02:30:00Z", Date::constant(2026, 3, 1))]
    {
        set_clock(pool, now.parse()?).await?;
        for (name, life) in lives {
            let all = changes(&life.commits);
            let rows = sqlx::query(
                "SELECT currency::text, not_due, d1_30, d31_60, d61_90, d91_plus, unapplied FROM bi.aging WHERE account = $1",
            );
            let today = figures(&rows.bind(name).fetch_all(pool).await?)?;
            assert_eq!(today, aged(&view(&all, day, None), day), "{name} on {day}");
            assert_eq!(open_today(pool, name).await?, open_on(&all, day), "{name} on {day}");
        }
    }
    Ok(())
}

/// U12, as it came from the field.
pub async fn a_later_allocation_moves_no_past_ageing(pool: PgPool) -> Outcome {
    let mut life = Life::new(ZONE, ApplyCredit::Leave);
    let eur = Currency::new("EUR")?;
    let at_noon = |life: &mut Life, day: &str| -> Outcome {
        life.now = format!("{day}T18:00:00Z").parse()?;
        Ok(())
    };
    let issue = |life: &mut Life, index: u64, minor: i64, due: Date| {
        let (total, issue_date) = (Money { minor, currency: eur }, Date::constant(2026, 2, 1));
        let instalments = schedule(total, issue_date, Some(due), &[]).expect("a schedule");
        let number = number("F", index);
        life.ask(ledger::Command::IssueInvoice { number, total, issue_date, instalments, description: None }.into());
    };
    let pay = |life: &mut Life, index: u64, minor: i64, value_date: Date| {
        life.ask(
            ledger::Command::RecordPayment {
                reference: number("P", index),
                amount: Money { minor, currency: eur },
                value_date,
                designations: Vec::new(),
                excess: Excess::Refused,
                keep_unapplied: true,
                remittance: None,
            }
            .into(),
        );
    };
    at_noon(&mut life, "2026-02-10")?;
    pay(&mut life, 1, 10_000, Date::constant(2026, 2, 10));
    for index in 1..=5 {
        issue(&mut life, index, 100_000, Date::constant(2026, 3, 15));
    }
    issue(&mut life, 6, 1_000_000, Date::constant(2026, 4, 5));
    at_noon(&mut life, "2026-05-12")?;
    pay(&mut life, 2, 490_000, Date::constant(2026, 5, 12));
    for reference in [1, 2] {
        let reference = number("P", reference);
        let designations = Vec::new();
        life.ask(ledger::Command::AllocatePayment { reference, designations, allocation_date: None }.into());
    }
    assert!(life.account.ledger.credits.is_empty() && life.account.ledger.items.len() == 1, "the five are settled");
    let stories = [Story::told("D-1", &life.commits)];
    let log = log(&stories);
    let live = ensure(&pool, &IDENTITY).await?;
    write(&mut *pool.acquire().await?, &live, &log, 0..log.len()).await?;
    let april = aging(&pool, "D-1", Date::constant(2026, 4, 30), None).await?;
    assert_eq!(april, BTreeMap::from([("EUR".to_owned(), [0, 1_000_000, 500_000, 0, 0, -10_000])]));
    let may = aging(&pool, "D-1", Date::constant(2026, 5, 12), None).await?;
    assert_eq!(may, BTreeMap::from([("EUR".to_owned(), [0, 0, 1_000_000, 0, 0, 0])]));
    Ok(())
}
