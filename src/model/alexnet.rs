//! AlexNet at half width, one for each colour view of CMC (arXiv 1906.05849, its appendix; both v1 trainers use it).

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::block::{self, Beside};
use super::layer::Layers;
use super::layers::{Conv, Linear};
use super::norm::{BatchNorm, Pass};
use super::pooling::{self, Pool};
use crate::kernel::net::{Ways, Window, max_pool};

/// Channels out, kernel, stride, padding, and whether a 3x3 stride 2 max pool follows.
pub(super) const CONVS: [(usize, usize, usize, usize, bool); 5] =
    [(48, 11, 4, 2, true), (128, 5, 1, 2, true), (192, 3, 1, 1, false), (192, 3, 1, 1, false), (128, 3, 1, 1, true)];
/// Width of the two hidden layers, and of the features.
pub const HIDDEN: usize = 2048;
/// Side of the last map, the only one that the hidden layers accept: that of inputs of about 224x224.
const LAST_MAP: usize = 6;

/// Width of the last map as a row.
pub(super) const fn flat() -> usize {
    CONVS[CONVS.len() - 1].0 * LAST_MAP * LAST_MAP
}

/// Sides to which CMC's probes take the largest values of the first maps; the fifth stays as it is.
const PROBED: [usize; 4] = [10, 6, 5, 5];

/// Everything that determines the shape of an [`AlexNetHalf`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlexNetConfig {
    /// Channels of the input image: 1 for L, 2 for ab.
    pub input_channels: usize,
    /// SplitBN groups of every norm; 1 is plain batch norm.
    pub bn_splits: usize,
}

impl AlexNetConfig {
    /// A net with zero weights (see [`super::init`]).
    pub fn init(&self, device: &Device) -> AlexNetHalf {
        AlexNetHalf::new(self.input_channels, self.bn_splits, device)
    }
}

/// The backbone: five convolutions and two linear layers, norm and ReLU after each.
#[derive(Module, Debug)]
pub struct AlexNetHalf {
    convs: Vec<(Conv, BatchNorm)>,
    hidden: Vec<(Linear, BatchNorm)>,
    /// How its blocks are computed.
    #[module(skip)]
    pub ways: Ways,
}

impl AlexNetHalf {
    /// Zero weights (see [`super::init`]); `input_channels` is 1 for L, 2 for ab.
    pub fn new(input_channels: usize, splits: usize, device: &Device) -> Self {
        let mut input = input_channels;
        let convs = CONVS
            .iter()
            .map(|&(output, kernel, stride, padding, _)| {
                let conv = Conv::new([input, output], kernel, stride, padding, device);
                input = output;
                (conv, BatchNorm::new(output, splits, device))
            })
            .collect();
        let hidden =
            [flat(), HIDDEN].map(|width| (Linear::new(width, HIDDEN, true, device), BatchNorm::new(HIDDEN, splits, device))).into();
        Self { convs, hidden, ways: Ways::on(device) }
    }

    /// 1-5 the convolutions, 6 the first hidden layer, 7 the features, which are the second, 8 the embedding.
    pub fn layers() -> Layers {
        let pooled = PROBED.map(|side| Some(Pool { side, window: pooling::Window::Max }));
        Layers::new(pooled.into_iter().chain([None]), 2)
    }

    /// True for the side lengths of inputs that the hidden layers accept.
    pub fn accepts(side: usize) -> bool {
        let after = |side: usize, kernel: usize, stride: usize, padding: usize| {
            (side + 2 * padding).checked_sub(kernel).map(|room| room / stride + 1)
        };
        let last = CONVS.iter().try_fold(side, |side, &(_, kernel, stride, padding, pool)| {
            let side = after(side, kernel, stride, padding)?;
            if pool { after(side, 3, 2, 0) } else { Some(side) }
        });
        last == Some(LAST_MAP)
    }

    /// Layers 1-5 (convolution blocks, `[n, c, h, w]`) and 6-7 (hidden, `[n, 2048]`).
    ///
    /// # Shapes
    /// - input `[n, c, 224, 224]`, or another side that [`AlexNetHalf::accepts`]
    pub fn forward(&self, mut x: Tensor<4>, pass: &mut Pass) -> (Vec<Tensor<4>>, Vec<Tensor<2>>) {
        let mut maps = Vec::new();
        for ((conv, bn), (.., pool)) in self.convs.iter().zip(CONVS) {
            x = block::forward(x, &[(conv, bn)], Beside::Nothing, pass, self.ways);
            if pool {
                x = max_pool(x, Window { side: 3, stride: 2, padding: 0 }, self.ways);
            }
            maps.push(x.clone());
        }
        let mut row: Tensor<2> = x.flatten(1, 3);
        let mut hidden = Vec::new();
        for (linear, bn) in &self.hidden {
            row = relu(bn.forward(linear.forward(row), pass));
            hidden.push(row.clone());
        }
        (maps, hidden)
    }

    /// SplitBN groups of one of `shards` equal parts of a batch.
    pub fn splits(&self, shards: usize) -> usize {
        self.convs[0].1.splits(shards)
    }

    /// All norms in the order in which a forward meets them.
    pub fn norms(&mut self) -> Vec<&mut BatchNorm> {
        let Self { convs, hidden, .. } = self;
        convs.iter_mut().map(|(_, bn)| bn).chain(hidden.iter_mut().map(|(_, bn)| bn)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::AlexNetHalf;

    #[test]
    fn only_sides_with_the_right_last_map_are_accepted() {
        assert!(AlexNetHalf::accepts(224) && AlexNetHalf::accepts(227));
        assert!(![1, 10, 32, 96, 192, 256].into_iter().any(AlexNetHalf::accepts));
    }
}
