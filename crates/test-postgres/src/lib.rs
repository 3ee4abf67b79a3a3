//! For test binaries without a harness: one test on a Postgres of its own. The binary is its own child process for Postgres
//! (`child`).

use std::{os::unix::fs::PermissionsExt, path::PathBuf, process::ExitCode};

use libtest_mimic::{Arguments, Trial};
use saldo_embedded_postgres::{ChildCommand, EmbeddedPostgres, Options, run_child};

/// What a test may fail with.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A server with an empty database.
pub struct Server {
    /// The database's address.
    pub url: String,
    /// A folder that lives as long as the server.
    pub dir: PathBuf,
}

/// The whole `main` of a test binary: one test, which gets a server that is stopped after it.
pub fn main<F>(name: &'static str, test: impl FnOnce(Server) -> F + Send + 'static) -> ExitCode
where
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no tokio runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    if std::env::args().nth(1).as_deref() == Some("child") {
        return runtime.block_on(run_child());
    }
    let trial =
        Trial::test(name, move || runtime.block_on(on_a_server(test)).map_err(|error| error.to_string().into()));
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

async fn on_a_server<F>(test: impl FnOnce(Server) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    // The server runs under a user of its own, who must reach its folder.
    let dir = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o711)).tempdir()?;
    let options = Options::new(dir.path().join("data"), ChildCommand::this_binary(["child"])?);
    let server = EmbeddedPostgres::start(options, |_| {}).await?;
    server.ensure_database("saldo").await?;
    let outcome = test(Server { url: server.url("saldo"), dir: dir.path().to_owned() }).await;
    server.stop().await?;
    outcome
}
