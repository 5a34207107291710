//! Methods: what a step computes. The training loop knows none of them.

pub mod cmc;
pub mod contrast;
pub mod insdis;
pub mod moco;
mod saved;

use std::ops::Range;

use burn::tensor::{Device, Gradients, Int, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::Opened;
use crate::error::Result;
use crate::kernel::KernelPath;
use crate::model::{Frozen, ModelConfig, StateDict, state};
use crate::optim::Sgd;

pub use cmc::Cmc;
pub use insdis::{BankConfig, InsDis};
pub use moco::{Moco, MocoConfig};

/// The images of one step, on the device, outside any graph.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// One batch per view, `[n, 3, h, w]`, normalised, input mixtures already applied.
    pub views: Vec<Tensor<4>>,
    /// The Un-Mix mixture of view 1.
    pub mixed: Option<MixedInput>,
    /// Which images of the dataset they are, n.
    pub images: Vec<u32>,
    /// Where in the run this is: keys of the streams drawn inside a step.
    pub position: Position,
    /// What the step draws; left out, the method draws it for `position`. Golden traces bring their own.
    pub draws: Option<Draws>,
}

/// What a step draws besides its images: plain data, made on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draws {
    /// ShuffleBN: row i of the j-th key forward is image `shuffles[j][i]` of the batch.
    pub shuffles: Vec<Vec<u32>>,
    /// Rows of a memory bank.
    pub negatives: Negatives,
}

/// The rows of a memory bank that a batch of n images meets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Negatives {
    /// There is no bank.
    #[default]
    None,
    /// `[n, 1 + k]`, column 0 the images' own rows.
    Each(Vec<i32>),
    /// `[k]`, the same for every image.
    Shared(Vec<i32>),
}

/// The mixed batch of Un-Mix.
#[derive(Debug, Clone)]
pub struct MixedInput {
    /// `[n, 3, h, w]`.
    pub images: Tensor<4>,
    /// Weight of the own image per row, `[n]`.
    pub lambda: Tensor<1>,
    /// Row i of `images.select(inverse)` is the mixture in which image i is the partner, `[n]`.
    pub inverse: Tensor<1, Int>,
}

/// Keys of the random streams of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The run's seed.
    pub seed: u64,
    /// Completed epochs.
    pub epoch: u64,
    /// Completed steps.
    pub step: u64,
}

/// What a step computed, before any update.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The loss, `[1]`, on the graph.
    pub loss: Tensor<1>,
    /// Named summands, each `[1]`, without graph, for the log.
    pub parts: Vec<(&'static str, Tensor<1>)>,
    /// Mean softmax weight of the positive over the clean queries of view 1, `[1]`.
    pub positive: Tensor<1>,
    /// Named embeddings, unit rows `[n, d]`, without graph: for monitors and tests.
    pub embeddings: Vec<(&'static str, Tensor<2>)>,
}

/// A pre-training method. Calls come in the order `step`, `update`, `after_update`; stopping after `step` leaves the state as it was.
pub trait Method: Send {
    /// Augmented views it wants per image.
    fn views(&self) -> usize;
    /// Forward passes and loss.
    fn step(&mut self, inputs: Inputs) -> Outcome;
    /// Update of the trained weights; `gradients` are those of the last step's loss.
    fn update(&mut self, gradients: &Gradients, optimizer: &mut Sgd, lr: f64);
    /// Running statistics, moving averages, then memories: each from what the last `step` saw.
    fn after_update(&mut self);
    /// What is evaluated and exported.
    fn encoder(&self) -> Frozen;
    /// Everything that a resume needs, as named tensors.
    fn state(&self) -> StateDict;
    /// Puts a saved state back.
    fn restore(&mut self, state: &StateDict) -> Result<()>;
}

/// What a method is made for.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// The encoder's shape.
    pub model: &'a ModelConfig,
    /// Images in the dataset.
    pub images: usize,
    /// The run's seed.
    pub seed: u64,
    /// Where it runs, without autodiff.
    pub device: &'a Device,
    /// The kernel that compares features with a memory bank.
    pub scores: KernelPath,
}

impl<'a> Setup<'a> {
    /// For `images` images on an open device.
    pub fn new(opened: &'a Opened, model: &'a ModelConfig, images: usize, seed: u64) -> Self {
        Self { model, images, seed, device: &opened.device, scores: opened.info.kernels.scores.path }
    }
}

/// `method`: what is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum MethodConfig {
    /// Momentum contrast, v1 or v2 by its head and augmentation (arXiv 1911.05722, 2003.04297).
    Moco(MocoConfig),
    /// Instance discrimination against a memory bank (arXiv 1805.01978).
    Insdis(BankConfig),
    /// Contrastive multiview coding: two nets over the channels of a colour space (arXiv 1906.05849).
    Cmc(BankConfig),
}

/// A net of a method, as it is saved, evaluated and exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Net {
    /// First part of its tensors' names in a checkpoint.
    pub name: &'static str,
    /// Channels of the views that it sees.
    pub channels: Range<usize>,
    /// Whether it learns from the loss; a moving average of another net does not.
    pub trained: bool,
}

/// What a method asks of the rest of the config, as data, so that nothing outside this room knows a method by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demands {
    /// Its nets; all that are trained are evaluated together.
    pub nets: &'static [Net],
    /// Whether its views must be in a colour space of which the channels are independent, rather than in RGB, and of coloured images.
    pub splits_colours: bool,
    /// Whether it compares features with drawn rows of a bank, the operation of `kernels.scores`.
    pub scores_rows: bool,
}

/// What of the rest of the config decides whether a key of the method is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Under {
    /// Whether the mixture is Un-Mix, with a loss of its own.
    pub unmix: bool,
    /// Whether the nets have several groups of batch norm.
    pub bn_groups: bool,
}

/// Why NCE takes no masks.
const NO_MASKS: &str = "`method.loss` = nce does not define it: its formula counts on a fixed number of negatives";
/// Why a key of Un-Mix is not read.
const NO_UNMIX: &str = "only `mixture.name` = unmix has a mixed batch with statistics of its own";

/// One net, which sees the whole view.
const WHOLE: Net = Net { name: "query", channels: 0..3, trained: true };

impl Default for MethodConfig {
    fn default() -> Self {
        Self::Moco(MocoConfig::default())
    }
}

impl MethodConfig {
    /// The method with its initial state.
    pub fn init(&self, setup: &Setup) -> Box<dyn Method> {
        match self {
            Self::Moco(config) => Box::new(Moco::init(config.clone(), setup)),
            Self::Insdis(config) => Box::new(InsDis::init(config.clone(), setup)),
            Self::Cmc(config) => Box::new(Cmc::init(config.clone(), setup)),
        }
    }

    /// The trained encoder of a saved state, without memories: what is evaluated, on whatever images.
    ///
    /// # Errors
    /// The state has another encoder; all differences are listed.
    pub fn frozen(&self, setup: &Setup, state: &StateDict) -> Result<Frozen> {
        let load = |net: &'static Net| {
            let (name, channels) = (net.name, net.channels.clone());
            let own = |key: &str| key.strip_prefix(name)?.strip_prefix('.').map(str::to_owned);
            let values = state.iter().filter_map(|(key, data)| Some((own(key)?, data.clone()))).collect();
            let fresh = setup.model.init(channels.len(), setup.seed, name, setup.device);
            Ok((name, channels, state::load(fresh, &values)?))
        };
        Ok(Frozen { parts: self.demands().nets.iter().filter(|net| net.trained).map(load).collect::<Result<_>>()? })
    }

    /// The name in the config.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Moco(_) => "moco",
            Self::Insdis(_) => "insdis",
            Self::Cmc(_) => "cmc",
        }
    }

    /// Augmented views it wants per image.
    pub fn views(&self) -> usize {
        match self {
            Self::Moco(_) => 2,
            Self::Insdis(_) | Self::Cmc(_) => 1,
        }
    }

    /// What it asks of the rest of the config.
    pub fn demands(&self) -> Demands {
        const KEY: Net = Net { name: "key", channels: 0..3, trained: false };
        const HALVES: [Net; 2] =
            [Net { name: "l", channels: 0..1, trained: true }, Net { name: "ab", channels: 1..3, trained: true }];
        let nets: &'static [Net] = match self {
            Self::Moco(_) => &[WHOLE, KEY],
            Self::Insdis(_) => &[WHOLE],
            Self::Cmc(_) => &HALVES,
        };
        let scores_rows = match self {
            Self::Moco(_) => false,
            // Shared negatives are a plain product of matrices.
            Self::Insdis(config) | Self::Cmc(config) => !config.shared_negatives,
        };
        Demands { nets, splits_colours: matches!(self, Self::Cmc(_)), scores_rows }
    }

    /// Whether it trains several nets, each on channels of its own.
    pub fn splits_views(&self) -> bool {
        self.demands().nets.iter().filter(|net| net.trained).count() > 1
    }

    /// Rows of its largest memory, for a dataset of `images`.
    pub fn memory_rows(&self, images: usize) -> usize {
        match self {
            Self::Moco(config) => config.memory.size,
            Self::Insdis(_) | Self::Cmc(_) => images,
        }
    }

    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        match self {
            Self::Moco(config) => config.problems(at, out),
            Self::Insdis(config) | Self::Cmc(config) => config.problems(at, out),
        }
    }

    /// One line per key that is set and can change nothing `under` the rest of the config.
    pub fn unread(&self, at: &str, under: &Under, out: &mut Vec<String>) {
        match self {
            Self::Moco(config) => config.unread(at, under, out),
            Self::Insdis(config) | Self::Cmc(config) => config.unread(at, under, out),
        }
    }

    /// What a dataset of `images` makes questionable, one line each.
    pub fn warnings(&self, images: usize) -> Vec<String> {
        match self {
            Self::Moco(config) => config.warnings(images),
            Self::Insdis(config) | Self::Cmc(config) => config.warnings(images),
        }
    }
}
