//! How flat the softmax of the pooled features is: the paper's picture of what image mixtures do to predictions (arXiv 2003.05438,
//! Figure 3, on the pooled output of width 512 or 2048).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::Rows;

/// Means over images of the softmax of their pooled features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flatness {
    /// Number of features f.
    pub width: usize,
    /// Images seen.
    pub images: usize,
    /// Probabilities of each image in descending order, averaged place by place, `[f]`.
    pub mean_sorted: Vec<f64>,
    /// Mean entropy in nats.
    pub entropy: f64,
    /// Entropy of a flat softmax, ln(f).
    pub entropy_max: f64,
    /// Mean of the largest probability: the first of `mean_sorted`.
    pub largest: f64,
}

/// Sums over batches; a whole set is never held.
#[derive(Debug, Clone, Default)]
pub struct FlatnessMeter {
    images: usize,
    sorted: Vec<f64>,
    entropy: f64,
}

impl FlatnessMeter {
    /// Adds a batch: `features` `[b, f]`, raw as they leave the pooling (not unit rows), at temperature 1.
    ///
    /// # Panics
    /// A width other than that of the batches before.
    pub fn add(&mut self, features: &Tensor<2>) {
        self.add_rows(&Rows::of(features));
    }

    /// As [`add`](Self::add), of rows on the host.
    pub fn add_rows(&mut self, rows: &Rows) {
        self.sorted.resize(rows.width().max(self.sorted.len()), 0.0);
        assert_eq!(self.sorted.len(), rows.width(), "batches of one width");
        for row in rows.iter() {
            let mut p = softmax(row);
            self.entropy += p.iter().map(|&p| if p > 0.0 { -p * p.ln() } else { 0.0 }).sum::<f64>();
            p.sort_unstable_by(|a, b| b.total_cmp(a));
            self.sorted.iter_mut().zip(&p).for_each(|(sum, p)| *sum += p);
        }
        self.images += rows.len();
    }

    /// The means; NaN and 0 before the first image.
    pub fn finish(self) -> Flatness {
        let (n, width) = (self.images as f64, self.sorted.len());
        let mean_sorted: Vec<f64> = self.sorted.iter().map(|sum| sum / n).collect();
        Flatness {
            width,
            images: self.images,
            entropy: self.entropy / n,
            entropy_max: (width as f64).ln(),
            largest: mean_sorted.first().copied().unwrap_or(f64::NAN),
            mean_sorted,
        }
    }
}

/// Softmax of one row, in f64.
fn softmax(row: &[f32]) -> Vec<f64> {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut p: Vec<f64> = row.iter().map(|&v| (f64::from(v) - f64::from(most)).exp()).collect();
    let sum: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= sum);
    p
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, pattern_rows};
    use super::*;

    fn of(batches: &[Rows]) -> Flatness {
        let mut meter = FlatnessMeter::default();
        batches.iter().for_each(|rows| meter.add_rows(rows));
        meter.finish()
    }

    #[test]
    fn equal_features_are_flat_and_one_large_one_is_a_peak() {
        let flat = of(&[Rows::new(vec![3.0; 8], 4)]);
        assert_eq!((flat.width, flat.images, flat.mean_sorted), (4, 2, vec![0.25; 4]));
        close(flat.entropy, flat.entropy_max, 1e-15);
        close(flat.entropy_max, 4.0f64.ln(), 1e-15);
        let peak = of(&[Rows::new(vec![-1000.0, 1000.0, 0.0], 3)]);
        assert_eq!((peak.largest, peak.entropy, peak.mean_sorted), (1.0, 0.0, vec![1.0, 0.0, 0.0]));
    }

    /// Sorted per image, then averaged: not the other way round.
    #[test]
    fn images_are_sorted_before_they_are_averaged() {
        let ln = |p: f32| p.ln();
        let got = of(&[Rows::new(vec![ln(0.7), ln(0.3)], 2), Rows::new(vec![ln(0.1), ln(0.9)], 2)]);
        close(got.mean_sorted[0], 0.8, 1e-7);
        close(got.mean_sorted[1], 0.2, 1e-7);
        assert_eq!(got.largest, got.mean_sorted[0]);
    }

    #[test]
    fn one_feature_is_certain_and_no_image_has_no_mean() {
        let one = of(&[Rows::new(vec![5.0], 1)]);
        assert_eq!((one.entropy, one.entropy_max, one.largest), (0.0, 0.0, 1.0));
        assert!(of(&[]).entropy.is_nan() && of(&[]).largest.is_nan());
    }

    #[test]
    fn the_numbers_are_those_of_numpy_in_any_batches() {
        let rows = pattern_rows(6, 4);
        let whole = of(std::slice::from_ref(&rows));
        close(whole.entropy, 1.012_351_956_218_198_2, 1e-12);
        let sorted = [0.624_509_589_217_171, 0.202_769_495_886_289_26, 0.101_470_137_567_031_45, 0.071_250_777_329_508_37];
        whole.mean_sorted.iter().zip(sorted).for_each(|(&got, want)| close(got, want, 1e-12));
        assert_eq!(whole, of(&[rows.select(&[0, 1]), rows.select(&[2, 3, 4, 5])]));
    }

    #[test]
    fn the_names_in_json_are_fixed() {
        let text = serde_json::to_string(&of(&[Rows::new(vec![0.0; 2], 2)])).unwrap();
        assert!(text.starts_with(r#"{"width":2,"images":1,"mean_sorted":[0.5,0.5],"entropy":0.69"#), "{text}");
        assert!(text.contains(r#","entropy_max":0.69"#) && text.ends_with(r#","largest":0.5}"#), "{text}");
    }
}
