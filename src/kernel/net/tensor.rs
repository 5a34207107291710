//! Blocks by Burn's operations one after the other, on every backend, differentiated by Burn.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{batch_norm, batch_norm_train, conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};

use super::{Block, Convolution, EPSILON, Groups, Shortcut, Statistics, Unit, Window};
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};

/// See [`super::block`].
pub fn block(x: Tensor<4>, units: Vec<Unit>, block: &Block, groups: Groups) -> (Tensor<4>, Vec<Vec<Statistics>>) {
    let mut seen = Vec::new();
    let y = composed(x, units, block, |x, unit| {
        let (y, statistics) = normalise(x, unit.gamma, unit.beta, groups);
        seen.push(statistics);
        y
    });
    (y, seen)
}

/// See [`super::block_in_evaluation`].
pub fn block_in_evaluation(x: Tensor<4>, units: Vec<(Unit, Statistics)>, block: &Block) -> Tensor<4> {
    let (units, kept): (Vec<_>, Vec<_>) = units.into_iter().unzip();
    let mut kept = kept.into_iter();
    composed(x, units, block, |x, unit| {
        let Statistics { mean, variance } = kept.next().expect("every unit has statistics");
        batch_norm(x, unit.gamma, unit.beta, mean, variance, EPSILON)
    })
}

fn composed(x: Tensor<4>, units: Vec<Unit>, block: &Block, mut norm: impl FnMut(Tensor<4>, Unit) -> Tensor<4>) -> Tensor<4> {
    ran(Op::Net, KernelPath::Tensor);
    let mut units = units.into_iter();
    let mut step = |x: Tensor<4>, Convolution { stride, padding }: Convolution| {
        let unit = units.next().expect("the caller counted them");
        let options = ConvOptions::new([stride; 2], [padding; 2], [1, 1], 1);
        norm(conv2d(x, unit.weight.clone(), None, options), unit)
    };
    let mut y = x.clone();
    for (at, convolution) in block.path.iter().enumerate() {
        y = step(if at > 0 { relu(y) } else { y }, *convolution);
    }
    match block.shortcut {
        Shortcut::None => relu(y),
        Shortcut::Identity => relu(y + x),
        Shortcut::Convolution(convolution) => relu(y + step(x, convolution)),
    }
}

/// Batch norm over the channel axis 1 by the statistics of the batch, each of its groups by its own; what each forward showed comes with it.
///
/// # Shapes
/// - `x` and output `[n, c, ...]`, n a multiple of all groups; `gamma` and `beta` `[c]`
pub fn normalise<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, beta: Tensor<1>, groups: Groups) -> (Tensor<D>, Vec<Statistics>) {
    let dims = x.dims();
    let ([n, c], all, Groups { forwards, splits }) = ([dims[0], dims[1]], groups.all(), groups);
    assert!(n.is_multiple_of(all), "SplitBN: a batch of {n} cannot be split into {all} groups");
    // [n, c, ...] -> [n/s, s c, ...]: row i = j s + g becomes row j, channels g c .. (g + 1) c. A view, no copy.
    let mut grouped = dims;
    (grouped[0], grouped[1]) = (n / all, all * c);
    let out = batch_norm_train(x.reshape(grouped), gamma.repeat(&[all]), beta.repeat(&[all]), EPSILON);

    let count = (dims.iter().product::<usize>() / (all * c)) as f64;
    // A single value has no unbiased variance; PyTorch refuses it, we keep the biased one (0), as nothing better exists.
    let unbiased = if count > 1.0 { count / (count - 1.0) } else { 1.0 };
    let over_groups = |t: Tensor<1>| t.inner().reshape([forwards, splits, c]).mean_dim(1).reshape([forwards, c]);
    let (mean, variance) = (over_groups(out.mean), over_groups(out.variance).mul_scalar(unbiased));
    let of = |forward: usize| Statistics {
        mean: mean.clone().narrow(0, forward, 1).reshape([c]),
        variance: variance.clone().narrow(0, forward, 1).reshape([c]),
    };
    (out.output.reshape(dims), (0..forwards).map(of).collect())
}

/// See [`super::max_pool`].
pub fn max_pool(x: Tensor<4>, Window { side, stride, padding }: Window) -> Tensor<4> {
    ran(Op::Net, KernelPath::Tensor);
    max_pool2d(x, MaxPoolOptions::new([side; 2]).with_stride([stride; 2]).with_padding([padding; 2]))
}
