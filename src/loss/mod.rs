//! Losses: pure functions of tensors. They read a memory and never write it.
//!
//! Letters: n queries, k negatives, d embedding, T temperature.

pub mod bank;
pub mod criterion;
pub mod info_nce;
pub mod nce;
pub mod unmix;

pub use bank::BankScores;
pub use criterion::{Criterion, LossName};
pub use info_nce::{InfoNce, info_nce};
pub use nce::NceZ;

use burn::tensor::Tensor;

/// Rows divided by their L2 norm, at least 1e-12.
///
/// # Shapes
/// - `[n, d]` to `[n, d]`
pub fn unit_rows(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}
