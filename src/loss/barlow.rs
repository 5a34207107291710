//! Redundancy reduction: Barlow Twins (arXiv 2103.03230 equation 1) and its mixed form (arXiv 2312.02151).

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::unit_rows;

/// `method.standardise`: how the columns of a batch get mean 0 and variance 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standardise {
    /// By the biased variance and 1e-5, as batch norm does (the program of Barlow Twins).
    #[default]
    BatchNorm,
    /// Unit rows first, then by the unbiased standard deviation (the program of Mixed Barlow Twins).
    UnitStd,
}

/// In the denominator of [`Standardise::BatchNorm`].
const EPSILON: f64 = 1e-5;

impl Standardise {
    /// Columns of mean 0 and variance 1, `[n, d]`.
    pub fn apply(self, x: Tensor<2>) -> Tensor<2> {
        let [n, _] = x.dims();
        let x = if self == Self::UnitStd { unit_rows(x) } else { x };
        let centred = x.clone() - x.mean_dim(0);
        let squares = (centred.clone() * centred.clone()).sum_dim(0);
        let variance = match self {
            Self::BatchNorm => squares.div_scalar(n as f64).add_scalar(EPSILON),
            // A single row has no unbiased deviation; a constant column stays zero instead of becoming NaN.
            Self::UnitStd => squares.div_scalar(n.saturating_sub(1).max(1) as f64).clamp_min(f64::from(f32::MIN_POSITIVE)),
        };
        centred / variance.sqrt()
    }
}

/// `aᵀ b / n`, `[d, d]`.
///
/// # Shapes
/// - `a`, `b` `[n, d]`, standardised
pub fn correlation(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let [n, _] = a.dims();
    a.transpose().matmul(b).div_scalar(n as f64)
}

/// `Σ_i (C_ii - 1)² + off Σ_{i≠j} C_ij²`, `[1]`, of a cross-correlation `[d, d]`.
pub fn barlow(correlation: Tensor<2>, off: f64) -> Tensor<1> {
    let [d, _] = correlation.dims();
    let identity = Tensor::<2>::eye(d, &correlation.device().inner());
    let weights = identity.clone().mul_scalar(1.0 - off).add_scalar(off);
    let missing = correlation - identity;
    (missing.clone() * missing * weights).sum()
}

/// The regulariser of Mixed Barlow Twins without its factors, `[1]`: the squared distance of the mixtures' correlations with either view from those of
/// the interpolated embeddings, which are on the graph, too.
///
/// # Shapes
/// - all `[n, d]`, standardised; `target` is `λ a + (1 - λ) b[partners]`
pub fn mixed(mixtures: Tensor<2>, target: Tensor<2>, a: Tensor<2>, b: Tensor<2>) -> Tensor<1> {
    let missing = mixtures - target;
    let squares = |view: Tensor<2>| {
        let off = correlation(missing.clone(), view);
        (off.clone() * off).sum()
    };
    squares(a) + squares(b)
}
