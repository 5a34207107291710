//! Updates of parameters in one pass over their memory: SGD, the moving average of a key encoder, and the sum of squares of a gradient.
//!
//! All tensors are flat, f32, of equal length and outside any graph. By tensor operations an update of SGD reads and writes every value nine
//! times, on one thread of the CPU backend.

#[cfg(feature = "flex")]
mod flex;
pub mod ops;
mod tensor;

use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor};

use super::KernelPath;
use ops::UpdateOps;

/// A step of SGD with momentum and L2 weight decay, in PyTorch's form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// Share of the old velocity.
    pub momentum: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

/// The fastest path of a device.
pub fn fastest(device: &Device) -> KernelPath {
    super::net::Ways::on(device).path
}

/// `v <- momentum v + (g + weight_decay w)`, `w <- w - lr v`; the next weight and velocity. The first velocity, where there is no old one, is
/// the plain gradient.
///
/// # Panics
/// A path that the device does not have.
pub fn sgd(
    weight: Tensor<1>,
    gradient: Tensor<1>,
    velocity: Option<Tensor<1>>,
    step: SgdStep,
    path: KernelPath,
) -> (Tensor<1>, Tensor<1>) {
    if path == KernelPath::Tensor {
        return tensor::sgd(weight, gradient, velocity, step);
    }
    let first = velocity.is_none();
    let velocity = velocity.unwrap_or_else(|| gradient.clone());
    let (weight, gradient, velocity) = (weight.into_dispatch(), gradient.into_dispatch(), velocity.into_dispatch());
    let (weight, velocity) = <Dispatch as UpdateOps>::update_sgd(weight, gradient, velocity, step, first, path);
    (Tensor::from_dispatch(weight), Tensor::from_dispatch(velocity))
}

/// `momentum slow + (1 - momentum) fast`.
///
/// # Panics
/// A path that the device does not have.
pub fn average(slow: Tensor<1>, fast: Tensor<1>, momentum: f64, path: KernelPath) -> Tensor<1> {
    if path == KernelPath::Tensor {
        return tensor::average(slow, fast, momentum);
    }
    Tensor::from_dispatch(<Dispatch as UpdateOps>::update_average(slow.into_dispatch(), fast.into_dispatch(), momentum, path))
}

/// The sum of the squares of all values, `[1]`. It is no update, and counts as none.
///
/// # Panics
/// A path that the device does not have.
pub fn square_sum(values: Tensor<1>, path: KernelPath) -> Tensor<1> {
    if path == KernelPath::Tensor {
        return tensor::square_sum(values);
    }
    Tensor::from_dispatch(<Dispatch as UpdateOps>::update_square_sum(values.into_dispatch(), path))
}
