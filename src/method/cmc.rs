//! CMC: contrastive multiview coding of colour views (Tian et al., arXiv 1906.05849; `train_CMC.py` of the first program of arXiv 2003.05438).
//!
//! The first channel of the colour space and the other two go through nets of their own; each net's features are scored against the
//! other's bank.

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};

use super::contrast::{Contrast, Drawn, Term, mixture_queries};
use super::insdis::BankConfig;
use super::{Draws, Inputs, Method, MixedInput, Outcome, Setup, saved};
use crate::error::Result;
use crate::kernel::KernelPath;
use crate::memory::Bank;
use crate::model::state::{self, StateDict};
use crate::model::{BatchStats, Encoder, Frozen};
use crate::optim::Sgd;

/// The two nets; in a state dict their names begin with `l.` and `ab.`.
#[derive(Module, Debug)]
pub struct Pair {
    /// Of the first channel.
    pub l: Encoder,
    /// Of the other two.
    pub ab: Encoder,
}

impl Pair {
    /// Embeddings `[n, d]` of both halves of `[n, 3, h, w]`, and what the norms saw.
    fn embed_train(&self, images: Tensor<4>) -> ([Tensor<2>; 2], [Vec<BatchStats>; 2]) {
        let (l, seen_l) = self.l.embed_train(images.clone().narrow(1, 0, 1));
        let (ab, seen_ab) = self.ab.embed_train(images.narrow(1, 1, 2));
        ([l, ab], [seen_l, seen_ab])
    }

    fn absorb(&mut self, [l, ab]: &[Vec<BatchStats>; 2]) {
        self.l.absorb(l);
        self.ab.absorb(ab);
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
    seen: Option<Seen>,
}

struct Seen {
    stats: Vec<[Vec<BatchStats>; 2]>,
    images: Vec<u32>,
    features: [Tensor<2>; 2],
    z: [Option<Tensor<1>>; 2],
}

impl Cmc {
    /// Fresh weights and banks.
    pub fn init(config: BankConfig, setup: &Setup) -> Self {
        let net = |channels, role| setup.model.init(channels, setup.seed, role, setup.device);
        let bank = |name| Bank::init(setup.images, setup.model.head.dim, setup.seed, name, setup.device);
        let nets = Pair { l: net(1, "l"), ab: net(2, "ab") };
        Self::new(config, nets, [bank("bank_l"), bank("bank_ab")], setup.scores)
    }

    /// From given nets and banks; `scores` is the kernel path that compares the two.
    pub fn new(config: BankConfig, nets: Pair, banks: [Bank; 2], scores: KernelPath) -> Self {
        let contrast = config.contrast(banks[0].rows().dims()[0], scores);
        Self { config, contrast, nets: state::with_graph(nets), banks, z: [None, None], seen: None }
    }

    /// The banks of `l` and `ab` as they are now.
    pub fn banks(&self) -> &[Bank; 2] {
        &self.banks
    }

    /// Each half against the bank of the other half.
    fn terms(
        &self,
        [l, ab]: [Tensor<2>; 2],
        drawn: &Drawn,
        z: [Option<&Tensor<1>>; 2],
        weights: [Option<Tensor<1>>; 2],
    ) -> [Term; 2] {
        let ([z_l, z_ab], [weight_l, weight_ab]) = (z, weights);
        [
            self.contrast.term(l, self.banks[1].rows(), drawn, z_l, weight_l),
            self.contrast.term(ab, self.banks[0].rows(), drawn, z_ab, weight_ab),
        ]
    }

    /// The terms of an Un-Mix mixture, a sum `[1]`, with the plain values of own and partner.
    fn mixture(&self, mixed: &MixedInput, queries: [Tensor<2>; 2], drawn: &Drawn, z: [Option<&Tensor<1>>; 2]) -> [Term; 4] {
        let [l, ab] = queries.map(|queries| mixture_queries(mixed, queries));
        let ([own_l, partner_l], [own_ab, partner_ab]) = (l, ab);
        let [a, b] = self.terms([own_l.0, own_ab.0], drawn, z, [Some(own_l.1), Some(own_ab.1)]);
        let [c, d] = self.terms([partner_l.0, partner_ab.0], drawn, z, [Some(partner_l.1), Some(partner_ab.1)]);
        [a, b, c, d]
    }

    fn contrast_with(&mut self, inputs: Inputs, drawn: &Drawn) -> Outcome {
        let Inputs { views, mixed, images, .. } = inputs;
        let [x]: [Tensor<4>; 1] = views.try_into().expect("CMC takes one view, which it splits");
        let (features, stats) = self.nets.embed_train(x);
        let mut stats = vec![stats];
        let [l, ab] = self.terms(features.clone(), drawn, self.z.each_ref().map(Option::as_ref), [None, None]);
        let mut loss = l.loss.clone() + ab.loss.clone();
        let mut parts = vec![("l", l.plain.clone()), ("ab", ab.plain.clone())];
        let mut embeddings = Vec::new();
        // The terms of one step share the constants.
        let z = [l.z.clone(), ab.z.clone()];
        if let Some(mixed) = mixed {
            let (queries, seen) = self.nets.embed_train(mixed.images.clone());
            embeddings.extend(["qm_l", "qm_ab"].into_iter().zip(queries.each_ref().map(|rows| rows.clone().inner())));
            stats.extend((!self.config.clean_stats_only).then_some(seen));
            let used = z.each_ref().map(|z| z.as_ref().map(|(used, _)| used));
            let names = ["mix_l", "mix_ab", "mix_rev_l", "mix_rev_ab"];
            for (name, term) in names.into_iter().zip(self.mixture(&mixed, queries, drawn, used)) {
                loss = loss + term.loss;
                parts.push((name, term.plain));
            }
        }
        let z = z.map(|z| z.map(|(_, next)| next));
        let features = features.map(Tensor::inner);
        embeddings.extend([("q_l", features[0].clone()), ("q_ab", features[1].clone())]);
        self.seen = Some(Seen { stats, images, features, z });
        Outcome { loss, parts, positive: (l.positive + ab.positive).div_scalar(2.0), embeddings }
    }
}

impl Method for Cmc {
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
        self.nets = optimizer.step(self.nets.clone(), gradients, lr);
    }

    fn after_update(&mut self) {
        let seen = self.seen.take().expect("a step comes before its update");
        seen.stats.iter().for_each(|stats| self.nets.absorb(stats));
        for (bank, features) in self.banks.iter_mut().zip(seen.features) {
            bank.update(&seen.images, features, self.config.bank_momentum);
        }
        self.z = seen.z;
    }

    fn encoder(&self) -> Frozen {
        let Pair { l, ab } = state::without_graph(self.nets.clone());
        Frozen { parts: vec![("l", 0..1, l), ("ab", 1..3, ab)] }
    }

    fn state(&self) -> StateDict {
        let mut all = state::collect(&self.nets);
        for (name, bank) in ["bank_l", "bank_ab"].into_iter().zip(&self.banks) {
            all.insert(name.into(), bank.rows().into_data());
        }
        saved::put(&mut all, "nce_z_l", self.z[0].as_ref());
        saved::put(&mut all, "nce_z_ab", self.z[1].as_ref());
        all
    }

    fn restore(&mut self, state: &StateDict) -> Result<()> {
        let device = self.banks[0].rows().device();
        let want = self.banks[0].rows().dims();
        let banks = [saved::rows(state, "bank_l", &want)?, saved::rows(state, "bank_ab", &want)?];
        let nets = state.iter().filter(|(name, _)| name.starts_with("l.") || name.starts_with("ab."));
        self.nets = state::load(self.nets.clone(), &nets.map(|(name, data)| (name.clone(), data.clone())).collect())?;
        self.banks = banks.map(|rows| Bank::restore(Tensor::from_data(rows, &device)));
        self.z = [saved::get(state, "nce_z_l", &device), saved::get(state, "nce_z_ab", &device)];
        self.seen = None;
        Ok(())
    }
}
