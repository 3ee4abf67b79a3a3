//! The services, and what each of them needs.

/// A service that can run in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Decides commands and appends them to the log.
    Command,
    /// Folds the log into the read models.
    Projector,
    /// Wakes accounts whose time has come.
    Scheduler,
    /// Sends messages.
    Dispatcher,
    /// Answers queries from the read models.
    Query,
}

impl Service {
    /// Everything in one process.
    pub const ALL: &[Service] =
        &[Service::Command, Service::Projector, Service::Scheduler, Service::Dispatcher, Service::Query];

    /// Also the name of its command.
    pub fn name(self) -> &'static str {
        match self {
            Service::Command => "command",
            Service::Projector => "projector",
            Service::Scheduler => "scheduler",
            Service::Dispatcher => "dispatcher",
            Service::Query => "query",
        }
    }

    /// The default port. Each service has its own, so that all can run on one machine.
    pub fn port(self) -> u16 {
        match self {
            Service::Command => 50051,
            Service::Query => 50052,
            Service::Projector => 50053,
            Service::Scheduler => 50054,
            Service::Dispatcher => 50055,
        }
    }

    pub fn uses_database(self) -> bool {
        self != Service::Command
    }

    /// Whether it seals or unseals personal data. Other services do not open the key store.
    pub fn uses_keys(self) -> bool {
        matches!(self, Service::Command | Service::Projector)
    }

    /// Whether it works by published policies.
    pub fn uses_catalog(self) -> bool {
        self != Service::Query
    }

    /// Whether it is called with tokens.
    pub fn has_callers(self) -> bool {
        matches!(self, Service::Command | Service::Query)
    }

    /// Whether it calls the command service with tokens of its own.
    pub fn is_client(self) -> bool {
        matches!(self, Service::Scheduler | Service::Dispatcher)
    }
}
