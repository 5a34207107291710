//! From a config to everything that a run needs, open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::json;

use super::checkpoint::{self, Checkpoint, State, Which};
use super::events::{Event, Outcome, Sink, Sinks};
use super::identity::{self, Identity};
use super::jobs::Length;
use super::requests::Requests;
use super::run::{Said, Session};
use super::run_dir::RunDir;
use super::sinks::JsonLines;
use super::summary::Summary;
use super::upload::Upload;
use crate::config::RunConfig;
use crate::data::{Source, Split};
use crate::device::{self, Opened};
use crate::error::{Error, Result};
use crate::eval::labels::Labels;
use crate::files::{self, JsonlFile};

/// The commit that the program was built from, if the build knew it.
const COMMIT: Option<&str> = option_env!("UNMIX_COMMIT");

/// What opening a run comes to.
pub enum Opening {
    /// There is something to train, from a checkpoint if there is one.
    Ready(Box<(Session, Option<Checkpoint>)>),
    /// The run was trained to its end before; nothing was changed.
    Complete {
        /// The run's folder.
        folder: PathBuf,
        /// Its result.
        summary: Box<Summary>,
    },
}

impl Session {
    /// Opens the data, the device and the run folder that a resolved config names, and the checkpoint to go on from, if there is one. A new
    /// folder without a name of its own is named after `file`; `listeners` hear the run beside its metrics file, and it looks at `requests` after
    /// every step.
    ///
    /// # Errors
    /// Data, a device or a folder that cannot be used; a checkpoint of another run. What can be checked without a folder is checked before one is
    /// made, and a run that is resumed is changed only after everything was checked.
    pub fn open(config: RunConfig, file: &Path, listeners: Vec<Box<dyn Sink>>, requests: &'static Requests) -> Result<Opening> {
        let train = config.data.open(Split::Train, config.seed)?;
        let test = test_split(&config, train.as_ref())?;
        let length = Length::of(&config, train.len())?;
        if config.method.splits_views() {
            refuse_grey(train.as_ref())?;
        }
        let identity = Identity::of(&config, train.as_ref())?;
        let place = Place::of(&config)?;
        let resumed = match &place {
            Place::Resume(path) => {
                let dir = RunDir::reopen(path)?;
                let mut found = checkpoint::find(&dir.checkpoint(), Which::Newest)?;
                same_run(&dir, &found.checkpoint.state, &identity)?;
                if let Some(summary) = complete(&dir, &found.checkpoint.state, length)? {
                    return Ok(Opening::Complete { folder: path.clone(), summary: Box::new(summary) });
                }
                found.checkpoint.state.identity = Some(identity.clone());
                Some((dir, found))
            }
            Place::New(_) | Place::Unnamed | Place::StartOver(_) => None,
        };
        let device = device::open(&config.device)?.with_kernels(&config.kernels)?;
        config.check_memory(train.len(), &device.info)?;
        upload(&config, &device).check(config.data.batch)?;

        let mut messages = Vec::new();
        let (dir, checkpoint, reported) = match (place, resumed) {
            (Place::StartOver(path), _) => {
                let (dir, lost) = RunDir::start_over(path)?;
                if lost > 0 {
                    messages.push(format!(
                        "an earlier start was ended at step {lost}, before its first checkpoint: the run starts over"
                    ));
                }
                (dir, None, true)
            }
            (Place::New(path), _) => (RunDir::create(path)?, None, true),
            (Place::Unnamed, _) => (RunDir::create_numbered(&RunDir::default_path(file, SystemTime::now()))?, None, true),
            (Place::Resume(_), None) => unreachable!("a run that is resumed was opened above"),
            (Place::Resume(_), Some((dir, found))) => {
                messages.extend(found.passed_over.iter().map(|what| format!("a damaged checkpoint was passed over: {what}")));
                messages.extend(changes(&dir, &config)?);
                let (_, reported) = dir.truncate_metrics(found.checkpoint.state.step)?;
                checkpoint::settle(&dir.checkpoint(), &found.folder)?;
                (dir, Some(found.checkpoint), reported)
            }
        };
        let step = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.state.step);
        record_start(&dir, &config, &device, step, &messages)?;
        write_config(&dir, &config, &device)?;
        let mut sinks = Sinks(vec![Box::new(JsonLines::append(dir.metrics(), config.log.every_steps)?)]);
        if !reported {
            // It was written, and the process ended before it could say so.
            let path = dir.checkpoint().display().to_string();
            sinks.on(&Event::Checkpoint { step, path, bytes: 0, seconds: f64::NAN, waited_s: f64::NAN })?;
        }
        sinks.0.extend(listeners);
        for message in messages {
            sinks.on(&Event::Warning { message })?;
        }
        let session = Self { config, device, train, test, dir, sinks, identity, requests, said: Said::default() };
        Ok(Opening::Ready(Box::new((session, checkpoint))))
    }
}

/// Where the run goes.
enum Place {
    New(PathBuf),
    /// A folder that is named by the config and the time.
    Unnamed,
    /// A folder in which an earlier start came to nothing.
    StartOver(PathBuf),
    Resume(PathBuf),
}

impl Place {
    fn of(config: &RunConfig) -> Result<Self> {
        match config.resume.as_str() {
            "never" => Ok(config.out.clone().map_or(Self::Unnamed, Self::New)),
            "auto" => {
                let path = config.out.clone().ok_or_else(|| {
                    Error::input("`resume` is auto, but there is no run folder to look into").hint("name it with --out DIR")
                })?;
                Ok(if RunDir::is_resumable(&path) { Self::Resume(path) } else { Self::StartOver(path) })
            }
            path => {
                let path = PathBuf::from(path);
                if config.out.as_ref().is_some_and(|out| !same_folder(out, &path)) {
                    return Err(Error::input("`out` and `resume` name two different folders")
                        .hint("a resumed run goes on in its own folder: leave --out away"));
                }
                Ok(Self::Resume(path))
            }
        }
    }
}

/// Whether two paths lead to one folder, however they are written.
fn same_folder(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a.components().eq(b.components()),
    }
}

/// Stops where the checkpoint is of another run.
fn same_run(dir: &RunDir, state: &State, now: &Identity) -> Result<()> {
    match &state.identity {
        Some(identity) => identity.refuse_other(now),
        // The config of an old run is all that says what it was.
        None if dir.config().exists() => identity::refuse_other_config(&crate::config::layer::read(dir.config())?, now),
        None => Ok(()),
    }
}

/// The result of a run that is trained and measured to its end.
///
/// # Errors
/// It was trained further than the schedule goes.
fn complete(dir: &RunDir, state: &State, length: Length) -> Result<Option<Summary>> {
    if state.step > length.steps {
        return Err(Error::input(format!(
            "the schedule has {} steps, but `{}` is already at step {}",
            length.steps,
            dir.path().display(),
            state.step
        ))
        .hint("set schedule.epochs or schedule.steps to at least what is done, or start another run with --out"));
    }
    if state.step < length.steps {
        return Ok(None);
    }
    // Without a readable summary of this very step the end is still to be written.
    let summary: Option<Summary> = std::fs::read(dir.summary()).ok().and_then(|text| serde_json::from_slice(&text).ok());
    Ok(summary.filter(|summary| summary.outcome == Outcome::Finished && summary.steps == state.step))
}

/// Where and how the images of a step go to the device.
pub(super) fn upload(config: &RunConfig, device: &Opened) -> Upload {
    Upload { target: device.target(), norm: config.views.normalization(), sizes: config.view_sizes(), seed: config.seed }
}

/// The images that kNN classifies. Data without labels trains without the measurement; labels that kNN cannot work with, while the measurement
/// is on, are a mistake worth stopping for before anything is trained.
fn test_split(config: &RunConfig, train: &dyn Source) -> Result<Option<Arc<dyn Source>>> {
    if !config.eval.enabled || train.classes().is_empty() {
        return Ok(None);
    }
    let measured = config.data.open(Split::Test, config.seed).and_then(|test| {
        Labels::of(train, test.as_ref(), "kNN")?;
        Ok(test)
    });
    measured.map(Some).map_err(|error| error.hint("set eval.enabled=false to train without the kNN measurement"))
}

/// Stops where the first images are all grey: their second and third channel are constant in every colour space, and CMC would compare
/// something with nothing.
fn refuse_grey(train: &dyn Source) -> Result<()> {
    const LOOKED_AT: usize = 64;
    let looked = train.len().min(LOOKED_AT);
    // An unreadable image says nothing of colours; it is the loader's to report.
    let images: Vec<_> = (0..looked).filter_map(|index| crate::data::load(train, index).ok()).collect();
    let grey = |image: &crate::data::RgbImage| image.pixels.chunks_exact(3).all(|rgb| rgb[0] == rgb[1] && rgb[1] == rgb[2]);
    if images.is_empty() || !images.iter().all(grey) {
        return Ok(());
    }
    Err(Error::input(format!(
        "the images are grey (the first {looked} all are): CMC contrasts lightness with colour, and there is none"
    ))
    .detail(train.describe())
    .hint("use `method.name` = moco or insdis, or colour images"))
}

/// The resolved config, and beside it what the program adds: version, device, kernel paths with their reasons. Where a run lies and how it was
/// started is no part of what it is: the saved config can be given to `--config` from anywhere.
pub(super) fn write_config(dir: &RunDir, config: &RunConfig, device: &Opened) -> Result<()> {
    let mut value = serde_json::to_value(config).map_err(|e| Error::run(format!("cannot write the config: {e}")))?;
    if let Some(keys) = value.as_object_mut() {
        keys.remove("out");
        keys.remove("resume");
    }
    value["run"] = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": COMMIT,
        "device": device.info,
        "layers": config.model.layers(),
        "kernels": device.info.kernels.all(),
        "command": std::env::args().collect::<Vec<_>>(),
    });
    let text = serde_json::to_vec_pretty(&value).map_err(|e| Error::run(format!("cannot write the config: {e}")))?;
    files::write_atomic(dir.config(), &text)
}

/// Adds a line to the list of the run's starts: what holds from `step` on.
fn record_start(dir: &RunDir, config: &RunConfig, device: &Opened, step: u64, messages: &[String]) -> Result<()> {
    let mut starts = JsonlFile::append(dir.starts())?;
    starts.push(&json!({
        "time": crate::time::utc(SystemTime::now()),
        "step": step,
        "said": messages,
        "version": env!("CARGO_PKG_VERSION"),
        "commit": COMMIT,
        "device": device.info,
        "command": std::env::args().collect::<Vec<_>>(),
        "config": config,
    }))?;
    starts.sync()
}

/// What this start does differently from the one before, by the saved config.
fn changes(dir: &RunDir, config: &RunConfig) -> Result<Vec<String>> {
    if !dir.config().exists() {
        return Ok(vec!["the run's config.json was gone: it is written again".to_owned()]);
    }
    let saved = crate::config::layer::read(dir.config())?;
    let now = serde_json::to_value(config).map_err(|e| Error::run(format!("cannot read the config: {e}")))?;
    Ok(identity::changes(&saved, &now))
}
