//! The folder of a run: what is where, who may write, and what a resume keeps.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files;
use crate::train::checkpoint;

const METRICS: &str = "metrics.jsonl";
const CHECKPOINT: &str = "checkpoint";
const OTHER_FOLDER: &str = "or choose another folder with --out";
/// Probe for free space and for the right to write, in bytes.
const PROBE: usize = 1 << 16;

/// An open run folder. As long as it lives no other process can open it.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// A folder for a new run, created with its parents. What an earlier start left there that came to nothing (no step was recorded, no
    /// checkpoint saved) makes room.
    ///
    /// # Errors
    /// Training would be lost, another process has the folder open, or nothing can be written there.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if Self::is_resumable(&path) {
            return Err(Error::input(format!("`{}` already holds a run", path.display()))
                .hint("continue it with --resume auto")
                .hint(OTHER_FOLDER));
        }
        match recorded_steps(&path.join(METRICS)) {
            0 => Self::fresh(path),
            steps => Err(Error::input(format!(
                "`{}` already holds a run: {steps} steps are in its metrics, but it was not saved",
                path.display()
            ))
            .hint("start it over with --resume auto")
            .hint(OTHER_FOLDER)),
        }
    }

    /// The same where a run ended before its first checkpoint: it starts over, and its metrics go.
    ///
    /// # Errors
    /// There is a checkpoint, another process has the folder open, or nothing can be written there.
    pub fn start_over(path: impl Into<PathBuf>) -> Result<(Self, u64)> {
        let path = path.into();
        if Self::is_resumable(&path) {
            return Err(Error::input(format!("`{}` already holds a run", path.display())).hint("continue it with --resume auto"));
        }
        let lost = recorded_steps(&path.join(METRICS));
        Ok((Self::fresh(path)?, lost))
    }

    /// Opens the folder and removes what a start that came to nothing left. All starts stay listed.
    fn fresh(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).map_err(|error| Error::io("create the run folder", &path, &error))?;
        let run = Self::open(path)?;
        for file in [run.metrics(), run.preview(), run.summary()] {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &file, &error)),
                _ => {}
            }
        }
        files::remove_scratch(run.checkpoint())?;
        Ok(run)
    }

    /// The folder of an earlier run, to resume it.
    ///
    /// # Errors
    /// It holds no run, another process has it open, or nothing can be written there.
    pub fn reopen(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if !Self::holds_run(&path) {
            return Err(Error::input(format!("`{}` holds no run", path.display()))
                .hint("give the folder of a run, or start a new one with --resume never"));
        }
        Self::open(path)
    }

    /// Whether the folder holds a run, finished or not.
    pub fn holds_run(path: impl AsRef<Path>) -> bool {
        let path = path.as_ref();
        ["config.json", METRICS].iter().any(|name| path.join(name).exists()) || Self::is_resumable(path)
    }

    /// Whether there is a checkpoint to go on from, whole or not.
    pub fn is_resumable(path: impl AsRef<Path>) -> bool {
        checkpoint::any(&path.as_ref().join(CHECKPOINT))
    }

    /// Makes the folder again if it was removed under the run, with its lock; whether that was necessary.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn restore(&mut self) -> Result<bool> {
        if self.path.is_dir() {
            return Ok(false);
        }
        files::ensure_dir(&self.path)?;
        self._lock = lock(&self.path)?;
        Ok(true)
    }

    /// `runs/<config stem>-<yyyymmdd-hhmmss>`, in UTC.
    pub fn default_path(config: impl AsRef<Path>, now: SystemTime) -> PathBuf {
        let stem = config.as_ref().file_stem().unwrap_or("run".as_ref()).to_string_lossy();
        Path::new("runs").join(format!("{stem}-{}", crate::time::stamp(now)))
    }

    /// A new folder of this name, or with `-2` and so on where the name is taken. Making the folder is what takes the name: of two processes that
    /// start in the same second each gets its own.
    ///
    /// # Errors
    /// No folder can be made there, or nothing can be written into it.
    pub fn create_numbered(first: &Path) -> Result<Self> {
        let failed = |path: &Path, error: &io::Error| Error::io("create the run folder", path, error);
        if let Some(parent) = first.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(parent, &error))?;
        }
        for n in 1_u64.. {
            let path = if n == 1 { first.to_owned() } else { PathBuf::from(format!("{}-{n}", first.display())) };
            match fs::create_dir(&path) {
                Ok(()) => return Self::create(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&path, &error)),
            }
        }
        unreachable!("there are more numbers than folders")
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
        self.path.join(METRICS)
    }

    /// One JSON object per start of the run: when, by which program, on what, with which config, and what changed.
    pub fn starts(&self) -> PathBuf {
        self.path.join("starts.jsonl")
    }

    /// The folder of the newest checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINT)
    }

    /// The contact sheet of the first batch.
    pub fn preview(&self) -> PathBuf {
        self.path.join("preview.png")
    }

    /// The result.
    pub fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// Drops from the metrics what a resume at `step` will write again: all records of later steps, what stands between and after them without
    /// a step of its own, and a torn last line. What is said of earlier steps stays, wherever it stands: a checkpoint is reported when it is
    /// written, some steps later. Returns how many lines were dropped, and whether the checkpoint of `step` is among those that stay.
    ///
    /// # Errors
    /// The file cannot be read or written, or a line within it is not a record.
    pub fn truncate_metrics(&self, step: u64) -> Result<(usize, bool)> {
        let path = self.metrics();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, false)),
            Err(error) => return Err(Error::io("read", &path, &error)),
        };
        let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
        let (mut kept, mut beyond, mut reported) = (Vec::with_capacity(lines.len()), false, false);
        for (index, line) in lines.iter().enumerate() {
            match serde_json::from_slice::<Value>(line) {
                Ok(record) if line.ends_with(b"\n") => {
                    let at = record["step"].as_u64();
                    beyond |= at.is_some_and(|at| at > step);
                    if at.map_or(!beyond, |at| at <= step) {
                        kept.push(*line);
                        reported |= record["event"] == "checkpoint" && at == Some(step);
                    }
                }
                Err(error) if index + 1 < lines.len() => {
                    return Err(Error::input(format!("`{}` is damaged at line {}: {error}", path.display(), index + 1))
                        .hint("remove that line, or move the file away to resume without the earlier metrics"));
                }
                _ => break,
            }
        }
        let dropped = lines.len() - kept.len();
        if dropped > 0 {
            files::write_atomic(&path, &kept.concat())?;
        }
        Ok((dropped, reported))
    }

    fn open(path: PathBuf) -> Result<Self> {
        let lock = lock(&path)?;
        probe(&path)?;
        Ok(Self { path, _lock: lock })
    }
}

/// Steps that the metrics of an earlier start record. A damaged line counts as one: it is not thrown away unasked.
fn recorded_steps(metrics: &Path) -> u64 {
    let bytes = fs::read(metrics).unwrap_or_default();
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let steps = lines.map(|line| match serde_json::from_slice::<Value>(line) {
        Ok(record) if record["event"] == "step" => record["step"].as_u64().unwrap_or(0),
        Ok(_) => 0,
        Err(_) => 1,
    });
    steps.max().unwrap_or(0)
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

    /// A checkpoint of which nothing can be read is one all the same.
    fn save(run: &Path) {
        fs::create_dir_all(run.join("checkpoint")).unwrap();
    }

    #[test]
    fn a_run_is_created_once_and_reopened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/run");
        let run = RunDir::create(&path).unwrap();
        assert!(run.path().is_dir() && !RunDir::holds_run(&path));
        let error = RunDir::reopen(&path).unwrap_err();
        assert!(error.message().contains("holds no run"), "{error}");
        save(&path);
        drop(run);
        let error = RunDir::create(&path).unwrap_err();
        assert!(error.hints()[0].contains("--resume auto") && error.hints()[1].contains("--out"), "{error}");
        assert!(RunDir::start_over(&path).is_err());
        assert_eq!(RunDir::reopen(&path).unwrap().path(), path);
    }

    /// A start that came to nothing does not stand in the way; what it trained is thrown away only when that is asked for.
    #[test]
    fn what_came_to_nothing_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("config.json", "{}");
        write("metrics.jsonl", "{\"event\":\"start\",\"step\":0}\n{\"event\":\"end\",\"step\":0}\n");
        fs::create_dir(dir.path().join("checkpoint.tmp-1")).unwrap();
        let run = RunDir::create(dir.path()).unwrap();
        assert!(!run.metrics().exists() && !dir.path().join("checkpoint.tmp-1").exists());
        drop(run);
        write("metrics.jsonl", "{\"event\":\"step\",\"step\":7}\n{\"event\":\"st");
        let error = RunDir::create(dir.path()).unwrap_err();
        assert!(error.message().contains("7 steps") && error.hints()[0].contains("--resume auto"), "{error}");
        assert!(dir.path().join("metrics.jsonl").exists());
        let (run, lost) = RunDir::start_over(dir.path()).unwrap();
        assert!(lost == 7 && !run.metrics().exists());
    }

    #[test]
    fn a_folder_that_was_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        let mut run = RunDir::create(&path).unwrap();
        assert!(!run.restore().unwrap());
        fs::remove_dir_all(&path).unwrap();
        assert!(run.restore().unwrap() && path.is_dir());
        assert!(RunDir::create(&path).unwrap_err().message().contains("another process"));
        fs::remove_dir_all(dir.path()).unwrap();
        assert!(run.restore().is_err(), "a file system that is gone is not filled in");
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
    fn metrics_are_cut_at_the_step() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path()).unwrap();
        assert_eq!(run.truncate_metrics(0).unwrap(), (0, false), "no file yet");
        let kept = "{\"event\":\"start\",\"step\":0}\n{\"event\":\"step\",\"step\":1}\n{\"event\":\"step\",\"step\":2}\n{\"event\":\"warning\"}\n";
        let saved = "{\"event\":\"checkpoint\",\"step\":2}\n";
        let step = "{\"event\":\"step\",\"step\":3}\n";
        fs::write(run.metrics(), format!("{kept}{step}{saved}{{\"event\":\"warning\"}}\n{{\"event\":\"st")).unwrap();
        assert_eq!(run.truncate_metrics(2).unwrap(), (3, true));
        assert_eq!(fs::read_to_string(run.metrics()).unwrap(), format!("{kept}{saved}"), "what is said of step 2 stays");
        fs::write(run.metrics(), format!("{kept}{step}")).unwrap();
        assert_eq!(run.truncate_metrics(2).unwrap(), (1, false));
        assert_eq!(fs::read_to_string(run.metrics()).unwrap(), kept);
        assert_eq!(run.truncate_metrics(2).unwrap(), (0, false));
        fs::write(run.metrics(), format!("{kept}{{\"event\":\"st")).unwrap();
        assert_eq!(run.truncate_metrics(9).unwrap(), (1, false), "only the torn line");
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

    /// All at once: each thread takes a name of its own.
    #[test]
    fn a_name_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = dir.path().join("runs/a");
        let start = std::sync::Barrier::new(8);
        let take = || {
            start.wait();
            RunDir::create_numbered(&first).unwrap()
        };
        let runs: Vec<RunDir> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut names: Vec<String> = runs.iter().map(|run| run.path().file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["a", "a-2", "a-3", "a-4", "a-5", "a-6", "a-7", "a-8"]);
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
