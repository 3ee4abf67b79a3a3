//! The one binary: every service, alone or together, and the tools around them.

mod aging;
mod bench;
mod cli;
pub mod client;
pub mod config;
mod demo;
mod dev;
pub mod import;
mod log_admin;
mod policy;
mod portfolio;
mod preview;
mod progress;
mod rebuild;
mod replay;
pub mod system;
mod table;
mod telemetry;
mod token;
mod verify;

use std::process::ExitCode;

use clap::Parser;

/// Any error, on its way to a person.
pub(crate) type Outcome = Result<ExitCode, Box<dyn std::error::Error + Send + Sync>>;

/// Runs the command line.
pub fn main_from_args() -> ExitCode {
    let cli = cli::Cli::parse();
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
