//! The memory bank of instance discrimination: one row per image (arXiv 1805.01978, section 3.1; CMC, arXiv 1906.05849, keeps two).

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

use crate::loss::unit_rows;
use crate::rng::{Purpose, Stream};

/// n rows of width d.
#[derive(Debug, Clone)]
pub struct Bank {
    rows: Tensor<2>,
}

impl Bank {
    /// Rows of U(-s, s), s = 1/sqrt(d/3), not normalised; `name` separates the banks of one run.
    pub fn init(images: usize, dim: usize, seed: u64, name: &str, device: &Device) -> Self {
        let mut stream = Stream::named(seed, Purpose::Init, &format!("memory/{name}"));
        let bound = 1.0 / (dim as f64 / 3.0).sqrt();
        let values: Vec<f32> = (0..images * dim).map(|_| stream.range(-bound, bound) as f32).collect();
        Self::restore(Tensor::from_data(TensorData::new(values, [images, dim]), device))
    }

    /// A bank with given rows `[n, d]`.
    pub fn restore(rows: Tensor<2>) -> Self {
        Self { rows }
    }

    /// All rows, `[n, d]`, as they are now.
    pub fn rows(&self) -> Tensor<2> {
        self.rows.clone()
    }

    /// `row_y <- normalise(momentum row_y + (1 - momentum) feature)`. Where an image occurs twice in the batch, its last feature counts.
    ///
    /// # Shapes
    /// - `features` `[b, d]`, without graph; `images` their b rows
    pub fn update(&mut self, images: &[u32], features: Tensor<2>, momentum: f64) {
        let last: Vec<usize> = (0..images.len()).filter(|&i| !images[i + 1..].contains(&images[i])).collect();
        let device = self.rows.device();
        let index = |values: Vec<i32>| -> Tensor<1, Int> {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), &device)
        };
        let at = index(last.iter().map(|&i| images[i] as i32).collect());
        let features =
            if last.len() == images.len() { features } else { features.select(0, index(last.iter().map(|&i| i as i32).collect())) };
        // Taken out of `self`, so that the assignment below owns the rows and writes in place.
        let rows = std::mem::replace(&mut self.rows, Tensor::empty([1, 1], &device));
        let old = rows.clone().select(0, at.clone());
        let new = unit_rows(old.mul_scalar(momentum) + features.mul_scalar(1.0 - momentum));
        self.rows = rows.select_assign(0, at, new, IndexingUpdateOp::Assign);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_move_towards_the_features_and_the_last_of_an_image_counts() {
        let device = crate::device::test_device();
        let mut bank = Bank::restore(Tensor::from_data([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]], &device));
        let features = Tensor::from_data([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0]], &device);
        bank.update(&[0, 1, 0], features, 0.25);
        let got = bank.rows().into_data().try_to_vec::<f32>().unwrap();
        // Row 0: (.25, -.75), row 1: (.75, .25), both over their norm sqrt(.625); row 2 is untouched.
        let (a, b) = (0.25 / 0.625f32.sqrt(), 0.75 / 0.625f32.sqrt());
        let want = [a, -b, b, a, 3.0, 4.0];
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6), "{got:?}");
    }

    #[test]
    fn starts_within_its_bound() {
        let rows = Bank::init(7, 12, 1, "bank", &crate::device::test_device()).rows();
        let values = rows.into_data().try_to_vec::<f32>().unwrap();
        assert!(values.iter().all(|v| v.abs() <= 0.5) && values.iter().any(|v| v.abs() > 0.4));
    }
}
