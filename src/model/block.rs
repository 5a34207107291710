//! Convolutions with their norms as blocks of the device operation [`kernel::net`](crate::kernel::net).

use burn::tensor::Tensor;

use super::layers::Conv;
use super::norm::{BatchNorm, Pass};
use crate::kernel::net::{self, Block, Groups, Shortcut, Statistics, Unit, Ways};

/// A convolution and the norm behind it.
pub type ConvNorm<'a> = (&'a Conv, &'a BatchNorm);

/// What joins the path before its last ReLU.
#[derive(Debug, Clone, Copy)]
pub enum Beside<'a> {
    /// Nothing.
    Nothing,
    /// The input.
    Input,
    /// The input through a convolution and its norm.
    Convolution(ConvNorm<'a>),
}

/// `relu(path(x) + beside(x))`, with a ReLU behind every norm of the path. In training the norms' statistics go to `pass`, those of the path
/// first.
///
/// # Shapes
/// - `x` `[n, c, h, w]`, output `[n, c', h', w']`
pub fn forward(x: Tensor<4>, path: &[ConvNorm], beside: Beside, pass: &mut Pass, ways: Ways) -> Tensor<4> {
    let shortcut = match beside {
        Beside::Nothing => Shortcut::None,
        Beside::Input => Shortcut::Identity,
        Beside::Convolution((conv, _)) => Shortcut::Convolution(conv.moves()),
    };
    let block = Block { path: path.iter().map(|(conv, _)| conv.moves()).collect(), shortcut };
    let all = path.iter().copied().chain(if let Beside::Convolution(unit) = beside { Some(unit) } else { None });
    let unit = |(conv, norm): ConvNorm| Unit { weight: conv.weight.val(), gamma: norm.weight.val(), beta: norm.bias.val() };
    match pass {
        Pass::Eval => {
            let kept = |norm: &BatchNorm| Statistics { mean: norm.running_mean.val(), variance: norm.running_var.val() };
            net::block_in_evaluation(x, all.map(|(conv, norm)| (unit((conv, norm)), kept(norm))).collect(), &block, ways)
        }
        Pass::Train { seen, shards } => {
            let groups = Groups { forwards: seen.len(), splits: path[0].1.splits(*shards) };
            let (y, stats) = net::block(x, all.map(unit).collect(), &block, groups, ways);
            stats.into_iter().for_each(|of_forwards| Pass::tell(seen, of_forwards));
            y
        }
    }
}
