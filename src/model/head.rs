//! Projection heads, named `fc` in a state dict: `fc.weight` (linear), `fc.0.weight` and `fc.2.weight` (MLP), as MoCo names them.

use burn::module::Module;
use burn::nn::Relu;
use burn::tensor::{Device, Tensor};

use super::layers::Linear;

/// From pooled features to the embedding.
#[derive(Module, Debug)]
pub enum Head {
    /// One layer with bias (MoCo v1, InsDis, CMC, Un-Mix).
    Linear(Linear),
    /// Linear, ReLU, Linear, the hidden width equal to the input's (MoCo v2).
    Mlp((Linear, Relu, Linear)),
}

impl Head {
    /// A linear head.
    pub fn linear(features: usize, dim: usize, device: &Device) -> Self {
        Self::Linear(Linear::new(features, dim, true, device))
    }

    /// The two-layer head of MoCo v2.
    pub fn mlp(features: usize, dim: usize, device: &Device) -> Self {
        Self::Mlp((Linear::new(features, features, true, device), Relu::new(), Linear::new(features, dim, true, device)))
    }

    /// # Shapes
    /// - input `[n, f]`
    /// - output `[n, d]`, not normalised
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Linear(layer) => layer.forward(x),
            Self::Mlp((first, relu, second)) => second.forward(relu.forward(first.forward(x))),
        }
    }
}
