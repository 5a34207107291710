//! MoCo v1 and v2, asymmetric and symmetric, with the Un-Mix loss when a mixed batch comes along.

use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Inputs, Method, Outcome, Position};
use crate::error::{Error, Result};
use crate::loss::info_nce;
use crate::loss::unmix::{Mixed, mixture_terms};
use crate::memory::Queue;
use crate::memory::queue::QueueInit;
use crate::model::state::{self, StateDict};
use crate::model::{BatchStats, Encoder, ModelConfig, ema};
use crate::optim::Sgd;
use crate::rng::{Purpose, Stream};

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
    /// Temperature of the softmax.
    pub temperature: f64,
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
}

impl Default for MocoConfig {
    fn default() -> Self {
        Self {
            temperature: 0.07,
            key_momentum: 0.999,
            symmetric: false,
            memory: MemoryConfig::default(),
            shuffle_bn: true,
            replay_mixture_stats: true,
            clean_stats_only: false,
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
}

/// Query encoder, key encoder, queue.
pub struct Moco {
    config: MocoConfig,
    /// On the graph.
    query: Encoder,
    /// Never on a graph.
    key: Encoder,
    queue: Queue,
    shuffles: bool,
    seen: Option<Seen>,
}

/// What a step leaves for `after_update`.
struct Seen {
    query_stats: Vec<Vec<BatchStats>>,
    key_stats: Vec<Vec<BatchStats>>,
    keys: Vec<Tensor<2>>,
}

impl Moco {
    /// Fresh weights; the key encoder starts as a copy of the query's.
    pub fn init(config: MocoConfig, model: &ModelConfig, seed: u64, device: &Device) -> Self {
        let encoder = model.init(seed, "query", device);
        let queue = Queue::init(config.memory.size, model.head.dim, config.memory.init, seed, device);
        Self::new(config, encoder, queue, model.bn_splits)
    }

    /// From a given encoder (both copies start equal) and queue.
    pub fn new(config: MocoConfig, encoder: Encoder, queue: Queue, bn_splits: usize) -> Self {
        let key = state::without_graph(encoder.clone());
        let shuffles = config.shuffle_bn && bn_splits > 1;
        Self { config, query: state::with_graph(encoder), key, queue, shuffles, seen: None }
    }

    /// The queue as it is now.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The key encoder.
    pub fn key(&self) -> &Encoder {
        &self.key
    }

    /// Keys `[n, d]` of one view: training statistics, no graph, ShuffleBN around it. `forward` numbers the key forwards of a step.
    fn keys(&self, images: Tensor<4>, position: Position, forward: u64) -> (Tensor<2>, Vec<BatchStats>) {
        if !self.shuffles {
            return self.key.embed_train(images);
        }
        let n = images.dims()[0];
        let order = Stream::new(position.seed, Purpose::ShuffleBn, &[position.epoch, position.step, forward]).permutation(n);
        let mut back = vec![0i32; n];
        order.iter().enumerate().for_each(|(at, &from)| back[from as usize] = at as i32);
        let index = |rows: Vec<i32>| Tensor::<1, Int>::from_data(TensorData::new(rows, [n]), &images.device());
        let (order, back) = (index(order.iter().map(|&i| i as i32).collect()), index(back));
        let (keys, stats) = self.key.embed_train(images.select(0, order));
        (keys.select(0, back), stats)
    }
}

impl Method for Moco {
    fn views(&self) -> usize {
        2
    }

    fn step(&mut self, inputs: Inputs) -> Outcome {
        let Inputs { views, mixed, position } = inputs;
        let [x1, x2]: [Tensor<4>; 2] = views.try_into().expect("MoCo takes two views");
        let (temperature, memory) = (self.config.temperature, self.queue.rows());

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
        let (k2, stats) = self.keys(x2, position, 0);
        let mut key_stats = vec![stats];
        let k1 = self.config.symmetric.then(|| {
            let (k1, stats) = self.keys(x1, position, 1);
            key_stats.push(stats);
            k1
        });

        let clean = info_nce(q1.clone(), k2.clone(), memory.clone(), temperature);
        let mut loss = clean.loss();
        let mut parts = vec![("clean_12", loss.clone())];
        let mut embeddings = vec![("q", q1), ("k", k2.clone())];
        if let (Some(q2), Some(k1)) = (q2, &k1) {
            let back = info_nce(q2.clone(), k1.clone(), memory.clone(), temperature).loss();
            loss = loss + back.clone();
            parts.push(("clean_21", back));
            embeddings.extend([("q2", q2), ("k1", k1.clone())]);
        }
        if let Some((mixed, _)) = mixture {
            let against = [("mix_2", "mix_rev_2", Some(&k2)), ("mix_1", "mix_rev_1", k1.as_ref())];
            for (own, partner, keys) in against {
                let Some(keys) = keys else { continue };
                let terms = mixture_terms(&mixed, keys.clone(), memory.clone(), temperature);
                loss = loss + terms.total;
                parts.extend([(own, terms.own), (partner, terms.partner)]);
            }
            embeddings.push(("qm", mixed.queries));
        }

        // One enqueue per step; in symmetric mode the keys of view 1 come first.
        let keys = k1.into_iter().chain([k2]).collect();
        self.seen = Some(Seen { query_stats, key_stats, keys });
        Outcome {
            loss,
            parts: parts.into_iter().map(|(name, part)| (name, part.inner())).collect(),
            positive: clean.positive_probability(),
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
        self.queue.push(Tensor::cat(seen.keys, 0));
    }

    fn encoder(&self) -> Encoder {
        state::without_graph(self.query.clone())
    }

    fn state(&self) -> StateDict {
        let mut all = StateDict::new();
        for (prefix, encoder) in [("query", &self.query), ("key", &self.key)] {
            all.extend(state::collect(encoder).into_iter().map(|(name, data)| (format!("{prefix}.{name}"), data)));
        }
        all.insert("queue".into(), self.queue.rows().into_data());
        // Exact in f32 up to 2^24 rows; a queue of that size would need 8 GiB.
        all.insert("queue_cursor".into(), TensorData::new(vec![self.queue.cursor() as f32], [1]));
        all
    }

    fn restore(&mut self, state: &StateDict) -> Result<()> {
        let part = |prefix: &str| -> StateDict {
            let own = state.iter().filter_map(|(name, data)| Some((name.strip_prefix(prefix)?.to_owned(), data.clone())));
            own.collect()
        };
        let device = self.queue.rows().device();
        let missing = || Error::input("the checkpoint holds no queue").hint("it was written by another method");
        let rows = state.get("queue").ok_or_else(missing)?.clone();
        let cursor = state.get("queue_cursor").and_then(|c| c.try_to_vec::<f32>().ok()).ok_or_else(missing)?[0] as usize;
        let want = self.queue.rows().dims().to_vec();
        if rows.shape().to_vec() != want || cursor >= want[0] {
            return Err(Error::input(format!(
                "the checkpoint's queue is {:?} at row {cursor}, the config's {want:?}",
                rows.shape()
            ))
            .hint("`method.memory.size` and `model.head.dim` must be those of the checkpoint"));
        }
        self.query = state::load(self.query.clone(), &part("query."))?;
        self.key = state::load(self.key.clone(), &part("key."))?;
        self.queue = Queue::restore(Tensor::from_data(rows, &device), cursor);
        self.seen = None;
        Ok(())
    }
}
