//! cqrs-es with postgres-es, its plain event store.

use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use postgres_es::{PostgresCqrs, postgres_cqrs};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::{Failure, Issue, Library, Open, Refused};

const EVENTS: &str = "CREATE TABLE events (
    aggregate_type text NOT NULL, aggregate_id text NOT NULL, sequence bigint CHECK (sequence >= 0) NOT NULL,
    event_type text NOT NULL, event_version text NOT NULL, payload json NOT NULL, metadata json NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id, sequence))";

pub struct Cqrs(PostgresCqrs<Account>);

#[derive(Default, Serialize, Deserialize)]
struct Account(Open);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Event {
    Opened,
    Issued { number: String, minor_units: i64, currency: String, issue_day: u32, due_day: u32 },
}

enum Command {
    Open,
    Issue(Issue),
}

impl DomainEvent for Event {
    fn event_type(&self) -> String {
        match self {
            Event::Opened => "account.opened".to_owned(),
            Event::Issued { .. } => "invoice.issued".to_owned(),
        }
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Aggregate for Account {
    const TYPE: &'static str = "account";
    type Command = Command;
    type Event = Event;
    type Error = Refused;
    type Services = ();

    async fn handle(&mut self, command: Command, _: &(), sink: &EventSink<Self>) -> Result<(), Refused> {
        let event = match command {
            Command::Open => Event::Opened,
            Command::Issue(issue) => {
                self.0.check(&issue)?;
                let Issue { number, minor_units, issue_day, due_day, .. } = issue;
                Event::Issued { number, minor_units, currency: "EUR".to_owned(), issue_day, due_day }
            }
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Opened => self.0.opened = true,
            Event::Issued { number, minor_units, .. } => {
                self.0.invoices.insert(number, minor_units);
            }
        }
    }
}

impl Cqrs {
    pub async fn start(pool: PgPool) -> Result<Self, Failure> {
        sqlx::query(EVENTS).execute(&pool).await?;
        Ok(Self(postgres_cqrs(pool, vec![], ())))
    }
}

impl Library for Cqrs {
    const NAME: &str = "cqrs-es + postgres-es";

    async fn open(&self, account: String) -> Result<(), Failure> {
        self.0.execute(&account, Command::Open).await.map_err(|error| error.to_string().into())
    }

    async fn issue(&self, issue: Issue) -> Result<(), Failure> {
        let account = issue.account.clone();
        self.0.execute(&account, Command::Issue(issue)).await.map_err(|error| error.to_string().into())
    }
}
