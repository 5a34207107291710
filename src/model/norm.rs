//! Batch norm with explicit running statistics, and SplitBN.
//!
//! A training forward does not touch the module: it appends the batch's statistics to [`Pass::Train`]. Whoever owns the model
//! absorbs them afterwards, once or (for the replay of a mixture's statistics) twice. Works with and without autodiff.

use burn::module::{Module, Param};
use burn::tensor::module::batch_norm;
use burn::tensor::{Device, Tensor};

use crate::kernel::KernelPath;
use crate::kernel::net::{Groups, Statistics, tensor::normalise};
use crate::kernel::update::average;

pub use crate::kernel::net::EPSILON;

/// Weight of the new statistics in the running ones, as in PyTorch.
pub const MOMENTUM: f64 = 0.1;

/// What one norm layer saw in one forward: mean and unbiased variance per channel, averaged over the SplitBN groups. Both `[c]`.
pub type BatchStats = Statistics;

impl Statistics {
    /// What the whole batch showed, from what each of its equal shards did: both are means over groups.
    pub fn mean_of(shards: &[Self]) -> Self {
        if let [only] = shards {
            return only.clone();
        }
        let mean = |of: fn(&Self) -> &Tensor<1>| {
            let sum = shards.iter().map(|stats| of(stats).clone()).reduce(|a, b| a + b).expect("a batch has a shard");
            sum.div_scalar(shards.len() as f64)
        };
        Self { mean: mean(|stats| &stats.mean), variance: mean(|stats| &stats.variance) }
    }
}

/// How a forward normalises.
#[derive(Debug)]
pub enum Pass {
    /// By the running statistics.
    Eval,
    /// By the statistics of the batch.
    Train {
        /// What the layers saw, in their order, in each of the forwards that go through the net together (see [`Encoder::embed_together`]).
        ///
        /// [`Encoder::embed_together`]: super::Encoder::embed_together
        seen: Vec<Vec<BatchStats>>,
        /// How many equal shards of a batch there are, this being one: it holds as many fewer SplitBN groups.
        shards: usize,
    },
}

impl Pass {
    /// A training pass over a whole batch that has seen nothing.
    pub fn train() -> Self {
        Self::shard(1)
    }

    /// A training pass over one of `shards` equal parts of a batch.
    pub fn shard(shards: usize) -> Self {
        Self::together(1, shards)
    }

    /// The same of `forwards` batches that go through together.
    pub fn together(forwards: usize, shards: usize) -> Self {
        Self::Train { seen: vec![Vec::new(); forwards], shards }
    }

    /// Adds what a layer saw in each forward.
    pub(super) fn tell(seen: &mut [Vec<BatchStats>], of_forwards: Vec<BatchStats>) {
        seen.iter_mut().zip(of_forwards).for_each(|(seen, stats)| seen.push(stats));
    }

    /// What the layers saw in the only forward; empty after an evaluation pass.
    pub fn into_stats(self) -> Vec<BatchStats> {
        self.into_each().into_iter().next().unwrap_or_default()
    }

    /// What the layers saw in each forward.
    pub fn into_each(self) -> Vec<Vec<BatchStats>> {
        match self {
            Self::Eval => Vec::new(),
            Self::Train { seen, .. } => seen,
        }
    }
}

/// Batch norm over the channel axis 1. With `splits` = s > 1 (SplitBN), rows i with i mod s = g form group g, and each group is
/// normalised by its own statistics: the groups stand for the devices of a larger machine.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale (gamma), `[c]`.
    pub weight: Param<Tensor<1>>,
    /// Shift (beta), `[c]`.
    pub bias: Param<Tensor<1>>,
    /// `[c]`, not trained.
    pub running_mean: Param<Tensor<1>>,
    /// `[c]`, unbiased, not trained.
    pub running_var: Param<Tensor<1>>,
    splits: usize,
}

impl BatchNorm {
    /// Scale and running variance 1, shift and running mean 0.
    pub fn new(channels: usize, splits: usize, device: &Device) -> Self {
        let fixed = |t: Tensor<1>| Param::from_tensor(t).set_require_grad(false);
        Self {
            weight: Param::from_tensor(Tensor::ones([channels], device)),
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
            running_mean: fixed(Tensor::zeros([channels], device)),
            running_var: fixed(Tensor::ones([channels], device)),
            splits,
        }
    }

    /// # Shapes
    /// - input and output `[n, c, ...]`; in training n must be a multiple of `splits`
    pub fn forward<const D: usize>(&self, x: Tensor<D>, pass: &mut Pass) -> Tensor<D> {
        match pass {
            Pass::Eval => {
                batch_norm(x, self.weight.val(), self.bias.val(), self.running_mean.val(), self.running_var.val(), EPSILON)
            }
            Pass::Train { seen, shards } => {
                let groups = Groups { forwards: seen.len(), splits: self.splits(*shards) };
                let (y, stats) = normalise(x, self.weight.val(), self.bias.val(), groups);
                Pass::tell(seen, stats);
                y
            }
        }
    }

    /// SplitBN groups of one of `shards` equal parts of a batch.
    pub fn splits(&self, shards: usize) -> usize {
        assert!(self.splits.is_multiple_of(shards), "{} SplitBN groups are not whole in {shards} shards", self.splits);
        self.splits / shards
    }

    /// Its running statistics.
    pub fn running(&mut self) -> Running<'_> {
        Running { mean: &mut self.running_mean, variance: &mut self.running_var }
    }
}

/// Batch norm over axis 1 without scale and shift: the last norm of SimSiam's head (arXiv 2011.10566, appendix A).
#[derive(Module, Debug)]
pub struct PlainNorm {
    /// `[c]`, not trained.
    pub running_mean: Param<Tensor<1>>,
    /// `[c]`, unbiased, not trained.
    pub running_var: Param<Tensor<1>>,
}

impl PlainNorm {
    /// Running variance 1 and mean 0.
    pub fn new(channels: usize, device: &Device) -> Self {
        let fixed = |t: Tensor<1>| Param::from_tensor(t).set_require_grad(false);
        Self { running_mean: fixed(Tensor::zeros([channels], device)), running_var: fixed(Tensor::ones([channels], device)) }
    }

    /// # Shapes
    /// - input and output `[n, c]`
    pub fn forward(&self, x: Tensor<2>, pass: &mut Pass) -> Tensor<2> {
        let ([_, c], device) = (x.dims(), x.device());
        let (scale, shift) = (Tensor::ones([c], &device), Tensor::zeros([c], &device));
        match pass {
            Pass::Eval => batch_norm(x, scale, shift, self.running_mean.val(), self.running_var.val(), EPSILON),
            Pass::Train { seen, shards } => {
                assert_eq!(*shards, 1, "a norm over all rows is not whole in {shards} shards");
                let (y, stats) = normalise(x, scale, shift, Groups { forwards: seen.len(), splits: 1 });
                Pass::tell(seen, stats);
                y
            }
        }
    }

    /// Its running statistics.
    pub fn running(&mut self) -> Running<'_> {
        Running { mean: &mut self.running_mean, variance: &mut self.running_var }
    }
}

/// The running statistics of a norm, to be moved.
#[derive(Debug)]
pub struct Running<'a> {
    mean: &'a mut Param<Tensor<1>>,
    variance: &'a mut Param<Tensor<1>>,
}

impl Running<'_> {
    /// They are taken out until [`Running::keep`] puts the next ones in.
    fn take(&mut self, small: &Tensor<1>) -> [Tensor<1>; 2] {
        [&mut *self.mean, &mut *self.variance]
            .map(|running| std::mem::replace(running, Param::from_tensor(small.clone())).consume().1.inner())
    }

    fn keep(&mut self, [mean, variance]: [Tensor<1>; 2]) {
        let fixed = |t: Tensor<1>| Param::from_tensor(t).set_require_grad(false);
        (*self.mean, *self.variance) = (fixed(mean), fixed(variance));
    }
}

/// Moves the running statistics of norms by one PyTorch update each: `running <- 0.9 running + 0.1 batch`.
pub fn absorb(norms: Vec<Running>, stats: &[BatchStats], update: KernelPath) {
    assert_eq!(norms.len(), stats.len(), "the statistics come from another net");
    let Some(small) = stats.first().map(|first| Tensor::zeros([1], &first.mean.device())) else { return };
    let mut norms = norms;
    let pairs = norms.iter_mut().zip(stats).flat_map(|(norm, Statistics { mean, variance })| {
        let [running_mean, running_var] = norm.take(&small);
        [(running_mean, mean.clone()), (running_var, variance.clone())]
    });
    let mut next = average(pairs.collect(), 1.0 - MOMENTUM, update).into_iter();
    for mut norm in norms {
        let (mean, variance) = next.next().zip(next.next()).expect("two statistics per norm");
        norm.keep([mean, variance]);
    }
}
