//! A store that is damaged. The store is disposable: its file is set aside, and the partition is read again from the log's start.
//! redb panics over some damage, so its panics are caught.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use tracing::warn;

use super::StoreError;

/// Does something with a store. A panic over its file is an error like any other.
pub fn guarded<T, E: From<StoreError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(StoreError::Damaged(words(&*panic)).into()))
}

/// The words of a panic.
fn words(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    words.unwrap_or("reading it broke off").to_owned()
}

/// Opens a store. One that is damaged is set aside, and an empty one takes its place.
pub fn open<T>(path: &Path, open: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    match guarded(&open) {
        Err(why @ (StoreError::Damaged(_) | StoreError::Shape(_))) => {
            set_aside(path, &why)?;
            guarded(open)
        }
        opened => opened,
    }
}

/// Puts the file where the next start does not find it.
pub fn set_aside(path: &Path, why: &StoreError) -> Result<PathBuf, StoreError> {
    let aside = path.with_extension("damaged");
    std::fs::rename(path, &aside)
        .map_err(|error| StoreError::Database(format!("{why}; and it cannot be set aside: {error}")))?;
    warn!(
        path = %path.display(),
        aside = %aside.display(),
        %why,
        "a local store is damaged: it is set aside, and its partition is read again from the log; the file set aside can be deleted"
    );
    Ok(aside)
}
