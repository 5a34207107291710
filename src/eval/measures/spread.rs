//! How far apart rows lie: the spread of each dimension, and the two forces of contrastive learning.

use rayon::prelude::*;

use super::{Rows, squared_distance};

/// Mean over the dimensions of the standard deviation of `[n, d]` unit rows (SimSiam, arXiv 2011.10566, section 4.1; divided by n).
///
/// 1/sqrt(d) where the rows point everywhere alike, 0 where they all are the same: the encoder has collapsed. NaN without rows.
pub fn feature_std(rows: &Rows) -> f64 {
    let n = rows.len() as f64;
    let mut mean = vec![0.0f64; rows.width()];
    rows.iter().for_each(|row| mean.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v)));
    mean.iter_mut().for_each(|sum| *sum /= n);
    // In a second pass: a difference of large sums would lose digits.
    let mut squares = vec![0.0f64; rows.width()];
    for row in rows.iter() {
        squares.iter_mut().zip(row).zip(&mean).for_each(|((sum, &v), mean)| *sum += (f64::from(v) - mean).powi(2));
    }
    squares.iter().map(|sum| (sum / n).sqrt()).sum::<f64>() / rows.width() as f64
}

/// Mean squared distance of positive pairs, row i of `a` with row i of `b`, both `[n, d]` unit rows (arXiv 2005.10242, equation 3, with
/// alpha = 2). 0 is perfect, 2 is chance. NaN without rows.
///
/// # Panics
/// Unequal shapes.
pub fn alignment(a: &Rows, b: &Rows) -> f64 {
    assert_eq!((a.len(), a.width()), (b.len(), b.width()), "a positive pair has two rows");
    a.iter().zip(b.iter()).map(|(a, b)| squared_distance(a, b)).sum::<f64>() / a.len() as f64
}

/// Logarithm of the mean of exp(-2 |x - y|^2) over all pairs of `[n, d]` unit rows (arXiv 2005.10242, equation 4, with t = 2): 0 where all
/// are the same, down to about -4 where they spread evenly over the sphere. NaN for less than two rows, which have no pair.
pub fn uniformity(rows: &Rows) -> f64 {
    const T: f64 = 2.0;
    let n = rows.len();
    let of_row = |i: usize| (i + 1..n).map(|j| (-T * squared_distance(rows.row(i), rows.row(j))).exp()).sum::<f64>();
    // Collected first: a parallel sum would depend on the threads.
    let sums: Vec<f64> = (0..n).into_par_iter().map(of_row).collect();
    let pairs = n as f64 * (n as f64 - 1.0) / 2.0;
    (sums.iter().sum::<f64>() / pairs).ln()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, identity, normal_rows, pattern_rows};
    use super::*;

    #[test]
    fn the_spread_tells_isotropic_from_collapsed() {
        for d in [1, 16, 128] {
            let share = feature_std(&normal_rows(2000, d, true)) * (d as f64).sqrt();
            close(share, 1.0, 0.02);
        }
        let same = Rows::new([0.6, 0.8].repeat(50), 2);
        close(feature_std(&same), 0.0, 1e-15);
        assert_eq!(feature_std(&pattern_rows(1, 5)), 0.0, "one row has no spread");
        assert!(feature_std(&Rows::new(Vec::new(), 3)).is_nan());
        // Columns (1, -1) and (3, 5): deviations 1 and 1.
        close(feature_std(&Rows::new(vec![1.0, 3.0, -1.0, 5.0], 2)), 1.0, 1e-15);
    }

    #[test]
    fn alignment_is_the_mean_squared_distance_of_pairs() {
        let a = Rows::new(vec![1.0, 0.0, 0.0, 1.0], 2);
        let b = Rows::new(vec![0.0, 1.0, 0.0, 1.0], 2);
        assert_eq!((alignment(&a, &b), alignment(&a, &a)), (1.0, 0.0));
        close(alignment(&normal_rows(2000, 64, true), &normal_rows(2000, 64, true).select(&shifted(2000))), 2.0, 0.02);
    }

    /// Every row beside the next one.
    fn shifted(n: usize) -> Vec<usize> {
        (0..n).map(|i| (i + 1) % n).collect()
    }

    #[test]
    fn uniformity_is_zero_for_one_place_and_low_for_the_sphere() {
        assert_eq!(uniformity(&Rows::new([0.6, 0.8].repeat(7), 2)), 0.0);
        // All distances of orthonormal rows are sqrt(2).
        close(uniformity(&identity(5)), -4.0, 1e-12);
        assert!(uniformity(&identity(1)).is_nan(), "one row has no pair");
        close(uniformity(&normal_rows(1000, 128, true)), -3.94, 0.02);
    }

    #[test]
    fn the_numbers_are_those_of_numpy() {
        let rows = pattern_rows(6, 4);
        close(feature_std(&rows), 0.872_253_097_695_672_2, 1e-12);
        close(uniformity(&rows), -3.740_852_766_513_297_6, 1e-12);
        close(alignment(&rows, &rows.select(&shifted(6))), 4.166_666_666_666_667, 1e-12);
    }
}
