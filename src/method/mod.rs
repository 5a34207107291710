//! Methods: what a step computes. The training loop knows none of them. [`step`] has the words that both share.

pub mod barlow;
pub mod byol;
pub mod cmc;
pub mod contrast;
pub mod insdis;
pub mod moco;
pub mod pair;
mod saved;
pub mod simclr;
pub mod simsiam;
pub mod step;
pub mod swav;

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::Opened;
use crate::error::Result;
use crate::kernel::net::Ways;
use crate::kernel::{KernelPath, Op};
use crate::loss::LossName;
use crate::mixture::MixtureConfig;
use crate::mixture::config::{Anchor, Branch, Form};
use crate::model::{Encoder, Frozen, ModelConfig, StateDict, Trained, state};
use crate::rng::{Purpose, Stream};

pub use barlow::{Barlow, BarlowConfig};
pub use byol::{Byol, ByolConfig};
pub use cmc::Cmc;
pub use insdis::{BankConfig, InsDis};
pub use moco::{Moco, MocoConfig};
pub use pair::{Nets, PredictorConfig};
pub use simclr::{Simclr, SimclrConfig};
pub use simsiam::{Simsiam, SimsiamConfig};
pub use step::{
    At, Done, Draws, Encoded, Facts, Forward, Images, Inputs, Mixed, Mixture, Negatives, Outcome, Position, Rows, Shard, Span,
    Target,
};
pub use swav::{Swav, SwavConfig};

/// The name of the signal that contrastive methods are watched by: the mean probability of the positive over the clean queries of view 1.
pub const POSITIVE: &str = "positive_prob";
/// Its name where the loss is NCE, which normalises nothing: exp(score / temperature) / Z may be far above 1.
pub const POSITIVE_SCORE: &str = "positive_score";

/// What the mean of the positives is under a loss.
fn positive(loss: LossName) -> &'static str {
    match loss {
        LossName::Softmax => POSITIVE,
        LossName::Nce => POSITIVE_SCORE,
    }
}

/// A pre-training method: what a step computes, in three movements. It updates nothing by itself: whoever drives it (`train::step`) takes the
/// gradients back through the nets, lets the optimizer move [`Method::trained`], and then calls [`Method::follow`].
///
/// 1. *Encode*: nets only. [`Method::encode_targets`] gives constant rows, [`Method::encode`] the trained ones, shard by shard; both read no memory and
///    change nothing.
/// 2. *Contrast*: the loss only, a function of rows and memories.
/// 3. *Follow*: running statistics, moving averages, memories, each from what the step saw.
pub trait Method: Send {
    /// What a step draws besides its images: a pure function of the arguments.
    fn draw(&self, _images: &[u32], _position: Position) -> Draws {
        Draws::default()
    }

    /// The forwards whose rows are constants of the loss, in the order in which they move running statistics.
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    /// Rows of all target forwards over images `[m, 3, h, w]`, each of which is one of `of` shards of its batch, without graph.
    fn encode_targets(&self, _images: Vec<(&'static str, Tensor<4>)>, _of: usize) -> Encoded {
        unreachable!("a method with targets encodes them")
    }

    /// Rows of the trained nets over one shard, on their graph.
    fn encode(&self, shard: &Shard) -> Encoded;

    /// Whether the loss of this step is no sum over the trained rows, so that a shard's gradient needs the rows of all.
    fn couples_rows(&self) -> bool {
        false
    }

    /// The loss of trained rows against targets and memories as they are before the step.
    fn contrast(&self, rows: &Rows, at: &At) -> Outcome;

    /// What the optimizer moves.
    fn trained(&mut self) -> &mut dyn Trained;

    /// Running statistics, moving averages, then memories.
    fn follow(&mut self, done: &Done);

    /// What is evaluated and exported.
    fn encoder(&self) -> Frozen;

    /// Everything that a resume needs, as named tensors.
    fn state(&self) -> StateDict;

    /// Puts a saved state back.
    ///
    /// # Errors
    /// A state of another method or of other shapes.
    fn restore(&mut self, state: &StateDict) -> Result<()>;
}

/// The length of a run, for what changes with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Length {
    /// Steps per epoch.
    pub per_epoch: u64,
    /// Steps of the whole run.
    pub steps: u64,
}

/// What the steps' mixtures are to a loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mixing {
    /// Which terms they have.
    pub form: Form,
    /// Which branches of a method with two of them see them.
    pub branch: Branch,
    /// Which clean view they are compared with.
    pub anchor: Anchor,
}

impl Mixing {
    /// Whether the steps bring batches of mixtures.
    pub fn mixes(self) -> bool {
        !matches!(self.form, Form::None | Form::Input)
    }
}

impl From<&MixtureConfig> for Mixing {
    fn from(config: &MixtureConfig) -> Self {
        Self { form: config.form(), branch: config.branch, anchor: config.anchor }
    }
}

/// What a method is made for.
#[derive(Debug, Clone)]
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
    /// How the nets' blocks are computed.
    pub ways: Ways,
    /// The length of the run; none where nothing is trained.
    pub length: Length,
    /// What mixtures there are.
    pub mixing: Mixing,
    /// Views of each size, those of the first size first.
    pub crops: Vec<usize>,
}

impl<'a> Setup<'a> {
    /// For `images` images on an open device: two views of one size, no mixtures, no length.
    pub fn new(opened: &'a Opened, model: &'a ModelConfig, images: usize, seed: u64) -> Self {
        let kernels = &opened.info.kernels;
        Self {
            model,
            images,
            seed,
            device: &opened.device,
            scores: kernels.path(Op::Bank),
            ways: kernels.ways(),
            length: Length::default(),
            mixing: Mixing::default(),
            crops: vec![2],
        }
    }

    /// The net of a role with its initial weights, for `channels` input channels.
    pub fn net(&self, channels: usize, role: &str) -> Encoder {
        let mut net = self.model.init(channels, self.seed, role, self.device);
        net.backbone.compute_by(self.ways);
        net
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
    /// Every view against all others of the batch (arXiv 2002.05709).
    Simclr(SimclrConfig),
    /// Predicting a moving average's embedding of the other view (arXiv 2006.07733).
    Byol(ByolConfig),
    /// Crops that predict each other's assignments to prototypes (arXiv 2006.09882).
    Swav(SwavConfig),
    /// Predicting the other view's embedding of the same encoder (arXiv 2011.10566).
    Simsiam(SimsiamConfig),
    /// Views whose embeddings have the identity as cross-correlation (arXiv 2103.03230).
    Barlow(BarlowConfig),
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
    /// Whether it trains a predictor, which `optim.predictor` is about.
    pub predictor: bool,
}

/// What of the rest of the config decides whether a key of the method is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Under {
    /// What the mixture is to the loss.
    pub form: Form,
    /// Whether the mixture is Un-Mix, with a loss of its own.
    pub unmix: bool,
    /// Whether the nets have several groups of batch norm.
    pub bn_groups: bool,
}

/// Why NCE takes no masks.
const NO_MASKS: &str = "`method.loss` = nce does not define it: its formula counts on a fixed number of negatives";
/// Why a key of Un-Mix is not read.
const NO_UNMIX: &str = "only `mixture.name` = unmix has a mixed batch with statistics of its own";

/// First parts of the names of what is trained beside the encoders, see [`Nets`].
pub const BESIDE: [&str; 2] = ["predictor", "prototypes"];

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
            Self::Simclr(config) => Box::new(Simclr::init(config.clone(), setup)),
            Self::Byol(config) => Box::new(Byol::init(config.clone(), setup)),
            Self::Swav(config) => Box::new(Swav::init(config.clone(), setup)),
            Self::Simsiam(config) => Box::new(Simsiam::init(config.clone(), setup)),
            Self::Barlow(config) => Box::new(Barlow::init(config.clone(), setup)),
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
            let fresh = setup.net(channels.len(), name);
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
            Self::Simclr(_) => "simclr",
            Self::Byol(_) => "byol",
            Self::Swav(_) => "swav",
            Self::Simsiam(_) => "simsiam",
            Self::Barlow(_) => "barlow",
        }
    }

    /// Augmented views it wants per image.
    pub fn views(&self) -> usize {
        match self {
            Self::Insdis(_) | Self::Cmc(_) => 1,
            Self::Moco(_) | Self::Simclr(_) | Self::Byol(_) | Self::Swav(_) | Self::Simsiam(_) | Self::Barlow(_) => 2,
        }
    }

    /// Whether it is defined on more views than [`MethodConfig::views`], which may have sizes of their own: the groups of `views.crops`.
    pub fn takes_crops(&self) -> bool {
        match self {
            Self::Swav(_) => true,
            Self::Moco(_) | Self::Insdis(_) | Self::Cmc(_) => false,
            Self::Simclr(_) | Self::Byol(_) | Self::Simsiam(_) | Self::Barlow(_) => false,
        }
    }

    /// What it asks of the rest of the config.
    pub fn demands(&self) -> Demands {
        const KEY: Net = Net { name: "key", channels: 0..3, trained: false };
        const TARGET: Net = Net { name: "target", channels: 0..3, trained: false };
        const HALVES: [Net; 2] =
            [Net { name: "l", channels: 0..1, trained: true }, Net { name: "ab", channels: 1..3, trained: true }];
        let nets: &'static [Net] = match self {
            Self::Moco(_) => &[WHOLE, KEY],
            Self::Byol(_) => &[WHOLE, TARGET],
            Self::Insdis(_) | Self::Simclr(_) | Self::Swav(_) | Self::Simsiam(_) | Self::Barlow(_) => &[WHOLE],
            Self::Cmc(_) => &HALVES,
        };
        let scores_rows = match self {
            // Shared negatives are a plain product of matrices.
            Self::Insdis(config) | Self::Cmc(config) => !config.shared_negatives,
            _ => false,
        };
        let predictor = match self {
            Self::Byol(config) => config.predictor.is_some(),
            Self::Simsiam(config) => config.predictor.is_some(),
            _ => false,
        };
        Demands { nets, splits_colours: matches!(self, Self::Cmc(_)), scores_rows, predictor }
    }

    /// Whether it trains several nets, each on channels of its own.
    pub fn splits_views(&self) -> bool {
        self.demands().nets.iter().filter(|net| net.trained).count() > 1
    }

    /// What each query is compared with.
    pub fn negatives(&self) -> usize {
        match self {
            Self::Moco(config) => config.memory.size,
            Self::Insdis(config) | Self::Cmc(config) => config.negatives,
            Self::Swav(config) => config.prototypes.saturating_mul(2),
            // What they compare is [`MethodConfig::squares`], or nothing.
            Self::Simclr(_) | Self::Byol(_) | Self::Simsiam(_) | Self::Barlow(_) => 0,
        }
    }

    /// Rows of all its memories, for a dataset of `images`.
    pub fn memory_rows(&self, images: usize) -> usize {
        match self {
            Self::Moco(config) => config.memory.size,
            Self::Insdis(_) => images,
            Self::Cmc(_) => images.saturating_mul(2),
            Self::Swav(config) => config.memory.size.saturating_mul(config.assign_crops.len()),
            Self::Simclr(_) | Self::Byol(_) | Self::Simsiam(_) | Self::Barlow(_) => 0,
        }
    }

    /// Trained values beside its encoders, for embeddings of width `dim`.
    pub fn beside(&self, dim: usize) -> u128 {
        let predictor = |config: &Option<PredictorConfig>| {
            config.iter().flat_map(|config| config.steps(dim)).map(crate::model::Step::values).sum()
        };
        match self {
            Self::Byol(config) => predictor(&config.predictor),
            Self::Simsiam(config) => predictor(&config.predictor),
            Self::Swav(config) => config.prototypes as u128 * dim as u128,
            _ => 0,
        }
    }

    /// Why steps with this form of mixture mean nothing to it, if they do not.
    pub fn refuses(&self, form: Form) -> Option<&'static str> {
        match (form, self) {
            (Form::None | Form::Input | Form::Unmix, _) => None,
            (Form::Imix, Self::Moco(config)) if config.loss == LossName::Softmax => None,
            (Form::Mixco, Self::Moco(config)) if config.loss == LossName::Softmax && !config.symmetric => None,
            (Form::Imix, _) => Some("its soft labels are over the keys and the queue of MoCo with softmax"),
            (Form::Mixco, _) => Some("its soft labels are over the keys and the queue of asymmetric MoCo with softmax"),
            (Form::MixedBarlow, Self::Barlow(_)) => None,
            (Form::MixedBarlow, _) => Some("its regulariser is that of Barlow Twins"),
        }
    }

    /// Whether its loss under Un-Mix is a mean over images, so that each can have a weight of its own.
    pub fn weighs_rows(&self) -> bool {
        !matches!(self, Self::Barlow(_))
    }

    /// Whether it has a branch that predicts and one that is predicted.
    pub fn has_branches(&self) -> bool {
        matches!(self, Self::Byol(_) | Self::Simsiam(_))
    }

    /// Whether either view may be what mixtures are compared with.
    pub fn has_anchor(&self) -> bool {
        matches!(self, Self::Simclr(_) | Self::Byol(_) | Self::Simsiam(_) | Self::Barlow(_))
    }

    /// The views that assign, where views assign each other to something.
    pub fn assigning(&self) -> &[usize] {
        match self {
            Self::Swav(config) => &config.assign_crops,
            _ => &[],
        }
    }

    /// Whether the nets beside the backbone let a batch be computed in parts; `head` is what stands behind the backbone.
    pub fn takes_parts(&self, head: &crate::model::HeadConfig) -> bool {
        let predictor = match self {
            Self::Byol(config) => &config.predictor,
            Self::Simsiam(config) => &config.predictor,
            _ => &None,
        };
        !head.has_norms() && !predictor.as_ref().is_some_and(|predictor| predictor.norm)
    }

    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        match self {
            Self::Moco(config) => config.problems(at, out),
            Self::Insdis(config) | Self::Cmc(config) => config.problems(at, out),
            Self::Simclr(config) => config.problems(at, out),
            Self::Byol(config) => config.problems(at, out),
            Self::Swav(config) => config.problems(at, out),
            Self::Simsiam(config) => config.problems(at, out),
            Self::Barlow(config) => config.problems(at, out),
        }
    }

    /// One line per key that is set and can change nothing `under` the rest of the config.
    pub fn unread(&self, at: &str, under: &Under, out: &mut Vec<String>) {
        match self {
            Self::Moco(config) => config.unread(at, under, out),
            Self::Insdis(config) | Self::Cmc(config) => config.unread(at, under, out),
            Self::Simclr(config) => config.unread(at, under, out),
            Self::Byol(config) => config.unread(at, under, out),
            Self::Swav(config) => config.unread(at, under, out),
            Self::Simsiam(config) => config.unread(at, under, out),
            Self::Barlow(config) => config.unread(at, under, out),
        }
    }

    /// What a dataset of `images` and the length of the run, in batches of `batch`, make questionable, one line each.
    pub fn warnings(&self, images: usize, batch: usize, length: Length) -> Vec<String> {
        match self {
            Self::Moco(config) => config.warnings(images),
            Self::Insdis(config) | Self::Cmc(config) => config.warnings(images),
            Self::Swav(config) => config.warnings(batch, length),
            Self::Simclr(_) | Self::Byol(_) | Self::Simsiam(_) | Self::Barlow(_) => Vec::new(),
        }
    }

    /// What to try where its embeddings collapse.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Moco(_) => "another method.temperature, or another model.bn_splits (with 1, MoCo leaks on one device)",
            Self::Insdis(_) | Self::Cmc(_) | Self::Simclr(_) => "another method.temperature, or a larger data.batch",
            Self::Byol(config) if config.predictor.is_none() => {
                "a predictor (method.predictor), without which nothing keeps embeddings apart"
            }
            Self::Byol(_) => "a wider method.predictor.hidden, or a method.key_momentum nearer to 1",
            Self::Simsiam(config) if config.predictor.is_none() || !config.stop_gradient => {
                "method.predictor and method.stop_gradient = true, without which nothing keeps embeddings apart"
            }
            Self::Simsiam(_) => "another method.predictor.hidden, or a head whose last layer has a norm (model.head.last_norm)",
            Self::Swav(_) => "a smaller method.epsilon, fewer method.prototypes, or a longer method.freeze_prototypes_steps",
            Self::Barlow(_) => "a larger method.off_diagonal, or a larger data.batch",
        }
    }

    /// Whether a batch of one image has no loss, or norms of one value.
    pub fn needs_two(&self, head: &crate::model::HeadConfig) -> bool {
        matches!(self, Self::Simclr(_) | Self::Barlow(_)) || !self.takes_parts(head)
    }

    /// Forwards of the trained backbone that go through it together and stay until the backward pass, of the first size of views.
    pub fn trained_forwards(&self, form: Form) -> usize {
        let mixes = usize::from(!matches!(form, Form::None | Form::Input));
        match self {
            Self::Moco(_) if form == Form::Imix => 1,
            Self::Moco(config) => 1 + usize::from(config.symmetric) + mixes,
            Self::Insdis(_) | Self::Cmc(_) => 1 + mixes,
            Self::Simclr(_) | Self::Byol(_) | Self::Swav(_) | Self::Simsiam(_) | Self::Barlow(_) => 2 + mixes,
        }
    }

    /// The largest square of numbers that its loss makes for a batch of `batch` and embeddings of `dim`, and how many of them; none where it makes
    /// scores of queries against negatives.
    pub fn squares(&self, batch: usize, dim: usize) -> Option<(u128, u128)> {
        match self {
            // Scores of all rows against all, their probabilities, and the mask of the pairs.
            Self::Simclr(_) => Some((2 * batch as u128, 3)),
            Self::Barlow(_) => Some((dim as u128, 3)),
            _ => None,
        }
    }
}

/// Permutations of the `n` images of a batch for so many forwards, drawn for a step (ShuffleBN).
fn shuffles(forwards: usize, n: usize, position: Position) -> Vec<Vec<u32>> {
    let order = |forward| Stream::new(position.seed, Purpose::ShuffleBn, &[position.epoch, position.step, forward]);
    (0..forwards as u64).map(|forward| order(forward).permutation(n)).collect()
}

/// Row numbers on a device, `[n]`.
pub(crate) fn index(rows: &[u32], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}
