//! Batches of frozen features, computed once or in every epoch.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};

use super::Task;
use crate::data::{Item, Job, Loader, Source};
use crate::error::{Error, Result};
use crate::eval::features::{Extraction, Features, Speed, extract, unlabelled};
use crate::model::Frozen;
use crate::rng::{Purpose, Stream};

/// Images per test batch of features that were computed once.
const TEST_BATCH: usize = 1024;

/// Where the rows of an epoch come from.
pub enum Feed {
    /// Computed once, on the device.
    Cached {
        /// The rows.
        features: Box<Features>,
        /// Their labels.
        labels: Vec<u32>,
        /// Whether epochs are shuffled: those of the training split are.
        shuffled: bool,
    },
    /// Computed from newly augmented (or, for a split that is too large to keep, from the same) images in every epoch.
    Live {
        /// The images of all epochs to come, or of one.
        loader: Option<Loader<Place>>,
        /// How they reach the encoder.
        how: Box<Extraction>,
        /// The split, where it is walked through in order.
        fixed: Option<Arc<dyn Source>>,
        /// What has passed: images, seconds, seconds of waiting.
        spent: (usize, f64, f64),
    },
}

/// Where a batch is in its epoch.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Whether it is the last one.
    ends: bool,
}

/// Takes the rows of a batch, one tensor per layer, and the labels.
pub type Take<'a> = dyn FnMut(Vec<Tensor<2>>, &[u32]) + 'a;

impl Feed {
    /// Whether the memory that the plan allows holds the features of a split.
    pub fn fits(task: &Task, source: &Arc<dyn Source>, widths: &[usize]) -> bool {
        source.len() * widths.iter().sum::<usize>() * 4 <= task.plan.cache_mib << 20
    }

    /// The un-augmented images of a split: computed once if they fit, else in every epoch, in the split's order.
    pub fn fixed(task: &Task, source: &Arc<dyn Source>, widths: &[usize], how: &Extraction) -> Result<Self> {
        if !Self::fits(task, source, widths) {
            let fixed = Some(source.clone());
            return Ok(Self::Live { loader: None, how: Box::new(how.clone()), fixed, spent: (0, 0.0, 0.0) });
        }
        let features = extract(task.encoder, source.clone(), how, &task.plan.layers)?;
        let labels = features.known("a linear probe")?;
        let shuffled = Arc::ptr_eq(source, &task.train);
        Ok(Self::Cached { features: Box::new(features), labels, shuffled })
    }

    /// The training images in a new order, and augmented anew, in every epoch from `first` on.
    pub fn shuffled(task: &Task, how: Extraction, first: u64) -> Self {
        let (seed, batch, n, last) = (task.seed, task.plan.batch, task.train.len(), task.plan.epochs);
        let jobs = (first..last).flat_map(move |epoch| {
            let order = order(seed, epoch, n);
            let item = move |&index: &u32| Item { index, streams: vec![Stream::new(seed, Purpose::Probe, &[epoch, index.into()])] };
            (0..n).step_by(batch).map(move |from| {
                let to = (from + batch).min(n);
                Job { items: order[from..to].iter().map(item).collect(), payload: Place { ends: to == n } }
            })
        });
        let loader = Loader::start(task.train.clone(), how.transform.clone(), how.loader, jobs);
        Self::Live { loader: Some(loader), how: Box::new(how), fixed: None, spent: (0, 0.0, 0.0) }
    }

    /// True where the rows were computed once.
    pub fn is_cached(&self) -> bool {
        matches!(self, Self::Cached { .. })
    }

    /// How fast images went through the encoder.
    pub fn speed(&self) -> Speed {
        match self {
            Self::Cached { features, .. } => Speed { images_per_s: features.images_per_s, data_wait: features.data_wait },
            Self::Live { spent: (images, seconds, waited), .. } => {
                Speed { images_per_s: *images as f64 / seconds.max(1e-9), data_wait: waited / seconds.max(1e-9) }
            }
        }
    }

    /// Hands every image of an epoch to `take` once.
    ///
    /// # Errors
    /// Those of the loader; an image without label.
    pub fn epoch(&mut self, task: &Task, epoch: u64, take: &mut Take) -> Result<()> {
        match self {
            Self::Cached { features, labels, shuffled: true } => {
                let order = order(task.seed, epoch, labels.len());
                shuffled(&features.layers, labels, &order, task.plan.batch, &mut |rows, seen| take(rows, seen));
                Ok(())
            }
            Self::Cached { features, labels, shuffled: false } => {
                for (at, seen) in labels.chunks(TEST_BATCH).enumerate() {
                    let rows = |rows: &Tensor<2>| rows.clone().narrow(0, at * TEST_BATCH, seen.len());
                    take(features.layers.iter().map(rows).collect(), seen);
                }
                Ok(())
            }
            Self::Live { loader, how, fixed, spent } => {
                if let Some(source) = fixed {
                    *loader = Some(walk(source.clone(), how));
                }
                let loader = loader.as_mut().expect("made at the start, or just now");
                live(task, loader, how, spent, take)
            }
        }
    }
}

/// Rows of features that were computed once, in batches of a given order.
pub fn shuffled(layers: &[Tensor<2>], labels: &[u32], order: &[u32], batch: usize, take: &mut Take) {
    let device = layers[0].device();
    for part in order.chunks(batch) {
        let rows: Vec<i32> = part.iter().map(|&index| index as i32).collect();
        let index = Tensor::<1, Int>::from_data(TensorData::new(rows, [part.len()]), &device);
        let seen: Vec<u32> = part.iter().map(|&index| labels[index as usize]).collect();
        take(layers.iter().map(|rows| rows.clone().select(0, index.clone())).collect(), &seen);
    }
}

/// One epoch of a loader.
fn live(task: &Task, loader: &mut Loader<Place>, how: &Extraction, spent: &mut (usize, f64, f64), take: &mut Take) -> Result<()> {
    let (started, waited) = (std::time::Instant::now(), loader.waited().as_secs_f64());
    loop {
        let Some(batch) = loader.next() else { return Err(Error::run("the loader ended before the epoch")) };
        let batch = batch?;
        let labels: Option<Vec<u32>> = batch.labels.iter().copied().collect();
        let labels = labels.ok_or_else(|| unlabelled("a linear probe"))?;
        take(task.encoder.layer_rows(how.images(&batch.views[0]), &task.plan.layers), &labels);
        loader.recycle(batch.views);
        spent.0 += labels.len();
        if batch.payload.ends {
            break;
        }
    }
    spent.1 += started.elapsed().as_secs_f64();
    spent.2 += loader.waited().as_secs_f64() - waited;
    Ok(())
}

/// All images of a source in order.
fn walk(source: Arc<dyn Source>, how: &Extraction) -> Loader<Place> {
    let (n, batch) = (source.len(), how.batch);
    let item = |index: usize| Item { index: index as u32, streams: vec![Stream::new(0, Purpose::Probe, &[])] };
    let jobs = (0..n).step_by(batch).map(move |from| {
        let to = (from + batch).min(n);
        Job { items: (from..to).map(item).collect(), payload: Place { ends: to == n } }
    });
    Loader::start(source, how.transform.clone(), how.loader, jobs)
}

/// The order of an epoch.
pub fn order(seed: u64, epoch: u64, n: usize) -> Vec<u32> {
    Stream::new(seed, Purpose::Probe, &[epoch]).permutation(n)
}

/// Widths of the rows of `layers`.
pub fn widths(encoder: &Frozen, how: &Extraction, layers: &[usize]) -> Vec<usize> {
    let (height, width) = how.transform.size();
    let rows = encoder.layer_rows(Tensor::zeros([1, 3, height, width], &how.device), layers);
    rows.iter().map(|rows| rows.dims()[1]).collect()
}
