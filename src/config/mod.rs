//! The experiment as data: typed once, validated with all problems reported together, saved resolved.

mod check;
pub mod layer;
mod limits;
pub mod memory;
mod relations;
pub mod saved;
pub mod schema;

pub use relations::shard_problem;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::augment::{Recipe, ViewsConfig};
use crate::data::DataConfig;
use crate::error::Result;
use crate::eval::finetune::FinetuneConfig;
use crate::eval::knn::KnnConfig;
use crate::eval::linear::LinearConfig;
use crate::eval::linear::config::Facts;
use crate::eval::monitor::MonitorConfig;
use crate::kernel::KernelsConfig;
use crate::method::MethodConfig;
use crate::mixture::{MixtureConfig, Name as MixtureName};
use crate::model::ModelConfig;
use crate::optim::{OptimConfig, ScheduleConfig};

/// Where an experiment comes from and what to expect of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct About {
    /// Paper, program or table the settings are taken from.
    pub source: String,
    /// The command that runs it.
    pub command: String,
    /// Hardware it is meant for.
    pub hardware: String,
    /// How long it takes there.
    pub time: String,
    /// The result to expect, with its protocol.
    pub expectation: String,
}

/// Arithmetic of the forward and backward passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    F32,
}

/// `checkpoint`: when the state is saved (and always at the end and on an interrupt).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Every so many steps.
    pub every_steps: Option<u64>,
    /// Every so many epochs.
    pub every_epochs: Option<u64>,
    /// Which of them stay.
    pub keep: KeepConfig,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every_steps: None, every_epochs: Some(1), keep: KeepConfig::default() }
    }
}

/// `checkpoint.keep`: the newest checkpoint always stays, in `checkpoint/`; others stay in `checkpoints/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeepConfig {
    /// So many of the last ones, the newest counted.
    pub last: usize,
    /// And those of every so many epochs.
    pub every_epochs: Option<u64>,
    /// And that of the epoch with the best monitored kNN; such an epoch is saved in any case.
    pub best: bool,
}

impl Default for KeepConfig {
    fn default() -> Self {
        Self { last: 2, every_epochs: None, best: true }
    }
}

/// `log`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// A metrics line every so many steps.
    pub every_steps: u64,
    /// Images in the preview sheet; 0 draws none.
    pub preview: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { every_steps: 10, preview: 8 }
    }
}

/// `eval`: what is measured before, during and after training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Weighted k-nearest neighbours.
    pub knn: KnnConfig,
    /// Linear evaluation (`unmix eval linear`).
    pub linear: LinearConfig,
    /// Fine-tuning with a part of the labels (`unmix eval finetune`).
    pub finetune: FinetuneConfig,
    /// Images per forward pass.
    pub batch: usize,
    /// False skips every kNN measurement: before, during and after training.
    pub enabled: bool,
    /// What is measured during training.
    pub monitor: MonitorConfig,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            knn: KnnConfig::default(),
            linear: LinearConfig::default(),
            finetune: FinetuneConfig::default(),
            batch: 256,
            enabled: true,
            monitor: MonitorConfig::default(),
        }
    }
}

/// A whole run. Every key has a default; a file states what differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// The lab note of the experiment.
    pub about: About,
    /// Seed of every random stream.
    pub seed: u64,
    /// `auto`, `cpu`, `wgpu`, `wgpu-cpu`, `cuda` or `cuda:1`.
    pub device: String,
    /// The run folder; empty means a new one under `runs/`.
    pub out: Option<PathBuf>,
    /// `never`, `auto` (go on if the run folder holds a checkpoint) or the run folder to go on from.
    pub resume: String,
    /// A run whose nets a new run starts with, memories and optimizer aside.
    pub init_from: Option<PathBuf>,
    /// Arithmetic.
    pub precision: Precision,
    /// Images.
    pub data: DataConfig,
    /// Augmentation.
    pub views: ViewsConfig,
    /// Image mixtures.
    pub mixture: MixtureConfig,
    /// Which implementation executes our own device operations.
    pub kernels: KernelsConfig,
    /// What is trained.
    pub method: MethodConfig,
    /// The encoder.
    pub model: ModelConfig,
    /// The optimizer.
    pub optim: OptimConfig,
    /// Length and learning rate.
    pub schedule: ScheduleConfig,
    /// Saving.
    pub checkpoint: CheckpointConfig,
    /// Logging.
    pub log: LogConfig,
    /// Measuring.
    pub eval: EvalConfig,
    /// Written by the program into a run's `config.json` (version, device, kernel paths); not read.
    pub run: serde_json::Value,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            about: About::default(),
            seed: 1,
            device: "auto".into(),
            out: None,
            resume: "never".into(),
            init_from: None,
            precision: Precision::F32,
            data: DataConfig::default(),
            views: ViewsConfig::default(),
            mixture: MixtureConfig::default(),
            kernels: KernelsConfig::default(),
            method: MethodConfig::default(),
            model: ModelConfig::default(),
            optim: OptimConfig::default(),
            schedule: ScheduleConfig::default(),
            checkpoint: CheckpointConfig::default(),
            log: LogConfig::default(),
            eval: EvalConfig::default(),
            run: serde_json::Value::Null,
        }
    }
}

impl RunConfig {
    /// Reads a file and lays `key.path=value` settings over it; the last one wins.
    ///
    /// # Errors
    /// A missing or malformed file; unknown keys, wrong types and values out of range, all together.
    pub fn load(path: &Path, settings: &[String]) -> Result<Self> {
        let mut value = layer::read(path)?;
        for setting in settings {
            layer::set(&mut value, setting)?;
        }
        Self::from_value(value)
    }

    /// The config that a JSON value describes, its defaults filled in and everything checked.
    ///
    /// # Errors
    /// As [`RunConfig::load`], for the values.
    pub fn from_value(mut value: serde_json::Value) -> Result<Self> {
        // The one default that hangs on another key: there is nothing to split in RGB. A method that cannot be read is reported below.
        let splits = serde_json::from_value::<MethodConfig>(value["method"].clone()).is_ok_and(|m| m.demands().splits_colours);
        if splits && value["views"]["color_space"].is_null() {
            layer::set(&mut value, "views.color_space=lab")?;
        }
        let (config, wrong) = layer::resolve_rest::<Self>(value)?;
        // In the place of a wrong key stands its default: what is said of that is no problem of the file.
        let named = |line: &String| wrong.iter().any(|problem| line.contains(&format!("`{}`", problem.path)));
        let problems: Vec<String> = wrong
            .iter()
            .map(|problem| problem.line.clone())
            .chain(config.problems().into_iter().filter(|line| !named(line)))
            .collect();
        if problems.is_empty() { Ok(config) } else { Err(layer::refusal(problems)) }
    }

    /// Checks every value and how they fit together.
    ///
    /// # Errors
    /// One error with a line per problem.
    pub fn validate(&self) -> Result<()> {
        let problems = self.problems();
        if problems.is_empty() { Ok(()) } else { Err(layer::refusal(problems)) }
    }

    /// Equal shards that a batch is computed in, one after the other: `data.batch` over `data.micro_batch`.
    pub fn shards(&self) -> usize {
        self.data.micro_batch.map_or(1, |micro| self.data.batch / micro)
    }

    /// The recipes of the views of an image, in their order. Each has its view's size.
    pub fn view_recipes(&self) -> Vec<Recipe> {
        self.views.recipes(self.method.views())
    }

    /// Height and width of each view of an image in pixels, in their order.
    pub fn view_sizes(&self) -> Vec<(usize, usize)> {
        self.view_recipes().iter().map(|recipe| recipe.size).collect()
    }

    /// Views of each size, those of the first size first.
    pub fn crops(&self) -> Vec<usize> {
        self.view_sizes().chunk_by(|a, b| a == b).map(<[(usize, usize)]>::len).collect()
    }

    /// Views, from the first, of which the method wants a mixture each where every trained view is mixed (i-Mix).
    pub fn mixed_views(&self) -> usize {
        match &self.method {
            MethodConfig::Moco(moco) if moco.symmetric => 2,
            _ => 1,
        }
    }

    /// What the published values of a linear probe depend on, before it is known how many classes there are.
    pub fn probed(&self) -> Facts {
        let pair = self.method.splits_views();
        let channels = self.method.demands().nets[0].channels.len();
        Facts { pair, shape: self.model.shape(channels), classes: 0, size: self.views.crop.size }
    }

    /// The same config with every default that depends on other keys written out.
    pub fn resolved(mut self) -> Self {
        self.views = self.views.resolved();
        self.model.split_views = Some(self.method.splits_views());
        let partnered = [MixtureName::Im, MixtureName::Global, MixtureName::Region, MixtureName::Unmix];
        self.mixture.partner = partnered.contains(&self.mixture.name).then(|| self.mixture.partner());
        if self.data.workers == 0 {
            self.data.workers = std::thread::available_parallelism().map_or(1, usize::from);
        }
        self
    }

    fn problems(&self) -> Vec<String> {
        // The other checks reckon with these sizes.
        let mut out = self.too_large();
        if !out.is_empty() {
            return out;
        }
        self.data.problems("data", &mut out);
        self.views.problems("views", &mut out);
        self.mixture.problems("mixture", &mut out);
        self.method.problems("method", &mut out);
        self.model.problems("model", &mut out);
        self.optim.problems("optim", &mut out);
        self.schedule.problems("schedule", &mut out);
        self.eval.knn.problems("eval.knn", &self.model.layers(), &mut out);
        self.eval.linear.problems("eval.linear", &self.probed(), &mut out);
        self.eval.finetune.problems("eval.finetune", &mut out);
        self.eval.monitor.problems("eval.monitor", &mut out);
        let at_least_one = [
            ("log.every_steps", self.log.every_steps),
            ("eval.batch", self.eval.batch as u64),
            ("checkpoint.every_steps", self.checkpoint.every_steps.unwrap_or(1)),
            ("checkpoint.every_epochs", self.checkpoint.every_epochs.unwrap_or(1)),
            ("checkpoint.keep.last", self.checkpoint.keep.last as u64),
            ("checkpoint.keep.every_epochs", self.checkpoint.keep.every_epochs.unwrap_or(1)),
        ];
        out.extend(at_least_one.iter().filter(|(_, v)| *v == 0).map(|(key, _)| format!("`{key}` is 0, must be at least 1")));
        self.relations(&mut out);
        out
    }
}
