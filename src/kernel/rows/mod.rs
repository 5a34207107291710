//! What losses do with rows: rows of unit length, and the softmax loss of the first column. Composed of Burn's operations either takes some twenty
//! launches with its way back, and a step has two to nine of them.
//!
//! - `tensor`: Burn's operations, on every backend.
//! - `cube`: CubeCL kernels with a backward pass of their own.

mod backward;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
mod ops;
mod tensor;

use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor};

use super::KernelPath;
use ops::RowsOps;

/// The least square of a norm that rows are divided by: 1e-12 squared.
pub const LEAST_SQUARE: f32 = 1e-24;

/// The fastest path of a device.
pub fn fastest(device: &Device) -> KernelPath {
    match super::net::Ways::on(device).path {
        KernelPath::Cube => KernelPath::Cube,
        _ => KernelPath::Tensor,
    }
}

/// Rows divided by their L2 norm, at least 1e-12. A row of zeros stays zero and has a finite gradient.
///
/// # Shapes
/// - `[n, d]` to `[n, d]`, on the graph of `x` if it has one
///
/// # Panics
/// A path that the device does not have.
pub fn unit(x: Tensor<2>, path: KernelPath) -> Tensor<2> {
    match path {
        KernelPath::Tensor => tensor::unit(x),
        _ => Tensor::from_dispatch(<Dispatch as RowsOps>::rows_unit(x.into_dispatch(), path)),
    }
}

/// `-log softmax(logits)[0]` of each row, `[n]`.
///
/// # Shapes
/// - `logits` `[n, c]`, finite in the first column; the others may be minus infinity, which does not count
///
/// # Panics
/// A path that the device does not have.
pub fn softmax_loss(logits: Tensor<2>, path: KernelPath) -> Tensor<1> {
    match path {
        KernelPath::Tensor => tensor::softmax_loss(logits),
        _ => Tensor::from_dispatch(<Dispatch as RowsOps>::rows_softmax(logits.into_dispatch(), path).0),
    }
}
