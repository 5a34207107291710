//! Scores of features against drawn rows of a memory bank, differentiable in the features.
//!
//! The programs of InsDis and CMC gather `[b, k + 1, d]` rows first: 1 GiB for 128 features of width 128 against 16,385 rows, twice for CMC.
//! No path here holds more than a tile of that, and no graph any of it. [`dots`] makes the scores, [`pull`] is their gradient with respect to
//! the features.

mod backward;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(feature = "flex")]
mod flex;
pub mod ops;
mod reference;
mod tensor;

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::KernelPath;
use ops::BankOps;

/// Rows of a bank, for each feature: `[b, r]`, below the bank's length.
pub fn rows(drawn: Vec<i32>, [b, r]: [usize; 2], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(drawn, [b, r]), (device, DType::I32))
}

/// `dots[i, k] = bank[rows[i, k]] . features[i]`, on the graph of the features if they have one: its backward pass is [`pull`] on the same
/// path. The bank is a constant.
///
/// # Shapes
/// - `features` `[b, d]`, f32, with or without a graph; `bank` `[n, d]`, f32; `rows` `[b, r]` from [`rows`]
/// - output `[b, r]`
///
/// # Panics
/// A path that the device does not have, or none of its own for this operation (`wgsl`).
pub fn dots(features: Tensor<2>, bank: Tensor<2>, rows: Tensor<2, Int>, path: KernelPath) -> Tensor<2> {
    let (features, bank, rows) = (features.into_dispatch(), bank.into_dispatch(), rows.into_dispatch());
    Tensor::from_dispatch(<Dispatch as BankOps>::bank_dots(features, bank, rows, path))
}

/// `pull[i] = sum_k weights[i, k] bank[rows[i, k]]`: with the gradient of a loss with respect to [`dots`] as weights, its gradient with respect
/// to the features. It is differentiable in the weights, with [`dots`] as its backward pass.
///
/// # Shapes
/// - `weights` `[b, r]`, `bank` `[n, d]`, `rows` `[b, r]`, as in [`dots`]
/// - output `[b, d]`
///
/// # Panics
/// As [`dots`].
pub fn pull(weights: Tensor<2>, bank: Tensor<2>, rows: Tensor<2, Int>, path: KernelPath) -> Tensor<2> {
    let (weights, bank, rows) = (weights.into_dispatch(), bank.into_dispatch(), rows.into_dispatch());
    Tensor::from_dispatch(<Dispatch as BankOps>::bank_pull(weights, bank, rows, path))
}
