//! Regressions of one view's embedding on another's: BYOL (arXiv 2006.07733 equation 2) and SimSiam (arXiv 2011.10566 equation 1).

use burn::tensor::Tensor;

use super::unit_rows;

/// Cosine of each row with its target, `[n]`; targets are constants, whatever graph they come with.
///
/// # Shapes
/// - `predictions`, `targets` `[n, d]`, normalised here
pub fn cosines(predictions: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let [n, _] = predictions.dims();
    (unit_rows(predictions) * unit_rows(targets.inner())).sum_dim(1).reshape([n])
}

/// BYOL: `2 - 2 cos` of each row, `[n]`, the squared distance of the unit rows. One direction; the loss of a pair of views is the sum of the means of
/// both.
///
/// # Shapes
/// - as [`cosines`]
pub fn distances(predictions: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    cosines(predictions, targets).mul_scalar(-2.0).add_scalar(2.0)
}

/// The mean of [`distances`], `[1]`.
pub fn byol(predictions: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    distances(predictions, targets).mean()
}

/// SimSiam: `-cos / 2` of each row, `[n]`: the loss of a pair of views is the sum of the means of both directions.
///
/// # Shapes
/// - as [`cosines`]
pub fn half_negative_cosines(predictions: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    cosines(predictions, targets).mul_scalar(-0.5)
}
