//! InfoNCE against a memory of negatives (arXiv 1807.03748 equation 4; MoCo, arXiv 1911.05722 equation 1).

use burn::tensor::Tensor;

use super::criterion::softmax;

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
    let logits = logits(queries, keys, memory, temperature);
    let per_query = softmax(logits.clone());
    InfoNce { logits, per_query }
}

/// `[q . key, q . memory] / temperature`, `[n, 1 + k]`.
pub fn logits(queries: Tensor<2>, keys: Tensor<2>, memory: Tensor<2>, temperature: f64) -> Tensor<2> {
    let positive = (queries.clone() * keys).sum_dim(1);
    let negatives = queries.matmul(memory.transpose());
    Tensor::cat(vec![positive, negatives], 1).div_scalar(temperature)
}
