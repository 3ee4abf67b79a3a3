//! The hidden child process that owns the server.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::cluster::{Cluster, ClusterError, Running};
use crate::install::{InstallError, install};
use crate::protocol::{ChildMessage, Instructions, StartStep};

#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the hidden Postgres process was started without instructions: {0}; it is not meant to be run by hand")]
    Instructions(String),
    #[error("can't listen for signals: {0}")]
    Signal(io::Error),
}

/// Runs the server for a parent that started this process through [`EmbeddedPostgres::start`], until that parent
/// closes our standard input or ends, or SIGTERM or SIGINT arrives. Needs a multi-threaded tokio runtime.
///
/// [`EmbeddedPostgres::start`]: crate::EmbeddedPostgres::start
pub async fn run_child() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&ChildMessage::Failed(error.to_string()));
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), ChildError> {
    let (instructions, parent_gone) = listen_to_parent()?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ChildError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ChildError::Signal)?;
    let stop = async {
        tokio::select! {
            _ = parent_gone => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(stop);

    let report = |stage: StartStep| say(&ChildMessage::Progress(stage));
    // A download may be left in the middle; what follows may not, or it would leave a server behind.
    let home = tokio::select! {
        home = install(&instructions.install_dir, &report) => home?,
        () = &mut stop => return Ok(()),
    };
    // The cluster is kept, and with it the lock, until the server is down.
    let cluster = Cluster::take(&instructions.data_dir, &home).await?;
    let running = start(&cluster, &instructions, &report).await?;
    stop.await;
    Ok(running.stop().await?)
}

async fn start(
    cluster: &Cluster,
    instructions: &Instructions,
    report: &impl Fn(StartStep),
) -> Result<Running, ChildError> {
    cluster.create_if_missing(report).await?;
    report(StartStep::Starting);
    let (running, port) = cluster.start(&instructions.settings).await?;
    say(&ChildMessage::Ready { port, password: cluster.password().to_owned() });
    Ok(running)
}

/// Reads the instructions, then watches for the end of standard input on a thread of its own. An unfinished read of tokio's
/// standard input would keep the runtime from ending after a signal.
fn listen_to_parent() -> Result<(Instructions, oneshot::Receiver<()>), ChildError> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|e| ChildError::Instructions(e.to_string()))?;
    let instructions = serde_json::from_str(&line).map_err(|e| ChildError::Instructions(e.to_string()))?;
    let (gone, parent_gone) = oneshot::channel();
    std::thread::spawn(move || {
        // The parent is gone when it ends, even by an error.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = gone.send(());
    });
    Ok((instructions, parent_gone))
}

/// A parent that is gone is noticed on standard input, so a failed write here needs no answer.
fn say(report: &ChildMessage) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        let mut out = io::stdout().lock();
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}
