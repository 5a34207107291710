//! The two losses of instance discrimination on scores: softmax (InfoNCE) and NCE.

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::nce;
use crate::kernel::rows;

/// `method.loss`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossName {
    /// Cross entropy of the positive (InfoNCE).
    Softmax,
    /// Noise-contrastive estimation with a constant Z.
    Nce,
}

/// A loss with what it needs to be computed.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one exists per step")]
pub enum Criterion {
    /// `-log softmax(logits)[0]`.
    Softmax,
    /// [`nce::nce`].
    Nce {
        /// The constant Z, `[1]`.
        z: Tensor<1>,
        /// Images in the dataset.
        images: usize,
    },
}

impl Criterion {
    /// The criterion of a method; `z` is its constant, if it has one already, and otherwise estimated from `logits`.
    pub fn of(name: LossName, z: Option<&Tensor<1>>, logits: &Tensor<2>, images: usize) -> Self {
        match name {
            LossName::Softmax => Self::Softmax,
            LossName::Nce => Self::Nce { z: z.cloned().unwrap_or_else(|| nce::estimate_z(logits.clone(), images)), images },
        }
    }

    /// The loss of each query, `[n]`, from logits `[n, 1 + k]`.
    pub fn per_query(&self, logits: Tensor<2>) -> Tensor<1> {
        match self {
            Self::Softmax => softmax(logits),
            Self::Nce { z, images } => nce::nce(logits, z.clone(), *images),
        }
    }

    /// How likely the positives are, `[1]`, without graph: their mean softmax weight, or their mean P; `losses` are those of
    /// [`Criterion::per_query`] for these logits.
    pub fn positive(&self, logits: Tensor<2>, losses: &Tensor<1>) -> Tensor<1> {
        match self {
            Self::Softmax => losses.clone().inner().neg().exp().mean(),
            Self::Nce { z, .. } => nce::positive(logits, z.clone()),
        }
    }

    /// The constant Z, if there is one.
    pub fn z(&self) -> Option<&Tensor<1>> {
        match self {
            Self::Softmax => None,
            Self::Nce { z, .. } => Some(z),
        }
    }
}

/// `-log softmax(logits)[0]` of each row, `[n]`.
pub fn softmax(logits: Tensor<2>) -> Tensor<1> {
    let path = rows::fastest(&logits.device());
    rows::softmax_loss(logits, path)
}
