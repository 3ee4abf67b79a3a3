//! The one binary: every service, alone or together, and the tools around them.

mod aging;
mod bench;
mod calls;
mod cli;
pub mod client;
mod completions;
pub mod config;
mod demo;
mod dev;
mod example;
mod ground;
mod health;
pub mod import;
mod incoming;
mod log_admin;
mod outbox;
mod policy;
mod portfolio;
mod preview;
mod progress;
mod publish;
mod rebuild;
mod replay;
mod serve;
mod server;
mod service;
mod settings;
pub mod stores;
pub mod system;
mod table;
mod task;
mod telemetry;
mod token;
mod verify;

use std::process::ExitCode;

/// Any error, on its way to a person.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
/// How a command ends.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// Runs the command line.
pub fn main_from_args() -> ExitCode {
    let cli = cli::Cli::read();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(cli::run(cli)) {
        Ok(code) => code,
        Err(error) => fail(error.as_ref()),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {}", client::error_chain(error));
    ExitCode::FAILURE
}
