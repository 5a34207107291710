//! The generations of a run's checkpoint on disk.
//!
//! A new one is filled beside the others, synced, read again and compared; only then does it take the place of `checkpoint/`, and what stood there
//! moves to `checkpoints/step-N/`. A crash between two renames leaves every generation whole, perhaps none of them in `checkpoint/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::{Checkpoint, STATE, State, read_file};
use crate::error::{Error, Result};
use crate::files;

/// Attempts to read while a writer moves folders about, and the pause between two.
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);
/// A generation that did not verify is renamed when the run goes on from an older one, so that no step has two histories.
const DAMAGED: &str = "damaged";

/// Which generations stay beside the newest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    /// So many of the last ones, the newest counted; at least one.
    pub last: usize,
    /// All whose step is a multiple of this, if any.
    pub every_steps: Option<u64>,
    /// The one with the best result so far.
    pub best: Option<u64>,
}

/// Which generation is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The newest that is whole.
    Newest,
    /// That of the epoch with the best monitored kNN.
    Best,
    /// That after so many steps.
    Step(u64),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "last" => Ok(Self::Newest),
            "best" => Ok(Self::Best),
            steps => steps.parse().map(Self::Step).map_err(|_| "expected `last`, `best` or a number of steps".to_owned()),
        }
    }
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Its folder.
    pub folder: PathBuf,
    /// Newer generations that are damaged, one line each.
    pub passed_over: Vec<String>,
}

impl Found {
    /// The checkpoint, after a word on standard error about each that was passed over.
    pub fn told(self) -> Checkpoint {
        self.passed_over.iter().for_each(|what| eprintln!("warning: a damaged checkpoint was passed over: {what}"));
        self.checkpoint
    }
}

/// Reads a generation of the run whose folder `checkpoint` is given.
///
/// # Errors
/// There is none, all that are wanted are damaged, or one is of a newer form.
pub fn find(current: &Path, which: Which) -> Result<Found> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match attempt(current, which) {
            Ok(found) if found.passed_over.is_empty() => return Ok(found),
            // A writer may have moved the folder away while it was read: what is damaged stays so.
            other => last = Some(other),
        }
        std::thread::sleep(PAUSE);
    }
    last.expect("there was an attempt")
}

fn attempt(current: &Path, which: Which) -> Result<Found> {
    let mut candidates = generations(current)?;
    let wanted = match which {
        Which::Newest => None,
        Which::Step(step) => Some(step),
        Which::Best => Some(best(current)?),
    };
    if let Some(step) = wanted {
        candidates.retain(|generation| generation.step == Some(step));
        if candidates.is_empty() {
            return Err(Error::input(format!("`{}` has no checkpoint of step {step}", home(current).display()))
                .hint(format!("there are: {}", steps(&generations(current)?)))
                .hint("`checkpoint.keep` decides which stay"));
        }
    }
    let mut passed_over = Vec::new();
    for Generation { folder, .. } in candidates {
        match Checkpoint::open(&folder) {
            Ok(checkpoint) => return Ok(Found { checkpoint, folder, passed_over }),
            Err(error) => passed_over.push(format!("`{}`: {}", folder.display(), error.in_a_line())),
        }
    }
    if passed_over.is_empty() {
        return Err(Error::input(format!(
            "`{}` holds no checkpoint: there is no `checkpoint/state.json`",
            home(current).display()
        ))
        .hint("a run writes its first checkpoint at its first interval (`checkpoint.every_epochs`, `checkpoint.every_steps`)"));
    }
    let error = Error::input(format!("`{}` holds no checkpoint that is whole", home(current).display()));
    let error = passed_over.into_iter().fold(error, Error::detail);
    Err(error.hint("restore the folder from a copy, or start a new run in another folder (--out)"))
}

/// Completed steps of the newest generation, by its state alone.
///
/// # Errors
/// As [`find`].
pub fn step_of(current: &Path) -> Result<u64> {
    let newest = generations(current)?.into_iter().find_map(|generation| generation.step);
    newest.ok_or_else(|| Error::input(format!("`{}` holds no checkpoint that can be read", home(current).display())))
}

/// The step of the best result, as the newest state knows it.
fn best(current: &Path) -> Result<u64> {
    let state = find(current, Which::Newest)?.checkpoint.state;
    let step = state.best.and_then(|best| best.step);
    step.ok_or_else(|| {
        Error::input(format!("no epoch of `{}` was measured, so none is the best", home(current).display()))
            .hint("`eval.monitor` measures kNN while a run trains, on labelled data")
    })
}

/// One generation.
struct Generation {
    folder: PathBuf,
    /// `None` if its state cannot be read.
    step: Option<u64>,
}

/// All generations, the newest first; those of which nothing can be read come first of all, so that they are named.
fn generations(current: &Path) -> Result<Vec<Generation>> {
    let mut folders = vec![current.to_owned(), current.with_file_name(format!("{}.old", name(current)))];
    let kept = kept(current);
    match fs::read_dir(&kept) {
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {}
        entries => {
            for entry in entries.map_err(|error| Error::io("list", &kept, &error))? {
                let path = entry.map_err(|error| Error::io("list", &kept, &error))?.path();
                folders.extend(step_in_name(&path).map(|_| path));
            }
        }
    }
    folders.retain(|folder| folder.is_dir());
    let state = |folder: &Path| read_file(folder, STATE).ok().and_then(|text| State::parse(&text).ok());
    // A damaged state may still have its place by the folder's name.
    let step = |folder: &Path| state(folder).map(|state| state.step).or_else(|| step_in_name(folder));
    let mut found: Vec<Generation> = folders.into_iter().map(|folder| Generation { step: step(&folder), folder }).collect();
    found.sort_by_key(|generation| std::cmp::Reverse(generation.step.unwrap_or(u64::MAX)));
    Ok(found)
}

/// Whether there is any generation, whole or not. Where nobody can tell there may be one, and it is not to be lost.
pub fn any(current: &Path) -> bool {
    generations(current).map_or(true, |found| !found.is_empty())
}

fn steps(found: &[Generation]) -> String {
    let steps: Vec<String> = found.iter().filter_map(|generation| generation.step).map(|step| step.to_string()).collect();
    if steps.is_empty() { "none".to_owned() } else { format!("steps {}", steps.join(", ")) }
}

/// Writes a checkpoint as the newest generation. Returns its size in bytes.
///
/// # Errors
/// The disk is full or not writable, or does not hold what was written; all earlier generations are then still there.
pub fn write(checkpoint: &Checkpoint, current: &Path) -> Result<u64> {
    let scratch = files::scratch_dir(current)?;
    let (manifest, bytes) = checkpoint.fill(&scratch)?;
    manifest.verify(&scratch)?;
    set_aside(current)?;
    files::move_dir(&scratch, current)?;
    Ok(bytes)
}

/// Makes room for the newest generation: the one that stands there keeps its own name from now on.
fn set_aside(current: &Path) -> Result<()> {
    if !current.exists() {
        return Ok(());
    }
    let kept = kept(current);
    files::ensure_dir(&kept)?;
    let step = read_file(current, STATE).ok().and_then(|text| State::parse(&text).ok()).map(|state| state.step);
    let aside = match step {
        Some(step) => kept.join(format!("step-{step:010}")),
        None => unused(&kept, DAMAGED),
    };
    if aside.exists() {
        // Of two generations of one step the later stays: it was written after a resume that had passed over the other.
        fs::remove_dir_all(&aside).map_err(|error| Error::io("remove", &aside, &error))?;
    }
    files::move_dir(current, &aside)
}

/// Removes generations that need not stay. The newest always stays.
///
/// # Errors
/// A folder could not be removed; what could be removed is gone.
pub fn prune(current: &Path, keep: &Keep) -> Result<()> {
    let mut found = generations(current)?;
    found.retain(|generation| generation.step.is_some() && generation.folder != current);
    let stays = |index: usize, step: u64| {
        // The one in `checkpoint/` is the first of the last.
        index + 1 < keep.last.max(1) || keep.best == Some(step) || keep.every_steps.is_some_and(|every| step.is_multiple_of(every))
    };
    let mut first_error = Ok(());
    for (index, generation) in found.iter().enumerate() {
        let step = generation.step.unwrap_or(0);
        if !stays(index, step) {
            let removed = fs::remove_dir_all(&generation.folder).map_err(|error| Error::io("remove", &generation.folder, &error));
            first_error = first_error.and(removed);
        }
    }
    first_error
}

/// Puts generations aside that were passed over, so that the run that goes on from an older one has one history. Half-written folders go.
///
/// # Errors
/// A rename failed.
pub fn settle(current: &Path, resumed: &Path) -> Result<()> {
    files::remove_scratch(current)?;
    let found = generations(current)?;
    for Generation { folder, .. } in found.iter().take_while(|generation| generation.folder != resumed) {
        let kept = kept(current);
        files::ensure_dir(&kept)?;
        files::move_dir(folder, unused(&kept, DAMAGED))?;
    }
    Ok(())
}

/// A name in `folder` that nothing has yet.
fn unused(folder: &Path, stem: &str) -> PathBuf {
    (1..).map(|n| folder.join(format!("{stem}-{n}"))).find(|path| !path.exists()).expect("there are enough numbers")
}

fn step_in_name(folder: &Path) -> Option<u64> {
    folder.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()
}

/// Where generations stay that are not the newest.
fn kept(current: &Path) -> PathBuf {
    current.with_file_name(format!("{}s", name(current)))
}

/// The run's folder, for messages.
fn home(current: &Path) -> &Path {
    current.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn name(current: &Path) -> String {
    current.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
