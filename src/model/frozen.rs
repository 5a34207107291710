//! What a method has trained, as it is evaluated and exported.

use std::ops::Range;

use burn::tensor::Tensor;

use super::encoder::{Encoder, Taps};
use super::layer::Layers;
use super::norm::Pass;
use super::pooling;
use crate::loss::unit_rows;

/// One encoder of the whole input, or CMC's two, each of its own channels. Without graph.
#[derive(Debug, Clone)]
pub struct Frozen {
    /// Name in a checkpoint, channels of the input, net.
    pub parts: Vec<(&'static str, Range<usize>, Encoder)>,
}

/// Features of a batch; those of several nets stand beside each other.
#[derive(Debug, Clone)]
pub struct FrozenRows {
    /// What the heads get, unit rows `[n, f]`.
    pub features: Tensor<2>,
    /// The embeddings, unit rows `[n, d]`.
    pub embedding: Tensor<2>,
}

impl Frozen {
    /// A single net.
    pub fn one(name: &'static str, encoder: Encoder) -> Self {
        Self { parts: vec![(name, 0..3, encoder)] }
    }

    /// Features by the running statistics.
    ///
    /// # Shapes
    /// - `images` `[n, 3, h, w]`, normalised
    pub fn rows(&self, images: Tensor<4>) -> FrozenRows {
        let (features, embeddings): (Vec<_>, Vec<_>) =
            self.taps(images).into_iter().map(|taps| (taps.features(), taps.embedding)).unzip();
        FrozenRows { features: unit_rows(Tensor::cat(features, 1)), embedding: unit_rows(Tensor::cat(embeddings, 1)) }
    }

    /// Chosen layers (from 1) as linear probes read them: pooled, not normalised, the halves of CMC beside each other.
    ///
    /// # Shapes
    /// - `images` `[n, 3, h, w]`, normalised
    /// - output one `[n, f_layer]` per layer
    pub fn layer_rows(&self, images: Tensor<4>, layers: &[usize]) -> Vec<Tensor<2>> {
        let taps = self.taps(images);
        let beside = |layer| self.parts.iter().zip(&taps).map(|((.., net), taps)| pooling::rows(net, taps, layer)).collect();
        layers.iter().map(|&layer| Tensor::cat(beside(layer), 1)).collect()
    }

    fn taps(&self, images: Tensor<4>) -> Vec<Taps> {
        let one = |(_, channels, encoder): &(_, Range<usize>, Encoder)| {
            encoder.taps(images.clone().narrow(1, channels.start, channels.len()), &mut Pass::Eval)
        };
        self.parts.iter().map(one).collect()
    }

    /// Number of trained values in all nets.
    pub fn parameters(&self) -> u64 {
        self.parts.iter().map(|(.., encoder)| super::state::parameters(encoder)).sum()
    }

    /// The layers, which all nets have in common.
    pub fn layers(&self) -> Layers {
        self.parts.first().expect("at least one net was trained").2.layers()
    }
}
