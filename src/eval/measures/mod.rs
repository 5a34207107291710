//! What rows of features look like, as pure functions. Sums are f64 and in a fixed order: equal rows give equal numbers, whatever the
//! number of threads.
//!
//! Letters: n rows (one per image), d dimensions.

pub mod flatness;
pub mod histogram;
pub mod lidar;
pub mod pca;
pub mod rank;
pub mod spread;
pub mod tsne;

pub use flatness::{Flatness, FlatnessMeter};
pub use histogram::Histogram;
pub use lidar::lidar;
pub use pca::{Pca, pca};
pub use rank::rankme;
pub use spread::{alignment, feature_std, uniformity};
pub use tsne::{Tsne, tsne};

use burn::tensor::Tensor;
use faer::Mat;

/// A matrix of features, row-major `[n, d]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    values: Vec<f32>,
    width: usize,
}

impl Rows {
    /// `values` as rows of `width` numbers each.
    ///
    /// # Panics
    /// A width of 0, or values that are not a whole number of rows.
    pub fn new(values: Vec<f32>, width: usize) -> Self {
        assert!(width > 0 && values.len().is_multiple_of(width), "{} values are no rows of width {width}", values.len());
        Self { values, width }
    }

    /// The rows of a tensor `[n, d]`, read back from its device.
    pub fn of(tensor: &Tensor<2>) -> Self {
        let width = tensor.dims()[1];
        Self::new(tensor.clone().into_data().try_to_vec::<f32>().expect("features are f32"), width)
    }

    /// Number of rows n.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// True without a single row.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Dimensions d.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The rows in order.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.width)
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..(index + 1) * self.width]
    }

    /// The rows of the given numbers, in their order.
    pub fn select(&self, indices: &[usize]) -> Self {
        Self { values: indices.iter().flat_map(|&index| self.row(index)).copied().collect(), width: self.width }
    }

    /// Whether every value is finite; an eigenvalue of others does not exist.
    fn finite(&self) -> bool {
        self.values.iter().all(|value| value.is_finite())
    }

    fn matrix(&self) -> Mat<f64> {
        Mat::from_fn(self.len(), self.width, |row, column| f64::from(self.values[row * self.width + column]))
    }
}

/// Squared Euclidean distance.
fn squared_distance<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| (a.into() - b.into()).powi(2)).sum()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    /// Normal rows, by `unit` divided by their length.
    pub(in crate::eval) fn normal_rows(n: usize, d: usize, unit: bool) -> Rows {
        let mut stream = Stream::new(1, Purpose::Probe, &[n as u64, d as u64]);
        let mut values: Vec<f32> = (0..n * d).map(|_| stream.normal() as f32).collect();
        if unit {
            values.chunks_exact_mut(d).for_each(|row| {
                let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
                row.iter_mut().for_each(|v| *v /= length);
            });
        }
        Rows::new(values, d)
    }

    /// Small numbers for comparison with NumPy: `((7 i^2 + 3 i) % 11 - 5) / 4`.
    pub(in crate::eval) fn pattern_rows(n: usize, d: usize) -> Rows {
        Rows::new((0..n * d).map(|i| (((7 * i * i + 3 * i) % 11) as f32 - 5.0) / 4.0).collect(), d)
    }

    pub(in crate::eval) fn identity(n: usize) -> Rows {
        Rows::new((0..n * n).map(|i| f32::from(u8::from(i % (n + 1) == 0))).collect(), n)
    }

    #[track_caller]
    pub(in crate::eval) fn close(got: f64, want: f64, tolerance: f64) {
        assert!((got - want).abs() <= tolerance, "{got}, want {want} within {tolerance}");
    }

    #[test]
    fn rows_are_picked_by_number() {
        let rows = Rows::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2);
        assert_eq!((rows.len(), rows.width(), rows.row(1)), (3, 2, [3.0, 4.0].as_slice()));
        assert_eq!(rows.select(&[2, 0]), Rows::new(vec![5.0, 6.0, 1.0, 2.0], 2));
        assert_eq!(rows.iter().count(), 3);
        assert!(!rows.is_empty() && Rows::new(Vec::new(), 2).is_empty());
    }
}
