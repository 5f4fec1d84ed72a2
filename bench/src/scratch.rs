//! Folders of our own that never outlive us: a guard removes them, and whoever ends the program without guards removes all
//! ([`remove_all`]). Only a kill of this very process leaves one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// All that exist.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder that is removed with all that is in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new one in `parent`, which is made if it is not there (and stays).
    pub(crate) fn new(parent: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(parent)?;
        for number in 0.. {
            let path = parent.join(format!("snowskin-bench-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => {
                    lock().push(path.clone());
                    return Ok(Scratch { path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("numbers do not end")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        lock().retain(|path| *path != self.path);
        remove(&self.path);
    }
}

/// Removes all of them.
pub(crate) fn remove_all() {
    lock().drain(..).for_each(|path| remove(&path));
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        log::warn!("{} stays: {error}", path.display());
    }
}

/// The list is whole at every moment, so a panic elsewhere does not matter.
fn lock() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    FOLDERS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_go_with_their_guards() {
        let parent = tempfile::tempdir().unwrap();
        let (one, other) = (Scratch::new(parent.path()).unwrap(), Scratch::new(parent.path()).unwrap());
        assert_ne!(one.path(), other.path());
        std::fs::write(one.path().join("file"), "bytes").unwrap();
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists() && other.path().exists());
    }
}
