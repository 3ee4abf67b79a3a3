//! disintegrate with disintegrate-postgres, without snapshots.

use disintegrate::{Decision, Event, NoSnapshot, StateMutate, StateQuery, serde::json::Json};
use disintegrate_postgres::{PgDecisionMaker, PgEventStore, decision_maker};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::{Failure, Issue, Library, Open, Refused};

/// Two writers whose transactions met: tried again, as the library's users must.
const TRIES: usize = 50;

#[derive(Debug, Clone, PartialEq, Eq, Event, Serialize, Deserialize)]
#[stream(AccountEvent, [Opened, Issued])]
enum DomainEvent {
    Opened {
        #[id]
        account: String,
    },
    Issued {
        #[id]
        account: String,
        number: String,
        minor_units: i64,
        currency: String,
        issue_day: u32,
        due_day: u32,
    },
}

#[derive(Default, StateQuery, Clone, Serialize, Deserialize)]
#[state_query(AccountEvent)]
struct Account {
    #[id]
    account: String,
    open: Open,
}

impl StateMutate for Account {
    fn mutate(&mut self, event: Self::Event) {
        match event {
            AccountEvent::Opened { .. } => self.open.opened = true,
            AccountEvent::Issued { number, minor_units, .. } => {
                self.open.invoices.insert(number, minor_units);
            }
        }
    }
}

struct OpenAccount(String);
struct IssueInvoice(Issue);

impl Decision for OpenAccount {
    type Event = DomainEvent;
    type StateQuery = Account;
    type Error = Refused;

    fn state_query(&self) -> Account {
        Account { account: self.0.clone(), ..Account::default() }
    }

    fn process(&self, _: &Account) -> Result<Vec<DomainEvent>, Refused> {
        Ok(vec![DomainEvent::Opened { account: self.0.clone() }])
    }
}

impl Decision for IssueInvoice {
    type Event = DomainEvent;
    type StateQuery = Account;
    type Error = Refused;

    fn state_query(&self) -> Account {
        Account { account: self.0.account.clone(), ..Account::default() }
    }

    fn process(&self, state: &Account) -> Result<Vec<DomainEvent>, Refused> {
        state.open.check(&self.0)?;
        let Issue { account, number, minor_units, issue_day, due_day } = self.0.clone();
        Ok(vec![DomainEvent::Issued { account, number, minor_units, currency: "EUR".to_owned(), issue_day, due_day }])
    }
}

pub struct Disintegrate(PgDecisionMaker<DomainEvent, Json<DomainEvent>, NoSnapshot>);

impl Disintegrate {
    pub async fn start(pool: PgPool) -> Result<Self, Failure> {
        let store = PgEventStore::try_new(pool, Json::<DomainEvent>::default()).await?;
        Ok(Self(decision_maker(store, NoSnapshot)))
    }
}

impl Library for Disintegrate {
    const NAME: &str = "disintegrate-postgres";

    async fn open(&self, account: String) -> Result<(), Failure> {
        for _ in 0..TRIES {
            if self.0.make(OpenAccount(account.clone())).await.is_ok() {
                return Ok(());
            }
        }
        Ok(self.0.make(OpenAccount(account)).await.map(|_| ()).map_err(|error| error.to_string())?)
    }

    async fn issue(&self, issue: Issue) -> Result<(), Failure> {
        for _ in 0..TRIES {
            if self.0.make(IssueInvoice(issue.clone())).await.is_ok() {
                return Ok(());
            }
        }
        Ok(self.0.make(IssueInvoice(issue)).await.map(|_| ()).map_err(|error| error.to_string())?)
    }
}
