//! `saldo hold`: what is not chased, from when until when, and why.

use std::process::ExitCode;

use anstream::println;
use clap::Args;
use jiff::civil::Date;
use saldo_api::{FieldMask, v1};
use saldo_domain::agreement::HoldReason;
use saldo_facts::{date_to_api, day_from_request};
use serde_json::json;
use uuid::Uuid;

use super::{
    Run,
    change::{Change, ask},
    values,
};
use crate::{Outcome, client::Target, terminal::table};

/// Keep an account, or some of its invoices, from being chased for a time.
///
/// A hold stops reminders and changes neither balance nor ageing. Holds stack: reminders go on when none is left, without
/// catching up in a burst. To place, amend and release needs a token with the role writer, to list the role reader.
#[derive(clap::Parser)]
#[command(name = "hold")]
pub enum Hold {
    /// Place a hold.
    #[command(
        after_help = "Examples:\n  saldo hold place D-0001 --reason complaint --until 2026-12-31\n  saldo hold place D-0001 --invoice F-7 --invoice F-8 --reason delivery --note 'pallet 3 is missing'"
    )]
    Place(Place),
    /// Change the terms of a hold.
    #[command(
        after_help = "Examples:\n  saldo hold amend D-0001 H-1 --until 2027-01-31\n  saldo hold amend D-0001 H-1 --open-ended"
    )]
    Amend(Amend),
    /// End a hold now.
    #[command(after_help = "Example:\n  saldo hold release D-0001 H-1 --note 'replaced on Tuesday'")]
    Release(Release),
    /// List holds, with how they stand today: a hold whose last day is past has ended.
    #[command(after_help = "Examples:\n  saldo hold list\n  saldo hold list D-0001 --all\n  saldo hold list --json")]
    List(List),
}

#[derive(Args)]
pub struct Place {
    /// The account.
    account: String,
    /// Why.
    #[arg(long, value_parser = reason())]
    reason: String,
    /// Hold this invoice alone; may be repeated. Without it the whole account is on hold.
    #[arg(long = "invoice", value_name = "NUMBER")]
    invoices: Vec<String>,
    /// The first day, in the debtor's zone; it may lie in the past. Without it the hold has no first day.
    #[arg(long, value_name = "DAY", value_parser = values::day)]
    from: Option<Date>,
    /// The last day, in the debtor's zone. Without it the hold stands until it is released.
    #[arg(long, value_name = "DAY", value_parser = values::day)]
    until: Option<Date>,
    /// Your id of the hold, unique on the account. Without it one is made.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Free text; it is kept sealed.
    #[arg(long, default_value = "")]
    note: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Args)]
pub struct Amend {
    /// The account.
    account: String,
    /// The hold, as `saldo hold list` shows it.
    hold: String,
    /// Another reason.
    #[arg(long, value_parser = reason())]
    reason: Option<String>,
    /// Hold these invoices alone; may be repeated.
    #[arg(long = "invoice", value_name = "NUMBER", conflicts_with = "whole_account")]
    invoices: Vec<String>,
    /// Hold the whole account.
    #[arg(long)]
    whole_account: bool,
    /// Another first day.
    #[arg(long, value_name = "DAY", value_parser = values::day)]
    from: Option<Date>,
    /// Another last day.
    #[arg(long, value_name = "DAY", value_parser = values::day, conflicts_with = "open_ended")]
    until: Option<Date>,
    /// No last day: the hold stands until it is released.
    #[arg(long)]
    open_ended: bool,
    /// Free text; it is kept sealed.
    #[arg(long, default_value = "")]
    note: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Args)]
pub struct Release {
    /// The account.
    account: String,
    /// The hold, as `saldo hold list` shows it.
    hold: String,
    /// Free text; it is kept sealed.
    #[arg(long, default_value = "")]
    note: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Args)]
pub struct List {
    /// Only this account.
    account: Option<String>,
    /// Also show holds that were released.
    #[arg(long)]
    all: bool,
    /// The most lines.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    most: i32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

fn reason() -> clap::builder::PossibleValuesParser {
    HoldReason::ALL.iter().map(|reason| reason.name()).collect::<Vec<_>>().into()
}

impl Run for Hold {
    async fn run(self) -> Outcome {
        match self {
            Hold::Place(place) => place.run().await,
            Hold::Amend(amend) => amend.run().await,
            Hold::Release(release) => release.run().await,
            Hold::List(list) => list.run().await,
        }
    }
}

impl Place {
    async fn run(self) -> Outcome {
        let changing = self.change.connect().await?;
        let hold = self.id.unwrap_or_else(|| format!("H-{}", Uuid::new_v4().simple()));
        let request = v1::PlaceHoldRequest {
            request_id: changing.request_id(),
            account_id: self.account.clone(),
            hold_id: hold.clone(),
            terms: Some(v1::HoldTerms {
                invoices: self.invoices,
                from: self.from.map(date_to_api),
                until: self.until.map(date_to_api),
                reason: self.reason,
            }),
            note: self.note,
        };
        let answer = changing.send(request).await?;
        let past = over_already(self.until, &answer);
        let text = format!("hold {hold} is placed on {}{past}", self.account);
        changing.print(&answer, json!({ "hold": hold }), text)
    }
}

impl Amend {
    async fn run(self) -> Outcome {
        let given = [
            ("invoices", self.whole_account || !self.invoices.is_empty()),
            ("from", self.from.is_some()),
            ("until", self.open_ended || self.until.is_some()),
            ("reason", self.reason.is_some()),
        ];
        let paths: Vec<String> = given.iter().filter(|(_, given)| *given).map(|(path, _)| (*path).to_owned()).collect();
        if paths.is_empty() {
            return Err(
                "name what is to change: --reason, --invoice, --whole-account, --from, --until or --open-ended".into(),
            );
        }
        let changing = self.change.connect().await?;
        let request = v1::AmendHoldRequest {
            request_id: changing.request_id(),
            account_id: self.account.clone(),
            hold_id: self.hold.clone(),
            terms: Some(v1::HoldTerms {
                invoices: self.invoices,
                from: self.from.map(date_to_api),
                until: self.until.map(date_to_api),
                reason: self.reason.unwrap_or_default(),
            }),
            update_mask: Some(FieldMask { paths }),
            note: self.note,
        };
        let answer = changing.send(request).await?;
        let past = over_already(self.until, &answer);
        let text = format!("hold {} of {} has its new terms{past}", self.hold, self.account);
        changing.print(&answer, json!({ "hold": self.hold }), text)
    }
}

impl Release {
    async fn run(self) -> Outcome {
        let changing = self.change.connect().await?;
        let request = v1::ReleaseHoldRequest {
            request_id: changing.request_id(),
            account_id: self.account.clone(),
            hold_id: self.hold.clone(),
            note: self.note,
        };
        let answer = changing.send(request).await?;
        let text = format!("hold {} of {} is released", self.hold, self.account);
        changing.print(&answer, json!({ "hold": self.hold }), text)
    }
}

impl List {
    async fn run(self) -> Outcome {
        let clients = self.target.connect().await?;
        let request = v1::ListHoldsRequest {
            account_id: self.account.unwrap_or_default(),
            released: self.all,
            page_size: self.most,
            ..Default::default()
        };
        let answer = ask(&clients, request).await?;
        let more = !answer.next_page_token.is_empty();
        let on = answer.as_of.as_ref();
        if self.json {
            let holds: Vec<_> = answer.holds.iter().map(|hold| as_json(hold, on)).collect();
            println!("{}", json!({ "holds": holds, "more": more }));
        } else if answer.holds.is_empty() {
            println!("{}", if self.all { "there has been no hold" } else { "nothing is on hold" });
        } else {
            println!("{}", shown(&answer.holds, on));
            if more {
                println!("there are more; name an account, or raise --most");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What to add where the last day that was named is past.
fn over_already(until: Option<Date>, answer: &v1::CommandResponse) -> String {
    let is_over = |until: &Date| answer.effective_date.as_ref().is_some_and(|today| *until < day_of(today));
    let told = |until| format!("; its last day {until} is past, so it covers nothing now");
    until.filter(is_over).map(told).unwrap_or_default()
}

fn day_of(date: &v1::Date) -> Date {
    day_from_request(*date).unwrap_or_default()
}

/// How a hold stands on a day: released, ended, not begun, or standing.
fn state(hold: &v1::HoldView, on: Option<&v1::Date>) -> &'static str {
    let on = on.map(day_of);
    let is = |date: Option<&v1::Date>, test: fn(Date, Date) -> bool| {
        date.map(day_of).zip(on).is_some_and(|(date, on)| test(date, on))
    };
    let terms = hold.terms.as_ref();
    if is(hold.released_on.as_ref(), |released, on| released <= on) {
        "released"
    } else if is(terms.and_then(|terms| terms.until.as_ref()), |until, on| until < on) {
        "ended"
    } else if is(terms.and_then(|terms| terms.from.as_ref()), |from, on| on < from) {
        "not begun"
    } else {
        "stands"
    }
}

/// Whether a hold covers nothing any more on a day.
pub fn is_over(hold: &v1::HoldView, on: Option<&v1::Date>) -> bool {
    matches!(state(hold, on), "released" | "ended")
}

/// Holds as a table, with how they stand on a day.
pub fn shown(holds: &[v1::HoldView], on: Option<&v1::Date>) -> comfy_table::Table {
    let rows = holds.iter().map(|hold| {
        let terms = hold.terms.clone().unwrap_or_default();
        vec![
            hold.account_id.clone(),
            hold.hold_id.clone(),
            state(hold, on).to_owned(),
            if terms.invoices.is_empty() { "the account".to_owned() } else { terms.invoices.join(", ") },
            table::day(terms.from.as_ref()),
            table::day(terms.until.as_ref()),
            terms.reason,
            table::day(hold.placed_on.as_ref()),
            table::day(hold.released_on.as_ref()),
        ]
    });
    table::plain(&["account", "hold", "state", "covers", "from", "until", "why", "placed", "released"], 9, rows)
}

/// A hold as JSON, with how it stands on a day.
pub fn as_json(hold: &v1::HoldView, on: Option<&v1::Date>) -> serde_json::Value {
    let terms = hold.terms.clone().unwrap_or_default();
    let day = |date: Option<&v1::Date>| date.map(|date| table::day(Some(date)));
    json!({
        "account": hold.account_id,
        "hold": hold.hold_id,
        "state": state(hold, on),
        "invoices": terms.invoices,
        "from": day(terms.from.as_ref()),
        "until": day(terms.until.as_ref()),
        "reason": terms.reason,
        "placed_on": day(hold.placed_on.as_ref()),
        "released_on": day(hold.released_on.as_ref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_whose_last_day_is_past_has_ended() {
        let day = |day| Some(v1::Date { year: 2026, month: 11, day });
        let hold = |from, until, released_on| v1::HoldView {
            terms: Some(v1::HoldTerms { from, until, ..Default::default() }),
            released_on,
            ..Default::default()
        };
        let on = day(20);
        for (hold, told) in [
            (hold(None, None, None), "stands"),
            (hold(day(20), day(20), None), "stands"),
            (hold(None, day(19), None), "ended"),
            (hold(day(21), None, None), "not begun"),
            (hold(None, None, day(20)), "released"),
            (hold(None, None, day(21)), "stands"),
        ] {
            assert_eq!(state(&hold, on.as_ref()), told, "{hold:?}");
        }
        let placed = v1::CommandResponse { effective_date: on, ..Default::default() };
        let told = over_already(Some(Date::constant(2026, 11, 19)), &placed);
        assert!(told.contains("2026-11-19 is past"), "{told}");
        assert_eq!(over_already(Some(Date::constant(2026, 11, 20)), &placed), "");
    }
}
