//! The effective rank of features.

use faer::{Mat, Side};

use super::Rows;

/// Effective rank of `[n, d]` rows, without centring (RankMe, arXiv 2210.02885, equations 1 and 2): exp of the entropy of the singular
/// values, each as its share of their sum plus 1e-7. From 1, all rows on one line, to min(n, d).
///
/// 0 for rows of zeros, NaN where a value is not finite.
pub fn rankme(rows: &Rows) -> f64 {
    effective_rank(&singular_values(rows))
}

/// exp of the entropy of `values` of at least 0, each as its share of their sum plus 1e-7; 0 where all are 0.
pub(super) fn effective_rank(values: &[f64]) -> f64 {
    const EPSILON: f64 = 1e-7;
    let sum: f64 = values.iter().sum();
    if sum == 0.0 {
        return 0.0;
    }
    let entropy: f64 = values.iter().map(|value| value / sum + EPSILON).map(|p| -p * p.ln()).sum();
    entropy.exp()
}

/// The min(n, d) singular values, as roots of the eigenvalues of the smaller Gram matrix: a decomposition of the rows themselves would take
/// many times as long, and what the squares lose is below 1e-7 of the largest value.
fn singular_values(rows: &Rows) -> Vec<f64> {
    if !rows.finite() {
        return vec![f64::NAN];
    }
    match gram(&rows.matrix()).self_adjoint_eigenvalues(Side::Lower) {
        Ok(squares) => squares.into_iter().map(|square| square.max(0.0).sqrt()).collect(),
        Err(_) => vec![f64::NAN],
    }
}

/// X X^T or X^T X of `[n, d]` values, whichever is smaller.
pub(super) fn gram(x: &Mat<f64>) -> Mat<f64> {
    if x.nrows() <= x.ncols() { x * x.transpose() } else { x.transpose() * x }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, identity, normal_rows, pattern_rows};
    use super::*;

    #[test]
    fn orthonormal_rows_have_full_rank_and_equal_ones_rank_one() {
        for n in [1, 2, 7, 40] {
            close(rankme(&identity(n)), n as f64, 1e-4 * n as f64);
        }
        close(rankme(&Rows::new([0.6, 0.8, 0.0].repeat(20), 3)), 1.0, 1e-4);
        close(rankme(&Rows::new(vec![1.0, -2.0, 3.0], 1)), 1.0, 1e-4);
        assert_eq!(rankme(&Rows::new(vec![0.0; 12], 3)), 0.0);
        assert!(rankme(&Rows::new(vec![1.0, f32::NAN], 1)).is_nan());
    }

    #[test]
    fn isotropic_rows_have_nearly_full_rank() {
        let rank = rankme(&normal_rows(2000, 32, true));
        assert!((31.5..32.0).contains(&rank), "{rank}");
    }

    /// Wide and tall: both Gram matrices.
    #[test]
    fn the_numbers_are_those_of_numpy() {
        close(rankme(&pattern_rows(6, 4)), 3.453_733_451_787_155_4, 1e-6);
        close(rankme(&pattern_rows(3, 5)), 2.667_611_870_792_723_7, 1e-6);
    }
}
