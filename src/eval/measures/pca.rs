//! Principal components.

use faer::{Mat, Side};

use super::Rows;
use super::rank::gram;

/// Rows in the coordinates of their first principal components.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// Coordinates, row-major `[n, k]`; components beyond the rank are 0.
    pub scores: Vec<f64>,
    /// Number of components k.
    pub components: usize,
    /// Share of the total variance on each component, `[k]`.
    pub explained: Vec<f64>,
}

impl Pca {
    /// The coordinates of each row.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, f64> {
        self.scores.chunks_exact(self.components)
    }
}

/// The first `components` principal components of `[n, d]` rows, centred. The sign of a component is such that the loading of largest
/// magnitude (the first of equals) is positive. `None` where a value is not finite.
///
/// # Panics
/// `components` of 0.
pub fn pca(rows: &Rows, components: usize) -> Option<Pca> {
    assert!(components > 0, "at least one component");
    let (n, d) = (rows.len(), rows.width());
    let mut out = Pca { scores: vec![0.0; n * components], components, explained: vec![0.0; components] };
    if n == 0 || !rows.finite() {
        return (n == 0).then_some(out);
    }
    let x = centred(rows);
    let eigen = gram(&x).self_adjoint_eigen(Side::Lower).ok()?;
    let (vectors, squares) = (eigen.U(), eigen.S().column_vector());
    let total: f64 = (0..squares.nrows()).map(|i| squares[i].max(0.0)).sum();
    // Eigenvalues ascend; what is left of a constant direction is rounding.
    let kept: Vec<usize> = (0..squares.nrows()).rev().take(components).take_while(|&i| squares[i] > 1e-12 * total).collect();
    let chosen = Mat::from_fn(vectors.nrows(), kept.len(), |i, k| vectors[(i, kept[k])]);
    // Eigenvectors of X X^T are directions of images; X^T turns them into directions of features.
    let loadings = if n <= d { x.transpose() * chosen } else { chosen };
    let scores = &x * &loadings;
    for (k, &at) in kept.iter().enumerate() {
        let loading: Vec<f64> = (0..d).map(|j| loadings[(j, k)]).collect();
        let scale = sign(&loading) / loading.iter().map(|v| v * v).sum::<f64>().sqrt();
        (0..n).for_each(|i| out.scores[i * components + k] = scores[(i, k)] * scale);
        out.explained[k] = squares[at] / total;
    }
    Some(out)
}

/// The rows without the mean of each column.
fn centred(rows: &Rows) -> Mat<f64> {
    let mut x = rows.matrix();
    let n = x.nrows();
    for j in 0..x.ncols() {
        let mean = (0..n).map(|i| x[(i, j)]).sum::<f64>() / n as f64;
        (0..n).for_each(|i| x[(i, j)] -= mean);
    }
    x
}

/// The sign of the value of largest magnitude. Values that differ only by rounding count as equal, so that it is the same everywhere.
fn sign(values: &[f64]) -> f64 {
    let most = values.iter().fold(0.0f64, |most, v| most.max(v.abs()));
    values.iter().find(|v| v.abs() >= most * (1.0 - 1e-9)).map_or(1.0, |v| v.signum())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, normal_rows, pattern_rows};
    use super::*;

    #[test]
    fn a_line_has_one_component_with_a_positive_loading() {
        // Direction (-2, 1): the larger loading is the first, so the first row, which has it largest, comes out positive.
        let rows = Rows::new(vec![4.0, 1.0, 2.0, 2.0, 0.0, 3.0], 2);
        let got = pca(&rows, 2).unwrap();
        let step = 5.0f64.sqrt();
        for (got, want) in got.scores.iter().zip([step, 0.0, 0.0, 0.0, -step, 0.0]) {
            close(*got, want, 1e-12);
        }
        close(got.explained[0], 1.0, 1e-12);
        assert_eq!(got.explained[1], 0.0);
    }

    #[test]
    fn one_row_equal_rows_and_one_dimension_stay_finite() {
        for rows in [pattern_rows(1, 3), Rows::new([1.0, 2.0].repeat(4), 2), Rows::new(vec![0.0; 6], 3)] {
            let got = pca(&rows, 2).unwrap();
            assert!(got.scores.iter().chain(&got.explained).all(|v| *v == 0.0), "{got:?}");
        }
        let line = pca(&Rows::new(vec![1.0, 2.0, 6.0], 1), 2).unwrap();
        assert_eq!(line.iter().map(<[f64]>::to_vec).collect::<Vec<_>>(), [[-2.0, 0.0], [-1.0, 0.0], [3.0, 0.0]]);
        assert_eq!(pca(&Rows::new(vec![1.0, f32::INFINITY], 1), 2), None);
        assert_eq!(pca(&Rows::new(Vec::new(), 3), 2).unwrap().scores, [0.0; 0]);
    }

    /// Wide and tall: both Gram matrices; scores by NumPy's SVD of the centred rows with the same sign.
    #[test]
    fn the_numbers_are_those_of_numpy() {
        for ((n, d), scores, explained) in
            [((6, 4), &TALL[..], [0.785_749_207, 0.139_602_392]), ((3, 5), &WIDE, [0.854_714_698, 0.145_285_302])]
        {
            let got = pca(&pattern_rows(n, d), 2).unwrap();
            assert_eq!(got.scores.len(), scores.len());
            got.scores.iter().zip(scores).for_each(|(&got, &want)| close(got, want, 1e-8));
            got.explained.iter().zip(explained).for_each(|(&got, want)| close(got, want, 1e-8));
        }
    }

    #[rustfmt::skip]
    const TALL: [f64; 12] = [
        -1.647_133_102, -0.868_884_425, 0.714_552_761, -0.951_784_687, 2.095_937_576, 0.140_457_369,
        1.737_826_785, 0.434_071_799, -1.290_230_445, 0.647_518_620, -1.610_953_574, 0.598_621_324,
    ];
    const WIDE: [f64; 6] = [-1.217_143_569, 0.888_478_963, -1.257_711_326, -0.878_822_443, 2.474_854_895, -0.009_656_520];

    #[test]
    fn shares_of_all_components_add_up() {
        let got = pca(&normal_rows(60, 8, false), 8).unwrap();
        close(got.explained.iter().sum(), 1.0, 1e-12);
        assert!(got.explained.is_sorted_by(|a, b| a >= b));
    }
}
