//! SimSiam: predicting the other view's embedding of the same encoder, which gets no gradient there (arXiv 2011.10566).

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pair::{Nets, PredictorConfig, batches, embed, watched};
use super::{At, Done, Encoded, Method, NO_UNMIX, Outcome, Rows, Setup, Shard, Under, saved};
use crate::error::Result;
use crate::loss::byol::half_negative_cosines;
use crate::loss::unit_rows;
use crate::loss::unmix::MixtureTerms;
use crate::mixture::config::{Anchor, Branch};
use crate::model::state::{self, StateDict};
use crate::model::{Frozen, Trained};
use crate::unread::Unread;

/// `method` with `name = "simsiam"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SimsiamConfig {
    /// The predictor; null is none, with which the encoder collapses.
    pub predictor: Option<PredictorConfig>,
    /// Whether the predicted embeddings are constants; false lets the encoder collapse (section 4.1 of the paper).
    pub stop_gradient: bool,
    /// Un-Mix: keep the mixture's statistics out of the running ones.
    pub clean_stats_only: bool,
}

impl Default for SimsiamConfig {
    fn default() -> Self {
        Self { predictor: Some(PredictorConfig::default()), stop_gradient: true, clean_stats_only: false }
    }
}

impl SimsiamConfig {
    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        if let Some(predictor) = &self.predictor {
            predictor.problems(&format!("{at}.predictor"), out);
        }
    }

    /// One line per key that is set and can change nothing `under` the rest of the config.
    pub fn unread(&self, at: &str, under: &Under, out: &mut Vec<String>) {
        Unread::of(at, out).key("clean_stats_only", self.clean_stats_only, under.unmix, NO_UNMIX, "leave it out");
    }
}

/// One encoder and a predictor.
pub struct Simsiam {
    config: SimsiamConfig,
    /// On the graph.
    nets: Nets,
    anchor: Anchor,
    branch: Branch,
    /// Whether the steps bring mixtures.
    mixes: bool,
}

impl Simsiam {
    /// Fresh weights.
    pub fn init(config: SimsiamConfig, setup: &Setup) -> Self {
        let nets = Nets::init(setup, config.predictor.as_ref());
        Self::new(config, nets, setup)
    }

    /// From given nets.
    pub fn new(config: SimsiamConfig, nets: Nets, setup: &Setup) -> Self {
        let (anchor, branch, mixes) = (setup.mixing.anchor, setup.mixing.branch, setup.mixing.mixes());
        Self { config, nets: state::with_graph(nets), anchor, branch, mixes }
    }

    /// `-cos / 2` of predictions and embeddings, row by row, `[m]`.
    fn losses(&self, predicted: Tensor<2>, embedded: Tensor<2>) -> Tensor<1> {
        if self.config.stop_gradient {
            return half_negative_cosines(predicted, embedded);
        }
        let [m, _] = predicted.dims();
        (unit_rows(predicted) * unit_rows(embedded)).sum_dim(1).reshape([m]).mul_scalar(-0.5)
    }
}

/// Embeddings and predictions of the views and of the mixture.
const EMBEDDED: [&str; 3] = ["z1", "z2", "zm"];
const PREDICTED: [&str; 3] = ["p1", "p2", "pm"];

impl Method for Simsiam {
    fn encode(&self, shard: &Shard) -> Encoded {
        let mut out = embed(&self.nets.query, batches(shard, EMBEDDED), shard.of);
        for (at, name) in PREDICTED.into_iter().enumerate().take(out.seen.len()) {
            let (predicted, stats) = self.nets.predict(out.rows.0[at].1.clone());
            out.rows.0.push((name, predicted));
            out.seen[at].stats.extend(stats);
        }
        out
    }

    /// The embeddings that a mixture meets may belong to another shard.
    fn couples_rows(&self) -> bool {
        self.mixes
    }

    fn contrast(&self, rows: &Rows, at: &At) -> Outcome {
        let mut out = Outcome::of("clean_12", self.losses(rows.get("p1"), rows.get("z2")).mean());
        out.add("clean_21", self.losses(rows.get("p2"), rows.get("z1")).mean());
        out.signals = watched(rows.get("z1"), rows.get("z2"));
        let anchor = usize::from(self.anchor == Anchor::View2);
        let device = rows.get("z1").device().inner();
        if let Some(mixed) = at.mixed(0, &device) {
            let (pm, z) = (rows.get("pm"), rows.get(EMBEDDED[anchor]));
            let partner = self.losses(pm.clone(), at.rows_of(z.clone(), &mixed.partners));
            let rest = mixed.lambda.clone().neg().add_scalar(1.0);
            let mut terms = MixtureTerms::weighted(self.losses(pm, z), mixed.lambda.clone(), partner, rest);
            if self.branch == Branch::Both {
                let (p, zm) = (rows.get(PREDICTED[anchor]), rows.get("zm"));
                let partner = self.losses(p.clone(), at.rows_of(zm.clone(), &mixed.back));
                terms = terms.plus(MixtureTerms::weighted(self.losses(p, zm), mixed.lambda, partner, mixed.back_weight));
            }
            out.add_mixture(["mix", "mix_rev"], terms);
        }
        out
    }

    fn trained(&mut self) -> &mut dyn Trained {
        &mut self.nets
    }

    fn follow(&mut self, done: &Done) {
        let moving = if self.config.clean_stats_only { 2 } else { 3 };
        EMBEDDED[..moving].iter().filter_map(|name| done.seen(name)).for_each(|stats| self.nets.absorb(stats, done.update));
    }

    fn encoder(&self) -> Frozen {
        Frozen::one("query", state::without_graph(self.nets.query.clone()))
    }

    fn state(&self) -> StateDict {
        state::collect(&self.nets)
    }

    fn restore(&mut self, state: &StateDict) -> Result<()> {
        saved::check(state, &["query", "predictor"], &[])?;
        self.nets = state::load(self.nets.clone(), state)?;
        Ok(())
    }
}
