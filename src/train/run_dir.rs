//! The folder of a run: what is where, who may write, and what a resume keeps.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files;

/// Probe for free space and for the right to write, in bytes.
const PROBE: usize = 1 << 16;

/// An open run folder. As long as it lives no other process can open it.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// A folder for a new run, created with its parents.
    ///
    /// # Errors
    /// It holds a run already, another process has it open, or nothing can be written there.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if Self::holds_run(&path) {
            return Err(Error::input(format!("`{}` already holds a run", path.display()))
                .hint("continue it with --resume auto")
                .hint("or choose another folder with --out"));
        }
        fs::create_dir_all(&path).map_err(|error| Error::io("create the run folder", &path, &error))?;
        Self::open(path)
    }

    /// The folder of an earlier run, to resume it. What a crash left behind is put in order.
    ///
    /// # Errors
    /// It holds no run, another process has it open, or nothing can be written there.
    pub fn reopen(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if !path.join("config.json").is_file() {
            return Err(Error::input(format!("`{}` holds no run: there is no config.json in it", path.display()))
                .hint("give the folder of a run, or start a new one with --resume never"));
        }
        let run = Self::open(path)?;
        files::recover_dir(run.checkpoint())?;
        Ok(run)
    }

    /// Whether the folder holds a run, finished or not.
    pub fn holds_run(path: impl AsRef<Path>) -> bool {
        ["config.json", "metrics.jsonl", "checkpoint", "checkpoint.old"].iter().any(|name| path.as_ref().join(name).exists())
    }

    /// `runs/<config stem>-<yyyymmdd-hhmmss>`, in UTC.
    pub fn default_path(config: impl AsRef<Path>, now: SystemTime) -> PathBuf {
        let stem = config.as_ref().file_stem().unwrap_or("run".as_ref()).to_string_lossy();
        Path::new("runs").join(format!("{stem}-{}", crate::time::stamp(now)))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved config.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// One JSON object per logged step and per epoch.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The folder of the last checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    /// The contact sheet of the first batch.
    pub fn preview(&self) -> PathBuf {
        self.path.join("preview.png")
    }

    /// The result.
    pub fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// Drops from the metrics what a resume at `step` will write again: everything from the first record beyond it on, and
    /// a torn last line. Returns how many lines were dropped.
    ///
    /// # Errors
    /// The file cannot be read or cut, or a line within it is not a record.
    pub fn truncate_metrics(&self, step: u64) -> Result<usize> {
        let path = self.metrics();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(Error::io("read", &path, &error)),
        };
        let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
        let mut kept = 0;
        for (index, line) in lines.iter().enumerate() {
            match serde_json::from_slice::<Value>(line) {
                Ok(record) if line.ends_with(b"\n") && record["step"].as_u64().unwrap_or(0) <= step => kept += 1,
                Err(error) if index + 1 < lines.len() => {
                    return Err(Error::input(format!("`{}` is damaged at line {}: {error}", path.display(), index + 1))
                        .hint("remove that line, or move the file away to resume without the earlier metrics"));
                }
                _ => break,
            }
        }
        // Cut in place: what has the file open to append goes on at the new end.
        let length: usize = lines[..kept].iter().map(|line| line.len()).sum();
        let cut = || File::options().write(true).open(&path)?.set_len(length as u64);
        cut().map_err(|error: io::Error| Error::io("cut", &path, &error))?;
        Ok(lines.len() - kept)
    }

    fn open(path: PathBuf) -> Result<Self> {
        let lock = lock(&path)?;
        probe(&path)?;
        Ok(Self { path, _lock: lock })
    }
}

/// Two processes that write into one run destroy it; the system drops the lock with the process, however it ends.
fn lock(folder: &Path) -> Result<File> {
    let failed = |error: &io::Error| Error::io("write into the run folder", folder, error);
    let file =
        File::options().create(true).truncate(false).write(true).open(folder.join(".lock")).map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        // Some network file systems have no locks; a run there is as unprotected as it would be without this call.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
        Err(TryLockError::WouldBlock) => Err(Error::input(format!("another process is writing to the run `{}`", folder.display()))
            .hint("wait for its end, or choose another folder with --out")),
    }
}

/// Fails now rather than at the first checkpoint, hours later.
fn probe(folder: &Path) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file = tempfile::tempfile_in(folder)?;
        file.write_all(&[0; PROBE])?;
        file.sync_all()
    };
    write().map_err(|error| Error::io("write into the run folder", folder, &error))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_run_is_created_once_and_reopened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/run");
        let run = RunDir::create(&path).unwrap();
        assert!(run.path().is_dir() && !RunDir::holds_run(&path));
        let error = RunDir::reopen(&path).unwrap_err();
        assert!(error.message().contains("no config.json"), "{error}");
        fs::write(run.config(), "{}").unwrap();
        drop(run);
        let error = RunDir::create(&path).unwrap_err();
        assert!(error.hints()[0].contains("--resume auto") && error.hints()[1].contains("--out"), "{error}");
        assert_eq!(RunDir::reopen(&path).unwrap().path(), path);
    }

    #[test]
    fn any_trace_of_a_run_is_respected() {
        for name in ["config.json", "metrics.jsonl", "checkpoint"] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join(name)).unwrap();
            assert!(RunDir::create(dir.path()).is_err(), "{name}");
        }
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunDir::create(dir.path()).unwrap();
        let error = RunDir::create(dir.path()).unwrap_err();
        assert!(error.message().contains("another process"), "{error}");
        drop(first);
        RunDir::create(dir.path()).unwrap();
    }

    #[test]
    fn a_place_that_takes_no_files_is_refused_up_front() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for below in ["file", "file/run"] {
            let error = RunDir::create(dir.path().join(below)).unwrap_err();
            assert!(error.message().contains("run folder") && error.message().contains(below), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_of_the_system_is_refused_for_root_too() {
        let error = RunDir::create("/proc/self").unwrap_err();
        assert!(error.message().contains("cannot write into the run folder `/proc/self`"), "{error}");
    }

    #[test]
    fn reopening_recovers_the_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        fs::create_dir(dir.path().join("checkpoint.old")).unwrap();
        fs::create_dir(dir.path().join("checkpoint.tmp-1")).unwrap();
        let run = RunDir::reopen(dir.path()).unwrap();
        assert!(run.checkpoint().is_dir());
        assert!(!dir.path().join("checkpoint.old").exists() && !dir.path().join("checkpoint.tmp-1").exists());
    }

    #[test]
    fn metrics_are_cut_at_the_step() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path()).unwrap();
        assert_eq!(run.truncate_metrics(0).unwrap(), 0, "no file yet");
        let kept = "{\"event\":\"start\",\"step\":0}\n{\"event\":\"step\",\"step\":1}\n{\"event\":\"step\",\"step\":2}\n{\"event\":\"warning\"}\n";
        let dropped = "{\"event\":\"step\",\"step\":3}\n{\"event\":\"warning\"}\n{\"event\":\"st";
        fs::write(run.metrics(), format!("{kept}{dropped}")).unwrap();
        let mut open = fs::OpenOptions::new().append(true).open(run.metrics()).unwrap();
        assert_eq!(run.truncate_metrics(2).unwrap(), 3);
        open.write_all(b"{\"step\":3}\n").unwrap();
        assert_eq!(fs::read_to_string(run.metrics()).unwrap(), format!("{kept}{{\"step\":3}}\n"), "an open file goes on");
        assert_eq!(run.truncate_metrics(2).unwrap(), 1);
        assert_eq!(fs::read_to_string(run.metrics()).unwrap(), kept);
        assert_eq!(run.truncate_metrics(2).unwrap(), 0);
        fs::write(run.metrics(), format!("{kept}{{\"event\":\"st")).unwrap();
        assert_eq!(run.truncate_metrics(9).unwrap(), 1, "only the torn line");
        assert_eq!(fs::read_to_string(run.metrics()).unwrap(), kept);
    }

    #[test]
    fn damaged_metrics_are_not_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path()).unwrap();
        let text = "{\"step\":1}\nnot json\n{\"step\":3}\n";
        fs::write(run.metrics(), text).unwrap();
        let error = run.truncate_metrics(9).unwrap_err();
        assert!(error.message().contains("damaged at line 2"), "{error}");
        assert_eq!(fs::read_to_string(run.metrics()).unwrap(), text);
    }

    #[test]
    fn the_default_name_carries_config_and_time() {
        let at = |seconds| RunDir::default_path("configs/moco-im.json", UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), Path::new("runs/moco-im-19700101-000000"));
        assert_eq!(at(951_827_696), Path::new("runs/moco-im-20000229-123456"));
        assert_eq!(at(1_709_251_199), Path::new("runs/moco-im-20240229-235959"));
        assert_eq!(at(1_709_251_200), Path::new("runs/moco-im-20240301-000000"));
        assert_eq!(at(4_102_444_799), Path::new("runs/moco-im-20991231-235959"));
    }
}
