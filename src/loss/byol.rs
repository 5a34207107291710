//! The regression of BYOL (arXiv 2006.07733 equation 2).

use burn::tensor::Tensor;

use super::unit_rows;

/// `mean_i (2 - 2 cos(prediction_i, target_i))`, `[1]`: the squared distance of the unit rows. One direction; the loss of a pair of
/// views is the sum of both.
///
/// # Shapes
/// - `predictions`, `targets` `[n, d]`, normalised here; targets are constants, whatever graph they come with
pub fn byol(predictions: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let cosines = (unit_rows(predictions) * unit_rows(targets.inner())).sum_dim(1);
    cosines.mean().mul_scalar(-2.0).add_scalar(2.0)
}
