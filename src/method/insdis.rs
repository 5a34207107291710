//! InsDis: instance discrimination against a memory bank (Wu et al., arXiv 1805.01978; `train_moco_ins.py` without `--moco` in the first
//! program of arXiv 2003.05438).

use burn::tensor::{Gradients, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::contrast::{Contrast, Drawn, mixture_queries};
use super::{Draws, Inputs, Method, NO_MASKS, NO_UNMIX, Outcome, Setup, Under, saved};
use crate::error::Result;
use crate::kernel::KernelPath;
use crate::loss::{LossName, NceZ};
use crate::memory::Bank;
use crate::model::state::{self, StateDict};
use crate::model::{BatchStats, Encoder, Frozen};
use crate::optim::Sgd;
use crate::unread::Unread;

/// `method` with `name = "insdis"`, and what CMC has beyond its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BankConfig {
    /// Temperature of the scores.
    pub temperature: f64,
    /// `nce` (the default of the reference) or `softmax` (what its README's commands ask for).
    pub loss: LossName,
    /// Negatives K per image, drawn from the bank uniformly and with replacement.
    pub negatives: usize,
    /// Weight of the old row when an image's row in the bank is renewed.
    pub bank_momentum: f64,
    /// Constant Z of NCE: from the `first` batch of the untrained net, then frozen.
    pub nce_z: NceZ,
    /// Leave out negatives that happen to be the image itself; the reference keeps them. With softmax alone.
    pub mask_self: bool,
    /// One set of K negatives for the whole batch instead of one per image: faster, and not the reference.
    pub shared_negatives: bool,
    /// Un-Mix: keep the mixture's statistics out of the running ones.
    pub clean_stats_only: bool,
}

impl Default for BankConfig {
    fn default() -> Self {
        Self {
            temperature: 0.07,
            loss: LossName::Nce,
            negatives: 16384,
            bank_momentum: 0.5,
            nce_z: NceZ::First,
            mask_self: false,
            shared_negatives: false,
            clean_stats_only: false,
        }
    }
}

impl BankConfig {
    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            out.push(format!("`{at}.temperature` is {}, must be above 0", self.temperature));
        }
        if !(0.0..=1.0).contains(&self.bank_momentum) {
            out.push(format!("`{at}.bank_momentum` is {}, must be in [0, 1]", self.bank_momentum));
        }
        if self.negatives == 0 {
            out.push(format!("`{at}.negatives` is 0, must be at least 1"));
        }
    }

    /// One line per key that is set and can change nothing `under` the rest of the config.
    pub fn unread(&self, at: &str, under: &Under, out: &mut Vec<String>) {
        let mut table = Unread::of(at, out);
        let softmax = self.loss == LossName::Softmax;
        table.key("mask_self", self.mask_self, softmax, NO_MASKS, "leave it out, or use softmax");
        table.key("clean_stats_only", self.clean_stats_only, under.unmix, NO_UNMIX, "leave it out");
    }

    /// What a dataset of `images` makes questionable.
    pub fn warnings(&self, images: usize) -> Vec<String> {
        let few = |what: &str| {
            format!(
                "`method.negatives` is {}, but the dataset has only {images} images: {what}; try method.negatives={}",
                self.negatives,
                (images / 4).max(1)
            )
        };
        match self.loss {
            _ if self.negatives < images => Vec::new(),
            LossName::Softmax => vec![few("every image is drawn several times as a negative, the own one too")],
            LossName::Nce => vec![few("the constant Z of NCE can come out absurd on small data, `method.loss` = softmax has none")],
        }
    }

    /// The shared machinery for a dataset.
    pub fn contrast(&self, images: usize, path: KernelPath) -> Contrast {
        Contrast {
            temperature: self.temperature,
            negatives: self.negatives,
            loss: self.loss,
            nce_z: self.nce_z,
            mask_self: self.mask_self,
            shared: self.shared_negatives,
            images,
            path,
        }
    }
}

/// One encoder and a bank.
pub struct InsDis {
    config: BankConfig,
    contrast: Contrast,
    /// On the graph.
    query: Encoder,
    bank: Bank,
    z: Option<Tensor<1>>,
    seen: Option<Seen>,
}

struct Seen {
    stats: Vec<Vec<BatchStats>>,
    images: Vec<u32>,
    features: Tensor<2>,
    z: Option<Tensor<1>>,
}

impl InsDis {
    /// Fresh weights and bank.
    pub fn init(config: BankConfig, setup: &Setup) -> Self {
        let encoder = setup.model.init(3, setup.seed, "query", setup.device);
        let bank = Bank::init(setup.images, setup.model.head.dim, setup.seed, "bank", setup.device);
        Self::new(config, encoder, bank, setup.scores)
    }

    /// From a given encoder and bank; `scores` is the kernel path that compares the two.
    pub fn new(config: BankConfig, encoder: Encoder, bank: Bank, scores: KernelPath) -> Self {
        let contrast = config.contrast(bank.rows().dims()[0], scores);
        Self { config, contrast, query: state::with_graph(encoder), bank, z: None, seen: None }
    }

    /// The bank as it is now.
    pub fn bank(&self) -> &Bank {
        &self.bank
    }

    fn contrast_with(&mut self, inputs: Inputs, drawn: &Drawn) -> Outcome {
        let Inputs { views, mixed, images, .. } = inputs;
        let [x]: [Tensor<4>; 1] = views.try_into().expect("InsDis takes one view");
        let (q, stats) = self.query.embed_train(x);
        let mut stats = vec![stats];
        let term = self.contrast.term(q.clone(), self.bank.rows(), drawn, self.z.as_ref(), None);
        let mut loss = term.loss.clone();
        let mut parts = vec![("clean", term.plain)];
        let mut embeddings = vec![("q", q.clone().inner())];
        // The terms of one step share the constant.
        let z = term.z.clone();
        if let Some(mixed) = mixed {
            let (queries, seen) = self.query.embed_train(mixed.images.clone());
            stats.extend((!self.config.clean_stats_only).then_some(seen));
            embeddings.push(("qm", queries.clone().inner()));
            for (name, (queries, weight)) in ["mix", "mix_rev"].into_iter().zip(mixture_queries(&mixed, queries)) {
                let z = z.as_ref().map(|(used, _)| used);
                let term = self.contrast.term(queries, self.bank.rows(), drawn, z, Some(weight));
                loss = loss + term.loss;
                parts.push((name, term.plain));
            }
        }
        let z = z.map(|(_, next)| next);
        self.seen = Some(Seen { stats, images, features: q.inner(), z });
        Outcome { loss, parts, positive: term.positive, embeddings }
    }
}

impl Method for InsDis {
    fn views(&self) -> usize {
        1
    }

    fn step(&mut self, inputs: Inputs) -> Outcome {
        let Draws { negatives, .. } = inputs
            .draws
            .clone()
            .unwrap_or_else(|| Draws { negatives: self.contrast.draw(&inputs.images, inputs.position), ..Draws::default() });
        let drawn = self.contrast.drawn(negatives, &inputs.images, &inputs.views[0].device());
        self.contrast_with(inputs, &drawn)
    }

    fn update(&mut self, gradients: &Gradients, optimizer: &mut Sgd, lr: f64) {
        self.query = optimizer.step(self.query.clone(), gradients, lr);
    }

    fn after_update(&mut self) {
        let seen = self.seen.take().expect("a step comes before its update");
        seen.stats.iter().for_each(|stats| self.query.absorb(stats));
        self.bank.update(&seen.images, seen.features, self.config.bank_momentum);
        self.z = seen.z;
    }

    fn encoder(&self) -> Frozen {
        Frozen::one("query", state::without_graph(self.query.clone()))
    }

    fn state(&self) -> StateDict {
        let mut all = saved::module("query", &self.query);
        all.insert("bank".into(), self.bank.rows().into_data());
        saved::put(&mut all, "nce_z", self.z.as_ref());
        all
    }

    fn restore(&mut self, state: &StateDict) -> Result<()> {
        let device = self.bank.rows().device();
        let rows: TensorData = saved::rows(state, "bank", &self.bank.rows().dims())?;
        self.query = state::load(self.query.clone(), &saved::part(state, "query."))?;
        self.bank = Bank::restore(Tensor::from_data(rows, &device));
        self.z = saved::get(state, "nce_z", &device);
        self.seen = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_images_are_warned_of() {
        let of = |loss, images| BankConfig { negatives: 100, loss, ..BankConfig::default() }.warnings(images);
        assert!(of(LossName::Nce, 101).is_empty() && of(LossName::Softmax, 101).is_empty());
        assert!(of(LossName::Nce, 100)[0].contains("constant Z"), "{:?}", of(LossName::Nce, 100));
        assert!(of(LossName::Softmax, 40)[0].contains("method.negatives=10"), "{:?}", of(LossName::Softmax, 40));
    }
}
