//! The effective rank of what tells images apart beyond what augmentation changes.

use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::{Mat, Par, Side};

use super::Rows;
use super::rank::{effective_rank, gram};

/// Added to the covariance within images on the diagonal (arXiv 2312.04000, delta in section 4).
const DELTA: f64 = 1e-4;
/// Variation of a unit row's values that a forward in f32 may have by itself. Without a floor, the rounding of a collapsed encoder, which points
/// everywhere alike, would have full rank.
const ROUNDING: f64 = 1e-6;
/// Images whose differences from their means are multiplied together, so that those of wide rows need not be held all at once.
const BLOCK: usize = 64;

/// LiDAR (arXiv 2312.04000, section 4) of n images in q views, row i of each of `views` being one of image i, `[n, d]` unit rows: exp of the
/// entropy of the eigenvalues of W^(-1/2) B W^(-1/2), each as its share of their sum plus 1e-7. B is the covariance of the images' means, W the
/// mean covariance of an image's views plus 1e-4 on the diagonal, as in linear discriminant analysis with an image for a class. From 1, where
/// images differ in one direction or not at all, to min(n, d).
///
/// NaN without rows and where a value is not finite.
///
/// # Panics
/// No view, or views of unequal shapes.
pub fn lidar(views: &[Rows]) -> f64 {
    let (n, d) = (views[0].len(), views[0].width());
    assert!(views.iter().all(|view| (view.len(), view.width()) == (n, d)), "every image has a row in every view");
    if n == 0 || !views.iter().all(Rows::finite) {
        return f64::NAN;
    }
    let means = Mat::from_fn(d, n, |j, i| views.iter().map(|view| f64::from(view.row(i)[j])).sum::<f64>() / views.len() as f64);
    let centre: Vec<f64> = (0..d).map(|j| (0..n).map(|i| means[(j, i)]).sum::<f64>() / n as f64).collect();
    // With W = L L^T and B = M M^T / n, the eigenvalues are those of (L^-1 M) (L^-1 M)^T / n: no root of W is needed.
    let mut whitened = Mat::from_fn(d, n, |j, i| means[(j, i)] - centre[j]);
    let Ok(factor) = within(views, &means).llt(Side::Lower) else { return f64::NAN };
    solve_lower_triangular_in_place(factor.L(), whitened.as_mut(), Par::Seq);
    let Ok(values) = gram(&whitened).self_adjoint_eigenvalues(Side::Lower) else { return f64::NAN };
    let mut values: Vec<f64> = values.into_iter().map(|value| value.max(0.0) / n as f64).collect();
    // Those of the smaller Gram matrix; the others are 0.
    values.resize(d, 0.0);
    if values.iter().sum::<f64>() <= d as f64 * ROUNDING.powi(2) / DELTA {
        return 1.0;
    }
    effective_rank(&values)
}

/// The mean over all views of the covariance around their images' `means` `[d, n]`, plus [`DELTA`] on the diagonal, `[d, d]`.
fn within(views: &[Rows], means: &Mat<f64>) -> Mat<f64> {
    let (d, n) = (means.nrows(), means.ncols());
    let mut sum = Mat::<f64>::zeros(d, d);
    for first in (0..n).step_by(BLOCK) {
        let count = BLOCK.min(n - first);
        let apart = Mat::from_fn(d, count * views.len(), |j, column| {
            let image = first + column % count;
            f64::from(views[column / count].row(image)[j]) - means[(j, image)]
        });
        sum += &apart * apart.transpose();
    }
    let mean = 1.0 / (n * views.len()) as f64;
    Mat::from_fn(d, d, |i, j| sum[(i, j)] * mean + if i == j { DELTA } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, identity, normal_rows, pattern_rows};
    use super::*;

    /// As the paper writes it, in plain loops: covariances entry by entry, W^(-1/2) and the spectrum by Jacobi's rotations.
    fn plain(views: &[Rows]) -> f64 {
        let (n, d, q) = (views[0].len(), views[0].width(), views.len());
        let value = |v: usize, i: usize, j: usize| f64::from(views[v].row(i)[j]);
        let mean = |i: usize, j: usize| (0..q).map(|v| value(v, i, j)).sum::<f64>() / q as f64;
        let centre = |j: usize| (0..n).map(|i| mean(i, j)).sum::<f64>() / n as f64;
        let square =
            |of: &dyn Fn(usize, usize) -> f64| (0..d).map(|a| (0..d).map(|b| of(a, b)).collect()).collect::<Vec<Vec<f64>>>();
        let between = square(&|a, b| (0..n).map(|i| (mean(i, a) - centre(a)) * (mean(i, b) - centre(b))).sum::<f64>() / n as f64);
        let within = square(&|a, b| {
            let of = |i: usize, v: usize| (value(v, i, a) - mean(i, a)) * (value(v, i, b) - mean(i, b));
            let sum: f64 = (0..n).map(|i| (0..q).map(|v| of(i, v)).sum::<f64>()).sum();
            sum / (n * q) as f64 + if a == b { 1e-4 } else { 0.0 }
        });
        let (squares, axes) = jacobi(within);
        let root = square(&|a, b| (0..d).map(|k| axes[a][k] * axes[b][k] / squares[k].sqrt()).sum());
        let product = |x: &Vec<Vec<f64>>, y: &Vec<Vec<f64>>| square(&|a, b| (0..d).map(|k| x[a][k] * y[k][b]).sum());
        let (values, _) = jacobi(product(&product(&root, &between), &root));
        let sum: f64 = values.iter().sum();
        let entropy: f64 = values.iter().map(|value| value.max(0.0) / sum + 1e-7).map(|p| -p * p.ln()).sum();
        entropy.exp()
    }

    /// Eigenvalues and, as columns, eigenvectors of a symmetric matrix.
    fn jacobi(mut a: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
        let d = a.len();
        let mut axes: Vec<Vec<f64>> = (0..d).map(|i| (0..d).map(|j| f64::from(u8::from(i == j))).collect()).collect();
        for _ in 0..60 {
            for p in 0..d {
                for q in p + 1..d {
                    let angle = 0.5 * (2.0 * a[p][q]).atan2(a[q][q] - a[p][p]);
                    let (s, c) = angle.sin_cos();
                    for row in a.iter_mut().chain(&mut axes) {
                        (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                    }
                    let (above, below) = a.split_at_mut(q);
                    for (up, low) in above[p].iter_mut().zip(&mut below[0]) {
                        (*up, *low) = (c * *up - s * *low, s * *up + c * *low);
                    }
                }
            }
        }
        ((0..d).map(|k| a[k][k]).collect(), axes)
    }

    /// `rows` and the same with every value moved by `step`, once up and once down.
    fn moved(rows: &Rows, step: impl Fn(usize, usize) -> f32) -> [Rows; 2] {
        [1.0, -1.0].map(|sign| {
            let row = |i: usize| rows.row(i).iter().enumerate().map(move |(j, v)| (i, j, *v));
            let values = (0..rows.len()).flat_map(row).map(|(i, j, v)| v + sign * step(i, j)).collect();
            Rows::new(values, rows.width())
        })
    }

    #[test]
    fn a_collapsed_encoder_has_rank_one() {
        let point = Rows::new([0.6, 0.8].repeat(20), 2);
        assert_eq!(lidar(&[point.clone(), point.clone()]), 1.0);
        // Rounding is no direction, though it points everywhere.
        let noise = normal_rows(40, 16, false);
        let values = noise.iter().flatten().map(|v| 0.25 + 1e-7 * v).collect();
        assert_eq!(lidar(&[Rows::new(values, 16), Rows::new(vec![0.25; 40 * 16], 16)]), 1.0);
        let line = Rows::new((0..40).flat_map(|i| [i as f32 / 40.0, 0.0, 0.0]).collect(), 3);
        close(lidar(&[line.clone(), line]), 1.0, 1e-4);
        assert_eq!(lidar(&[identity(1), identity(1)]), 1.0, "one image differs from none");
    }

    #[test]
    fn isotropic_images_have_full_rank() {
        let rows = normal_rows(2000, 32, true);
        let rank = lidar(&[rows.clone(), rows]);
        assert!((31.5..32.0).contains(&rank), "{rank}");
    }

    /// Images at +-e_j, views that move along e_j alone, each by its own width: B is 1/d, W diagonal.
    #[test]
    fn directions_that_augmentation_moves_count_less() {
        let d = 6;
        let unit = |sign: f32| identity(d).iter().flatten().map(|v| sign * v).collect::<Vec<_>>();
        let images = Rows::new([unit(1.0), unit(-1.0)].concat(), d);
        let width = |j: usize| 0.1 * j as f32;
        let views: Vec<Rows> = (0..d).flat_map(|k| moved(&images, |_, j| if j == k { width(j) } else { 0.0 })).collect();
        let values: Vec<f64> = (0..d).map(|j| 1.0 / (f64::from(width(j)).powi(2) / d as f64 + DELTA)).collect();
        close(lidar(&views), effective_rank(&values), 1e-5);
        assert!(lidar(&views) < 2.0, "the still direction stands out of six");
    }

    /// More rows than dimensions and fewer, and more images than one block has.
    #[test]
    fn the_numbers_are_those_of_the_plain_definition() {
        for (n, d) in [(9, 4), (4, 7), (150, 5)] {
            let rows = pattern_rows(n, d);
            let [a, b] = moved(&rows, |i, j| 0.1 + 0.05 * ((i * 3 + j * 5) % 4) as f32);
            let [c, _] = moved(&rows, |i, j| 0.2 * ((i + 2 * j) % 3) as f32);
            let views = [a, b, c];
            close(lidar(&views), plain(&views), 1e-6);
        }
    }

    #[test]
    fn what_is_no_number_has_no_rank() {
        assert!(lidar(&[Rows::new(vec![1.0, f32::NAN], 1)]).is_nan());
        assert!(lidar(&[Rows::new(Vec::new(), 3)]).is_nan());
    }
}
