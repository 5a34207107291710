//! The Un-Mix loss on MoCo (arXiv 2003.05438v5, equation 3, as its program computes it).

use burn::tensor::{Int, Tensor};

use super::info_nce::info_nce;

/// The mixture of one step, as the loss needs it.
#[derive(Debug, Clone)]
pub struct Mixed {
    /// Embeddings of the mixed batch, `[n, d]`, unit rows.
    pub queries: Tensor<2>,
    /// Weight of the own image per row, `[n]` (all alike unless lambda is drawn per sample).
    pub lambda: Tensor<1>,
    /// Row i of `queries.select(inverse)` is the mixture in which image i is the partner; reversal for the flip. `[n]`.
    pub inverse: Tensor<1, Int>,
}

/// The two terms of a mixture against one set of keys, each a plain mean `[1]`, and their weighted sum.
#[derive(Debug, Clone)]
pub struct MixtureTerms {
    /// Mixtures against the keys of their own images.
    pub own: Tensor<1>,
    /// Mixtures against the keys of their partners.
    pub partner: Tensor<1>,
    /// `mean(lambda own_i + (1 - lambda) partner_i)`.
    pub total: Tensor<1>,
}

/// `lambda L(q_m, k) + (1 - lambda) L(rev(q_m), k)` with the softmax loss against a memory.
///
/// # Shapes
/// - `keys` `[n, d]`, `memory` `[k, d]`, both without graph
pub fn mixture_terms(mixed: &Mixed, keys: Tensor<2>, memory: Tensor<2>, temperature: f64) -> MixtureTerms {
    mixture_terms_by(mixed, |queries| info_nce(queries, keys.clone(), memory.clone(), temperature).per_query)
}

/// The same for any loss: `per_query` maps the queries `[n, d]` of either term to their losses `[n]`.
pub fn mixture_terms_by(mixed: &Mixed, per_query: impl Fn(Tensor<2>) -> Tensor<1>) -> MixtureTerms {
    let own = per_query(mixed.queries.clone());
    let partner = per_query(mixed.reversed());
    MixtureTerms {
        own: own.clone().mean(),
        partner: partner.clone().mean(),
        total: (own * mixed.lambda.clone()).mean() + (partner * mixed.reversed_weight()).mean(),
    }
}

impl Mixed {
    /// Row i: the mixture in which image i is the partner, `[n, d]`.
    pub fn reversed(&self) -> Tensor<2> {
        self.queries.clone().select(0, self.inverse.clone())
    }

    /// Weight of the partner in each row of [`Mixed::reversed`], `[n]`.
    pub fn reversed_weight(&self) -> Tensor<1> {
        self.lambda.clone().select(0, self.inverse.clone()).neg().add_scalar(1.0)
    }
}
