//! Projections: the fold of accepted commits into the read models. A projection gets a database transaction and nothing
//! else, so one that sends mail does not compile.

mod build;
mod compare;
mod fold;
mod heal;
mod live;
mod metrics;
mod pace;
mod personal;
mod rebuild;
mod standby;
mod tenants;
mod verify;

pub use compare::{Difference, Differences};
pub use fold::Decode;
pub use live::{run, run_reading};
pub use rebuild::{End, Phase, Progress, Rebuild, Rebuilt, rebuild};
pub use tenants::keep_tenants;
pub use verify::{Report, verify, verify_within};

/// Why a projector stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// The read models' database.
    #[error(transparent)]
    ReadModel(#[from] saldo_readmodel::ReadModelError),
    /// The key store cannot say whether a value was erased.
    #[error(transparent)]
    Keys(#[from] saldo_keyring::KeyringError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] saldo_log::LogError),
    /// The log is not the one read before.
    #[error(transparent)]
    Diverged(#[from] saldo_log::acceptor::Diverged),
    /// One rebuild at a time.
    #[error("another `saldo rebuild` is at it")]
    Rebuilding,
    /// The build that an earlier rebuild has left cannot be compared.
    #[error(
        "what an earlier rebuild has left stands further in the log than the live read models, and these stand still: nothing was compared or swapped; start a projector and run `saldo rebuild` again, or begin anew with --fresh; --accept-differences swaps without comparing"
    )]
    LiveStandsStill,
    /// A defect of ours.
    #[error("writing a batch broke off: {0}")]
    BrokeOff(#[from] tokio::task::JoinError),
}

impl From<sqlx::Error> for ProjectorError {
    fn from(error: sqlx::Error) -> Self {
        Self::ReadModel(error.into())
    }
}

impl ProjectorError {
    /// Whether trying again can help by itself.
    fn is_transient(&self) -> bool {
        use saldo_log::LogError;
        use saldo_readmodel::ReadModelError;
        matches!(
            self,
            ProjectorError::ReadModel(ReadModelError::Database(_))
                | ProjectorError::Log(LogError::Unavailable(_))
                | ProjectorError::Keys(_)
        )
    }
}
