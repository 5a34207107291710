//! The parts of the SwAV loss (arXiv 2006.09882): assignments by Sinkhorn, and their prediction from another view. Which crops assign
//! and which predict is the method's business.
//!
//! Scores are `z prototypesᵀ`, `[n, p]`, of unit rows.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

/// Soft assignments of samples to prototypes, `[n, p]`, rows of sum 1, constants: equation 5 by `iterations` rounds of Sinkhorn and
/// Knopp, each of which first gives every prototype the share 1 / p of the batch and then every sample 1 / n.
///
/// In log space, where no score overflows. A round is then two log-softmaxes: each undoes the constant factors before it, so the
/// shares themselves never have to be written.
///
/// # Panics
/// Without iterations there is no assignment.
pub fn sinkhorn(scores: Tensor<2>, epsilon: f64, iterations: usize) -> Tensor<2> {
    assert!(iterations > 0, "Sinkhorn without iterations");
    let scaled = scores.inner().div_scalar(epsilon);
    (0..iterations).fold(scaled, |log, _| log_softmax(log_softmax(log, 0), 1)).exp()
}

/// `-sum_p assignment_ip log softmax(scores_i / T)_p` of each row, `[n]` (equation 2): one view's scores predict another view's assignments.
///
/// # Shapes
/// - `assignments`, `scores` `[n, p]`
pub fn predictions(assignments: Tensor<2>, scores: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [n, _] = scores.dims();
    (log_softmax(scores.div_scalar(temperature), 1) * assignments).sum_dim(1).reshape([n]).neg()
}

/// The mean of [`predictions`], `[1]`.
pub fn swapped_prediction(assignments: Tensor<2>, scores: Tensor<2>, temperature: f64) -> Tensor<1> {
    predictions(assignments, scores, temperature).mean()
}
