//! Files that are either whole or absent, whatever is interrupted: atomic writes, JSON lines, directory swaps.

mod swap;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};

pub use swap::{ScratchDir, ensure_dir, move_dir, recover_dir, remove_scratch, replace_dir, scratch_dir};

/// Writes `bytes` so that a reader sees the old file or the new one, never a part: a scratch file beside the target is
/// synced, then renamed over it. The scratch file is removed on failure. A target that is not a file, such as
/// `/dev/stdout`, is written to directly.
///
/// # Errors
/// A missing folder, no permission, a full or read-only disk, each with its hint.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let doing = |error: io::Error| Error::io("write", path, &error);
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(Error::input(format!("cannot write `{}`: it is a folder", path.display()))),
        Ok(found) if !found.is_file() => return fs::write(path, bytes).map_err(doing),
        _ => {}
    }
    let mut builder = tempfile::Builder::new();
    let prefix = format!(".{}.", name_of(path)?);
    // The scratch file would be private otherwise; the process's umask still applies.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut scratch = builder.prefix(&prefix).tempfile_in(parent(path)).map_err(doing)?;
    scratch.as_file_mut().write_all(bytes).map_err(doing)?;
    scratch.as_file().sync_all().map_err(doing)?;
    scratch.persist(path).map_err(|failed| doing(failed.error))?;
    sync_dir(parent(path))
}

/// A file of JSON objects, one a line, each on its way as soon as it is logged. What cannot be written (a full disk) is kept and goes out with a
/// later record, in order: no line is lost as long as the process lives.
#[derive(Debug)]
pub struct JsonlFile {
    file: File,
    path: PathBuf,
    /// What was not written yet; a line may have gone out in part.
    pending: Vec<u8>,
}

impl JsonlFile {
    /// Opens the file to append to, creating it if needed. A torn last line, left by a crash, is cut off.
    ///
    /// # Errors
    /// The file cannot be opened, read or cut.
    pub fn append(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let open = || -> io::Result<File> {
            let mut file = open_to_append(&path)?;
            if file.metadata()?.is_file() {
                // Read whole: these files have a few megabytes at most.
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                if whole < bytes.len() {
                    file.set_len(whole as u64)?;
                }
            }
            Ok(file)
        };
        let file = open().map_err(|error| Error::io("open", &path, &error))?;
        Ok(Self { file, path, pending: Vec::new() })
    }

    /// Appends one record. Floats that are not finite become `null`, as JSON has no word for them.
    ///
    /// # Errors
    /// The record is not representable in JSON, or the write failed (a full disk); what was not written is kept for the next call.
    pub fn push(&mut self, record: &impl Serialize) -> Result<()> {
        let line = self.line(record)?;
        self.push_line(&line)
    }

    /// A record as [`JsonlFile::push`] writes it, to be written later.
    ///
    /// # Errors
    /// The record is not representable in JSON.
    pub fn line(&self, record: &impl Serialize) -> Result<String> {
        serde_json::to_string(record)
            .map_err(|error| Error::run(format!("cannot write a record to `{}`: {error}", self.path.display())))
    }

    /// Appends a record that is JSON already.
    ///
    /// # Errors
    /// As [`JsonlFile::push`].
    pub fn push_line(&mut self, line: &str) -> Result<()> {
        self.pending.extend_from_slice(line.as_bytes());
        self.pending.push(b'\n');
        self.flush()
    }

    /// Writes what is pending.
    ///
    /// # Errors
    /// The write failed; what was not written is kept.
    pub fn flush(&mut self) -> Result<()> {
        if self.is_gone() {
            // Someone removed the file: what is written into it would be lost with the process.
            self.file = open_to_append(&self.path).map_err(|error| Error::io("open", &self.path, &error))?;
        }
        let mut written = 0;
        let outcome = loop {
            if written == self.pending.len() {
                break Ok(());
            }
            match self.file.write(&self.pending[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.pending.drain(..written);
        outcome.map_err(|error| Error::io("write", &self.path, &error))
    }

    /// Everything that was pushed is on the disk, whatever happens to the machine.
    ///
    /// # Errors
    /// It is not.
    pub fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.file.sync_data().map_err(|error| Error::io("sync", &self.path, &error))
    }

    /// Whether the open file has no name any more.
    fn is_gone(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            self.file.metadata().is_ok_and(|about| about.is_file() && about.nlink() == 0)
        }
        #[cfg(not(unix))]
        false
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).open(path)
}

fn name_of(path: &Path) -> Result<String> {
    let name = path.file_name().ok_or_else(|| Error::input(format!("`{}` does not name a file", path.display())))?;
    Ok(name.to_string_lossy().into_owned())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes renames inside `dir` durable. Other systems than Unix do not open folders and need no such call.
#[cfg(unix)]
fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| Error::io("sync", dir, &error))
}

#[cfg(not(unix))]
fn sync_dir(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_a_file_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("summary.json");
        write_atomic(&path, b"first, and longer").unwrap();
        write_atomic(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(dir.path()), ["summary.json"]);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_as_readable_as_any_other() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        write_atomic(dir.path().join("a"), b"").unwrap();
        fs::write(dir.path().join("b"), b"").unwrap();
        let mode = |name| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("a"), mode("b"));
    }

    #[test]
    fn a_failed_write_says_why_and_removes_its_scratch_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), b"x").unwrap();
        let below_a_file = write_atomic(dir.path().join("file/x.json"), b"x").unwrap_err();
        assert!(below_a_file.message().contains("x.json"), "{below_a_file}");
        let missing = write_atomic(dir.path().join("none/x.json"), b"x").unwrap_err();
        assert!(missing.hints()[0].contains("check the path"), "{missing}");
        fs::create_dir(dir.path().join("folder")).unwrap();
        let folder = write_atomic(dir.path().join("folder"), b"x").unwrap_err();
        assert!(folder.message().ends_with("it is a folder"), "{folder}");
        assert_eq!(names(dir.path()), ["file", "folder"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named() {
        let error = write_atomic("/dev/full", b"x").unwrap_err();
        assert!(error.hints()[0].contains("free some space"), "{error}");
        let error = JsonlFile::append("/dev/full").unwrap().push(&json!({"step": 1})).unwrap_err();
        assert!(error.message().contains("/dev/full") && error.hints()[0].contains("free some space"), "{error}");
    }

    #[test]
    fn lines_are_appended_and_a_torn_one_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        fs::write(&path, "{\"step\":1}\n{\"step\":2,\"lo").unwrap();
        let mut lines = JsonlFile::append(&path).unwrap();
        lines.push(&json!({"step": 2, "loss": f64::NAN})).unwrap();
        drop(lines);
        JsonlFile::append(&path).unwrap().push(&json!({"step": 3})).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":1}\n{\"step\":2,\"loss\":null}\n{\"step\":3}\n");
    }
}
