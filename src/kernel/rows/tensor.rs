//! Rows by plain tensor operations, on every backend, differentiated by Burn.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

use super::LEAST_SQUARE;
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};

/// See [`super::unit`].
pub fn unit(x: Tensor<2>) -> Tensor<2> {
    ran(Op::Rows, KernelPath::Tensor);
    // Bounded before the root, whose gradient at zero is infinite: times the zero of the bound it would be NaN.
    let norm = x.clone().square().sum_dim(1).clamp_min(LEAST_SQUARE).sqrt();
    x / norm
}

/// See [`super::softmax_loss`].
pub fn softmax_loss(logits: Tensor<2>) -> Tensor<1> {
    ran(Op::Rows, KernelPath::Tensor);
    let [n, _] = logits.dims();
    // By slice and not by gather: the backward of a gather adds in no fixed order on a GPU.
    log_softmax(logits, 1).slice([0..n, 0..1]).neg().reshape([n])
}
