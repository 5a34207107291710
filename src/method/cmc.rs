//! CMC: contrastive multiview coding of colour views (Tian et al., arXiv 1906.05849; `train_CMC.py` of the first program of arXiv 2003.05438).
//!
//! The first channel of the colour space and the other two go through nets of their own; each net's features are scored against the
//! other's bank.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::Tensor;

use super::contrast::{Contrast, Drawn};
use super::insdis::BankConfig;
use super::{At, Done, Draws, Encoded, Method, Outcome, Position, Rows, Setup, Shard, positive, saved};
use crate::error::Result;
use crate::kernel::KernelPath;
use crate::loss::unmix::mixture_terms;
use crate::memory::Bank;
use crate::model::state::{self, StateDict};
use crate::model::{Encoder, Frozen, Trained};

/// The two nets; in a state dict their names begin with `l.` and `ab.`.
#[derive(Module, Debug)]
pub struct Pair {
    /// Of the first channel.
    pub l: Encoder,
    /// Of the other two.
    pub ab: Encoder,
}

/// One of the two halves of an image.
struct Half {
    /// Its channels.
    channels: Range<usize>,
    /// Whose bank its features meet.
    other: usize,
    /// The names of the rows of a view, and of those of a mixture.
    rows: [&'static str; 2],
    /// The names of the parts of its loss that its mixtures add.
    mixture: [&'static str; 2],
    /// The name of its constant of NCE.
    z: &'static str,
}

const HALVES: [Half; 2] = [
    Half { channels: 0..1, other: 1, rows: ["q_l", "qm_l"], mixture: ["mix_l", "mix_rev_l"], z: "nce_z_l" },
    Half { channels: 1..3, other: 0, rows: ["q_ab", "qm_ab"], mixture: ["mix_ab", "mix_rev_ab"], z: "nce_z_ab" },
];

impl Pair {
    fn nets(&self) -> [&Encoder; 2] {
        [&self.l, &self.ab]
    }

    fn nets_mut(&mut self) -> [&mut Encoder; 2] {
        [&mut self.l, &mut self.ab]
    }
}

/// Two encoders, two banks.
pub struct Cmc {
    config: BankConfig,
    contrast: Contrast,
    /// On the graph.
    nets: Pair,
    /// Of the features of `l` and of `ab`.
    banks: [Bank; 2],
    /// Constants of NCE: of the scores of `l`, of those of `ab`.
    z: [Option<Tensor<1>>; 2],
}

impl Cmc {
    /// Fresh weights and banks.
    pub fn init(config: BankConfig, setup: &Setup) -> Self {
        let bank = |name| Bank::init(setup.images, setup.model.head.dim, setup.seed, name, setup.device);
        let nets = Pair { l: setup.net(1, "l"), ab: setup.net(2, "ab") };
        Self::new(config, nets, [bank("bank_l"), bank("bank_ab")], setup.scores)
    }

    /// From given nets and banks; `scores` is the kernel path that compares the two.
    pub fn new(config: BankConfig, nets: Pair, banks: [Bank; 2], scores: KernelPath) -> Self {
        let contrast = config.contrast(banks[0].rows().dims()[0], scores);
        Self { config, contrast, nets: state::with_graph(nets), banks, z: [None, None] }
    }

    /// The banks of `l` and `ab` as they are now.
    pub fn banks(&self) -> &[Bank; 2] {
        &self.banks
    }
}

impl Method for Cmc {
    fn draw(&self, images: &[u32], position: Position) -> Draws {
        Draws { negatives: self.contrast.draw(images, position), ..Draws::default() }
    }

    fn encode(&self, shard: &Shard) -> Encoded {
        let mut out = Encoded::default();
        for (net, half) in self.nets.nets().into_iter().zip(HALVES) {
            let own = |images: &Tensor<4>| images.clone().narrow(1, half.channels.start, half.channels.len());
            let batches = [Some(&shard.views[0]), shard.mixed.first()].into_iter().flatten();
            out.forward(net, half.rows.into_iter().zip(batches.map(own)).collect(), shard.of);
        }
        out
    }

    fn couples_rows(&self) -> bool {
        self.contrast.measures_z(&self.z[0])
    }

    /// Each half against the bank of the other half. One draw of negatives serves both, and the terms of a half share its constant of NCE.
    fn contrast(&self, rows: &Rows, at: &At) -> Outcome {
        let device = self.banks[0].rows().device();
        let drawn = self.contrast.drawn(&at.own(), at.facts, &device);
        let logits = |half: &Half, batch: usize, drawn: &Drawn| {
            self.contrast.logits(rows.get(half.rows[batch]), self.banks[half.other].rows(), drawn)
        };
        let clean = HALVES.each_ref().map(|half| logits(half, 0, &drawn));
        let criteria = [0, 1].map(|i| self.contrast.criterion(&self.z[i], &clean[i]));
        let losses = [0, 1].map(|i| criteria[i].per_query(clean[i].clone()));
        let mut out = Outcome::of("l", losses[0].clone().mean());
        out.add("ab", losses[1].clone().mean());
        let [l, ab] = [0, 1].map(|i| criteria[i].positive(clean[i].clone(), &losses[i]));
        let both = (l.clone() + ab.clone()).div_scalar(2.0);
        out.signals.extend([(positive(self.config.loss), both), ("positive_l", l), ("positive_ab", ab)]);
        out.constants.extend(HALVES.iter().zip(&criteria).filter_map(|(half, criterion)| Some((half.z, criterion.z()?.clone()))));
        if let Some((lambda, partners)) = at.mixture(&device) {
            let of_partners = self.contrast.drawn(&partners, at.facts, &device);
            for (half, criterion) in HALVES.iter().zip(&criteria) {
                let [own, partner] = [&drawn, &of_partners].map(|drawn| criterion.per_query(logits(half, 1, drawn)));
                out.add_mixture(half.mixture, mixture_terms(own, partner, lambda.clone()));
            }
        }
        out
    }

    fn trained(&mut self) -> &mut dyn Trained {
        &mut self.nets
    }

    fn follow(&mut self, done: &Done) {
        let halves = self.nets.nets_mut().into_iter().zip(&mut self.banks).zip(&mut self.z).zip(HALVES);
        for (((net, bank), z), half) in halves {
            let moving = if self.config.clean_stats_only { &half.rows[..1] } else { &half.rows };
            moving.iter().filter_map(|name| done.seen(name)).for_each(|stats| net.absorb(stats, done.update));
            bank.update(&done.facts.images, done.rows.get(half.rows[0]), self.config.bank_momentum);
            *z = done.constant(half.z);
        }
    }

    fn encoder(&self) -> Frozen {
        let Pair { l, ab } = state::without_graph(self.nets.clone());
        Frozen { parts: vec![("l", 0..1, l), ("ab", 1..3, ab)] }
    }

    fn state(&self) -> StateDict {
        let mut all = state::collect(&self.nets);
        for (name, bank) in ["bank_l", "bank_ab"].into_iter().zip(&self.banks) {
            all.insert(name.into(), state::now(bank.rows()));
        }
        saved::put(&mut all, "nce_z_l", self.z[0].as_ref());
        saved::put(&mut all, "nce_z_ab", self.z[1].as_ref());
        all
    }

    fn restore(&mut self, state: &StateDict) -> Result<()> {
        saved::check(state, &["l", "ab"], &["bank_l", "bank_ab", "nce_z_l", "nce_z_ab"])?;
        let device = self.banks[0].rows().device();
        let want = self.banks[0].rows().dims();
        let bank = |name| saved::tensor(state, name, &want).map(|rows| Bank::restore(Tensor::from_data(rows.clone(), &device)));
        let banks = [bank("bank_l")?, bank("bank_ab")?];
        let z = [saved::constant(state, "nce_z_l", &device)?, saved::constant(state, "nce_z_ab", &device)?];
        let nets = state.iter().filter(|(name, _)| name.starts_with("l.") || name.starts_with("ab."));
        self.nets = state::load(self.nets.clone(), &nets.map(|(name, data)| (name.clone(), data.clone())).collect())?;
        (self.banks, self.z) = (banks, z);
        Ok(())
    }
}
