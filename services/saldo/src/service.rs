//! The services that a process can run.

/// A service that can be a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Decides and appends.
    Command,
    /// Folds the log into the read models.
    Projector,
    /// Wakes accounts.
    Scheduler,
    /// Sends messages.
    Dispatcher,
    /// Answers from the read models.
    Query,
}

impl Service {
    /// Everything in one process.
    pub const ALL: &[Service] =
        &[Service::Command, Service::Projector, Service::Scheduler, Service::Dispatcher, Service::Query];

    /// Its name, which is its subcommand's too.
    pub fn name(self) -> &'static str {
        match self {
            Service::Command => "command",
            Service::Projector => "projector",
            Service::Scheduler => "scheduler",
            Service::Dispatcher => "dispatcher",
            Service::Query => "query",
        }
    }

    /// The port where it listens unless told otherwise: one for each, so that all can stand on one machine.
    pub fn port(self) -> u16 {
        match self {
            Service::Command => 50051,
            Service::Query => 50052,
            Service::Projector => 50053,
            Service::Scheduler => 50054,
            Service::Dispatcher => 50055,
        }
    }

    /// Whether it reads or writes Postgres.
    pub fn uses_database(self) -> bool {
        self != Service::Command
    }

    /// Whether it seals or unseals personal data. Nobody else opens the key store.
    pub fn uses_keys(self) -> bool {
        matches!(self, Service::Command | Service::Projector)
    }

    /// Whether it goes by what creditors have published.
    pub fn uses_catalog(self) -> bool {
        self != Service::Query
    }

    /// Whether others ask it, with tokens.
    pub fn is_asked(self) -> bool {
        matches!(self, Service::Command | Service::Query)
    }

    /// Whether it asks the command service, with tokens of its own.
    pub fn asks(self) -> bool {
        matches!(self, Service::Scheduler | Service::Dispatcher)
    }
}
