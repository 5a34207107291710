//! Adam (Kingma and Ba, arXiv 1412.6980) and AdamW (Loshchilov and Hutter, arXiv 1711.05101), in PyTorch's form.
//!
//! They are ours rather than Burn's, which computes in f32 what decides the size of a step (`1 - 0.999` is off by 5e-5 there, and `1 - beta^t` with
//! it), has one rate and one decay for all parameters, and keeps its state by the ids of parameters rather than by their names.

use burn::tensor::Tensor;

use super::{Moving, Rule};
use crate::kernel::KernelPath;

/// With the gradient g, or `g + weight_decay w` where the decay is not decoupled:
/// `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`, `w <- w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)`; t is 1 at the first update of
/// a parameter. Decoupled decay first takes `lr weight_decay w` away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// b1 and b2.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Whether weight decay is apart from the gradient (AdamW).
    pub decoupled: bool,
}

impl Adam {
    /// The next weight and moments of a parameter.
    fn moved(&self, one: Moving) -> (Tensor<1>, Vec<Tensor<1>>) {
        let Moving { weight, gradient, slots, lr, weight_decay, update, .. } = one;
        let (weight, gradient) = match self.decoupled {
            _ if weight_decay == 0.0 => (weight, gradient),
            true => (weight.mul_scalar(1.0 - lr * weight_decay), gradient),
            false => (weight.clone(), gradient + weight.mul_scalar(weight_decay)),
        };
        let [b1, b2] = self.betas;
        let [first, second] = [gradient.clone().mul_scalar(1.0 - b1), gradient.square().mul_scalar(1.0 - b2)];
        let (m, v) = match slots.map(|old| <[Tensor<1>; 2]>::try_from(old).expect("Adam has two slots")) {
            Some([m, v]) => (m.mul_scalar(b1) + first, v.mul_scalar(b2) + second),
            None => (first, second),
        };
        // libm: the same bits on every platform.
        let [c1, c2] = self.betas.map(|beta| 1.0 - libm::pow(beta, update as f64));
        let root = v.clone().div_scalar(c2).sqrt().add_scalar(self.eps);
        (weight - m.clone().mul_scalar(lr / c1) / root, vec![m, v])
    }
}

impl Rule for Adam {
    fn slots(&self) -> &'static [&'static str] {
        &["m", "v"]
    }

    fn counts(&self) -> bool {
        true
    }

    fn step(&self, moving: Vec<Moving>, _: KernelPath) -> Vec<(Tensor<1>, Vec<Tensor<1>>)> {
        moving.into_iter().map(|one| self.moved(one)).collect()
    }
}
