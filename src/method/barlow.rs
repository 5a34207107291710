//! Barlow Twins: views whose embeddings have the identity as cross-correlation (arXiv 2103.03230), with its mixed form (arXiv 2312.02151) where the
//! steps bring mixtures of both views.

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pair::{Nets, batches, embed, watched};
use super::{At, Done, Encoded, Method, NO_UNMIX, Outcome, Rows, Setup, Shard, Under, saved};
use crate::error::Result;
use crate::loss::Standardise;
use crate::loss::barlow::{barlow, correlation, mixed};
use crate::mixture::config::{Anchor, Form};
use crate::model::state::{self, StateDict};
use crate::model::{Encoder, Frozen, Trained};
use crate::unread::Unread;

/// `method` with `name = "barlow"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BarlowConfig {
    /// Weight of the redundancy, the correlations off the diagonal: .0051 in the paper, 1/128 in Mixed Barlow Twins on CIFAR.
    pub off_diagonal: f64,
    /// `batch_norm` or `unit_std`.
    pub standardise: Standardise,
    /// Factor on the whole loss; solo-learn has .1 on CIFAR.
    pub scale: f64,
    /// Mixed Barlow Twins: weight s of the regulariser, times `off_diagonal`. 4, and 2 on STL-10.
    pub mix_scale: f64,
    /// Keep the mixture's statistics out of the running ones.
    pub clean_stats_only: bool,
}

impl Default for BarlowConfig {
    fn default() -> Self {
        Self { off_diagonal: 0.0051, standardise: Standardise::BatchNorm, scale: 1.0, mix_scale: 4.0, clean_stats_only: false }
    }
}

impl BarlowConfig {
    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        for (key, value) in [("off_diagonal", self.off_diagonal), ("mix_scale", self.mix_scale)] {
            if !(value >= 0.0 && value.is_finite()) {
                out.push(format!("`{at}.{key}` is {value}, must not be negative"));
            }
        }
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            out.push(format!("`{at}.scale` is {}, must be above 0", self.scale));
        }
    }

    /// One line per key that is set and can change nothing `under` the rest of the config.
    pub fn unread(&self, at: &str, under: &Under, out: &mut Vec<String>) {
        let mixes = under.unmix || under.form == Form::MixedBarlow;
        let mut table = Unread::of(at, out);
        table.key("clean_stats_only", self.clean_stats_only, mixes, NO_UNMIX, "leave it out");
        let scaled = self.mix_scale != Self::default().mix_scale;
        let because = "only `mixture.name` = mixed_barlow has this regulariser";
        table.key("mix_scale", scaled, under.form == Form::MixedBarlow, because, "leave it out");
    }
}

/// One encoder.
pub struct Barlow {
    config: BarlowConfig,
    /// On the graph.
    nets: Nets,
    anchor: Anchor,
    form: Form,
}

impl Barlow {
    /// Fresh weights.
    pub fn init(config: BarlowConfig, setup: &Setup) -> Self {
        Self::new(config, setup.net(3, "query"), setup)
    }

    /// From a given encoder.
    pub fn new(config: BarlowConfig, encoder: Encoder, setup: &Setup) -> Self {
        Self { config, nets: state::with_graph(Nets::of(encoder)), anchor: setup.mixing.anchor, form: setup.mixing.form }
    }
}

const EMBEDDED: [&str; 3] = ["z1", "z2", "zm"];

impl Method for Barlow {
    fn encode(&self, shard: &Shard) -> Encoded {
        embed(&self.nets.query, batches(shard, EMBEDDED), shard.of)
    }

    fn couples_rows(&self) -> bool {
        true
    }

    fn contrast(&self, rows: &Rows, at: &At) -> Outcome {
        let BarlowConfig { off_diagonal, standardise, scale, mix_scale, .. } = self.config;
        let standard = |name: &str| standardise.apply(rows.get(name));
        let (a, b) = (standard("z1"), standard("z2"));
        let loss = |a: Tensor<2>, b: Tensor<2>| barlow(correlation(a, b), off_diagonal);
        let device = a.device().inner();
        let clean = loss(a.clone(), b.clone());
        let mut out = Outcome::of("clean", clean.clone());
        out.signals = watched(rows.get("z1"), rows.get("z2"));
        if let Some(mixture) = at.facts.mixtures.first() {
            let m = standard("zm");
            // One weight per batch: neither loss is a sum over rows that could have weights of their own.
            let lambda = f64::from(mixture.lambda[0]);
            if self.form == Form::MixedBarlow {
                let partner = at.rows_of(b.clone(), &mixture.partners);
                let target = a.clone().mul_scalar(lambda) + partner.mul_scalar(1.0 - lambda);
                out.add("mix", mixed(m, target, a, b).mul_scalar(mix_scale * off_diagonal));
            } else {
                let anchor = if self.anchor == Anchor::View1 { a } else { b };
                let back = at.mixed(0, &device).expect("there is a mixture").back;
                let own = loss(anchor.clone(), m.clone());
                let partner = loss(anchor, at.rows_of(m, &back));
                out.parts.extend([("mix", own.clone().inner()), ("mix_rev", partner.clone().inner())]);
                out.loss = out.loss + own.mul_scalar(lambda) + partner.mul_scalar(1.0 - lambda);
            }
        }
        out.loss = out.loss.mul_scalar(scale);
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
        saved::check(state, &["query"], &[])?;
        self.nets = state::load(self.nets.clone(), state)?;
        Ok(())
    }
}
