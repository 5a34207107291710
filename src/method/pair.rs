//! What methods of pairs of views have in common: an encoder whose head may have norms, a predictor, prototypes.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Encoded, Forward, Setup, Shard};
use crate::kernel::KernelPath;
use crate::loss::unit_rows;
use crate::model::head::{Head, Step};
use crate::model::layers::Linear;
use crate::model::{BatchStats, Encoder, Pass, init, norm};

/// `method.predictor`: two linear layers with batch norm and ReLU between them, from the embedding to the embedding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PredictorConfig {
    /// Width between its layers: 4096 in BYOL, 1024 in its CIFAR programs; 512 in SimSiam, whose predictor is a bottleneck.
    pub hidden: usize,
    /// Whether there is a batch norm between them.
    pub norm: bool,
}

impl Default for PredictorConfig {
    fn default() -> Self {
        Self { hidden: 512, norm: true }
    }
}

impl PredictorConfig {
    /// Its steps for embeddings of width `dim`.
    pub fn steps(&self, dim: usize) -> Vec<Step> {
        let norm = self.norm.then_some(Step::Norm { width: self.hidden, affine: true });
        let first = Step::Linear { input: dim, output: self.hidden, bias: !self.norm };
        let rest = [Step::Relu, Step::Linear { input: self.hidden, output: dim, bias: true }];
        std::iter::once(first).chain(norm).chain(rest).collect()
    }

    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        if self.hidden == 0 {
            out.push(format!("`{at}.hidden` is 0, must be at least 1"));
        }
    }

    /// A predictor with its initial weights.
    pub fn init(&self, setup: &Setup) -> Head {
        init::randomise(Head::new(&self.steps(setup.model.head.dim), setup.device), setup.seed, "predictor")
    }
}

/// What a method of pairs trains. In a state dict the names begin with `query.`, `predictor.` and `prototypes.`.
#[derive(Module, Debug)]
pub struct Nets {
    /// Backbone and head.
    pub query: Encoder,
    /// From embeddings to the embeddings of the other view (BYOL, SimSiam).
    pub predictor: Option<Head>,
    /// Rows `[p, d]` that embeddings are compared with (SwAV).
    pub prototypes: Option<Linear>,
}

impl Nets {
    /// An encoder alone.
    pub fn of(query: Encoder) -> Self {
        Self { query, predictor: None, prototypes: None }
    }

    /// With fresh weights, and a predictor where the config has one.
    pub fn init(setup: &Setup, predictor: Option<&PredictorConfig>) -> Self {
        let predictor = predictor.map(|config| config.init(setup));
        Self { predictor, ..Self::of(setup.net(3, "query")) }
    }

    /// Rows of the predictor, which are the embeddings themselves where there is none, and what its norms saw.
    pub fn predict(&self, z: Tensor<2>) -> (Tensor<2>, Vec<BatchStats>) {
        let Some(predictor) = &self.predictor else { return (z, Vec::new()) };
        let mut pass = Pass::train();
        (predictor.forward(z, &mut pass), pass.into_stats())
    }

    /// Moves the running statistics of encoder and predictor by what one forward through both saw.
    pub fn absorb(&mut self, stats: &[BatchStats], update: KernelPath) {
        let predictor = self.predictor.iter_mut().flat_map(Head::norms);
        norm::absorb(self.query.norms().into_iter().chain(predictor).collect(), stats, update);
    }

    /// Whether a row hangs on the other rows of its batch in the head or the predictor, so that a batch cannot be computed in parts.
    pub fn has_norms(&self) -> bool {
        self.query.fc.has_norms() || self.predictor.as_ref().is_some_and(Head::has_norms)
    }
}

/// The two views of a shard and its mixture, with names for what comes of them.
pub fn batches<const N: usize>(shard: &Shard, names: [&'static str; N]) -> Vec<(&'static str, Tensor<4>)> {
    let all = shard.views[..2].iter().chain(shard.mixed.first());
    names.into_iter().zip(all.cloned()).collect()
}

/// The embeddings, not normalised, of views and mixture through the encoder: each by a forward of its own, backbone and head.
pub fn embed(encoder: &Encoder, batches: Vec<(&'static str, Tensor<4>)>, of: usize) -> Encoded {
    let (names, images): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
    let mut out = Encoded::default();
    for (name, (features, stats)) in names.into_iter().zip(encoder.features_together(images, of)) {
        let (rows, head) = encoder.project(features);
        out.rows.0.push((name, rows));
        out.seen.push(Forward { name, stats: [stats, head].concat() });
    }
    out
}

/// What the log of a method of pairs watches of two embeddings `[n, d]`, each `[1]`: `pair_cosine`, the mean cosine of the pairs, and `spread`, the
/// standard deviation of the unit rows over its largest value, 1/sqrt(d): near 0 the encoder has collapsed (arXiv 2011.10566, section 4.1).
pub fn watched(first: Tensor<2>, second: Tensor<2>) -> Vec<(&'static str, Tensor<1>)> {
    let (first, second) = (unit_rows(first.inner()), unit_rows(second.inner()));
    let [n, d] = first.dims();
    let cosine = (first.clone() * second).sum_dim(1).mean();
    let centred = first.clone() - first.mean_dim(0);
    let deviations = (centred.clone() * centred).sum_dim(0).div_scalar(n as f64).sqrt();
    vec![("pair_cosine", cosine), ("spread", deviations.mean().mul_scalar((d as f64).sqrt()))]
}

/// A number on a device, `[1]`.
pub fn number(value: f64, device: &Device) -> Tensor<1> {
    Tensor::from_data([value as f32], device)
}
