//! LARS (You, Gitman and Ginsburg, arXiv 1708.03888): every layer has a rate of its own, by the norms of its weight and its gradient.
//!
//! Burn has no LARS. The two forms differ between programs, and only where weight decay is large: `sum` is LARC of NVIDIA's apex (SwAV), and with
//! `clip` and `exclude` that of solo-learn; `decayed` is that of Barlow Twins (arXiv 2103.03230).

use burn::tensor::Tensor;

use super::config::holds;
use super::{LarsNorm, Moving, OneAxis, Rule, Sgd};
use crate::kernel::KernelPath;
use crate::kernel::update::square_sum;

/// `g <- (g + weight_decay w) r`, then SGD with momentum and without decay, where
///
/// - `sum`: `r = trust |w| / (|g| + weight_decay |w| + eps)`; where a norm is zero, the gradient is neither scaled nor decayed;
/// - `decayed`: `r = trust |w| / |g + weight_decay w|`; where a norm is zero, the gradient is decayed and not scaled;
/// - `clip`: `r <- min(r / lr, 1)`, so that the rate of a layer, `lr r`, is at most `lr`.
///
/// The norms stay on the device: reading them would make the host wait twice per parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Lars {
    /// Share of the old velocity.
    pub momentum: f64,
    /// Factor on the ratio of the norms (eta).
    pub trust: f64,
    /// Added to the denominator of `sum`.
    pub eps: f64,
    /// Whether the rate of a layer is bounded by the learning rate.
    pub clip: bool,
    /// Parameters that are neither scaled nor decayed.
    pub exclude: Vec<OneAxis>,
    /// The denominator.
    pub norm: LarsNorm,
}

impl Lars {
    /// The gradient of a parameter, decayed and scaled.
    fn scaled(&self, weight: &Tensor<1>, gradient: Tensor<1>, lr: f64, weight_decay: f64, path: KernelPath) -> Tensor<1> {
        let norm = |values: &Tensor<1>| square_sum(vec![values.clone()], path).sqrt();
        let of_weight = norm(weight);
        // Whether a norm is zero, `[1]`; the ratio is replaced there, whatever it came to.
        let zero = |other: &Tensor<1>| of_weight.clone().equal_elem(0.0).bool_or(other.clone().equal_elem(0.0));
        match self.norm {
            LarsNorm::Sum => {
                let of_gradient = norm(&gradient);
                let zero = zero(&of_gradient);
                let decay = of_weight.ones_like().mul_scalar(weight_decay).mask_fill(zero.clone(), 0.0);
                let denominator = of_gradient + of_weight.clone().mul_scalar(weight_decay).add_scalar(self.eps);
                let ratio = self.clipped(of_weight.mul_scalar(self.trust) / denominator, lr).mask_fill(zero, 1.0);
                let decayed = if weight_decay > 0.0 { gradient + weight.clone() * decay } else { gradient };
                decayed * ratio
            }
            LarsNorm::Decayed => {
                let decayed = if weight_decay > 0.0 { gradient + weight.clone().mul_scalar(weight_decay) } else { gradient };
                let of_decayed = norm(&decayed);
                let zero = zero(&of_decayed);
                let ratio = of_weight.mul_scalar(self.trust) / of_decayed.mask_fill(zero.clone(), 1.0);
                decayed * self.clipped(ratio, lr).mask_fill(zero, 1.0)
            }
        }
    }

    /// `min(r / lr, 1)` where that is asked for.
    fn clipped(&self, ratio: Tensor<1>, lr: f64) -> Tensor<1> {
        match self.clip {
            false => ratio,
            // A schedule may end at zero: any ratio is beyond that rate.
            true if lr == 0.0 => ratio.ones_like(),
            true => ratio.div_scalar(lr).clamp_max(1.0),
        }
    }
}

impl Rule for Lars {
    fn slots(&self) -> &'static [&'static str] {
        &["v"]
    }

    fn step(&self, moving: Vec<Moving>, path: KernelPath) -> Vec<(Tensor<1>, Vec<Tensor<1>>)> {
        let scaled = |one: Moving| {
            let Moving { weight, gradient, role, lr, weight_decay, .. } = one;
            let gradient =
                if holds(&self.exclude, role) { gradient } else { self.scaled(&weight, gradient, lr, weight_decay, path) };
            Moving { weight, gradient, weight_decay: 0.0, ..one }
        };
        Sgd { momentum: self.momentum, nesterov: false }.step(moving.into_iter().map(scaled).collect(), path)
    }
}
