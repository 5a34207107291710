//! A folder that is replaced as one: checkpoints.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::{name_of, parent, sync_dir};
use crate::error::{Error, Result};

/// A folder to fill and hand to [`replace_dir`]. Dropped before that, it is removed with all that is in it.
#[derive(Debug)]
pub struct ScratchDir(tempfile::TempDir);

impl Deref for ScratchDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.0.path()
    }
}

impl AsRef<Path> for ScratchDir {
    fn as_ref(&self) -> &Path {
        self
    }
}

/// An empty folder beside `target`, named `<target>.tmp-...`.
///
/// # Errors
/// The folder cannot be created.
pub fn scratch_dir(target: impl AsRef<Path>) -> Result<ScratchDir> {
    let target = target.as_ref();
    let mut builder = tempfile::Builder::new();
    // The folder would be private otherwise; the process's umask still applies.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let prefix = format!("{}.tmp-", name_of(target)?);
    let dir = builder.prefix(&prefix).tempdir_in(parent(target));
    Ok(ScratchDir(dir.map_err(|error| Error::io("create a folder beside", target, &error))?))
}

/// Puts the folder `from` in the place of the folder `to`. All files are synced first. Two renames are needed, the old
/// folder's away to `<to>.old` and the new one's in; after a crash between them [`recover_dir`] restores the old folder.
///
/// # Errors
/// Any step failed. The old folder is then still there, or back again.
pub fn replace_dir(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    sync_tree(from)?;
    let moved = set_aside(to)?;
    if let Err(error) = put_in_place(from, to) {
        if moved {
            put_in_place(&aside(to)?, to)?;
        }
        return Err(error);
    }
    drop_aside(to)
}

/// Finishes what a crash interrupted: an old folder that was set aside comes back if nothing took its place and is removed
/// if something did; half-written scratch folders are removed. To be called before the folder is read or replaced.
///
/// # Errors
/// A rename or a removal failed.
pub fn recover_dir(to: impl AsRef<Path>) -> Result<()> {
    let to = to.as_ref();
    settle(to)?;
    remove_scratch(to)
}

/// Makes a folder if it is not there, durably.
///
/// # Errors
/// It cannot be made; its parent must exist.
pub fn ensure_dir(dir: &Path) -> Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(Error::io("create the folder", dir, &error)),
        Ok(()) => sync_dir(parent(dir)),
    }
}

/// Renames a folder, durably: its files are synced first, and both parents afterwards.
///
/// # Errors
/// Something of the name is there already, or a step failed.
pub fn move_dir(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    sync_tree(from)?;
    put_in_place(from, to)?;
    sync_dir(parent(from))
}

/// Removes the folders beside `target` that [`scratch_dir`] made and a crash left.
///
/// # Errors
/// A removal failed.
pub fn remove_scratch(to: impl AsRef<Path>) -> Result<()> {
    let to = to.as_ref();
    let scratch = format!("{}.tmp-", name_of(to)?);
    let entries = match fs::read_dir(parent(to)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read", parent(to), &error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read", parent(to), &error))?;
        if entry.file_name().to_string_lossy().starts_with(&scratch) {
            fs::remove_dir_all(entry.path()).map_err(|error| Error::io("remove", &entry.path(), &error))?;
        }
    }
    Ok(())
}

/// First rename of [`replace_dir`]; whether there was a folder to move.
fn set_aside(to: &Path) -> Result<bool> {
    settle(to)?;
    if !to.exists() {
        return Ok(false);
    }
    fs::rename(to, aside(to)?).map_err(|error| Error::io("move away", to, &error))?;
    sync_dir(parent(to))?;
    Ok(true)
}

/// Leaves one folder, the newest that is whole: an interrupted [`replace_dir`] may have left none or two.
fn settle(to: &Path) -> Result<()> {
    let old = aside(to)?;
    if old.exists() && !to.exists() {
        return put_in_place(&old, to);
    }
    drop_aside(to)
}

/// Second rename of [`replace_dir`].
fn put_in_place(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| Error::io("move into place", to, &error))?;
    sync_dir(parent(to))
}

/// Last step of [`replace_dir`].
fn drop_aside(to: &Path) -> Result<()> {
    let old = aside(to)?;
    match fs::remove_dir_all(&old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &old, &error)),
        _ => Ok(()),
    }
}

fn aside(to: &Path) -> Result<PathBuf> {
    Ok(to.with_file_name(format!("{}.old", name_of(to)?)))
}

fn sync_tree(dir: &Path) -> Result<()> {
    let failed = |error| Error::io("sync", dir, &error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            fs::File::open(&path).and_then(|file| file.sync_all()).map_err(|error| Error::io("sync", &path, &error))?;
        }
    }
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a checkpoint `old` in place and a complete one `new` beside it.
    fn stage() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("checkpoint");
        fs::create_dir(&to).unwrap();
        fs::write(to.join("state"), "old").unwrap();
        let from = scratch_dir(&to).unwrap().0.keep();
        fs::create_dir(from.join("part")).unwrap();
        fs::write(from.join("state"), "new").unwrap();
        (dir, from, to)
    }

    /// What a reader finds after a restart, and that nothing lies beside it.
    fn after_restart(to: &Path) -> String {
        recover_dir(to).unwrap();
        let beside = fs::read_dir(parent(to)).unwrap().count();
        assert_eq!(beside, 1, "left over beside the folder");
        fs::read_to_string(to.join("state")).unwrap()
    }

    #[test]
    fn swaps_and_leaves_nothing_beside() {
        let (_dir, from, to) = stage();
        replace_dir(&from, &to).unwrap();
        assert!(to.join("part").is_dir() && !from.exists());
        assert_eq!(after_restart(&to), "new");
    }

    #[test]
    fn the_first_folder_needs_no_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("checkpoint");
        let from = scratch_dir(&to).unwrap();
        fs::write(from.join("state"), "new").unwrap();
        replace_dir(&from, &to).unwrap();
        drop(from);
        assert_eq!(after_restart(&to), "new");
    }

    #[test]
    fn every_crash_point_leaves_a_whole_folder() {
        let (_dir, _from, to) = stage();
        assert_eq!(after_restart(&to), "old", "while the new folder was filled");

        let (_dir, _from, to) = stage();
        set_aside(&to).unwrap();
        assert!(!to.exists());
        assert_eq!(after_restart(&to), "old", "between the renames");

        let (_dir, from, to) = stage();
        set_aside(&to).unwrap();
        put_in_place(&from, &to).unwrap();
        assert_eq!(after_restart(&to), "new", "before the old folder was removed");

        let (_dir, from, to) = stage();
        set_aside(&to).unwrap();
        put_in_place(&from, &to).unwrap();
        fs::remove_file(aside(&to).unwrap().join("state")).unwrap();
        assert_eq!(after_restart(&to), "new", "while the old folder was removed");
    }

    #[test]
    fn a_replacement_right_after_a_crash_works_without_a_recovery() {
        let (_dir, from, to) = stage();
        set_aside(&to).unwrap();
        replace_dir(&from, &to).unwrap();
        assert_eq!(after_restart(&to), "new");
    }

    #[test]
    fn a_failed_second_rename_brings_the_old_folder_back() {
        let (dir, _from, to) = stage();
        // No folder can be moved into itself: everything before the second rename succeeds.
        let error = replace_dir(dir.path(), &to).unwrap_err();
        assert!(error.message().starts_with("cannot move into place"), "{error}");
        assert_eq!(after_restart(&to), "old");
    }

    #[test]
    fn an_abandoned_scratch_folder_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = scratch_dir(dir.path().join("checkpoint")).unwrap();
        fs::write(scratch.join("half"), "x").unwrap();
        drop(scratch);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(scratch_dir(dir.path().join("none/checkpoint")).is_err());
    }

    #[test]
    fn recovery_of_nothing_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        recover_dir(dir.path().join("checkpoint")).unwrap();
        recover_dir(dir.path().join("no/such/checkpoint")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
