//! SimCLR: every view against all others of the batch (arXiv 2002.05709), as htdt's self-supervised computes it, on which the SimCLR of Un-Mix
//! rests; with the decoupled losses of arXiv 2110.06848.

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pair::{Nets, batches, watched};
use super::{At, Done, Encoded, Forward, Method, NO_UNMIX, Outcome, POSITIVE, Rows, Setup, Shard, Under, saved};
use crate::error::Result;
use crate::loss::PairLoss;
use crate::loss::nt_xent::{Compared, Mates};
use crate::loss::unmix::MixtureTerms;
use crate::mixture::config::Anchor;
use crate::model::state::{self, StateDict};
use crate::model::{BatchStats, Encoder, Frozen, Trained};
use crate::unread::Unread;

/// `method` with `name = "simclr"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SimclrConfig {
    /// Temperature of the scores.
    pub temperature: f64,
    /// `nt_xent`, `dcl` or `dclw`.
    pub loss: PairLoss,
    /// Un-Mix: keep the mixture's statistics out of the running ones.
    pub clean_stats_only: bool,
}

impl Default for SimclrConfig {
    fn default() -> Self {
        Self { temperature: 0.5, loss: PairLoss::NtXent, clean_stats_only: false }
    }
}

impl SimclrConfig {
    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            out.push(format!("`{at}.temperature` is {}, must be above 0", self.temperature));
        }
    }

    /// One line per key that is set and can change nothing `under` the rest of the config.
    pub fn unread(&self, at: &str, under: &Under, out: &mut Vec<String>) {
        Unread::of(at, out).key("clean_stats_only", self.clean_stats_only, under.unmix, NO_UNMIX, "leave it out");
    }
}

/// One encoder.
pub struct Simclr {
    config: SimclrConfig,
    anchor: Anchor,
    /// On the graph.
    nets: Nets,
}

impl Simclr {
    /// Fresh weights.
    pub fn init(config: SimclrConfig, setup: &Setup) -> Self {
        Self::new(config, setup.net(3, "query"), setup.mixing.anchor)
    }

    /// From a given encoder; `anchor` is the view that mixtures are compared with.
    pub fn new(config: SimclrConfig, encoder: Encoder, anchor: Anchor) -> Self {
        Self { config, anchor, nets: state::with_graph(Nets::of(encoder)) }
    }
}

/// The rows of a pair: those of its views, and the name of the head's forward over both.
struct Pair {
    rows: [&'static str; 2],
    head: &'static str,
}

/// The clean views, and the anchor with the mixture.
const PAIRS: [Pair; 2] = [Pair { rows: ["z1", "z2"], head: "head" }, Pair { rows: ["za", "zm"], head: "head_m" }];
/// The forwards of the backbone.
const IMAGES: [&str; 3] = ["x1", "x2", "xm"];

impl Method for Simclr {
    /// The encoder sees each batch of images once; the head sees a pair at once, so that its norms take their statistics from both.
    fn encode(&self, shard: &Shard) -> Encoded {
        let query = &self.nets.query;
        let (names, images): (Vec<_>, Vec<_>) = batches(shard, IMAGES).into_iter().unzip();
        let (features, stats): (Vec<Tensor<2>>, Vec<Vec<BatchStats>>) =
            query.features_together(images, shard.of).into_iter().unzip();
        let mut out = Encoded::default();
        out.seen.extend(names.into_iter().zip(stats).map(|(name, stats)| Forward { name, stats }));
        let anchor = usize::from(self.anchor == Anchor::View2);
        let pairs = [Some([0, 1]), features.get(2).map(|_| [anchor, 2])];
        for (Pair { rows, head }, of) in PAIRS.into_iter().zip(pairs.into_iter().flatten()) {
            let [n, _] = features[of[0]].dims();
            let (both, stats) = query.project(Tensor::cat(of.map(|at| features[at].clone()).to_vec(), 0));
            let [_, d] = both.dims();
            out.rows
                .0
                .extend(rows.into_iter().enumerate().map(|(at, name)| (name, both.clone().slice([at * n..(at + 1) * n, 0..d]))));
            out.seen.push(Forward { name: head, stats });
        }
        out
    }

    fn couples_rows(&self) -> bool {
        true
    }

    fn contrast(&self, rows: &Rows, at: &At) -> Outcome {
        let n = at.facts.images.len();
        let (own, [z1, z2]) = (Mates::same(n), [rows.get("z1"), rows.get("z2")]);
        let device = z1.device().inner();
        let losses = Compared::new(z1.clone(), z2.clone(), self.config.temperature).losses(&own, self.config.loss);
        let mut out = Outcome::of("clean", losses.clone().mean());
        if self.config.loss == PairLoss::NtXent {
            out.signals.push((POSITIVE, losses.inner().neg().exp().mean()));
        }
        out.signals.extend(watched(z1, z2));
        if let Some(mixture) = at.facts.mixtures.first() {
            // The terms of the mixture and of its reversal compare the same rows, which belong together in another way.
            let compared = Compared::new(rows.get("za"), rows.get("zm"), self.config.temperature);
            let partner = Mates::new(&mixture.partners);
            let rest: Vec<f32> = mixture.lambda.iter().map(|lambda| 1.0 - lambda).collect();
            let weights = [own.weights(&mixture.lambda, &device), partner.weights(&rest, &device)];
            let [own, partner] = [own, partner].map(|mates| compared.losses(&mates, self.config.loss));
            let [of_own, of_partner] = weights;
            out.add_mixture(["mix", "mix_rev"], MixtureTerms::weighted(own, of_own, partner, of_partner));
        }
        out
    }

    fn trained(&mut self) -> &mut dyn Trained {
        &mut self.nets
    }

    fn follow(&mut self, done: &Done) {
        let images: &[&str] = if self.config.clean_stats_only { &IMAGES[..2] } else { &IMAGES };
        let heads: &[Pair] = if self.config.clean_stats_only { &PAIRS[..1] } else { &PAIRS };
        let query = &mut self.nets.query;
        images.iter().filter_map(|name| done.seen(name)).for_each(|stats| query.absorb_features(stats, done.update));
        heads.iter().filter_map(|pair| done.seen(pair.head)).for_each(|stats| query.absorb_head(stats, done.update));
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
