//! SGD with momentum and L2 weight decay, in PyTorch's form: no dampening, no Nesterov.

use burn::tensor::Tensor;

use super::{At, Rule};
use crate::kernel::update::{self, SgdStep};

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

    fn step(&self, at: At, weight: Tensor<1>, gradient: Tensor<1>, slots: Option<Vec<Tensor<1>>>) -> (Tensor<1>, Vec<Tensor<1>>) {
        let step = SgdStep { lr: at.lr, momentum: self.momentum, weight_decay: at.weight_decay };
        let velocity = slots.map(|old| old.into_iter().next().expect("SGD has one slot"));
        let (weight, velocity) = update::sgd(weight, gradient, velocity, step, at.path);
        (weight, vec![velocity])
    }
}
