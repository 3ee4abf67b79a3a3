//! Files that hold keys or personal data: for their owner alone.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use tempfile::NamedTempFile;

const FOLDER: u32 = 0o700;
const FILE: u32 = 0o600;

/// Makes a folder that its owner alone can enter. A folder that an earlier release made open to others is closed. A folder of
/// another account, such as a mounted volume, stays as that account made it.
pub fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER).create(path)?;
    close(std::fs::metadata(path)?.mode(), FOLDER, |mode| std::fs::set_permissions(path, mode))
}

/// Opens a file to be read and written; makes a missing one. A file that others can read is closed to them.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE).open(path)?;
    close_file(&file)?;
    Ok(file)
}

/// Makes a file anew.
pub fn create(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    file.set_len(0)?;
    Ok(file)
}

/// Writes a file whole under its name or not at all. A file of this name is replaced. The file is on disk when this returns.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    draft(path, content)?.persist(path).map_err(|error| error.error)?;
    sync_folder(path)
}

/// Writes a new file whole under its name or not at all. A file of this name stays, and the error is `AlreadyExists`.
pub fn place(path: &Path, content: &[u8]) -> io::Result<()> {
    draft(path, content)?.persist_noclobber(path).map_err(|error| error.error)?;
    sync_folder(path)
}

/// Puts the names of a file's folder on disk.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// A file beside this one, for its owner alone. It is removed where it gets no name.
fn draft(path: &Path, content: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().suffix(".new").tempfile_in(folder_of(path))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Closes an open file to everybody but its owner.
pub fn close_file(file: &File) -> io::Result<()> {
    close(file.metadata()?.mode(), FILE, |mode| file.set_permissions(mode))
}

fn close(mode: u32, wanted: u32, set: impl FnOnce(Permissions) -> io::Result<()>) -> io::Result<()> {
    if mode & 0o077 == 0 {
        return Ok(());
    }
    match set(Permissions::from_mode(wanted)) {
        Err(error) if error.kind() != ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").mode() & 0o777
    }

    #[test]
    fn a_file_is_written_whole_and_a_new_one_takes_no_others_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("key");
        place(&file, b"first").expect("placed");
        assert_eq!(place(&file, b"second").expect_err("taken").kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&file).expect("there"), b"first");
        replace(&file, b"third").expect("replaced");
        assert_eq!((std::fs::read(&file).expect("there").as_slice(), mode(&file)), (&b"third"[..], 0o600));
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1, "no draft stays");
    }

    #[test]
    fn what_others_could_read_is_closed_to_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = dir.path().join("a/store");
        folder(&store).expect("made");
        let file = store.join("keys");
        create(&file).expect("made");
        assert_eq!((mode(&store), mode(&file)), (0o700, 0o600));
        std::fs::set_permissions(&store, Permissions::from_mode(0o755)).expect("opened");
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("opened");
        folder(&store).expect("closed");
        open(&file).expect("closed");
        assert_eq!((mode(&store), mode(&file)), (0o700, 0o600));
    }
}
