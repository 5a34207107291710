//! The Un-Mix loss on MoCo (arXiv 2003.05438v5, equation 3, as its program computes it), for any loss per query.
//!
//! The program reverses the queries of the mixture for its second term. That term is the same when the mixtures stay in place and meet the
//! positives of their partners instead, which are constants: nothing on the graph has to be gathered.

use burn::tensor::Tensor;

/// The two terms of a mixture, each a plain mean `[1]`, and their weighted sum.
#[derive(Debug, Clone)]
pub struct MixtureTerms {
    /// Mixtures against the positives of their own images.
    pub own: Tensor<1>,
    /// Mixtures against the positives of their partners.
    pub partner: Tensor<1>,
    /// `mean(lambda_j own_j + (1 - lambda_j) partner_j)` over the mixtures j.
    pub total: Tensor<1>,
}

/// `lambda L(q_m, k) + (1 - lambda) L(rev(q_m), k)`.
///
/// # Shapes
/// - `own`, `partner` `[n]`: the loss of each mixture against the positive of its own image, and of its partner
/// - `lambda` `[n]`, the weight of the own image in each mixture
pub fn mixture_terms(own: Tensor<1>, partner: Tensor<1>, lambda: Tensor<1>) -> MixtureTerms {
    let rest = lambda.clone().neg().add_scalar(1.0);
    MixtureTerms::weighted(own, lambda, partner, rest)
}

impl MixtureTerms {
    /// The same with a weight of each row in either term, all `[n]`.
    pub fn weighted(own: Tensor<1>, own_weights: Tensor<1>, partner: Tensor<1>, partner_weights: Tensor<1>) -> Self {
        Self {
            own: own.clone().mean(),
            partner: partner.clone().mean(),
            total: (own * own_weights).mean() + (partner * partner_weights).mean(),
        }
    }

    /// The terms of a pair of views in both directions.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { own: self.own + other.own, partner: self.partner + other.partner, total: self.total + other.total }
    }
}
