//! What InsDis and CMC share: a batch of features against a memory bank.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use rayon::prelude::*;

use super::{MixedInput, Negatives, Position};
use crate::kernel::{self, KernelPath};
use crate::loss::criterion::{Criterion, LossName};
use crate::loss::{NceZ, info_nce, nce};
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
    /// Where the constant of NCE comes from.
    pub nce_z: NceZ,
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

/// One loss against one bank.
#[derive(Debug, Clone)]
pub struct Term {
    /// Weighted mean over the batch, `[1]`, on the features' graph.
    pub loss: Tensor<1>,
    /// The same without weights and without graph, `[1]`.
    pub plain: Tensor<1>,
    /// How likely the positives are, `[1]`, without graph.
    pub positive: Tensor<1>,
    /// The constant that NCE used and that of the next step, each `[1]`.
    pub z: Option<(Tensor<1>, Tensor<1>)>,
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

    /// The drawn rows on the device, with what does not count.
    pub fn drawn(&self, negatives: Negatives, images: &[u32], device: &Device) -> Drawn {
        let b = images.len();
        let index = |values: Vec<i32>| -> Tensor<1, Int> {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), device)
        };
        match negatives {
            Negatives::None => panic!("a method with a bank draws negatives"),
            Negatives::Each(rows) => {
                let columns = rows.len() / b;
                let own = |row: &[i32]| row.iter().enumerate().map(|(k, &value)| k > 0 && value == row[0]).collect::<Vec<_>>();
                let masked = self.mask_self.then(|| mask(rows.chunks(columns).flat_map(own).collect(), [b, columns], device));
                Drawn::Each(kernel::bank::rows(rows, [b, columns], device), masked)
            }
            Negatives::Shared(rows) => {
                let k = rows.len();
                let own = images.iter().flat_map(|&image| rows.iter().map(move |&row| row == image as i32)).collect();
                let masked = self.mask_self.then(|| mask(own, [b, k], device));
                Drawn::Shared(index(images.iter().map(|&i| i as i32).collect()), index(rows), masked)
            }
        }
    }

    /// One term: `features` `[b, d]` on a graph against `bank` `[n, d]`, each query's loss times its weight `[b]`, if there are weights.
    /// `z` is the constant of NCE once there is one.
    pub fn term(
        &self,
        features: Tensor<2>,
        bank: Tensor<2>,
        drawn: &Drawn,
        z: Option<&Tensor<1>>,
        weights: Option<Tensor<1>>,
    ) -> Term {
        let summarise = |logits: Tensor<2>| {
            let criterion = Criterion::of(self.loss, z, &logits, self.images);
            let per_query = criterion.per_query(logits.clone());
            let loss = match weights.clone() {
                Some(weights) => (per_query.clone() * weights).mean(),
                None => per_query.clone().mean(),
            };
            let next = |z: &Tensor<1>| (z.clone(), self.nce_z.next(z.clone(), || nce::estimate_z(logits.clone(), self.images)));
            Term { loss, plain: per_query.inner().mean(), positive: criterion.positive(logits.clone()), z: criterion.z().map(next) }
        };
        match drawn {
            Drawn::Each(rows, masked) => {
                let dots = kernel::bank::dots(features, bank, rows.clone(), self.path);
                summarise(hide(dots.div_scalar(self.temperature), masked))
            }
            Drawn::Shared(own, negatives, masked) => {
                let (own, negatives) = (bank.clone().select(0, own.clone()), bank.select(0, negatives.clone()));
                let logits = info_nce::logits(features, own, negatives, self.temperature);
                let ([b, _], device) = (logits.dims(), logits.device());
                let masked = masked.clone().map(|mask| {
                    let never = Tensor::<2, Bool>::from_data(TensorData::new(vec![false; b], [b, 1]), &device);
                    Tensor::cat(vec![never, mask], 1)
                });
                summarise(hide(logits, &masked))
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

/// The two sets of queries of an Un-Mix term with their weights: mixtures as their own images, and as their partners.
pub fn mixture_queries(mixed: &MixedInput, queries: Tensor<2>) -> [(Tensor<2>, Tensor<1>); 2] {
    let mixed = crate::loss::unmix::Mixed { queries, lambda: mixed.lambda.clone(), inverse: mixed.inverse.clone() };
    [(mixed.queries.clone(), mixed.lambda.clone()), (mixed.reversed(), mixed.reversed_weight())]
}
