//! AlexNet at half width, one for each colour view of CMC (arXiv 1906.05849, its appendix; both v1 trainers use it).

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};

use super::layers::{Conv, Linear};
use super::norm::{BatchNorm, Pass};
use crate::loss::unit_rows;

/// Channels out, kernel, stride, padding, and whether a 3x3 stride 2 max pool follows.
const CONVS: [(usize, usize, usize, usize, bool); 5] =
    [(48, 11, 4, 2, true), (128, 5, 1, 2, true), (192, 3, 1, 1, false), (192, 3, 1, 1, false), (128, 3, 1, 1, true)];
const HIDDEN: usize = 2048;
/// Side of the last map for inputs of 224x224, the only size the fully connected layers accept.
const LAST_MAP: usize = 6;

/// Five convolutions and three linear layers; norm and ReLU after each but the last. Input 224x224.
#[derive(Module, Debug)]
pub struct AlexNetHalf {
    convs: Vec<(Conv, BatchNorm)>,
    hidden: Vec<(Linear, BatchNorm)>,
    fc: Linear,
}

impl AlexNetHalf {
    /// Zero weights (see [`super::init`]); `input_channels` is 1 for L, 2 for ab.
    pub fn new(input_channels: usize, dim: usize, splits: usize, device: &Device) -> Self {
        let mut input = input_channels;
        let convs = CONVS
            .iter()
            .map(|&(output, kernel, stride, padding, _)| {
                let conv = Conv::new([input, output], kernel, stride, padding, device);
                input = output;
                (conv, BatchNorm::new(output, splits, device))
            })
            .collect();
        let hidden = [input * LAST_MAP * LAST_MAP, HIDDEN]
            .map(|width| (Linear::new(width, HIDDEN, true, device), BatchNorm::new(HIDDEN, splits, device)))
            .into();
        Self { convs, hidden, fc: Linear::new(HIDDEN, dim, true, device) }
    }

    /// Layers 1-5 (convolution blocks, `[n, c, h, w]`), 6-7 (hidden, `[n, 2048]`) and 8 (unit rows, `[n, d]`).
    ///
    /// # Shapes
    /// - input `[n, c, 224, 224]`
    pub fn taps(&self, mut x: Tensor<4>, pass: &mut Pass) -> (Vec<Tensor<4>>, Vec<Tensor<2>>, Tensor<2>) {
        let mut maps = Vec::new();
        for ((conv, bn), (.., pool)) in self.convs.iter().zip(CONVS) {
            x = relu(bn.forward(conv.forward(x), pass));
            if pool {
                x = max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]));
            }
            maps.push(x.clone());
        }
        let mut row: Tensor<2> = x.flatten(1, 3);
        let mut hidden = Vec::new();
        for (linear, bn) in &self.hidden {
            row = relu(bn.forward(linear.forward(row), pass));
            hidden.push(row.clone());
        }
        (maps, hidden, unit_rows(self.fc.forward(row)))
    }
}
