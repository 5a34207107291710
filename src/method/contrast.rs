//! What InsDis and CMC share: a batch of features against a memory bank.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use rayon::prelude::*;

use super::{Facts, Negatives, Position, index};
use crate::kernel::{self, KernelPath};
use crate::loss::criterion::{Criterion, LossName};
use crate::loss::info_nce;
use crate::rng::{Purpose, Stream};

/// The logit of a negative that does not count: its weight in either loss is 0.
const MASKED: f32 = -1e4;

/// The settings that both methods have.
#[derive(Debug, Clone)]
pub struct Contrast {
    /// Temperature of the scores.
    pub temperature: f64,
    /// Negatives K per image.
    pub negatives: usize,
    /// Softmax or NCE.
    pub loss: LossName,
    /// Leave out negatives that are the positive.
    pub mask_self: bool,
    /// One set of negatives for the whole batch.
    pub shared: bool,
    /// Images in the dataset, and rows of a bank.
    pub images: usize,
    /// The kernel that scores.
    pub path: KernelPath,
}

/// The rows of a step, the same for every bank and term.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one exists per step")]
pub enum Drawn {
    /// `[b, 1 + k]`, column 0 the positives; true where a negative does not count.
    Each(Tensor<2, Int>, Option<Tensor<2, Bool>>),
    /// `[b]` positives, `[k]` negatives; true `[b, k]` where a negative does not count.
    Shared(Tensor<1, Int>, Tensor<1, Int>, Option<Tensor<2, Bool>>),
}

impl Contrast {
    /// Draws the negatives of a step, uniformly over all images and with replacement.
    pub fn draw(&self, images: &[u32], position: Position) -> Negatives {
        let stream = Stream::new(position.seed, Purpose::Negatives, &[position.epoch, position.step]);
        let (b, k, n) = (images.len(), self.negatives, self.images as u64);
        if self.shared {
            let mut stream = stream;
            return Negatives::Shared((0..k).map(|_| stream.scaled(n) as i32).collect());
        }
        let mut rows = vec![0i32; b * (1 + k)];
        // Row i has the draws i K .. (i + 1) K of the one stream, whichever thread makes them.
        rows.par_chunks_mut(1 + k).zip(images).enumerate().for_each(|(i, (row, &image))| {
            let mut stream = stream.from_draw((i * k) as u64);
            row[0] = image as i32;
            row[1..].iter_mut().for_each(|value| *value = stream.scaled(n) as i32);
            // Negatives have no order; in this one the bank is read from end to end.
            row[1..].sort_unstable();
        });
        Negatives::Each(rows)
    }

    /// What the positives of the batch rows `positives` meet, on the device.
    pub fn drawn(&self, positives: &[u32], facts: &Facts, device: &Device) -> Drawn {
        let negatives = facts.draws.as_ref().map_or(&Negatives::None, |draws| &draws.negatives);
        let images: Vec<u32> = positives.iter().map(|&row| facts.images[row as usize]).collect();
        let m = images.len();
        match negatives {
            Negatives::None => panic!("a method with a bank draws negatives"),
            Negatives::Each(all) => {
                let columns = all.len() / facts.images.len();
                let row = |&row: &u32| &all[row as usize * columns..][..columns];
                let rows: Vec<i32> = positives.iter().flat_map(row).copied().collect();
                let own = |row: &[i32]| row.iter().enumerate().map(|(k, &value)| k > 0 && value == row[0]).collect::<Vec<_>>();
                let masked = self.mask_self.then(|| mask(rows.chunks(columns).flat_map(own).collect(), [m, columns], device));
                Drawn::Each(kernel::bank::rows(rows, [m, columns], device), masked)
            }
            Negatives::Shared(rows) => {
                let own = images.iter().flat_map(|&image| rows.iter().map(move |&row| row == image as i32)).collect();
                let masked = self.mask_self.then(|| mask(own, [m, rows.len()], device));
                let negatives = Tensor::from_data(TensorData::new(rows.clone(), [rows.len()]), device);
                Drawn::Shared(index(&images, device), negatives, masked)
            }
        }
    }

    /// Whether a step without a constant of NCE so far, `z`, has to measure it.
    pub fn measures_z(&self, z: &Option<Tensor<1>>) -> bool {
        self.loss == LossName::Nce && z.is_none()
    }

    /// The criterion of a step, made on the logits of its clean features. `z` is the constant of NCE once there is one.
    pub fn criterion(&self, z: &Option<Tensor<1>>, clean: &Tensor<2>) -> Criterion {
        Criterion::of(self.loss, z.as_ref(), clean, self.images)
    }

    /// Logits `[m, 1 + k]` of features `[m, d]`, on a graph or not, against a bank `[n, d]`, column 0 the positive.
    pub fn logits(&self, features: Tensor<2>, bank: Tensor<2>, drawn: &Drawn) -> Tensor<2> {
        match drawn {
            Drawn::Each(rows, masked) => {
                let dots = kernel::bank::dots(features, bank, rows.clone(), self.path);
                hide(dots.div_scalar(self.temperature), masked)
            }
            Drawn::Shared(own, negatives, masked) => {
                let (own, negatives) = (bank.clone().select(0, own.clone()), bank.select(0, negatives.clone()));
                let logits = info_nce::logits(features, own, negatives, self.temperature);
                let ([m, _], device) = (logits.dims(), logits.device());
                let masked = masked.clone().map(|mask| {
                    let never = Tensor::<2, Bool>::from_data(TensorData::new(vec![false; m], [m, 1]), &device);
                    Tensor::cat(vec![never, mask], 1)
                });
                hide(logits, &masked)
            }
        }
    }
}

fn mask(values: Vec<bool>, dims: [usize; 2], device: &Device) -> Tensor<2, Bool> {
    Tensor::from_data(TensorData::new(values, dims), device)
}

/// Logits without the negatives that do not count.
pub fn hide(logits: Tensor<2>, masked: &Option<Tensor<2, Bool>>) -> Tensor<2> {
    match masked {
        Some(mask) => logits.mask_fill(mask.clone(), MASKED),
        None => logits,
    }
}
