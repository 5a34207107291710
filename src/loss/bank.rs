//! Features against drawn rows of a memory bank, differentiable in the features, without the gathered rows.

use burn::tensor::{Int, Tensor};

use crate::kernel::{KernelPath, scores};

/// Scores of a batch; the bank is a constant.
///
/// The logits are a leaf of a graph of their own. Losses are computed on it, and [`BankScores::close`] leads their gradient back to the
/// features by one more pass over the drawn rows, so that no graph ever holds `[b, 1 + k, d]`.
#[derive(Debug, Clone)]
pub struct BankScores {
    features: Tensor<2>,
    bank: Tensor<2>,
    rows: Tensor<2, Int>,
    temperature: f64,
    path: KernelPath,
    logits: Tensor<2>,
}

impl BankScores {
    /// `logits[i, k] = bank[rows[i, k]] . features[i] / temperature`.
    ///
    /// # Shapes
    /// - `features` `[b, d]`, unit rows, on a graph; `bank` `[n, d]` outside of it; `rows` `[b, 1 + k]`, column 0 the positive
    pub fn new(features: Tensor<2>, bank: Tensor<2>, rows: Tensor<2, Int>, temperature: f64, path: KernelPath) -> Self {
        let dots = scores::dots(features.clone().inner(), bank.clone(), rows.clone(), path);
        let logits = dots.div_scalar(temperature).autodiff().require_grad();
        Self { features, bank, rows, temperature, path, logits }
    }

    /// `[b, 1 + k]`, the leaf.
    pub fn logits(&self) -> Tensor<2> {
        self.logits.clone()
    }

    /// A loss `[1]` made of [`BankScores::logits`] alone as a loss of the features: the same value, its gradient with respect to them.
    pub fn close(self, loss: Tensor<1>) -> Tensor<1> {
        let value = loss.clone().inner();
        let gradient = self.logits.grad(&loss.backward()).expect("the loss is made of the logits");
        let pull = scores::pull(gradient.div_scalar(self.temperature), self.bank, self.rows, self.path);
        // A linear function of the features with that gradient, moved so that it has the loss's value.
        let linear = (self.features * pull).sum_dim(1).mean_dim(0).mul_scalar(self.logits.dims()[0] as f64).reshape([1]);
        linear.clone() - linear.inner() + value
    }
}
