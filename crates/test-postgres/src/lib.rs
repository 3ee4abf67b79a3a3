//! For test binaries without a harness: tests that share one Postgres, each with a database of its own. The binary is its own
//! child process for Postgres (`child`).

use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use libtest_mimic::{Arguments, Trial};
use saldo_embedded_postgres::{ChildCommand, EmbeddedPostgres, Options, run_child};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::OnceCell};

/// The error of a test.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The result of a test.
pub type Outcome = Result<(), Failure>;

/// An empty database.
pub struct Database {
    /// The database's address.
    pub url: String,
    /// An empty folder that lives as long as the server.
    pub dir: PathBuf,
}

/// A test by its name.
pub struct Test {
    name: &'static str,
    run: Box<dyn FnOnce(&Postgres) -> Outcome + Send>,
}

/// A test that needs a database.
pub fn on_a_database<F>(name: &'static str, test: impl FnOnce(Database) -> F + Send + 'static) -> Test
where
    F: Future<Output = Outcome>,
{
    let run = move |postgres: &Postgres| {
        postgres.runtime.block_on(async {
            let database = postgres.database().await?;
            test(database).await
        })
    };
    Test { name, run: Box::new(run) }
}

/// A test that needs nothing.
pub fn alone(name: &'static str, test: fn() -> Outcome) -> Test {
    Test { name, run: Box::new(move |_| test()) }
}

/// The whole `main` of a test binary. The server is started for the first test that needs it, and stopped at the end.
pub fn main(tests: impl IntoIterator<Item = Test>) -> ExitCode {
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no tokio runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    if std::env::args().nth(1).as_deref() == Some("child") {
        return runtime.block_on(run_child());
    }
    let postgres = Arc::new(Postgres { runtime, server: OnceCell::new(), databases: AtomicU32::new(0) });
    let trial = |test: Test| {
        let postgres = postgres.clone();
        Trial::test(test.name, move || (test.run)(&postgres).map_err(|error| error.to_string().into()))
    };
    let trials = tests.into_iter().map(trial).collect();
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    if let Some(Postgres { runtime, server, .. }) = Arc::into_inner(postgres)
        && let Some((server, _dir)) = server.into_inner()
        && let Err(error) = runtime.block_on(server.stop())
    {
        eprintln!("Postgres was not stopped in order: {error}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// The server that all tests share.
struct Postgres {
    runtime: Runtime,
    server: OnceCell<(EmbeddedPostgres, TempDir)>,
    /// How many databases were made.
    databases: AtomicU32,
}

impl Postgres {
    async fn database(&self) -> Result<Database, Failure> {
        let (server, dir) = self.server.get_or_try_init(start).await?;
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        server.ensure_database(&name).await?;
        let dir = dir.path().join(&name);
        std::fs::create_dir(&dir)?;
        Ok(Database { url: server.url(&name), dir })
    }
}

async fn start() -> Result<(EmbeddedPostgres, TempDir), Failure> {
    // The server runs under a user of its own, who must reach its folder.
    let dir = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o711)).tempdir()?;
    let options = Options::new(dir.path().join("data"), ChildCommand::this_binary(["child"])?);
    Ok((EmbeddedPostgres::start(options, |_| {}).await?, dir))
}
