//! SGD with momentum and L2 weight decay, in PyTorch's form: no dampening.

use burn::tensor::Tensor;

use super::{Moving, Rule};
use crate::kernel::KernelPath;
use crate::kernel::update::{self, Moved, SgdStep};

/// `h = g + weight_decay w`, `v <- momentum v + h`, `w <- w - lr v`; with Nesterov `w <- w - lr (h + momentum v)`. The first velocity is h.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Share of the old velocity.
    pub momentum: f64,
    /// Whether a weight moves by what the next velocity would be if the gradient came again (Nesterov).
    pub nesterov: bool,
}

impl Rule for Sgd {
    fn slots(&self) -> &'static [&'static str] {
        &["v"]
    }

    fn step(&self, moving: Vec<Moving>, path: KernelPath) -> Vec<(Tensor<1>, Vec<Tensor<1>>)> {
        let moved = moving.into_iter().map(|Moving { weight, gradient, slots, lr, weight_decay, .. }| {
            let velocity = slots.map(|old| old.into_iter().next().expect("SGD has one slot"));
            Moved { weight, gradient, velocity, lr, weight_decay }
        });
        let next = update::sgd(moved.collect(), SgdStep { momentum: self.momentum, nesterov: self.nesterov }, path);
        next.into_iter().map(|(weight, velocity)| (weight, vec![velocity])).collect()
    }
}
