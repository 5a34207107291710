//! Losses: pure functions of tensors. They read a memory and never write it.
//!
//! Letters: n queries, k negatives, d embedding, p prototypes, T temperature.

pub mod byol;
pub mod criterion;
pub mod info_nce;
pub mod nce;
pub mod nt_xent;
pub mod swav;
pub mod unmix;

pub use byol::byol;
pub use criterion::{Criterion, LossName};
pub use info_nce::{InfoNce, info_nce};
pub use nce::NceZ;
pub use nt_xent::nt_xent;
pub use swav::{sinkhorn, swapped_prediction};

use burn::tensor::Tensor;

/// Rows divided by their L2 norm, at least 1e-12. A row of zeros stays zero and has a finite gradient.
///
/// # Shapes
/// - `[n, d]` to `[n, d]`
pub fn unit_rows(x: Tensor<2>) -> Tensor<2> {
    // Bounded before the root, whose gradient at zero is infinite: times the zero of the bound it would be NaN.
    let norm = x.clone().square().sum_dim(1).clamp_min(1e-24).sqrt();
    x / norm
}
