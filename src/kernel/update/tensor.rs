//! Updates by plain tensor operations, on every backend.

use burn::tensor::Tensor;

use super::{Moved, SgdStep};
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};

/// See [`super::sgd`].
pub fn sgd(Moved { weight, gradient, velocity, lr, weight_decay }: Moved, step: SgdStep) -> (Tensor<1>, Tensor<1>) {
    ran(Op::Update, KernelPath::Tensor);
    let gradient = if weight_decay > 0.0 { gradient + weight.clone().mul_scalar(weight_decay) } else { gradient };
    let ahead = step.nesterov.then(|| gradient.clone());
    let velocity = match velocity {
        Some(old) => old.mul_scalar(step.momentum) + gradient,
        None => gradient,
    };
    let direction = match ahead {
        Some(gradient) => gradient + velocity.clone().mul_scalar(step.momentum),
        None => velocity.clone(),
    };
    (weight - direction.mul_scalar(lr), velocity)
}

/// See [`super::average`].
pub fn average(slow: Tensor<1>, fast: Tensor<1>, momentum: f64) -> Tensor<1> {
    ran(Op::Update, KernelPath::Tensor);
    slow.mul_scalar(momentum) + fast.mul_scalar(1.0 - momentum)
}

/// See [`super::square_sum`].
pub fn square_sum(values: Tensor<1>) -> Tensor<1> {
    values.square().sum_dim(0)
}
