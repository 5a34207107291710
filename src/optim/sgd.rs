//! SGD with momentum and L2 weight decay, in PyTorch's form: no dampening, no Nesterov.

use burn::tensor::Tensor;

use super::{Moving, Rule};
use crate::kernel::KernelPath;
use crate::kernel::update::{self, Moved, SgdStep};

/// `v <- momentum v + (g + weight_decay w)`, `w <- w - lr v`; the first velocity is the plain gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Share of the old velocity.
    pub momentum: f64,
}

impl Rule for Sgd {
    fn slots(&self) -> &'static [&'static str] {
        &["v"]
    }

    fn step(&self, moving: Vec<Moving>, lr: f64, path: KernelPath) -> Vec<(Tensor<1>, Vec<Tensor<1>>)> {
        let moved = moving.into_iter().map(|Moving { weight, gradient, slots, weight_decay }| {
            let velocity = slots.map(|old| old.into_iter().next().expect("SGD has one slot"));
            Moved { weight, gradient, velocity, weight_decay }
        });
        let next = update::sgd(moved.collect(), SgdStep { lr, momentum: self.momentum }, path);
        next.into_iter().map(|(weight, velocity)| (weight, vec![velocity])).collect()
    }
}
