//! MoCo v1 and v2, asymmetric and symmetric, with the Un-Mix loss when a mixed batch comes along.

use burn::tensor::{Bool, Device, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::contrast::hide;
use super::{
    At, Done, Draws, Encoded, Forward, Images, Length, Method, NO_MASKS, NO_UNMIX, Outcome, Position, Rows, Setup, Shard, Target,
    Under, index, positive, saved, shuffles,
};
use crate::error::Result;
use crate::loss::unmix::mixture_terms;
use crate::loss::{Criterion, LossName, NceZ, log_sum_exp};
use crate::memory::Queue;
use crate::memory::queue::QueueInit;
use crate::mixture::config::Form;
use crate::model::state::{self, StateDict};
use crate::model::{Encoder, Frozen, Trained, ema};
use crate::optim::MomentumSchedule;
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
    /// How the momentum of the key encoder changes: constant, cosine (per step), `cosine_epoch` or `cosine_next` (i-Mix).
    pub key_momentum_schedule: MomentumSchedule,
    /// Where it ends.
    pub key_momentum_final: f64,
    /// MixCo: temperature of its soft cross entropy. Its program has .05, and 1 on ImageNet.
    pub mix_temperature: f64,
    /// MixCo: weight of its soft cross entropy.
    pub mix_weight: f64,
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
            key_momentum_schedule: MomentumSchedule::Constant,
            key_momentum_final: 1.0,
            mix_temperature: 0.05,
            mix_weight: 1.0,
        }
    }
}

impl MocoConfig {
    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            out.push(format!("`{at}.temperature` is {}, must be above 0", self.temperature));
        }
        for (key, value) in [("key_momentum", self.key_momentum), ("key_momentum_final", self.key_momentum_final)] {
            if !(0.0..=1.0).contains(&value) {
                out.push(format!("`{at}.{key}` is {value}, must be in [0, 1]"));
            }
        }
        if !(self.mix_temperature > 0.0 && self.mix_temperature.is_finite()) {
            out.push(format!("`{at}.mix_temperature` is {}, must be above 0", self.mix_temperature));
        }
        if !(self.mix_weight >= 0.0 && self.mix_weight.is_finite()) {
            out.push(format!("`{at}.mix_weight` is {}, must not be negative", self.mix_weight));
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
        let soft = matches!(under.form, Form::Imix | Form::Mixco);
        let because = "the soft labels of i-Mix and MixCo are over all keys of the batch and the whole queue";
        table.key("mask_same_index", self.mask_same_index, !soft, because, "leave it out");
        table.key("in_batch_negatives", self.in_batch_negatives, !soft, because, "leave it out");
        let because = "only `mixture.name` = mixco has it";
        let mixco = under.form == Form::Mixco;
        table.key("mix_temperature", self.mix_temperature != default.mix_temperature, mixco, because, "leave it out");
        table.key("mix_weight", self.mix_weight != default.mix_weight, mixco, because, "leave it out");
        let because = format!("`{at}.key_momentum_schedule` = constant never gets there");
        let changes = self.key_momentum_schedule != MomentumSchedule::Constant;
        table.key("key_momentum_final", self.key_momentum_final != default.key_momentum_final, changes, &because, "leave it out");
    }

    /// What a dataset of `images` makes questionable.
    pub fn warnings(&self, images: usize) -> Vec<String> {
        let size = self.memory.size;
        if size < images {
            return Vec::new();
        }
        let what = match self.loss {
            LossName::Nce => "the constant Z of NCE can come out absurd on small data, `method.loss` = softmax has none",
            LossName::Softmax if self.mask_same_index => return Vec::new(),
            LossName::Softmax => {
                "it holds keys of every image, so that each query meets older keys of its own image as negatives (`method.mask_same_index` \
                 = true leaves them out)"
            }
        };
        let fitting = (images / 4).max(1);
        vec![format!(
            "`method.memory.size` is {size}, but the dataset has only {images} images: {what}; try method.memory.size={fitting}"
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
    /// What mixtures are to the loss.
    form: Form,
    length: Length,
}

impl Moco {
    /// Fresh weights; the key encoder starts as a copy of the query's.
    pub fn init(config: MocoConfig, setup: &Setup) -> Self {
        let encoder = setup.net(3, "query");
        let queue = Queue::init(config.memory.size, setup.model.head.dim, config.memory.init, setup.seed, setup.device);
        Self {
            form: setup.mixing.form,
            length: setup.length,
            ..Self::new(config, encoder, queue, setup.model.bn_splits, setup.images)
        }
    }

    /// The same with mixtures that are `form` to the loss.
    #[must_use]
    pub fn mixing(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// The momentum of the average that follows a step.
    fn momentum(&self, position: Position) -> f64 {
        let MocoConfig { key_momentum, key_momentum_final, key_momentum_schedule, .. } = self.config;
        key_momentum_schedule.at(key_momentum, key_momentum_final, position.step, self.length.per_epoch, self.length.steps)
    }

    /// From a given encoder (both copies start equal) and queue, for a dataset of `images`, which NCE asks for.
    pub fn new(config: MocoConfig, encoder: Encoder, queue: Queue, bn_splits: usize, images: usize) -> Self {
        let key = state::without_graph(encoder.clone());
        let shuffles = config.shuffle_bn && bn_splits > 1;
        let (form, length) = (Form::default(), Length::default());
        Self { config, query: state::with_graph(encoder), key, queue, images, z: None, shuffles, form, length }
    }

    /// The queue as it is now.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The key encoder.
    pub fn key(&self) -> &Encoder {
        &self.key
    }
}

/// Queries `[m, d]` with their scores against everything that is no positive of theirs: once for all terms they are part of.
struct Queries {
    rows: Tensor<2>,
    /// `[m, k]`, not yet divided by the temperature.
    against_queue: Tensor<2>,
}

impl Moco {
    fn queries(&self, rows: Tensor<2>) -> Queries {
        Queries { against_queue: rows.clone().matmul(self.queue.rows().transpose()), rows }
    }

    /// Logits `[m, 1 + k]` of queries against the keys of the batch rows `positives`, the queue and, if asked for, all keys `[n, d]` of this batch.
    fn logits(&self, queries: &Queries, keys: &Tensor<2>, positives: &[u32], at: &At) -> Tensor<2> {
        let device = keys.device();
        let whole = positives.iter().copied().eq(0..at.facts.images.len() as u32);
        let own = if whole { keys.clone() } else { keys.clone().select(0, index(positives, &device)) };
        let mut columns = vec![(queries.rows.clone() * own).sum_dim(1), queries.against_queue.clone()];
        if self.config.in_batch_negatives {
            columns.push(queries.rows.clone().matmul(keys.clone().transpose()));
        }
        let logits = Tensor::cat(columns, 1).div_scalar(self.config.temperature);
        hide(logits, &self.masked(positives, at, &device))
    }

    /// Which columns of [`Moco::logits`] do not count.
    fn masked(&self, positives: &[u32], at: &At, device: &Device) -> Option<Tensor<2, Bool>> {
        let (same, in_batch) = (self.config.mask_same_index, self.config.in_batch_negatives);
        if !same && !in_batch {
            return None;
        }
        let images = &at.facts.images;
        let mut values = Vec::new();
        for &positive in positives {
            let image = Some(images[positive as usize]);
            values.push(false);
            values.extend(self.queue.images().iter().map(|&owner| same && owner == image));
            // The own key is the positive.
            values.extend((0..if in_batch { images.len() } else { 0 }).map(|row| row == positive as usize));
        }
        let dims = [positives.len(), values.len() / positives.len()];
        Some(Tensor::from_data(TensorData::new(values, dims), device))
    }
}

/// The mixtures of view 1 and, in symmetric mode, of view 2.
const MIXTURES: [&str; 2] = ["qm", "qm2"];

/// The mixtures of i-Mix (arXiv 2010.08887) and MixCo (arXiv 2010.06300), whose labels are soft: over the keys of the whole batch and the queue.
impl Moco {
    /// MixCo: one forward over clean images and mixtures, which share their statistics.
    fn clean_and_mixed(&self, shard: &Shard, out: &mut Encoded) {
        let (view, mixed) = (shard.views[0].clone(), shard.mixed[0].clone());
        let ([n, ..], [m, ..]) = (view.dims(), mixed.dims());
        for (rows, stats) in self.query.embed_together(vec![Tensor::cat(vec![view, mixed], 0)], shard.of) {
            let [_, d] = rows.dims();
            out.rows.0.extend([("q", rows.clone().slice([0..n, 0..d])), ("qm", rows.slice([n..n + m, 0..d]))]);
            out.seen.push(Forward { name: "q", stats });
        }
    }

    /// Cross entropy of mixtures `[m, d]` against all keys `[n, d]` of the batch and the queue, each `[m]`: of the key of the own image, a batch row of
    /// `own`, and of that of the partner.
    fn soft(&self, queries: Tensor<2>, keys: &Tensor<2>, own: &[u32], partners: &[u32], temperature: f64) -> [Tensor<1>; 2] {
        let ([m, _], device) = (queries.dims(), keys.device());
        let all = Tensor::cat(vec![keys.clone(), self.queue.rows()], 0);
        let total = log_sum_exp(queries.clone().matmul(all.transpose()).div_scalar(temperature));
        [own, partners].map(|positives| {
            let positives = keys.clone().select(0, index(positives, &device));
            let scores = (queries.clone() * positives).sum_dim(1).div_scalar(temperature);
            (total.clone() - scores).reshape([m])
        })
    }

    /// i-Mix: queries of mixtures alone, those of view 1 against the keys of view 2 and, in symmetric mode, the other way round.
    fn imix(&self, rows: &Rows, at: &At) -> Outcome {
        let (own, device) = (at.own(), self.queue.rows().device());
        let mut out: Option<Outcome> = None;
        let directions = [("k", ["own", "other"]), ("k1", ["own_2", "other_2"])];
        for (which, (keys, names)) in directions.into_iter().enumerate().take(at.facts.mixtures.len()) {
            let mixed = at.mixed(which, &device).expect("it is one of the step's");
            let soft = self.soft(rows.get(MIXTURES[which]), &rows.get(keys), &own, &mixed.partners, self.config.temperature);
            let [of_own, of_partner] = soft;
            let found = of_own.clone().inner().neg().exp().mean();
            let terms = mixture_terms(of_own, of_partner, mixed.lambda);
            match &mut out {
                None => {
                    let parts = names.into_iter().zip([terms.own.inner(), terms.partner.inner()]).collect();
                    let signals = vec![(positive(self.config.loss), found)];
                    out = Some(Outcome { loss: terms.total, parts, signals, constants: Vec::new() });
                }
                Some(out) => out.add_mixture(names, terms),
            }
        }
        out.expect("i-Mix has mixtures")
    }
}

impl Method for Moco {
    fn draw(&self, images: &[u32], position: Position) -> Draws {
        let forwards = if self.shuffles { self.targets().len() } else { 0 };
        Draws { shuffles: shuffles(forwards, images.len(), position), ..Draws::default() }
    }

    fn targets(&self) -> Vec<Target> {
        let second = self.config.symmetric.then_some(Target { name: "k1", of: Images::View(0) });
        [Target { name: "k", of: Images::View(1) }].into_iter().chain(second).collect()
    }

    fn encode_targets(&self, images: Vec<(&'static str, Tensor<4>)>, of: usize) -> Encoded {
        let mut out = Encoded::default();
        out.forward(&self.key, images, of);
        out
    }

    fn encode(&self, shard: &Shard) -> Encoded {
        let mut out = Encoded::default();
        match self.form {
            // Mixtures stand in for the views.
            Form::Imix => out.forward(&self.query, MIXTURES.into_iter().zip(shard.mixed.iter().cloned()).collect(), shard.of),
            Form::Mixco => self.clean_and_mixed(shard, &mut out),
            Form::None | Form::Input | Form::Unmix | Form::MixedBarlow => {
                let mixed = shard.mixed.first().cloned().map(|mixed| ("qm", mixed));
                let second = self.config.symmetric.then(|| ("q2", shard.views[1].clone()));
                let all = [Some(("q", shard.views[0].clone())), mixed, second].into_iter().flatten().collect();
                out.forward(&self.query, all, shard.of);
            }
        }
        out
    }

    /// The constant of NCE is measured on the whole first batch; everything else is a sum over queries.
    fn couples_rows(&self) -> bool {
        self.config.loss == LossName::Nce && self.z.is_none()
    }

    fn contrast(&self, rows: &Rows, at: &At) -> Outcome {
        if self.form == Form::Imix {
            return self.imix(rows, at);
        }
        let own = at.own();
        let clean = self.logits(&self.queries(rows.get("q")), &rows.get("k"), &own, at);
        // The terms of one step share the constant of NCE.
        let criterion = Criterion::of(self.config.loss, self.z.as_ref(), &clean, self.images);
        let losses = criterion.per_query(clean.clone());
        let mut out = Outcome::of("clean_12", losses.clone().mean());
        out.signals.push((positive(self.config.loss), criterion.positive(clean, &losses)));
        out.constants.extend(criterion.z().map(|z| ("nce_z", z.clone())));
        if self.config.symmetric {
            let back = self.logits(&self.queries(rows.get("q2")), &rows.get("k1"), &own, at);
            out.add("clean_21", criterion.per_query(back).mean());
        }
        if self.form == Form::Mixco {
            let mixture = &at.facts.mixtures[0];
            // Mixture i is of image i and of image i + n/2; the rest of the batch has none.
            let [own, partner] = self.soft(
                rows.get("qm"),
                &rows.get("k"),
                &(0..mixture.lambda.len() as u32).collect::<Vec<_>>(),
                &mixture.partners,
                self.config.mix_temperature,
            );
            let lambda =
                Tensor::from_data(TensorData::new(mixture.lambda.clone(), [mixture.lambda.len()]), &self.queue.rows().device());
            out.add("mix", mixture_terms(own, partner, lambda).total.mul_scalar(self.config.mix_weight));
            return out;
        }
        if let Some((lambda, partners)) = at.mixture(&self.queue.rows().device()) {
            let mixtures = self.queries(rows.get("qm"));
            let against = [(["mix_2", "mix_rev_2"], "k"), (["mix_1", "mix_rev_1"], "k1")];
            for (names, keys) in against.into_iter().take(self.targets().len()) {
                let [own, partner] =
                    [&own, &partners].map(|positives| criterion.per_query(self.logits(&mixtures, &rows.get(keys), positives, at)));
                out.add_mixture(names, mixture_terms(own, partner, lambda.clone()));
            }
        }
        out
    }

    fn trained(&mut self) -> &mut dyn Trained {
        &mut self.query
    }

    fn follow(&mut self, done: &Done) {
        // The reference encodes the mixture once for each direction, which moves the running statistics as often.
        let mixture = (!self.config.clean_stats_only).then_some("qm");
        let again = mixture.filter(|_| self.config.symmetric && self.config.replay_mixture_stats);
        let order = match self.form {
            Form::Imix => [Some(MIXTURES[0]), Some(MIXTURES[1]), None, None],
            _ => [Some("q"), mixture, Some("q2"), again],
        };
        order.into_iter().flatten().filter_map(|name| done.seen(name)).for_each(|stats| self.query.absorb(stats, done.update));
        ["k", "k1"].into_iter().filter_map(|name| done.seen(name)).for_each(|stats| self.key.absorb(stats, done.update));
        let momentum = self.momentum(done.facts.position);
        ema::update(&mut self.key, &self.query, momentum, done.update);
        // One enqueue per step; in symmetric mode the keys of view 1 come first.
        let keys: Vec<_> = self.targets().iter().rev().map(|target| done.rows.get(target.name)).collect();
        let images = done.facts.images.repeat(keys.len());
        self.queue.push(Tensor::cat(keys, 0), &images);
        self.z = done.constant("nce_z");
    }

    fn encoder(&self) -> Frozen {
        Frozen::one("query", state::without_graph(self.query.clone()))
    }

    fn state(&self) -> StateDict {
        let mut all = saved::module("query", &self.query);
        all.extend(saved::module("key", &self.key));
        all.insert("queue".into(), state::now(self.queue.rows()));
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
        saved::check(state, &["query", "key"], &["queue", "queue_cursor", "queue_images", "nce_z"])?;
        let device = self.queue.rows().device();
        let want = self.queue.rows().dims();
        let rows = saved::tensor(state, "queue", &want)?.clone();
        let cursor = saved::whole(state, "queue_cursor", 1, 0, want[0])?[0] as usize;
        let query = state::load(self.query.clone(), &saved::part(state, "query."))?;
        let key = state::load(self.key.clone(), &saved::part(state, "key."))?;
        let mut queue = Queue::restore(Tensor::from_data(rows, &device), cursor);
        if self.config.mask_same_index {
            let images = saved::whole(state, "queue_images", want[0], -1, self.images)?;
            queue = queue.with_images(images.into_iter().map(|image| u32::try_from(image).ok()).collect());
        }
        let z = saved::constant(state, "nce_z", &device)?;
        (self.query, self.key, self.queue, self.z) = (query, key, queue, z);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_outlasts_an_epoch_is_warned_of() {
        let of = |loss, mask_same_index, size, images| {
            let memory = MemoryConfig { size, ..MemoryConfig::default() };
            MocoConfig { loss, mask_same_index, memory, ..MocoConfig::default() }.warnings(images)
        };
        assert!(of(LossName::Softmax, false, 4096, 4097).is_empty() && of(LossName::Softmax, true, 4096, 125).is_empty());
        let text = &of(LossName::Softmax, false, 4096, 125)[0];
        assert!(text.contains("own image") && text.contains("method.memory.size=31"), "{text}");
        assert!(of(LossName::Nce, false, 100, 100)[0].contains("constant Z"));
    }
}
