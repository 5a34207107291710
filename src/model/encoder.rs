//! Backbone, features and head: what a method trains.

use burn::module::Module;
use burn::tensor::Tensor;

use super::alexnet::AlexNetHalf;
use super::head::Head;
use super::norm::{BatchNorm, BatchStats, Pass};
use super::resnet::ResNet;
use crate::loss::unit_rows;

/// What comes before the head.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "one or two exist per run")]
pub enum Backbone {
    /// Residual net; its features are the global mean of the last map.
    ResNet(ResNet),
    /// Half-width AlexNet; its features are the second hidden layer.
    AlexNet(AlexNetHalf),
}

/// An encoder. In a state dict the backbone's names have no prefix and the head is `fc`, as in torchvision.
#[derive(Module, Debug)]
pub struct Encoder {
    /// From images to maps and features.
    pub backbone: Backbone,
    /// Features to the embedding.
    pub fc: Head,
}

/// The outputs of all layers, numbered from 1: first the maps, then the rows, then the embedding.
///
/// ResNet: 1 after the stem, 2-5 after the stages, 6 pooled, 7 the embedding. AlexNet: 1-5 the convolutions, 6-7 hidden, 8 the embedding.
#[derive(Debug, Clone)]
pub struct Taps {
    /// `[n, c_i, h_i, w_i]`.
    pub maps: Vec<Tensor<4>>,
    /// `[n, f_i]`; the last are the features.
    pub rows: Vec<Tensor<2>>,
    /// Unit rows, `[n, d]`.
    pub embedding: Tensor<2>,
}

impl Taps {
    /// What the head gets, `[n, f]`.
    pub fn features(&self) -> Tensor<2> {
        self.rows.last().expect("every backbone has features").clone()
    }
}

impl Encoder {
    /// All layers of one forward.
    ///
    /// # Shapes
    /// - input `[n, c, h, w]`, normalised
    pub fn taps(&self, x: Tensor<4>, pass: &mut Pass) -> Taps {
        let (maps, rows) = match &self.backbone {
            Backbone::ResNet(net) => {
                let maps = net.forward(x, pass);
                let last = maps.last().expect("a ResNet has five maps").clone();
                let [n, c, h, w] = last.dims();
                (maps, vec![last.reshape([n, c, h * w]).mean_dim(2).reshape([n, c])])
            }
            Backbone::AlexNet(net) => net.forward(x, pass),
        };
        let embedding = unit_rows(self.fc.forward(rows.last().expect("every backbone has features").clone()));
        Taps { maps, rows, embedding }
    }

    /// The embedding: unit rows `[n, d]`.
    pub fn embed(&self, x: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        self.taps(x, pass).embedding
    }

    /// Moves all running statistics by what one training forward saw.
    pub fn absorb(&mut self, stats: &[BatchStats]) {
        let norms: Vec<&mut BatchNorm> = match &mut self.backbone {
            Backbone::ResNet(net) => net.norms(),
            Backbone::AlexNet(net) => net.norms(),
        };
        assert_eq!(norms.len(), stats.len(), "the statistics come from another net");
        norms.into_iter().zip(stats).for_each(|(norm, stats)| norm.absorb(stats));
    }

    /// Number of layers, the embedding being the last.
    pub fn layers(&self) -> usize {
        match &self.backbone {
            Backbone::ResNet(_) => 7,
            Backbone::AlexNet(_) => 8,
        }
    }
}
