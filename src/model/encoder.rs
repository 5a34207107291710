//! Backbone, features and head: what a method trains.

use burn::module::Module;
use burn::tensor::Tensor;

use super::head::Head;
use super::layer::Layers;
use super::norm::{BatchNorm, BatchStats, Pass, absorb};
use super::shape::Backbone;
use crate::kernel::KernelPath;
use crate::loss::unit_rows;

/// An encoder. In a state dict the backbone's names have no prefix and the head is `fc`, as in torchvision.
#[derive(Module, Debug)]
pub struct Encoder {
    /// From images to maps and features.
    pub backbone: Backbone,
    /// Features to the embedding.
    pub fc: Head,
}

/// The outputs of all layers in the order of [`Layers`]: first the maps, then the rows, then the embedding.
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
        let (maps, rows) = self.backbone.forward(x, pass);
        let embedding = unit_rows(self.fc.forward(rows.last().expect("every backbone has features").clone()));
        Taps { maps, rows, embedding }
    }

    /// The embedding: unit rows `[n, d]`.
    pub fn embed(&self, x: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        self.taps(x, pass).embedding
    }

    /// Moves all running statistics by what one training forward saw; `update` is the implementation of the update.
    pub fn absorb(&mut self, stats: &[BatchStats], update: KernelPath) {
        let norms: Vec<&mut BatchNorm> = self.backbone.norms();
        assert_eq!(norms.len(), stats.len(), "the statistics come from another net");
        absorb(norms, stats, update);
    }

    /// Its layers, the embedding being the last.
    pub fn layers(&self) -> Layers {
        self.backbone.layers()
    }
}
