//! Which user the server runs under, and whether that user can reach its directories.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

/// The user that owns the server when the parent is root and no other is named.
pub(crate) const DEFAULT_USER: &str = "nobody";
/// The numbers of `nobody` where no user database says otherwise, as in a container image made from nothing.
const NOBODY: Account = Account { uid: 65534, gid: 65534 };

const ROOT: u32 = 0;

/// A numeric user and its primary group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub uid: u32,
    pub gid: u32,
}

/// Why the server's user or directories can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The named user is not in `/etc/passwd`.
    #[error(
        "no user named `{0}` in /etc/passwd; create it or name another unprivileged user for the embedded Postgres"
    )]
    UnknownUser(String),
    /// The named user is root itself.
    #[error("the embedded Postgres can't run as `{0}`, which is root; name an unprivileged user")]
    UserIsRoot(String),
    /// A directory could not be made, inspected or given away.
    #[error("can't prepare {path} for the embedded Postgres: {source}", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An existing data directory belongs to another user.
    #[error(
        "{path} belongs to user id {owner}, but the embedded Postgres would run under user id {wanted}; \
         run as its owner or choose another data directory", path = path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The owner.
        owner: u32,
        /// The user who would have to own it.
        wanted: u32,
    },
    /// A directory above is closed to the server's user.
    #[error(
        "the embedded Postgres runs under user id {uid}, which can't enter {closed}, and {path} lies below it; \
         choose a directory elsewhere, such as under /var/lib or /tmp",
        closed = closed.display(), path = path.display()
    )]
    Closed {
        /// The server's user.
        uid: u32,
        /// The directory that it can't enter.
        closed: PathBuf,
        /// The directory that it needs.
        path: PathBuf,
    },
}

/// Whether this process is root. The owner of `/proc/self` is the effective user; elsewhere, of a file just made.
pub(crate) fn running_as_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == ROOT)
}

/// The account to drop to: `None` unless this process is root.
pub(crate) fn unprivileged(user: Option<&str>) -> Result<Option<Account>, PrivilegeError> {
    if !running_as_root() {
        return Ok(None);
    }
    let name = user.unwrap_or(DEFAULT_USER);
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let account = match find_account(&passwd, name) {
        Some(account) => account,
        None if name == DEFAULT_USER => NOBODY,
        None => return Err(PrivilegeError::UnknownUser(name.to_owned())),
    };
    if account.uid == ROOT {
        return Err(PrivilegeError::UserIsRoot(name.to_owned()));
    }
    Ok(Some(account))
}

fn find_account(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let (uid, gid) = (fields.nth(1)?, fields.next()?);
        found.then_some(Account { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    })
}

/// Makes `path` with `mode` where it is missing, and gives it to `account` where this process is root.
/// Answers its absolute path.
pub(crate) fn prepare_directory(path: &Path, mode: u32, account: Option<Account>) -> Result<PathBuf, PrivilegeError> {
    let failed = |source| PrivilegeError::Directory { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let path = path.canonicalize().map_err(failed)?;
    let Some(account) = account else { return Ok(path) };
    let owner = fs::metadata(&path).map_err(failed)?.uid();
    if owner == ROOT {
        chown(&path, Some(account.uid), Some(account.gid)).map_err(failed)?;
    } else if owner != account.uid {
        return Err(PrivilegeError::Foreign { path, owner, wanted: account.uid });
    }
    check_reachable(&path, account)?;
    Ok(path)
}

/// Every directory above must let the account pass.
fn check_reachable(path: &Path, account: Account) -> Result<(), PrivilegeError> {
    for above in path.ancestors().skip(1) {
        let meta =
            fs::metadata(above).map_err(|source| PrivilegeError::Directory { path: above.to_owned(), source })?;
        let shift = if meta.uid() == account.uid {
            6
        } else if meta.gid() == account.gid {
            3
        } else {
            0
        };
        if (meta.mode() >> shift) & 0o1 == 0 {
            let (closed, path) = (above.to_owned(), path.to_owned());
            return Err(PrivilegeError::Closed { uid: account.uid, closed, path });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533:nobody:/:/usr/sbin/nologin\nbroken\n";

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        assert_eq!(find_account(PASSWD, "nobody"), Some(Account { uid: 65534, gid: 65533 }));
        assert_eq!(find_account(PASSWD, "nobod"), None);
        assert_eq!(find_account(PASSWD, "broken"), None);
    }
}
