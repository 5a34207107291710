//! SwAV: crops predict each other's assignments to prototypes (arXiv 2006.09882), with multi-crop, an optional queue, and Un-Mix in its author's formula:
//! mixtures take the place of the even crops in both roles.

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pair::{Nets, watched};
use super::{At, Done, Encoded, Forward, Method, Mixture, Outcome, Position, Rows, Setup, Shard, Under, saved};
use crate::error::Result;
use crate::loss::swav::predictions;
use crate::loss::{sinkhorn, unit_rows};
use crate::memory::Queue;
use crate::model::layers::Linear;
use crate::model::state::{self, StateDict};
use crate::model::{Frozen, Trained, init};
use crate::unread::Unread;

/// `method.memory` of SwAV: earlier embeddings that are assigned together with the batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AssignedConfig {
    /// Rows for each assigning crop; 0 is no queue. It is read once it is full.
    pub size: usize,
    /// Completed epochs before it begins to fill.
    pub start_epoch: u64,
}

impl Default for AssignedConfig {
    fn default() -> Self {
        Self { size: 0, start_epoch: 15 }
    }
}

/// `method` with `name = "swav"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SwavConfig {
    /// Prototypes P.
    pub prototypes: usize,
    /// Temperature of the predictions.
    pub temperature: f64,
    /// Epsilon of the assignments: the smaller, the harder they are.
    pub epsilon: f64,
    /// Rounds of Sinkhorn and Knopp.
    pub sinkhorn_iterations: usize,
    /// The crops that assign, of the largest size; all crops predict.
    pub assign_crops: Vec<usize>,
    /// Steps in which the prototypes stay as they are.
    pub freeze_prototypes_steps: u64,
    /// The queue.
    pub memory: AssignedConfig,
    /// Un-Mix: let the crop behind a reversed assignment predict from the mixture in its order, as the reference does against its author's formula.
    pub legacy_flip: bool,
}

impl Default for SwavConfig {
    fn default() -> Self {
        Self {
            prototypes: 3000,
            temperature: 0.1,
            epsilon: 0.05,
            sinkhorn_iterations: 3,
            assign_crops: vec![0, 1],
            freeze_prototypes_steps: 313,
            memory: AssignedConfig::default(),
            legacy_flip: false,
        }
    }
}

impl SwavConfig {
    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        for (key, value) in [("temperature", self.temperature), ("epsilon", self.epsilon)] {
            if !(value > 0.0 && value.is_finite()) {
                out.push(format!("`{at}.{key}` is {value}, must be above 0"));
            }
        }
        if self.prototypes < 2 {
            out.push(format!("`{at}.prototypes` is {}, must be at least 2", self.prototypes));
        }
        if !(1..=MOST_ROUNDS).contains(&self.sinkhorn_iterations) {
            out.push(format!("`{at}.sinkhorn_iterations` is {}, must be 1 to {MOST_ROUNDS}", self.sinkhorn_iterations));
        }
        if self.assign_crops.len() > MOST_ASSIGNING {
            out.push(format!("`{at}.assign_crops` names {} crops, at most {MOST_ASSIGNING} may assign", self.assign_crops.len()));
        }
        let sorted = self.assign_crops.windows(2).all(|pair| pair[0] < pair[1]);
        if self.assign_crops.is_empty() || !sorted {
            out.push(format!("`{at}.assign_crops` is {:?}, must be numbers of crops in ascending order", self.assign_crops));
        }
    }

    /// What the length of a run makes questionable.
    pub fn warnings(&self, batch: usize, length: super::Length) -> Vec<String> {
        let mut out = Vec::new();
        let super::Length { per_epoch, steps } = length;
        if self.freeze_prototypes_steps >= steps {
            out.push(format!(
                "`method.freeze_prototypes_steps` is {}, and the run has {steps} steps: the prototypes stay as they were drawn; try \
                 method.freeze_prototypes_steps={}",
                self.freeze_prototypes_steps,
                steps / 20
            ));
        }
        let pushed = steps.saturating_sub(self.memory.start_epoch.saturating_mul(per_epoch)).saturating_mul(batch as u64);
        if self.memory.size as u64 > pushed {
            out.push(format!(
                "`method.memory.size` is {}, but from `method.memory.start_epoch` {} on the run gives a queue {pushed} rows: it is never full, and \
                 never read",
                self.memory.size, self.memory.start_epoch
            ));
        }
        out
    }

    /// One line per key that is set and can change nothing `under` the rest of the config.
    pub fn unread(&self, at: &str, under: &Under, out: &mut Vec<String>) {
        let mut table = Unread::of(at, out);
        table.key(
            "legacy_flip",
            self.legacy_flip,
            under.unmix,
            "only `mixture.name` = unmix has a reversed mixture",
            "leave it out",
        );
        let starts = self.memory.start_epoch != AssignedConfig::default().start_epoch;
        let because = format!("`{at}.memory.size` is 0");
        table.key("memory.start_epoch", starts, self.memory.size > 0, &because, "leave it out");
    }
}

/// More rounds than this are a slip.
const MOST_ROUNDS: usize = 1000;
/// Names of the forwards of the backbone, one per size of crops.
const SIZES: [&str; 8] = ["size_1", "size_2", "size_3", "size_4", "size_5", "size_6", "size_7", "size_8"];
/// The name of the head's forward.
const HEAD: &str = "head";

/// Whose rows stand where in those of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crop {
    /// A view.
    Clean(usize),
    /// A batch of mixtures, by its place in the step.
    Mixtures(usize),
}

/// An encoder with prototypes, and queues.
pub struct Swav {
    config: SwavConfig,
    /// On the graph; the prototypes have unit rows.
    nets: Nets,
    /// Crops of each size, the largest first.
    sizes: Vec<usize>,
    /// One for each assigning crop, if there are queues.
    queues: Vec<Queue>,
    /// Rows that a queue was given, up to its size.
    filled: usize,
    per_epoch: u64,
}

impl Swav {
    /// Fresh weights.
    pub fn init(config: SwavConfig, setup: &Setup) -> Self {
        let prototypes = Linear::new(setup.model.head.dim, config.prototypes, false, setup.device);
        let prototypes = Some(init::randomise(prototypes, setup.seed, "prototypes"));
        Self::new(config, Nets { prototypes, ..Nets::of(setup.net(3, "query")) }, setup)
    }

    /// From given nets with prototypes.
    pub fn new(config: SwavConfig, nets: Nets, setup: &Setup) -> Self {
        let empty = || Queue::restore(Tensor::zeros([config.memory.size, setup.model.head.dim], setup.device), 0);
        let queues = if config.memory.size == 0 { 0 } else { config.assign_crops.len() };
        let queues = (0..queues).map(|_| empty()).collect();
        let (sizes, per_epoch) = (setup.crops.clone(), setup.length.per_epoch.max(1));
        let mut swav = Self { config, nets: state::with_graph(nets), sizes, queues, filled: 0, per_epoch };
        swav.normalise();
        swav
    }

    /// Its settings.
    pub fn config(&self) -> &SwavConfig {
        &self.config
    }

    /// The queues of the assigning crops as they are now.
    pub fn queues(&self) -> &[Queue] {
        &self.queues
    }

    /// Whether the queues are read in the next step.
    pub fn reads_queues(&self) -> bool {
        !self.queues.is_empty() && self.filled == self.config.memory.size
    }

    /// Gives the prototypes unit rows. The program does so before each step; after each is the same, and what is saved is what is used.
    fn normalise(&mut self) {
        let prototypes = self.nets.prototypes.as_mut().expect("SwAV has prototypes");
        let unit = unit_rows(prototypes.weight.val().inner());
        prototypes.weight = Param::from_tensor(unit.autodiff().require_grad());
    }

    /// The prototypes `[p, d]`, on the graph.
    fn prototypes(&self) -> Tensor<2> {
        self.nets.prototypes.as_ref().expect("SwAV has prototypes").weight.val()
    }

    /// Whose rows those of a step are, in the order of its forwards: size by size, crops before mixtures.
    fn layout(&self, mixtures: &[Mixture]) -> Vec<Vec<Crop>> {
        let mut first = 0;
        let size = |count: &usize| {
            let crops = first..first + count;
            first += count;
            let mixed = mixtures.iter().enumerate().filter(|(_, mixture)| crops.contains(&mixture.view));
            crops.clone().map(Crop::Clean).chain(mixed.map(|(at, _)| Crop::Mixtures(at))).collect()
        };
        self.sizes.iter().map(size).collect()
    }

    /// Soft assignments of the rows `scores` `[n, p]` of an assigning crop, constants; `which` is its place among those that assign. Rows of its queue
    /// are assigned with them.
    pub fn assign(&self, scores: Tensor<2>, which: usize) -> Tensor<2> {
        let SwavConfig { epsilon, sinkhorn_iterations, .. } = self.config;
        let (scores, [n, p]) = (scores.clone().inner(), scores.dims());
        if !self.reads_queues() {
            return sinkhorn(scores, epsilon, sinkhorn_iterations);
        }
        let queued = self.queues[which].rows().matmul(self.prototypes().inner().transpose());
        let [size, _] = queued.dims();
        sinkhorn(Tensor::cat(vec![queued, scores], 0), epsilon, sinkhorn_iterations).slice([size..size + n, 0..p])
    }

    fn epoch(&self, position: Position) -> u64 {
        position.step / self.per_epoch
    }
}

/// The part of a batch of several crops, `[c n, k]`, that one of them has.
fn part(all: &Tensor<2>, at: usize, n: usize) -> Tensor<2> {
    let [_, k] = all.dims();
    all.clone().slice([at * n..(at + 1) * n, 0..k])
}

impl Method for Swav {
    /// Crops of one size share a forward and its statistics, mixtures with them; the head sees all rows at once.
    fn encode(&self, shard: &Shard) -> Encoded {
        let mut out = Encoded::default();
        let images = |crop: &Crop| match *crop {
            Crop::Clean(view) => shard.views[view].clone(),
            Crop::Mixtures(at) => shard.mixed[at].clone(),
        };
        let mut features = Vec::new();
        for (crops, name) in self.layout(&shard.facts.mixtures).iter().zip(SIZES) {
            let images = Tensor::cat(crops.iter().map(images).collect(), 0);
            for (rows, stats) in self.nets.query.features_together(vec![images], shard.of) {
                features.push(rows);
                out.seen.push(Forward { name, stats });
            }
        }
        let (rows, stats) = self.nets.query.project(Tensor::cat(features, 0));
        out.seen.push(Forward { name: HEAD, stats });
        let z = unit_rows(rows);
        let prototypes = match shard.facts.position.step < self.config.freeze_prototypes_steps {
            // Without a gradient the optimizer leaves them alone: no decay, no momentum.
            true => self.prototypes().detach(),
            false => self.prototypes(),
        };
        let scores = z.clone().matmul(prototypes.transpose());
        out.rows.0.extend([("z", z), ("scores", scores)]);
        out
    }

    fn couples_rows(&self) -> bool {
        true
    }

    fn contrast(&self, rows: &Rows, at: &At) -> Outcome {
        let (n, mixtures) = (at.facts.images.len(), &at.facts.mixtures);
        let layout = self.layout(mixtures).concat();
        let place = |crop: Crop| layout.iter().position(|own| *own == crop).expect("every crop has rows");
        let scores = rows.get("scores");
        let device = scores.device().inner();
        let scores_of = |crop: Crop| part(&scores, place(crop), n);
        let mixture_of = |view: usize| mixtures.iter().position(|mixture| mixture.view == view);
        let loss =
            |assigned: &Tensor<2>, predicting: Crop| predictions(assigned.clone(), scores_of(predicting), self.config.temperature);
        let crops: usize = self.sizes.iter().sum();
        let terms = (self.config.assign_crops.len() * (crops - 1)) as f64;

        let mut clean: Vec<Tensor<1>> = Vec::new();
        // The means of the mixtures' terms, weights included: those of the own images, and those of the partners.
        let (mut own, mut partner): (Vec<Tensor<1>>, Vec<Tensor<1>>) = (Vec::new(), Vec::new());
        let mut used = Vec::new();
        for (which, &assigning) in self.config.assign_crops.iter().enumerate() {
            let assigned = self.assign(scores_of(Crop::Clean(assigning)), which);
            used.push(assigned.clone());
            let of_mixture = mixture_of(assigning).map(|at| (at, self.assign(scores_of(Crop::Mixtures(at)), which)));
            for view in (0..crops).filter(|view| *view != assigning) {
                let plain = loss(&assigned, Crop::Clean(view)).mean();
                if !mixtures.is_empty() {
                    match (&of_mixture, mixture_of(view)) {
                        // In both sets the same.
                        (None, None) => own.push(plain.clone()),
                        (Some((by, assigned)), predicting) => {
                            let mixed = at.mixed(*by, &device).expect("it is one of the step's");
                            let rest = mixed.lambda.clone().neg().add_scalar(1.0);
                            match predicting {
                                None => {
                                    own.push((loss(assigned, Crop::Clean(view)) * mixed.lambda.clone()).mean());
                                    let back = at.rows_of(assigned.clone(), &mixed.back);
                                    partner.push((loss(&back, Crop::Clean(view)) * mixed.back_weight.clone()).mean());
                                }
                                // Reversed together they are what they were.
                                Some(by) => {
                                    let both = loss(assigned, Crop::Mixtures(by));
                                    own.push((both.clone() * mixed.lambda.clone()).mean());
                                    partner.push((both * rest).mean());
                                }
                            }
                        }
                        (None, Some(by)) => {
                            let mixed = at.mixed(by, &device).expect("it is one of the step's");
                            let rest = mixed.lambda.clone().neg().add_scalar(1.0);
                            own.push((loss(&assigned, Crop::Mixtures(by)) * mixed.lambda.clone()).mean());
                            let met = match self.config.legacy_flip {
                                true => assigned.clone(),
                                false => at.rows_of(assigned.clone(), &mixed.partners),
                            };
                            partner.push((loss(&met, Crop::Mixtures(by)) * rest).mean());
                        }
                    }
                }
                clean.push(plain);
            }
        }
        let mean = |of: Vec<Tensor<1>>| of.into_iter().reduce(|a, b| a + b).map(|sum| sum.div_scalar(terms));
        let mut out = Outcome::of("clean", mean(clean).expect("there are two crops"));
        for (name, term) in [("mix_weighted", mean(own)), ("mix_rev_weighted", mean(partner))] {
            if let Some(term) = term {
                out.add(name, term);
            }
        }
        let z = |view: usize| part(&rows.get("z"), place(Crop::Clean(view)), n);
        out.signals = watched(z(0), z(1));
        out.signals.push(("prototypes_used", spread_of(used)));
        out
    }

    fn trained(&mut self) -> &mut dyn Trained {
        &mut self.nets
    }

    fn follow(&mut self, done: &Done) {
        let query = &mut self.nets.query;
        SIZES.iter().filter_map(|name| done.seen(name)).for_each(|stats| query.absorb_features(stats, done.update));
        done.seen(HEAD).into_iter().for_each(|stats| query.absorb_head(stats, done.update));
        self.normalise();
        if !self.queues.is_empty() && self.epoch(done.facts.position) >= self.config.memory.start_epoch {
            let (n, layout) = (done.facts.images.len(), self.layout(&done.facts.mixtures).concat());
            for (queue, &view) in self.queues.iter_mut().zip(&self.config.assign_crops) {
                let place = layout.iter().position(|crop| *crop == Crop::Clean(view)).expect("an assigning crop has rows");
                queue.push(part(&done.rows.get("z"), place, n), &done.facts.images);
            }
            self.filled = (self.filled + n).min(self.config.memory.size);
        }
    }

    fn encoder(&self) -> Frozen {
        Frozen::one("query", state::without_graph(self.nets.query.clone()))
    }

    fn state(&self) -> StateDict {
        let mut all = state::collect(&self.nets);
        for (queue, names) in self.queues.iter().zip(QUEUES) {
            all.insert(names[0].into(), state::now(queue.rows()));
            // Exact in f32 up to 2^24 rows.
            all.insert(names[1].into(), TensorData::new(vec![queue.cursor() as f32], [1]));
        }
        if !self.queues.is_empty() {
            all.insert(FILLED.into(), TensorData::new(vec![self.filled as f32], [1]));
        }
        all
    }

    fn restore(&mut self, state: &StateDict) -> Result<()> {
        let own = &QUEUES[..self.queues.len()];
        let names: Vec<&str> = own.iter().flatten().copied().chain((!own.is_empty()).then_some(FILLED)).collect();
        saved::check(state, &["query", "prototypes"], &names)?;
        let (size, mut queues) = (self.config.memory.size, Vec::new());
        for (queue, [rows, cursor]) in self.queues.iter().zip(own) {
            let data = saved::tensor(state, rows, &queue.rows().dims())?.clone();
            let cursor = saved::whole(state, cursor, 1, 0, size)?[0] as usize;
            queues.push(Queue::restore(Tensor::from_data(data, &queue.rows().device()), cursor));
        }
        let filled = if own.is_empty() { 0 } else { saved::whole(state, FILLED, 1, 0, size + 1)?[0] as usize };
        let nets = state.iter().filter(|(name, _)| !names.contains(&name.as_str()));
        self.nets = state::load(self.nets.clone(), &nets.map(|(name, data)| (name.clone(), data.clone())).collect())?;
        (self.queues, self.filled) = (queues, filled);
        Ok(())
    }
}

/// Rows and cursor of each queue in a saved state: crops of the largest size assign, and there are few of them.
const QUEUES: [[&str; 2]; 8] = [
    ["queue_1", "queue_1_cursor"],
    ["queue_2", "queue_2_cursor"],
    ["queue_3", "queue_3_cursor"],
    ["queue_4", "queue_4_cursor"],
    ["queue_5", "queue_5_cursor"],
    ["queue_6", "queue_6_cursor"],
    ["queue_7", "queue_7_cursor"],
    ["queue_8", "queue_8_cursor"],
];
/// How many rows the queues were given.
const FILLED: &str = "queue_filled";
/// The most crops that assign.
pub const MOST_ASSIGNING: usize = QUEUES.len();
/// The most sizes of crops.
pub const MOST_SIZES: usize = SIZES.len();

/// How many prototypes are in use, as a share of all, `[1]`: the exponential of the entropy of the mean assignment. One over their number where all rows
/// have the same.
fn spread_of(assigned: Vec<Tensor<2>>) -> Tensor<1> {
    let all = Tensor::cat(assigned, 0);
    let [_, p] = all.dims();
    let share: Tensor<1> = all.mean_dim(0).reshape([p]);
    let entropy = (share.clone() * share.clamp_min(1e-30).log()).sum().neg();
    entropy.exp().div_scalar(p as f64)
}
