//! BYOL: predicting a moving average's embedding of the other view (arXiv 2006.07733), as htdt's self-supervised computes it, on which the BYOL of
//! Un-Mix rests.

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pair::{Nets, PredictorConfig, batches, embed, watched};
use super::{
    At, Done, Draws, Encoded, Images, Length, Method, NO_UNMIX, Outcome, Position, Rows, Setup, Shard, Target, Under, saved,
    shuffles,
};
use crate::error::Result;
use crate::loss::byol::distances;
use crate::loss::unmix::MixtureTerms;
use crate::mixture::config::{Anchor, Branch};
use crate::model::state::{self, StateDict};
use crate::model::{Encoder, Frozen, Trained, ema};
use crate::optim::MomentumSchedule;
use crate::unread::Unread;

/// `method.directions`: what the loss of a pair of views is of its two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Directions {
    /// Their sum (BYOL's paper, htdt, solo-learn).
    #[default]
    Sum,
    /// Their mean (Mini-SSL).
    Mean,
}

/// `method` with `name = "byol"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ByolConfig {
    /// The predictor; null is none, with which the encoder collapses.
    pub predictor: Option<PredictorConfig>,
    /// Momentum m of the target, at first.
    pub key_momentum: f64,
    /// How it changes: constant, cosine (per step, the paper), `cosine_epoch` (htdt) or `cosine_next`.
    pub key_momentum_schedule: MomentumSchedule,
    /// Where it ends.
    pub key_momentum_final: f64,
    /// Sum or mean of the two directions.
    pub directions: Directions,
    /// Permute the target's batch before SplitBN and undo it after (Mini-SSL).
    pub shuffle_bn: bool,
    /// Un-Mix: keep the mixture's statistics out of the running ones.
    pub clean_stats_only: bool,
}

impl Default for ByolConfig {
    fn default() -> Self {
        Self {
            predictor: Some(PredictorConfig { hidden: 4096, ..PredictorConfig::default() }),
            key_momentum: 0.99,
            key_momentum_schedule: MomentumSchedule::Cosine,
            key_momentum_final: 1.0,
            directions: Directions::Sum,
            shuffle_bn: false,
            clean_stats_only: false,
        }
    }
}

impl ByolConfig {
    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        if let Some(predictor) = &self.predictor {
            predictor.problems(&format!("{at}.predictor"), out);
        }
        for (key, value) in [("key_momentum", self.key_momentum), ("key_momentum_final", self.key_momentum_final)] {
            if !(0.0..=1.0).contains(&value) {
                out.push(format!("`{at}.{key}` is {value}, must be in [0, 1]"));
            }
        }
    }

    /// One line per key that is set and can change nothing `under` the rest of the config.
    pub fn unread(&self, at: &str, under: &Under, out: &mut Vec<String>) {
        let mut table = Unread::of(at, out);
        table.key("shuffle_bn", self.shuffle_bn, under.bn_groups, "`model.bn_splits` = 1 has no groups to shuffle", "leave it out");
        table.key("clean_stats_only", self.clean_stats_only, under.unmix, NO_UNMIX, "leave it out");
        let changes = self.key_momentum_schedule != MomentumSchedule::Constant;
        let because = format!("`{at}.key_momentum_schedule` = constant never gets there");
        let ends = self.key_momentum_final != Self::default().key_momentum_final;
        table.key("key_momentum_final", ends, changes, &because, "leave it out");
    }
}

/// Online nets and the target encoder.
pub struct Byol {
    config: ByolConfig,
    /// On the graph.
    nets: Nets,
    /// Never on a graph.
    target: Encoder,
    anchor: Anchor,
    branch: Branch,
    /// Whether the steps bring mixtures.
    mixes: bool,
    length: Length,
    shuffles: bool,
}

impl Byol {
    /// Fresh weights; the target starts as a copy of the online encoder.
    pub fn init(config: ByolConfig, setup: &Setup) -> Self {
        let nets = Nets::init(setup, config.predictor.as_ref());
        Self::new(config, nets, setup)
    }

    /// From given nets.
    pub fn new(config: ByolConfig, nets: Nets, setup: &Setup) -> Self {
        let target = state::without_graph(nets.query.clone());
        let shuffles = config.shuffle_bn && setup.model.bn_splits > 1;
        let (mixing, length) = (setup.mixing, setup.length);
        let (anchor, branch, mixes) = (mixing.anchor, mixing.branch, mixing.mixes());
        Self { config, nets: state::with_graph(nets), target, anchor, branch, mixes, length, shuffles }
    }

    /// The target encoder.
    pub fn target(&self) -> &Encoder {
        &self.target
    }

    /// The momentum of the average that follows a step.
    pub fn momentum(&self, position: Position) -> f64 {
        let ByolConfig { key_momentum, key_momentum_final, key_momentum_schedule, .. } = self.config;
        let Length { per_epoch, steps } = self.length;
        key_momentum_schedule.at(key_momentum, key_momentum_final, position.step, per_epoch, steps)
    }

    fn scaled(&self, loss: Tensor<1>) -> Tensor<1> {
        match self.config.directions {
            Directions::Sum => loss,
            Directions::Mean => loss.div_scalar(2.0),
        }
    }
}

/// Predictions of the views and of the mixture, and their targets.
const PREDICTED: [&str; 3] = ["p1", "p2", "pm"];

impl Method for Byol {
    fn draw(&self, images: &[u32], position: Position) -> Draws {
        let forwards = if self.shuffles { self.targets().len() } else { 0 };
        Draws { shuffles: shuffles(forwards, images.len(), position), ..Draws::default() }
    }

    fn targets(&self) -> Vec<Target> {
        let mixtures = (self.mixes && self.branch == Branch::Both).then_some(Target { name: "tm", of: Images::Mixtures(0) });
        let views = ["t1", "t2"].into_iter().enumerate().map(|(view, name)| Target { name, of: Images::View(view) });
        views.chain(mixtures).collect()
    }

    fn encode_targets(&self, images: Vec<(&'static str, Tensor<4>)>, of: usize) -> Encoded {
        embed(&self.target, images, of)
    }

    fn encode(&self, shard: &Shard) -> Encoded {
        let mut out = embed(&self.nets.query, batches(shard, PREDICTED), shard.of);
        for ((_, rows), forward) in out.rows.0.iter_mut().zip(&mut out.seen) {
            let (predicted, stats) = self.nets.predict(rows.clone());
            *rows = predicted;
            forward.stats.extend(stats);
        }
        out
    }

    fn contrast(&self, rows: &Rows, at: &At) -> Outcome {
        let targets = ["t1", "t2"].map(|name| rows.get(name));
        let mean =
            |predicted: &str, target: &Tensor<2>| self.scaled(distances(rows.get(predicted), at.own_of(target.clone())).mean());
        let mut out = Outcome::of("clean_12", mean("p1", &targets[1]));
        out.add("clean_21", mean("p2", &targets[0]));
        out.signals = watched(rows.get("p1"), at.own_of(targets[1].clone()));
        let anchor = usize::from(self.anchor == Anchor::View2);
        if let Some(mixed) = at.mixed(0, &targets[0].device()) {
            let target = &targets[anchor];
            let own = distances(rows.get("pm"), at.own_of(target.clone()));
            let partner = distances(rows.get("pm"), at.rows_of(target.clone(), &mixed.partners));
            let rest = mixed.lambda.clone().neg().add_scalar(1.0);
            let mut terms = MixtureTerms::weighted(own, mixed.lambda.clone(), partner, rest);
            if self.branch == Branch::Both {
                let tm = rows.get("tm");
                let own = distances(rows.get(PREDICTED[anchor]), at.own_of(tm.clone()));
                let partner = distances(rows.get(PREDICTED[anchor]), at.rows_of(tm, &mixed.back));
                terms = terms.plus(MixtureTerms::weighted(own, mixed.lambda, partner, mixed.back_weight));
            }
            let MixtureTerms { own, partner, total } = terms;
            let [own, partner, total] = [own, partner, total].map(|term| self.scaled(term));
            out.add_mixture(["mix", "mix_rev"], MixtureTerms { own, partner, total });
        }
        out
    }

    fn trained(&mut self) -> &mut dyn Trained {
        &mut self.nets
    }

    fn follow(&mut self, done: &Done) {
        let moving = if self.config.clean_stats_only { 2 } else { 3 };
        PREDICTED[..moving].iter().filter_map(|name| done.seen(name)).for_each(|stats| self.nets.absorb(stats, done.update));
        ["t1", "t2", "tm"][..moving]
            .iter()
            .filter_map(|name| done.seen(name))
            .for_each(|stats| self.target.absorb(stats, done.update));
        let momentum = self.momentum(done.facts.position);
        ema::update(&mut self.target, &self.nets.query, momentum, done.update);
    }

    fn encoder(&self) -> Frozen {
        Frozen::one("query", state::without_graph(self.nets.query.clone()))
    }

    fn state(&self) -> StateDict {
        let mut all = state::collect(&self.nets);
        all.extend(saved::module("target", &self.target));
        all
    }

    fn restore(&mut self, state: &StateDict) -> Result<()> {
        saved::check(state, &["query", "predictor", "target"], &[])?;
        let target = state::load(self.target.clone(), &saved::part(state, "target."))?;
        let nets = state.iter().filter(|(name, _)| !name.starts_with("target."));
        self.nets = state::load(self.nets.clone(), &nets.map(|(name, data)| (name.clone(), data.clone())).collect())?;
        self.target = target;
        Ok(())
    }
}
