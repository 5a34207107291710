//! Noise-contrastive estimation as the first program of arXiv 2003.05438 computes it (Wu et al., arXiv 1805.01978, section 3.2).
//!
//! With P = exp(score) / Z and noise 1/images, a positive costs `-log(P / (P + c + eps))` and each of k negatives
//! `-log(c / (P + c + eps))`, c = k / images. Z is a constant: estimated on the first batch and kept.

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keeps the denominators above 0, as in the program.
const EPSILON: f64 = 1e-7;

/// `method.nce_z`: where the constant Z of NCE comes from. No source defines another way than the first program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NceZ {
    /// The first batch of the untrained net, frozen from then on (the reference).
    #[default]
    First,
}

/// `Z = mean(exp(logits)) images`.
///
/// # Shapes
/// - `logits` `[n, 1 + k]`, scores over the temperature; output `[1]`, without graph
pub fn estimate_z(logits: Tensor<2>, images: usize) -> Tensor<1> {
    logits.inner().exp().mean().mul_scalar(images as f64)
}

/// The loss of each query, `[n]`.
///
/// # Shapes
/// - `logits` `[n, 1 + k]`, column 0 the positive; `z` `[1]`, without graph
pub fn nce(logits: Tensor<2>, z: Tensor<1>, images: usize) -> Tensor<1> {
    let [n, columns] = logits.dims();
    let c = (columns - 1) as f64 / images as f64;
    let log_p = logits - z.log().reshape([1, 1]);
    let p = log_p.clone().exp();
    let positive = log_p.narrow(1, 0, 1) - p.clone().narrow(1, 0, 1).add_scalar(c + EPSILON).log();
    // log(c / (P + c + eps)) by log1p: P is tiny, and thousands of differences of near-equal logarithms would be noise.
    let negatives = p.narrow(1, 1, columns - 1).add_scalar(EPSILON).div_scalar(c).log1p().sum_dim(1);
    (negatives - positive).reshape([n])
}

/// Mean P of the positives, `[1]`, without graph: what the program prints as "prob".
pub fn positive(logits: Tensor<2>, z: Tensor<1>) -> Tensor<1> {
    (logits.inner().narrow(1, 0, 1) - z.log().reshape([1, 1])).exp().mean()
}
