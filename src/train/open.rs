//! From a config to everything that a run needs, open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::events::{Event, Sink, Sinks};
use super::jobs::Length;
use super::run::Session;
use super::run_dir::RunDir;
use super::sinks::JsonLines;
use crate::config::RunConfig;
use crate::data::{Source, Split};
use crate::device::{self, Opened};
use crate::error::{Error, Result};
use crate::files;

impl Session {
    /// Opens the data, the device and the run folder that a resolved config names, and the checkpoint to go on from, if there is one. A new
    /// folder without a name of its own is named after `file`; `listeners` hear the run beside its metrics file.
    ///
    /// # Errors
    /// Data, a device or a folder that cannot be used; what the data rules out is said before a folder is made.
    pub fn open(config: RunConfig, file: &Path, listeners: Vec<Box<dyn Sink>>) -> Result<(Self, Option<Checkpoint>)> {
        let train = config.data.open(Split::Train, config.seed)?;
        let test = test_split(&config, train.as_ref())?;
        Length::of(&config, train.len())?;
        if config.method.splits_views() {
            refuse_grey(train.as_ref())?;
        }
        let device = device::open(&config.device)?.with_kernels(&config.kernels)?;
        config.check_memory(train.len(), &device.info)?;
        let (dir, checkpoint) = open_dir(&config, file)?;
        let mut sinks = Sinks(vec![Box::new(JsonLines::append(dir.metrics(), config.log.every_steps)?)]);
        sinks.0.extend(listeners);
        match &checkpoint {
            None => write_config(&dir, &config, &device)?,
            Some(checkpoint) => {
                dir.truncate_metrics(checkpoint.state.step)?;
                for message in differences(&dir, &config)? {
                    sinks.on(&Event::Warning { message })?;
                }
            }
        }
        Ok((Self { config, device, train, test, dir, sinks }, checkpoint))
    }
}

/// The images that kNN classifies. Data without labels or without a test split trains without the measurement; data of one class
/// with the measurement on is a mistake worth stopping for.
fn test_split(config: &RunConfig, train: &dyn Source) -> Result<Option<Arc<dyn Source>>> {
    if !config.eval.enabled || train.classes().is_empty() {
        return Ok(None);
    }
    if train.classes().len() < 2 {
        return Err(Error::input(format!("kNN needs at least 2 classes, the data has 1 (`{}`)", train.classes()[0]))
            .detail(train.describe())
            .hint("point data.source.root at the folder that holds the class folders, or set eval.enabled=false"));
    }
    config
        .data
        .open(Split::Test, config.seed)
        .map(Some)
        .map_err(|error| error.hint("set eval.enabled=false to train without the kNN measurement"))
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

/// A new folder, or that of the run to go on with.
fn open_dir(config: &RunConfig, file: &Path) -> Result<(RunDir, Option<Checkpoint>)> {
    let default = || RunDir::default_path(file, SystemTime::now());
    match config.resume.as_str() {
        "never" => Ok((RunDir::create(config.out.clone().unwrap_or_else(default))?, None)),
        "auto" => {
            let path = config.out.clone().ok_or_else(|| {
                Error::input("`resume` is auto, but there is no run folder to look into").hint("name it with --out DIR")
            })?;
            if !RunDir::holds_run(&path) {
                return Ok((RunDir::create(path)?, None));
            }
            reopen(path)
        }
        path => {
            if config.out.as_ref().is_some_and(|out| out != Path::new(path)) {
                return Err(Error::input("`out` and `resume` name two different folders")
                    .hint("a resumed run goes on in its own folder: leave --out away"));
            }
            reopen(PathBuf::from(path))
        }
    }
}

fn reopen(path: PathBuf) -> Result<(RunDir, Option<Checkpoint>)> {
    let dir = RunDir::reopen(path)?;
    let checkpoint = Checkpoint::read(&dir.checkpoint())?;
    Ok((dir, Some(checkpoint)))
}

/// The resolved config, and beside it what the program adds: version, device, kernel paths with their reasons.
fn write_config(dir: &RunDir, config: &RunConfig, device: &Opened) -> Result<()> {
    let mut value = serde_json::to_value(config).map_err(|e| Error::run(format!("cannot write the config: {e}")))?;
    value["run"] = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "device": device.info,
        "layers": config.model.layers(),
        "kernels": device.info.kernels.all(),
        "command": std::env::args().collect::<Vec<_>>(),
    });
    let text = serde_json::to_vec_pretty(&value).map_err(|e| Error::run(format!("cannot write the config: {e}")))?;
    files::write_atomic(dir.config(), &text)
}

/// Keys in which the config of this start differs from that of the run; the new values hold.
fn differences(dir: &RunDir, config: &RunConfig) -> Result<Vec<String>> {
    let saved = crate::config::layer::read(dir.config())?;
    let now = serde_json::to_value(config).map_err(|e| Error::run(format!("cannot read the config: {e}")))?;
    let mut out = Vec::new();
    compare("", &saved, &now, &mut out);
    Ok(out)
}

fn compare(at: &str, saved: &Value, now: &Value, out: &mut Vec<String>) {
    // What may differ without changing the result.
    if ["about", "run", "out", "resume", "device", "kernels", "data.workers", "data.prefetch"].contains(&at) {
        return;
    }
    match (saved, now) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                compare(&path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), out);
            }
        }
        (a, b) if a != b => out.push(format!("`{at}` was {a} when the run started and is {b} now")),
        _ => {}
    }
}
