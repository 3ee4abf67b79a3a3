//! The server as its users see it. This binary is its own child process (`child`), and for the test that kills a
//! parent also that parent (`parent DIR`).

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use libtest_mimic::{Arguments, Trial};
use saldo_embedded_postgres::{ChildCommand, EmbeddedPostgres, Options, run_child};
use sqlx::{Connection, PgConnection};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

const DATABASE: &str = "saldo \"test\"";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no tokio runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match args.get(1).map(String::as_str) {
        Some("child") => return runtime.block_on(run_child()),
        Some("parent") => {
            return match runtime.block_on(parent(&args[2])) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("{error}");
                    ExitCode::FAILURE
                }
            };
        }
        _ => {}
    }
    drop(runtime);
    let tests = vec![
        test("what_was_written_is_there_after_a_restart", || block_on(restart())),
        test("the_server_syncs_and_listens_on_loopback_only", || block_on(settings())),
        test("a_killed_parent_takes_the_server_with_it", killed_parent),
        test("a_pid_file_left_by_a_power_failure_does_not_stop_a_start", || block_on(stale_pid_file())),
        test("two_servers_start_at_once_in_two_directories", || block_on(two_at_once())),
        test("a_server_that_refuses_to_start_shows_its_log", || block_on(refused())),
        test("a_child_that_is_another_program_is_named_as_the_fault", || block_on(wrong_child())),
        test("a_copy_of_the_binary_in_a_closed_directory_still_serves", closed_directory),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn test(name: &str, body: fn() -> Outcome) -> Trial {
    Trial::test(name, move || body().map_err(|error| error.to_string().into()))
}

fn block_on(body: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Runtime::new()?.block_on(body)
}

/// A directory that the server's unprivileged user can enter.
fn scratch() -> std::io::Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o711)).tempdir()
}

fn options(scratch: &Path) -> std::io::Result<Options> {
    Ok(Options::new(scratch.join("data"), ChildCommand::this_binary(["child"])?))
}

async fn start(scratch: &Path) -> Result<EmbeddedPostgres, Box<dyn Error + Send + Sync>> {
    Ok(EmbeddedPostgres::start(options(scratch)?, |stage| eprintln!("{stage}")).await?)
}

async fn query(url: &str, sql: &'static str) -> Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    let answer = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(answer)
}

async fn restart() -> Outcome {
    let scratch = scratch()?;
    let server = start(scratch.path()).await?;
    let (one, two) = tokio::join!(server.ensure_database(DATABASE), server.ensure_database(DATABASE));
    one.and(two)?;
    let url = server.url(DATABASE);
    query(&url, "CREATE TABLE t AS SELECT 'kept' AS v; ").await.err();
    server.stop().await?;

    let server = start(scratch.path()).await?;
    server.ensure_database(DATABASE).await?;
    assert_eq!(server.url(DATABASE), url, "a URL that somebody has noted stays right");
    let kept = query(&url, "SELECT v FROM t").await?;
    server.stop().await?;
    assert_eq!(kept, "kept");
    let port = url.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default().to_owned();
    let taken = std::net::TcpListener::bind(format!("127.0.0.1:{port}"))?;
    let server = start(scratch.path()).await?;
    assert!(!server.url(DATABASE).contains(&format!(":{port}/")), "a port that is taken is not waited for");
    server.stop().await?;
    drop(taken);
    Ok(())
}

async fn settings() -> Outcome {
    let scratch = scratch()?;
    let options = options(scratch.path())?.setting("max_connections", "37").setting("listen_addresses", "0.0.0.0");
    let server = EmbeddedPostgres::start(options, |_| {}).await?;
    let url = server.url("postgres");
    let found = [
        query(&url, "SHOW fsync").await?,
        query(&url, "SHOW max_connections").await?,
        query(&url, "SHOW listen_addresses").await?,
        query(&url, "SHOW unix_socket_directories").await?,
        query(&url, "SHOW server_encoding").await?,
    ];
    let without_password =
        url.replace(&url[url.find("postgres:").unwrap_or(0)..url.find('@').unwrap_or(0)], "postgres");
    let refused = query(&without_password, "SHOW fsync").await;
    let debug = format!("{server:?}");
    server.stop().await?;
    assert_eq!(found, ["on", "37", "127.0.0.1", "", "UTF8"]);
    assert!(refused.is_err());
    assert!(!debug.contains("password"), "{debug}");
    Ok(())
}

/// Starts a server, says where, and waits to be killed.
async fn parent(scratch: &str) -> Outcome {
    let server = start(Path::new(scratch)).await?;
    println!("{}", server.url("postgres"));
    std::future::pending::<()>().await;
    server.stop().await?;
    Ok(())
}

/// Runs `program parent DIR` until it has a server, kills it, and waits until the server has gone.
fn serve_and_kill(program: &Path, scratch: &Path) -> Outcome {
    let mut parent =
        std::process::Command::new(program).args([Path::new("parent"), scratch]).stdout(Stdio::piped()).spawn()?;
    let mut url = String::new();
    let output = parent.stdout.take().ok_or("no pipe")?;
    BufReader::new(output).read_line(&mut url)?;
    let answered = block_on(async {
        assert_eq!(query(url.trim(), "SELECT 'up'").await?, "up");
        Ok(())
    });
    parent.kill()?;
    parent.wait()?;
    answered?;

    // The child holds the lock until the server is down: waiting for it is waiting for the server.
    std::fs::File::open(scratch.join("data/lock"))?.lock()?;
    assert!(!scratch.join("data/cluster/postmaster.pid").exists());
    block_on(async {
        assert!(query(url.trim(), "SELECT 'up'").await.is_err());
        Ok(())
    })
}

fn killed_parent() -> Outcome {
    let scratch = scratch()?;
    serve_and_kill(&std::env::current_exe()?, scratch.path())
}

/// Only root drops to a user that could be kept out; for others this is one more start.
fn closed_directory() -> Outcome {
    let scratch = scratch()?;
    let closed = tempfile::Builder::new().prefix("closed").tempdir()?;
    let copy = closed.path().join("copy");
    std::fs::copy(std::env::current_exe()?, &copy)?;
    serve_and_kill(&copy, scratch.path())
}

async fn stale_pid_file() -> Outcome {
    let scratch = scratch()?;
    start(scratch.path()).await?.stop().await?;
    let pid_file = scratch.path().join("data/cluster/postmaster.pid");
    for content in ["", "1\n/elsewhere\n", "4194303\n"] {
        std::fs::write(&pid_file, content)?;
        use std::os::unix::fs::{MetadataExt, chown};
        let owner = std::fs::metadata(scratch.path().join("data"))?;
        chown(&pid_file, Some(owner.uid()), Some(owner.gid()))?;
        start(scratch.path()).await?.stop().await?;
    }
    Ok(())
}

async fn two_at_once() -> Outcome {
    let (one, two) = (scratch()?, scratch()?);
    let (one, two) = tokio::join!(start(one.path()), start(two.path()));
    let (one, two) = (one?, two?);
    assert_ne!(one.port(), two.port());
    one.stop().await?;
    two.stop().await?;
    Ok(())
}

async fn refused() -> Outcome {
    let scratch = scratch()?;
    let options = options(scratch.path())?.setting("shared_buffers", "plenty");
    let error = match EmbeddedPostgres::start(options, |_| {}).await {
        Err(error) => error.to_string(),
        Ok(_) => return Err("a server with nonsense in its settings started".into()),
    };
    assert!(error.contains("does not start"), "{error}");
    assert!(error.contains("invalid value for parameter \"shared_buffers\""), "{error}");
    Ok(())
}

async fn wrong_child() -> Outcome {
    let scratch = scratch()?;
    let mut options = options(scratch.path())?;
    options.child.program = "/bin/echo".into();
    match EmbeddedPostgres::start(options, |_| {}).await {
        Err(error) => assert!(error.to_string().contains("run_child"), "{error}"),
        Ok(_) => return Err("echo is no database".into()),
    }
    Ok(())
}
