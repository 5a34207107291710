//! Backbone, global pool and head: what a method trains.

use burn::module::Module;
use burn::tensor::Tensor;

use super::head::Head;
use super::norm::{BatchStats, Pass};
use super::resnet::ResNet;
use crate::loss::unit_rows;

/// An encoder. In a state dict the backbone's names have no prefix and the head is `fc`, as in torchvision.
#[derive(Module, Debug)]
pub struct Encoder {
    /// Stem and stages.
    pub backbone: ResNet,
    /// Pooled features to the embedding.
    pub fc: Head,
}

/// The outputs of all layers: 1 after the stem, 2-5 after the stages, 6 pooled, 7 the embedding.
#[derive(Debug, Clone)]
pub struct Taps {
    /// Layers 1-5, `[n, c_i, h_i, w_i]`.
    pub maps: Vec<Tensor<4>>,
    /// Layer 6, the global mean, `[n, f]`.
    pub pooled: Tensor<2>,
    /// Layer 7, unit rows, `[n, d]`.
    pub embedding: Tensor<2>,
}

impl Encoder {
    /// All layers of one forward.
    ///
    /// # Shapes
    /// - input `[n, 3, h, w]`, normalised
    pub fn taps(&self, x: Tensor<4>, pass: &mut Pass) -> Taps {
        let maps = self.backbone.forward(x, pass);
        let [n, c, h, w] = maps[maps.len() - 1].dims();
        let pooled = maps[maps.len() - 1].clone().reshape([n, c, h * w]).mean_dim(2).reshape([n, c]);
        let embedding = unit_rows(self.fc.forward(pooled.clone()));
        Taps { maps, pooled, embedding }
    }

    /// The embedding: unit rows `[n, d]`.
    pub fn embed(&self, x: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        self.taps(x, pass).embedding
    }

    /// The embedding of a training forward and what its norms saw.
    pub fn embed_train(&self, x: Tensor<4>) -> (Tensor<2>, Vec<BatchStats>) {
        let mut pass = Pass::train();
        let embedding = self.embed(x, &mut pass);
        (embedding, pass.into_stats())
    }

    /// Moves all running statistics by what one training forward saw.
    pub fn absorb(&mut self, stats: &[BatchStats]) {
        let norms = self.backbone.norms();
        assert_eq!(norms.len(), stats.len(), "the statistics come from another net");
        norms.into_iter().zip(stats).for_each(|(norm, stats)| norm.absorb(stats));
    }
}
