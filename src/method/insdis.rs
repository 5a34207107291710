//! InsDis: instance discrimination against a memory bank (Wu et al., arXiv 1805.01978; `train_moco_ins.py` without `--moco` in the first
//! program of arXiv 2003.05438).

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::contrast::Contrast;
use super::{At, Done, Draws, Encoded, Method, NO_MASKS, NO_UNMIX, Outcome, Position, Rows, Setup, Shard, Under, positive, saved};
use crate::error::Result;
use crate::kernel::KernelPath;
use crate::loss::unmix::mixture_terms;
use crate::loss::{LossName, NceZ};
use crate::memory::Bank;
use crate::model::state::{self, StateDict};
use crate::model::{Encoder, Frozen, Trained};
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
}

impl InsDis {
    /// Fresh weights and bank.
    pub fn init(config: BankConfig, setup: &Setup) -> Self {
        let encoder = setup.net(3, "query");
        let bank = Bank::init(setup.images, setup.model.head.dim, setup.seed, "bank", setup.device);
        Self::new(config, encoder, bank, setup.scores)
    }

    /// From a given encoder and bank; `scores` is the kernel path that compares the two.
    pub fn new(config: BankConfig, encoder: Encoder, bank: Bank, scores: KernelPath) -> Self {
        let contrast = config.contrast(bank.rows().dims()[0], scores);
        Self { config, contrast, query: state::with_graph(encoder), bank, z: None }
    }

    /// The bank as it is now.
    pub fn bank(&self) -> &Bank {
        &self.bank
    }
}

impl Method for InsDis {
    fn draw(&self, images: &[u32], position: Position) -> Draws {
        Draws { negatives: self.contrast.draw(images, position), ..Draws::default() }
    }

    fn encode(&self, shard: &Shard) -> Encoded {
        let mut out = Encoded::default();
        let mixed = shard.mixed.first().cloned().map(|mixed| ("qm", mixed));
        let all = [Some(("q", shard.views[0].clone())), mixed].into_iter().flatten().collect();
        out.forward(&self.query, all, shard.of);
        out
    }

    fn couples_rows(&self) -> bool {
        self.contrast.measures_z(&self.z)
    }

    fn contrast(&self, rows: &Rows, at: &At) -> Outcome {
        let device = self.bank.rows().device();
        let drawn = self.contrast.drawn(&at.own(), at.facts, &device);
        let logits = |features, drawn| self.contrast.logits(features, self.bank.rows(), drawn);
        let clean = logits(rows.get("q"), &drawn);
        // The terms of one step share the constant of NCE.
        let criterion = self.contrast.criterion(&self.z, &clean);
        let losses = criterion.per_query(clean.clone());
        let mut out = Outcome::of("clean", losses.clone().mean());
        out.signals.push((positive(self.config.loss), criterion.positive(clean, &losses)));
        out.constants.extend(criterion.z().map(|z| ("nce_z", z.clone())));
        if let Some((lambda, partners)) = at.mixture(&device) {
            let of_partners = self.contrast.drawn(&partners, at.facts, &device);
            let [own, partner] = [&drawn, &of_partners].map(|drawn| criterion.per_query(logits(rows.get("qm"), drawn)));
            out.add_mixture(["mix", "mix_rev"], mixture_terms(own, partner, lambda));
        }
        out
    }

    fn trained(&mut self) -> &mut dyn Trained {
        &mut self.query
    }

    fn follow(&mut self, done: &Done) {
        let moving: &[&str] = if self.config.clean_stats_only { &["q"] } else { &["q", "qm"] };
        moving.iter().filter_map(|name| done.seen(name)).for_each(|stats| self.query.absorb(stats, done.update));
        self.bank.update(&done.facts.images, done.rows.get("q"), self.config.bank_momentum);
        self.z = done.constant("nce_z");
    }

    fn encoder(&self) -> Frozen {
        Frozen::one("query", state::without_graph(self.query.clone()))
    }

    fn state(&self) -> StateDict {
        let mut all = saved::module("query", &self.query);
        all.insert("bank".into(), state::now(self.bank.rows()));
        saved::put(&mut all, "nce_z", self.z.as_ref());
        all
    }

    fn restore(&mut self, state: &StateDict) -> Result<()> {
        saved::check(state, &["query"], &["bank", "nce_z"])?;
        let device = self.bank.rows().device();
        let rows = saved::tensor(state, "bank", &self.bank.rows().dims())?.clone();
        let query = state::load(self.query.clone(), &saved::part(state, "query."))?;
        self.z = saved::constant(state, "nce_z", &device)?;
        self.query = query;
        self.bank = Bank::restore(Tensor::from_data(rows, &device));
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
