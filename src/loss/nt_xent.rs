//! Every view against all others of the batch: NT-Xent (SimCLR, arXiv 2002.05709 equation 1) and its decoupled forms (arXiv 2110.06848).

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{log_sum_exp, unit_rows};

/// Taken from the logit of a view that does not count: its exponential is zero, and unlike minus infinity it stays finite times zero.
const EXCLUDED: f64 = 1e9;

/// `method.loss` of SimCLR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairLoss {
    /// Softmax over the 2n - 1 other views, the positive among them.
    #[default]
    NtXent,
    /// The positive left out of the sum (arXiv 2110.06848, equation 6).
    Dcl,
    /// The same with a weight on the positive's term: the farther a pair is, the more it counts (equation 7, sigma 0.5).
    Dclw,
}

/// Spread of the weights of DCLW.
const SIGMA: f64 = 0.5;

/// Which rows of two views belong together: row j of the second with row `of[j]` of the first, a permutation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mates {
    of: Vec<u32>,
}

impl Mates {
    /// Row i with row i.
    pub fn same(n: usize) -> Self {
        Self { of: (0..n as u32).collect() }
    }

    /// Row j of the second view with row `of[j]` of the first.
    pub fn new(of: &[u32]) -> Self {
        Self { of: of.to_vec() }
    }

    /// For each row of the first view its row of the second.
    pub fn inverse(&self) -> Vec<u32> {
        let mut back = vec![0; self.of.len()];
        self.of.iter().enumerate().for_each(|(row, &of)| back[of as usize] = row as u32);
        back
    }

    /// Weights of the rows of the second view as those of the rows of both, `[2n]`: a pair has one.
    pub fn weights(&self, of_second: &[f32], device: &Device) -> Tensor<1> {
        let first = self.inverse().into_iter().map(|row| of_second[row as usize]);
        let all: Vec<f32> = first.chain(of_second.iter().copied()).collect();
        let n = all.len();
        Tensor::from_data(TensorData::new(all, [n]), device)
    }

    /// 1 where two of the 2n rows belong together, else 0, `[2n, 2n]`.
    fn mask(&self, device: &Device) -> Tensor<2> {
        let n = self.of.len();
        let mut mask = vec![0.0f32; 4 * n * n];
        for (row, &of) in self.of.iter().enumerate() {
            let (first, second) = (of as usize, n + row);
            mask[first * 2 * n + second] = 1.0;
            mask[second * 2 * n + first] = 1.0;
        }
        Tensor::from_data(TensorData::new(mask, [2 * n, 2 * n]), device)
    }
}

/// The views of a batch, each compared with each: once for every way in which they belong together.
#[derive(Debug, Clone)]
pub struct Compared {
    /// `[2n, 2n]` over the temperature, without a view's own.
    logits: Tensor<2>,
    temperature: f64,
}

impl Compared {
    /// # Shapes
    /// - `first`, `second` `[n, d]`, normalised here
    pub fn new(first: Tensor<2>, second: Tensor<2>, temperature: f64) -> Self {
        let [n, _] = first.dims();
        let views = unit_rows(Tensor::cat(vec![first, second], 0));
        let itself = Tensor::<2>::eye(2 * n, &views.device().inner());
        let logits = views.clone().matmul(views.transpose()).div_scalar(temperature) - itself.mul_scalar(EXCLUDED);
        Self { logits, temperature }
    }

    /// The loss of each of the 2n views, those of the first before those of the second, `[2n]`; their mean is the loss of the batch.
    pub fn losses(&self, mates: &Mates, form: PairLoss) -> Tensor<1> {
        let [views, _] = self.logits.dims();
        let mask = mates.mask(&self.logits.device().inner());
        // The positives by a mask and not by gather: the backward of a gather adds in no fixed order on a GPU.
        let positive: Tensor<2> = (self.logits.clone() * mask.clone()).sum_dim(1);
        let against = match form {
            PairLoss::NtXent => self.logits.clone(),
            PairLoss::Dcl | PairLoss::Dclw => self.logits.clone() - mask.mul_scalar(EXCLUDED),
        };
        let positive = match form {
            PairLoss::NtXent | PairLoss::Dcl => positive,
            PairLoss::Dclw => positive.clone() * self.weights(positive),
        };
        (log_sum_exp(against) - positive).reshape([views])
    }

    /// `2 - n softmax(cosine / sigma)` over the n pairs, for both of their views, `[2n, 1]`, constants.
    fn weights(&self, positive: Tensor<2>) -> Tensor<2> {
        let [views, _] = positive.dims();
        let n = views / 2;
        let cosines: Tensor<2> = positive.inner().mul_scalar(self.temperature).reshape([2, n]);
        softmax(cosines.div_scalar(SIGMA), 1).mul_scalar(-(n as f64)).add_scalar(2.0).reshape([views, 1])
    }
}

/// NT-Xent of a batch: `-log softmax` of the other view of the same image among the 2n - 1 other views, mean over the 2n views, `[1]`.
///
/// # Shapes
/// - `first`, `second` `[n, d]`, row i of both from image i; normalised here
pub fn nt_xent(first: Tensor<2>, second: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [n, _] = first.dims();
    Compared::new(first, second, temperature).losses(&Mates::same(n), PairLoss::NtXent).mean()
}
