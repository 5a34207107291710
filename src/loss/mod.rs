//! Losses: pure functions of tensors. They read a memory and never write it.
//!
//! Letters: n queries, k negatives, d embedding, p prototypes, T temperature.

pub mod barlow;
pub mod byol;
pub mod criterion;
pub mod info_nce;
pub mod nce;
pub mod nt_xent;
pub mod swav;
pub mod unmix;

pub use barlow::Standardise;
pub use byol::byol;
pub use criterion::{Criterion, LossName};
pub use info_nce::{InfoNce, info_nce};
pub use nce::NceZ;
pub use nt_xent::{PairLoss, nt_xent};
pub use swav::{sinkhorn, swapped_prediction};

use burn::tensor::Tensor;

use crate::kernel::rows;

/// `log Σ exp` of each row, `[n, 1]`, without overflow.
///
/// # Shapes
/// - `[n, k]`
pub fn log_sum_exp(x: Tensor<2>) -> Tensor<2> {
    // The largest is a constant: what it adds outside it takes away inside.
    let largest = x.clone().inner().max_dim(1);
    (x - largest.clone()).exp().sum_dim(1).log() + largest
}

/// Rows divided by their L2 norm, at least 1e-12. A row of zeros stays zero and has a finite gradient.
///
/// # Shapes
/// - `[n, d]` to `[n, d]`
pub fn unit_rows(x: Tensor<2>) -> Tensor<2> {
    let path = rows::fastest(&x.device());
    rows::unit(x, path)
}
