//! InfoNCE against a memory of negatives (arXiv 1807.03748 equation 4; MoCo, arXiv 1911.05722 equation 1).

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

/// The result for a batch of queries.
#[derive(Debug, Clone)]
pub struct InfoNce {
    /// `[n, 1 + k]`, column 0 is the positive.
    pub logits: Tensor<2>,
    /// `-log softmax(logits)[0]` per query, `[n]`.
    pub per_query: Tensor<1>,
}

impl InfoNce {
    /// Mean over the queries, `[1]`.
    pub fn loss(&self) -> Tensor<1> {
        self.per_query.clone().mean()
    }

    /// `mean_i w_i loss_i` with constant weights `[n]`.
    pub fn weighted(&self, weights: Tensor<1>) -> Tensor<1> {
        (self.per_query.clone() * weights).mean()
    }

    /// The mean weight that the softmax gives to the positive, `[1]`, without graph.
    pub fn positive_probability(&self) -> Tensor<1> {
        self.per_query.clone().inner().neg().exp().mean()
    }
}

/// Queries against their positives and a memory. `keys` and `memory` are constants: pass them without graph.
///
/// # Shapes
/// - `queries`, `keys` `[n, d]`, unit rows
/// - `memory` `[k, d]`
pub fn info_nce(queries: Tensor<2>, keys: Tensor<2>, memory: Tensor<2>, temperature: f64) -> InfoNce {
    let [n, _] = queries.dims();
    let positive = (queries.clone() * keys).sum_dim(1);
    let negatives = queries.matmul(memory.transpose());
    let logits = Tensor::cat(vec![positive, negatives], 1).div_scalar(temperature);
    // The positive by slice and not by gather: the backward of a gather adds in no fixed order on a GPU.
    let per_query = log_softmax(logits.clone(), 1).slice([0..n, 0..1]).neg().reshape([n]);
    InfoNce { logits, per_query }
}
