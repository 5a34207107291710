//! Scores of features against drawn rows of a memory bank.
//!
//! The programs of InsDis and CMC gather `[b, k + 1, d]` rows first: 1 GiB for 128 features of width 128 against 16,385 rows, twice for CMC.
//! No path here holds more than a tile of that. [`dots`] makes the scores, [`pull`] their gradient with respect to the features.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(super) mod cube;
#[cfg(feature = "flex")]
pub(super) mod flex;
pub mod reference;
pub mod tensor;

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::ops::KernelOps;
use super::path::ran;
use super::{KernelPath, Op};

/// Rows of a bank, for each feature: `[b, r]`, below the bank's length.
pub fn rows(drawn: Vec<i32>, [b, r]: [usize; 2], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(drawn, [b, r]), (device, DType::I32))
}

/// `dots[i, k] = bank[rows[i, k]] . features[i]`.
///
/// # Shapes
/// - `features` `[b, d]`, `bank` `[n, d]`, f32 and outside any graph; `rows` `[b, r]` from [`rows`]
/// - output `[b, r]`
///
/// # Panics
/// A path that the device does not have, or none of its own for this operation (`wgsl`).
pub fn dots(features: Tensor<2>, bank: Tensor<2>, rows: Tensor<2, Int>, path: KernelPath) -> Tensor<2> {
    match path {
        KernelPath::Reference => {
            ran(Op::Scores, path);
            reference::dots(features, bank, rows)
        }
        KernelPath::Tensor => {
            ran(Op::Scores, path);
            tensor::dots(features, bank, rows)
        }
        KernelPath::Wgsl => panic!("there is no WGSL text for scores: the path `cube` compiles to it"),
        KernelPath::Flex | KernelPath::Cube => Tensor::from_dispatch(<Dispatch as KernelOps>::bank_dots(
            features.into_dispatch(),
            bank.into_dispatch(),
            rows.into_dispatch(),
            path,
        )),
    }
}

/// `pull[i] = sum_k weights[i, k] bank[rows[i, k]]`: with the gradient of a loss with respect to [`dots`] as weights, its gradient with respect
/// to the features.
///
/// # Shapes
/// - `weights` `[b, r]`, `bank` `[n, d]`, `rows` `[b, r]`, as in [`dots`]
/// - output `[b, d]`
///
/// # Panics
/// As [`dots`].
pub fn pull(weights: Tensor<2>, bank: Tensor<2>, rows: Tensor<2, Int>, path: KernelPath) -> Tensor<2> {
    match path {
        KernelPath::Reference => {
            ran(Op::Scores, path);
            reference::pull(weights, bank, rows)
        }
        KernelPath::Tensor => {
            ran(Op::Scores, path);
            tensor::pull(weights, bank, rows)
        }
        KernelPath::Wgsl => panic!("there is no WGSL text for scores: the path `cube` compiles to it"),
        KernelPath::Flex => Tensor::from_dispatch(<Dispatch as KernelOps>::bank_pull(
            weights.into_dispatch(),
            bank.into_dispatch(),
            rows.into_dispatch(),
            path,
        )),
        // In parts of the rows, so that there is work for all units; the parts are added in a fixed order.
        KernelPath::Cube => {
            let parts = Tensor::<3>::from_dispatch(<Dispatch as KernelOps>::bank_pull(
                weights.into_dispatch(),
                bank.into_dispatch(),
                rows.into_dispatch(),
                path,
            ));
            let [b, _, d] = parts.dims();
            parts.sum_dim(1).reshape([b, d])
        }
    }
}
