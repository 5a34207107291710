//! MoCo v1 and v2, asymmetric and symmetric, with the Un-Mix loss when a mixed batch comes along.

use burn::tensor::{Bool, Device, Gradients, Int, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::contrast::hide;
use super::{Draws, Inputs, Method, NO_MASKS, NO_UNMIX, Outcome, Position, Setup, Under, saved};
use crate::error::{Error, Result};
use crate::loss::unmix::{Mixed, mixture_terms_by};
use crate::loss::{Criterion, LossName, NceZ, info_nce, nce};
use crate::memory::Queue;
use crate::memory::queue::QueueInit;
use crate::model::state::{self, StateDict};
use crate::model::{BatchStats, Encoder, Frozen, ema};
use crate::optim::Sgd;
use crate::rng::{Purpose, Stream};
use crate::unread::Unread;

/// `method.memory`: the queue of keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// Rows K. Any number; it need not be a multiple of the batch.
    pub size: usize,
    /// How the rows start.
    pub init: QueueInit,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { size: 16384, init: QueueInit::NormalUnit }
    }
}

/// `method` with `name = "moco"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MocoConfig {
    /// Temperature of the scores.
    pub temperature: f64,
    /// `softmax`, or `nce` (the default of the first program of 2003.05438 unless its command line says `--softmax`).
    pub loss: LossName,
    /// Constant Z of NCE: from the `first` batch of the untrained net, then frozen.
    pub nce_z: NceZ,
    /// Momentum m of the key encoder.
    pub key_momentum: f64,
    /// Both directions: L(q1, k2) + L(q2, k1), a sum.
    pub symmetric: bool,
    /// The queue.
    pub memory: MemoryConfig,
    /// Permute the key batch before SplitBN and undo it after (ShuffleBN), so that a query and its key share no statistics.
    pub shuffle_bn: bool,
    /// Symmetric Un-Mix: move the running statistics by the mixture's twice, as the reference does, which encodes it twice.
    pub replay_mixture_stats: bool,
    /// Keep the mixture's statistics out of the running ones.
    pub clean_stats_only: bool,
    /// Leave out keys in the queue that are of the query's own image (a small dataset meets them soon); the reference keeps them. With
    /// softmax alone.
    pub mask_same_index: bool,
    /// Let the other images' keys of this batch be negatives too. With softmax alone.
    pub in_batch_negatives: bool,
}

impl Default for MocoConfig {
    fn default() -> Self {
        Self {
            temperature: 0.07,
            loss: LossName::Softmax,
            nce_z: NceZ::First,
            key_momentum: 0.999,
            symmetric: false,
            memory: MemoryConfig::default(),
            shuffle_bn: true,
            replay_mixture_stats: true,
            clean_stats_only: false,
            mask_same_index: false,
            in_batch_negatives: false,
        }
    }
}

impl MocoConfig {
    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            out.push(format!("`{at}.temperature` is {}, must be above 0", self.temperature));
        }
        if !(0.0..=1.0).contains(&self.key_momentum) {
            out.push(format!("`{at}.key_momentum` is {}, must be in [0, 1]", self.key_momentum));
        }
        if self.memory.size == 0 {
            out.push(format!("`{at}.memory.size` is 0, must be at least 1"));
        }
    }

    /// One line per key that is set and can change nothing `under` the rest of the config.
    pub fn unread(&self, at: &str, under: &Under, out: &mut Vec<String>) {
        let mut table = Unread::of(at, out);
        let (default, softmax) = (Self::default(), self.loss == LossName::Softmax);
        table.key("mask_same_index", self.mask_same_index, softmax, NO_MASKS, "leave it out, or use softmax");
        table.key("in_batch_negatives", self.in_batch_negatives, softmax, NO_MASKS, "leave it out, or use softmax");
        let shuffles = self.shuffle_bn != default.shuffle_bn;
        table.key("shuffle_bn", shuffles, under.bn_groups, "`model.bn_splits` = 1 has no groups to shuffle", "leave it out");
        table.key("clean_stats_only", self.clean_stats_only, under.unmix, NO_UNMIX, "leave it out");
        let replays = self.replay_mixture_stats != default.replay_mixture_stats;
        let replayed = under.unmix && self.symmetric && !self.clean_stats_only;
        let because = "only symmetric Un-Mix with the mixture's statistics encodes it twice in the reference";
        table.key("replay_mixture_stats", replays, replayed, because, "leave it out");
    }

    /// What a dataset of `images` makes questionable.
    pub fn warnings(&self, images: usize) -> Vec<String> {
        let size = self.memory.size;
        if self.loss == LossName::Softmax || size < images {
            return Vec::new();
        }
        vec![format!(
            "`method.memory.size` is {size}, but the dataset has only {images} images: the constant Z of NCE can come out absurd on small \
             data, `method.loss` = softmax has none"
        )]
    }
}

/// Query encoder, key encoder, queue.
pub struct Moco {
    config: MocoConfig,
    /// On the graph.
    query: Encoder,
    /// Never on a graph.
    key: Encoder,
    queue: Queue,
    /// Images in the dataset.
    images: usize,
    /// The constant of NCE.
    z: Option<Tensor<1>>,
    shuffles: bool,
    seen: Option<Seen>,
}

/// What a step leaves for `after_update`.
struct Seen {
    query_stats: Vec<Vec<BatchStats>>,
    key_stats: Vec<Vec<BatchStats>>,
    keys: Vec<Tensor<2>>,
    images: Vec<u32>,
    z: Option<Tensor<1>>,
}

impl Moco {
    /// Fresh weights; the key encoder starts as a copy of the query's.
    pub fn init(config: MocoConfig, setup: &Setup) -> Self {
        let encoder = setup.model.init(3, setup.seed, "query", setup.device);
        let queue = Queue::init(config.memory.size, setup.model.head.dim, config.memory.init, setup.seed, setup.device);
        Self::new(config, encoder, queue, setup.model.bn_splits, setup.images)
    }

    /// From a given encoder (both copies start equal) and queue, for a dataset of `images`, which NCE asks for.
    pub fn new(config: MocoConfig, encoder: Encoder, queue: Queue, bn_splits: usize, images: usize) -> Self {
        let key = state::without_graph(encoder.clone());
        let shuffles = config.shuffle_bn && bn_splits > 1;
        Self { config, query: state::with_graph(encoder), key, queue, images, z: None, shuffles, seen: None }
    }

    /// The queue as it is now.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The key encoder.
    pub fn key(&self) -> &Encoder {
        &self.key
    }

    /// The permutations of the key forwards.
    fn draw(&self, n: usize, position: Position) -> Draws {
        let forwards = if self.shuffles { 1 + u64::from(self.config.symmetric) } else { 0 };
        let order = |forward| Stream::new(position.seed, Purpose::ShuffleBn, &[position.epoch, position.step, forward]);
        Draws { shuffles: (0..forwards).map(|forward| order(forward).permutation(n)).collect(), ..Draws::default() }
    }

    /// Keys `[n, d]` of one view: training statistics, no graph, ShuffleBN around it if there is a permutation.
    fn keys(&self, images: Tensor<4>, order: Option<&Vec<u32>>) -> (Tensor<2>, Vec<BatchStats>) {
        let Some(order) = order else { return self.key.embed_train(images) };
        let n = images.dims()[0];
        let mut back = vec![0i32; n];
        order.iter().enumerate().for_each(|(at, &from)| back[from as usize] = at as i32);
        let index = |rows: Vec<i32>| Tensor::<1, Int>::from_data(TensorData::new(rows, [n]), &images.device());
        let (order, back) = (index(order.iter().map(|&i| i as i32).collect()), index(back));
        let (keys, stats) = self.key.embed_train(images.select(0, order));
        (keys.select(0, back), stats)
    }
}

impl Moco {
    /// Scores of queries `[n, d]` over the temperature: their keys, the queue and, if asked for, the keys of this batch.
    fn logits(&self, queries: Tensor<2>, keys: Tensor<2>) -> Tensor<2> {
        let memory = self.queue.rows();
        let memory = if self.config.in_batch_negatives { Tensor::cat(vec![memory, keys.clone()], 0) } else { memory };
        info_nce::logits(queries, keys, memory, self.config.temperature)
    }

    /// Which columns of [`Moco::logits`] do not count for the queries of `images`.
    fn masked(&self, images: &[u32], device: &Device) -> Option<Tensor<2, Bool>> {
        let (same, in_batch) = (self.config.mask_same_index, self.config.in_batch_negatives);
        if !same && !in_batch {
            return None;
        }
        let mut values = Vec::new();
        for (i, &image) in images.iter().enumerate() {
            values.push(false);
            values.extend(self.queue.images().iter().map(|&owner| same && owner == Some(image)));
            // The own key is the positive.
            values.extend((0..if in_batch { images.len() } else { 0 }).map(|j| j == i));
        }
        let dims = [images.len(), values.len() / images.len()];
        Some(Tensor::from_data(TensorData::new(values, dims), device))
    }
}

impl Method for Moco {
    fn views(&self) -> usize {
        2
    }

    fn step(&mut self, inputs: Inputs) -> Outcome {
        let Inputs { views, mixed, images, position, draws } = inputs;
        let Draws { shuffles, .. } = draws.unwrap_or_else(|| self.draw(images.len(), position));
        let [x1, x2]: [Tensor<4>; 2] = views.try_into().expect("MoCo takes two views");

        // The order of the query forwards is that of the running statistics: x1, mixture, x2, mixture again.
        let (q1, stats) = self.query.embed_train(x1.clone());
        let mut query_stats = vec![stats];
        let mixture = mixed.map(|mixed| {
            let (queries, stats) = self.query.embed_train(mixed.images);
            (Mixed { queries, lambda: mixed.lambda, inverse: mixed.inverse }, stats)
        });
        let absorbed = mixture.as_ref().filter(|_| !self.config.clean_stats_only).map(|(_, stats)| stats.clone());
        query_stats.extend(absorbed.clone());
        let q2 = self.config.symmetric.then(|| {
            let (q2, stats) = self.query.embed_train(x2.clone());
            query_stats.push(stats);
            query_stats.extend(absorbed.filter(|_| self.config.replay_mixture_stats));
            q2
        });
        let (k2, stats) = self.keys(x2, shuffles.first());
        let mut key_stats = vec![stats];
        let k1 = self.config.symmetric.then(|| {
            let (k1, stats) = self.keys(x1, shuffles.get(1));
            key_stats.push(stats);
            k1
        });

        let masked = self.masked(&images, &q1.device());
        let logits = |queries: Tensor<2>, keys: &Tensor<2>| hide(self.logits(queries, keys.clone()), &masked);
        let clean = logits(q1.clone(), &k2);
        // The terms of one step share the constant of NCE.
        let criterion = Criterion::of(self.config.loss, self.z.as_ref(), &clean, self.images);
        let mut loss = criterion.per_query(clean.clone()).mean();
        let mut parts = vec![("clean_12", loss.clone())];
        let mut embeddings = vec![("q", q1), ("k", k2.clone())];
        if let (Some(q2), Some(k1)) = (q2, &k1) {
            let back = criterion.per_query(logits(q2.clone(), k1)).mean();
            loss = loss + back.clone();
            parts.push(("clean_21", back));
            embeddings.extend([("q2", q2), ("k1", k1.clone())]);
        }
        if let Some((mixed, _)) = mixture {
            let against = [("mix_2", "mix_rev_2", Some(&k2)), ("mix_1", "mix_rev_1", k1.as_ref())];
            for (own, partner, keys) in against {
                let Some(keys) = keys else { continue };
                let terms = mixture_terms_by(&mixed, |queries| criterion.per_query(logits(queries, keys)));
                loss = loss + terms.total;
                parts.extend([(own, terms.own), (partner, terms.partner)]);
            }
            embeddings.push(("qm", mixed.queries));
        }
        let next = |z: &Tensor<1>| self.config.nce_z.next(z.clone(), || nce::estimate_z(clean.clone(), self.images));
        let z = criterion.z().map(next);

        // One enqueue per step; in symmetric mode the keys of view 1 come first.
        let keys: Vec<_> = k1.into_iter().chain([k2]).collect();
        let images = images.repeat(keys.len());
        self.seen = Some(Seen { query_stats, key_stats, keys, images, z });
        Outcome {
            loss,
            parts: parts.into_iter().map(|(name, part)| (name, part.inner())).collect(),
            positive: criterion.positive(clean),
            embeddings: embeddings.into_iter().map(|(name, rows)| (name, rows.inner())).collect(),
        }
    }

    fn update(&mut self, gradients: &Gradients, optimizer: &mut Sgd, lr: f64) {
        self.query = optimizer.step(self.query.clone(), gradients, lr);
    }

    fn after_update(&mut self) {
        let seen = self.seen.take().expect("a step comes before its update");
        seen.query_stats.iter().for_each(|stats| self.query.absorb(stats));
        seen.key_stats.iter().for_each(|stats| self.key.absorb(stats));
        self.key = ema::update(self.key.clone(), &self.query, self.config.key_momentum);
        self.queue.push(Tensor::cat(seen.keys, 0), &seen.images);
        self.z = seen.z;
    }

    fn encoder(&self) -> Frozen {
        Frozen::one("query", state::without_graph(self.query.clone()))
    }

    fn state(&self) -> StateDict {
        let mut all = saved::module("query", &self.query);
        all.extend(saved::module("key", &self.key));
        all.insert("queue".into(), self.queue.rows().into_data());
        // Exact in f32 up to 2^24 rows; a queue of that size would need 8 GiB.
        all.insert("queue_cursor".into(), TensorData::new(vec![self.queue.cursor() as f32], [1]));
        if self.config.mask_same_index {
            // Exact up to 2^24 images; -1 for none.
            let images: Vec<f32> = self.queue.images().iter().map(|image| image.map_or(-1.0, |image| image as f32)).collect();
            let count = images.len();
            all.insert("queue_images".into(), TensorData::new(images, [count]));
        }
        saved::put(&mut all, "nce_z", self.z.as_ref());
        all
    }

    fn restore(&mut self, state: &StateDict) -> Result<()> {
        let device = self.queue.rows().device();
        let want = self.queue.rows().dims();
        let rows = saved::rows(state, "queue", &want)?;
        let numbers = |name: &str| state.get(name).and_then(|data| data.try_to_vec::<f32>().ok());
        let cursor = numbers("queue_cursor").map(|cursor| cursor[0] as usize).filter(|&cursor| cursor < want[0]);
        let cursor =
            cursor.ok_or_else(|| Error::input("the checkpoint does not say where its queue goes on").hint("it is damaged"))?;
        self.query = state::load(self.query.clone(), &saved::part(state, "query."))?;
        self.key = state::load(self.key.clone(), &saved::part(state, "key."))?;
        self.queue = Queue::restore(Tensor::from_data(rows, &device), cursor);
        if let Some(images) = numbers("queue_images").filter(|images| images.len() == want[0]) {
            let images = images.into_iter().map(|image| (image >= 0.0).then_some(image as u32)).collect();
            self.queue = self.queue.clone().with_images(images);
        }
        self.z = saved::get(state, "nce_z", &device);
        self.seen = None;
        Ok(())
    }
}
