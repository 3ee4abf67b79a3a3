//! The one binary: every service, alone or together, and the tools around them.

mod cli;
pub mod client;
mod config;
mod run;
mod terminal;

use std::process::ExitCode;

/// Any error, on its way to a person.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
/// How a command ends.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// Runs the command line.
pub fn main_from_args() -> ExitCode {
    let command = cli::read();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(command) {
        Ok(code) => code,
        Err(error) => fail(error.as_ref()),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    run::telemetry::last_word(error);
    ExitCode::FAILURE
}
