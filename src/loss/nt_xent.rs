//! NT-Xent: every view against all others of the batch (SimCLR, arXiv 2002.05709 equation 1).

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

use super::unit_rows;

/// Taken from the logit of a view with itself: its exponential is zero, and unlike minus infinity it stays finite times zero.
const EXCLUDED: f64 = 1e9;

/// `-log softmax` of the other view of the same image among the 2n - 1 other views, mean over the 2n views, `[1]`.
///
/// # Shapes
/// - `first`, `second` `[n, d]`, row i of both from image i; normalised here
pub fn nt_xent(first: Tensor<2>, second: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [n, _] = first.dims();
    let views = unit_rows(Tensor::cat(vec![first, second], 0));
    let itself = Tensor::<2>::eye(2 * n, &views.device().inner());
    let mate = itself.clone().roll_dim(n, 0);
    let logits = views.clone().matmul(views.transpose()).div_scalar(temperature) - itself.mul_scalar(EXCLUDED);
    // The positives by a mask and not by gather: the backward of a gather adds in no fixed order on a GPU.
    (log_softmax(logits, 1) * mate).sum_dim(1).mean().neg()
}
