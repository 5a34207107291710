//! Batches of frozen features, computed once or in every epoch.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};

use super::Task;
use crate::data::{Item, Job, Loader, Source};
use crate::error::{Error, Result};
use crate::eval::features::{Extraction, Features, Finite, Speed, Unreadable, extract, stream, unlabelled};
use crate::rng::{Purpose, Stream};

/// Images per test batch of features that were computed once.
const TEST_BATCH: usize = 1024;

/// Where the rows of an epoch come from.
pub enum Feed {
    /// Computed once, on the device.
    Kept {
        /// The rows.
        features: Box<Features>,
        /// Their labels.
        labels: Vec<u32>,
        /// Whether every epoch has an order of its own.
        shuffled: bool,
    },
    /// A split that is too large to keep, computed in every epoch, in its own order.
    Walked {
        /// The split.
        source: Arc<dyn Source>,
        /// How its images reach the encoder.
        how: Box<Extraction>,
        /// Of the last pass.
        speed: Speed,
    },
    /// Newly shuffled and augmented in every epoch.
    Loaded {
        /// The images of all epochs to come.
        loader: Loader<Place>,
        /// How they reach the encoder.
        how: Box<Extraction>,
        /// What has passed.
        spent: Spent,
    },
}

/// What has passed through a loader.
#[derive(Default)]
pub struct Spent {
    images: usize,
    seconds: f64,
    waited_s: f64,
    unreadable: Unreadable,
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
    /// Whether the features of a split may be kept: by the plan's limit, and by the device's.
    pub fn fits(task: &Task, source: &Arc<dyn Source>, widths: &[usize]) -> bool {
        source.len() * widths.iter().sum::<usize>() * 4 <= task.plan.cache_mib << 20
            && widths.iter().all(|&width| task.how.holds(source.len(), width))
    }

    /// The un-augmented images of a split: computed once if they fit, else in every epoch, in the split's order.
    ///
    /// # Errors
    /// Those of the loader; an image without label.
    pub fn fixed(task: &Task, source: &Arc<dyn Source>, widths: &[usize], how: &Extraction, shuffled: bool) -> Result<Self> {
        if !Self::fits(task, source, widths) {
            return Ok(Self::Walked { source: source.clone(), how: Box::new(how.clone()), speed: Speed::default() });
        }
        let features = extract(task.encoder, source.clone(), how, &task.plan.layers)?;
        let labels = features.known("a linear probe")?;
        Ok(Self::Kept { features: Box::new(features), labels, shuffled })
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
        Self::Loaded { loader, how: Box::new(how), spent: Spent::default() }
    }

    /// True where the rows were computed once.
    pub fn is_kept(&self) -> bool {
        matches!(self, Self::Kept { .. })
    }

    /// How fast images went through the encoder.
    pub fn speed(&self) -> Speed {
        match self {
            Self::Kept { features, .. } => features.speed.clone(),
            Self::Walked { speed, .. } => speed.clone(),
            Self::Loaded { spent: Spent { images, seconds, waited_s, unreadable }, .. } => {
                let seconds = seconds.max(1e-9);
                Speed { images_per_s: *images as f64 / seconds, data_wait: waited_s / seconds, unreadable: unreadable.names() }
            }
        }
    }

    /// Hands every image of an epoch to `take` once. Of an un-augmented split, those that cannot be read are left out; of an augmented one,
    /// which trains, the next readable image takes their place.
    ///
    /// # Errors
    /// Those of the loader; an image without label; features that are not finite.
    pub fn epoch(&mut self, task: &Task, epoch: u64, take: &mut Take) -> Result<()> {
        match self {
            Self::Kept { features, labels, shuffled: true } => {
                shuffled(&features.layers, labels, &order(task.seed, epoch, labels.len()), task.plan.batch, take);
                Ok(())
            }
            Self::Kept { features, labels, shuffled: false } => {
                in_order(&features.layers, labels, take);
                Ok(())
            }
            Self::Walked { source, how, speed } => {
                let mut complete = true;
                *speed = stream(task.encoder, source.clone(), how, &task.plan.layers, |part| {
                    let known: Vec<u32> = part.labels.into_iter().flatten().collect();
                    complete &= known.len() == part.images.len();
                    if complete {
                        take(part.layers, &known);
                    }
                })?;
                if complete { Ok(()) } else { Err(unlabelled("a linear probe")) }
            }
            Self::Loaded { loader, how, spent } => load(task, loader, how, spent, take),
        }
    }
}

/// Rows of features that were computed once, in batches of their own order.
pub fn in_order(layers: &[Tensor<2>], labels: &[u32], take: &mut Take) {
    for (at, seen) in labels.chunks(TEST_BATCH).enumerate() {
        let rows = |rows: &Tensor<2>| rows.clone().narrow(0, at * TEST_BATCH, seen.len());
        take(layers.iter().map(rows).collect(), seen);
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
fn load(task: &Task, loader: &mut Loader<Place>, how: &Extraction, spent: &mut Spent, take: &mut Take) -> Result<()> {
    let (started, waited) = (std::time::Instant::now(), loader.waited().as_secs_f64());
    let mut finite = Finite::default();
    loop {
        let Some(batch) = loader.next() else { return Err(Error::run("the loader ended before the epoch")) };
        let batch = batch?;
        let labels: Option<Vec<u32>> = batch.labels.iter().copied().collect();
        let labels = labels.ok_or_else(|| unlabelled("a linear probe"))?;
        spent.unreadable.add(&batch.broken);
        let rows = task.encoder.layer_rows(how.images(&batch.views[0]), &task.plan.layers);
        finite.add(&rows);
        take(rows, &labels);
        loader.recycle(batch.views);
        spent.images += labels.len();
        if batch.payload.ends {
            break;
        }
    }
    spent.seconds += started.elapsed().as_secs_f64();
    spent.waited_s += loader.waited().as_secs_f64() - waited;
    finite.check(&task.plan.layers)
}

/// The order of an epoch.
pub fn order(seed: u64, epoch: u64, n: usize) -> Vec<u32> {
    Stream::new(seed, Purpose::Probe, &[epoch]).permutation(n)
}
