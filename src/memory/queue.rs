//! The ring of keys of MoCo (arXiv 1911.05722, section 3.2), for any batch and any size.

use burn::tensor::{Device, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rng::{Purpose, Stream};

/// How the rows start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueInit {
    /// Normal rows of unit length (MoCo, Un-Mix).
    NormalUnit,
    /// U(-s, s), s = 1/sqrt(d/3), not normalised (v1 of 2003.05438).
    Uniform,
}

/// K rows of width d; the newest keys overwrite the oldest.
#[derive(Debug, Clone)]
pub struct Queue {
    rows: Tensor<2>,
    cursor: usize,
    images: Vec<Option<u32>>,
}

impl Queue {
    /// A queue with rows from the stream of `seed`.
    pub fn init(size: usize, dim: usize, init: QueueInit, seed: u64, device: &Device) -> Self {
        let mut stream = Stream::named(seed, Purpose::Init, "memory/queue");
        let mut values = Vec::with_capacity(size * dim);
        for _ in 0..size {
            match init {
                QueueInit::NormalUnit => {
                    let row: Vec<f64> = (0..dim).map(|_| stream.normal()).collect();
                    let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
                    values.extend(row.iter().map(|v| (v / norm) as f32));
                }
                QueueInit::Uniform => {
                    let bound = 1.0 / (dim as f64 / 3.0).sqrt();
                    values.extend((0..dim).map(|_| stream.range(-bound, bound) as f32));
                }
            }
        }
        Self::restore(Tensor::from_data(TensorData::new(values, [size, dim]), device), 0)
    }

    /// A queue with given rows `[k, d]` and cursor (the row that is written next).
    pub fn restore(rows: Tensor<2>, cursor: usize) -> Self {
        let size = rows.dims()[0];
        assert!(cursor < size, "the cursor {cursor} is outside the queue of {size}");
        Self { rows, cursor, images: vec![None; size] }
    }

    /// The same queue, its rows being keys of these images.
    pub fn with_images(self, images: Vec<Option<u32>>) -> Self {
        assert_eq!(images.len(), self.images.len(), "one image per row");
        Self { images, ..self }
    }

    /// Which image each row is a key of; `None` for the rows of the start.
    pub fn images(&self) -> &[Option<u32>] {
        &self.images
    }

    /// All rows, `[k, d]`, as they are now.
    pub fn rows(&self) -> Tensor<2> {
        self.rows.clone()
    }

    /// The row that is written next.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Writes `keys` `[b, d]`, those of `images`, at the cursor, modulo the size. If b exceeds the size, the last keys win.
    pub fn push(&mut self, keys: Tensor<2>, images: &[u32]) {
        let [size, dim] = self.rows.dims();
        let [batch, _] = keys.dims();
        assert_eq!(images.len(), batch, "one image per key");
        images.iter().enumerate().for_each(|(i, &image)| self.images[(self.cursor + i) % size] = Some(image));
        let skipped = batch.saturating_sub(size);
        let start = (self.cursor + skipped) % size;
        let kept = batch - skipped;
        let before_wrap = kept.min(size - start);
        // Taken out of `self`, so that the assignment below owns the rows and writes in place.
        let mut rows = std::mem::replace(&mut self.rows, Tensor::empty([1, 1], &keys.device()));
        for (at, from, count) in [(start, skipped, before_wrap), (0, skipped + before_wrap, kept - before_wrap)] {
            if count > 0 {
                let part = keys.clone().slice([from..from + count, 0..dim]);
                rows = rows.slice_assign([at..at + count, 0..dim], part);
            }
        }
        self.rows = rows;
        self.cursor = (self.cursor + batch) % size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any batch against any size, compared with the rule row by row.
    #[test]
    fn wraps_and_lets_the_last_keys_win() {
        let device = crate::device::test_device();
        for size in [1usize, 2, 5, 7] {
            let mut owners = vec![None; size];
            let mut want: Vec<f32> = (0..size).map(|i| -(i as f32) - 1.0).collect();
            let rows = |v: &[f32]| Tensor::<2>::from_data(TensorData::new(v.to_vec(), [v.len(), 1]), &device);
            let mut queue = Queue::restore(rows(&want), 0);
            let mut next = 0;
            let mut cursor = 0;
            for batch in [1usize, 3, 2, 5, 8, 16, 1] {
                let keys: Vec<f32> = (next..next + batch).map(|k| k as f32).collect();
                next += batch;
                for (i, key) in keys.iter().enumerate() {
                    want[(cursor + i) % size] = *key;
                    owners[(cursor + i) % size] = Some(*key as u32);
                }
                cursor = (cursor + batch) % size;
                queue.push(rows(&keys), &keys.iter().map(|&key| key as u32).collect::<Vec<_>>());
                assert_eq!(queue.images(), owners, "size {size}, batch {batch}");
                assert_eq!(queue.rows().into_data().try_to_vec::<f32>().unwrap(), want, "size {size}, batch {batch}");
                assert_eq!(queue.cursor(), cursor);
            }
        }
    }

    #[test]
    fn starts_with_unit_rows_or_within_the_bound() {
        let device = crate::device::test_device();
        let unit = Queue::init(9, 12, QueueInit::NormalUnit, 1, &device).rows().square().sum_dim(1);
        assert!(unit.into_data().try_to_vec::<f32>().unwrap().iter().all(|n| (n - 1.0).abs() < 1e-5));
        let bounded = Queue::init(9, 12, QueueInit::Uniform, 1, &device).rows();
        assert!(bounded.into_data().try_to_vec::<f32>().unwrap().iter().all(|v| v.abs() <= 0.5));
    }
}
