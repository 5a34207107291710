//! Updates of parameters in one pass over their memory: SGD, moving averages of key encoders and of norms' statistics, and the sum of squares of a
//! gradient. They take all tensors of a net at once: a device that is launched at would else spend its time with launches.
//!
//! All tensors are flat, f32 and outside any graph; those of one parameter have equal length. By tensor operations an update of SGD reads and writes every value nine
//! times, on one thread of the CPU backend.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(feature = "flex")]
mod flex;
pub mod ops;
mod tensor;

use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor};

use super::KernelPath;
use super::net::tensors::Tensors;
use ops::UpdateOps;

/// A step of SGD with momentum and L2 weight decay, in PyTorch's form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Share of the old velocity.
    pub momentum: f64,
    /// Whether the weight moves by the gradient and `momentum` times the new velocity (Nesterov), rather than by the new velocity.
    pub nesterov: bool,
}

/// A parameter that [`sgd`] moves.
#[derive(Debug, Clone)]
pub struct Moved {
    /// Its value.
    pub weight: Tensor<1>,
    /// Its gradient.
    pub gradient: Tensor<1>,
    /// Its velocity, from the second step on.
    pub velocity: Option<Tensor<1>>,
    /// Learning rate.
    pub lr: f64,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
}

/// The numbers of a parameter that [`sgd`] moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Own {
    /// Learning rate.
    pub lr: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// Whether there is no old velocity.
    pub first: bool,
}

/// The fastest path of a device.
pub fn fastest(device: &Device) -> KernelPath {
    super::net::Ways::on(device).path
}

/// `h = g + weight_decay w`, `v <- momentum v + h`, `w <- w - lr v`, with Nesterov `w <- w - lr (h + momentum v)`; the next weight and velocity of
/// each. The first velocity, where there is no old one, is h.
///
/// # Panics
/// A path that the device does not have.
pub fn sgd(moved: Vec<Moved>, step: SgdStep, path: KernelPath) -> Vec<(Tensor<1>, Tensor<1>)> {
    if path == KernelPath::Tensor || moved.is_empty() {
        return moved.into_iter().map(|one| tensor::sgd(one, step)).collect();
    }
    let (mut weights, mut gradients, mut velocities) = (Vec::new(), Vec::new(), Vec::new());
    let mut own = Vec::new();
    for Moved { weight, gradient, velocity, lr, weight_decay } in moved {
        own.push(Own { lr, weight_decay, first: velocity.is_none() });
        velocities.push(velocity.unwrap_or_else(|| gradient.clone()).into_dispatch());
        weights.push(weight.into_dispatch());
        gradients.push(gradient.into_dispatch());
    }
    let [weights, gradients, velocities] = [weights, gradients, velocities].map(Tensors);
    let (weights, velocities) = <Dispatch as UpdateOps>::update_sgd(weights, gradients, velocities, own, step, path);
    plain(weights).zip(plain(velocities)).collect()
}

/// `momentum slow + (1 - momentum) fast` of each pair `(slow, fast)`.
///
/// # Panics
/// A path that the device does not have.
pub fn average(pairs: Vec<(Tensor<1>, Tensor<1>)>, momentum: f64, path: KernelPath) -> Vec<Tensor<1>> {
    if path == KernelPath::Tensor || pairs.is_empty() {
        return pairs.into_iter().map(|(slow, fast)| tensor::average(slow, fast, momentum)).collect();
    }
    let (slow, fast) = pairs.into_iter().map(|(slow, fast)| (slow.into_dispatch(), fast.into_dispatch())).unzip();
    plain(<Dispatch as UpdateOps>::update_average(Tensors(slow), Tensors(fast), momentum, path)).collect()
}

/// The sum of the squares of all values of all tensors, `[1]`; at least one tensor. It is no update, and counts as none.
///
/// # Panics
/// A path that the device does not have; no tensor.
pub fn square_sum(tensors: Vec<Tensor<1>>, path: KernelPath) -> Tensor<1> {
    if path == KernelPath::Tensor {
        return tensors.into_iter().map(tensor::square_sum).reduce(|a, b| a + b).expect("a sum over something");
    }
    let tensors = Tensors(tensors.into_iter().map(Tensor::into_dispatch).collect());
    Tensor::from_dispatch(<Dispatch as UpdateOps>::update_square_sum(tensors, path))
}

fn plain(tensors: Tensors<Dispatch>) -> impl Iterator<Item = Tensor<1>> {
    tensors.0.into_iter().map(Tensor::from_dispatch)
}
