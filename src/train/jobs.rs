//! What each step loads and mixes: a pure function of the config and the step, so that a resume only skips.

use crate::config::RunConfig;
use crate::data::{Item, Job, epoch_order, steps_per_epoch};
use crate::error::{Error, Result};
use crate::mixture::{Context, Planned, policy};
use crate::rng::{Purpose, Stream};

/// The length of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// Steps per epoch.
    pub per_epoch: u64,
    /// Steps of the whole run.
    pub steps: u64,
}

impl Length {
    /// From `schedule.epochs` or `schedule.steps`, for a dataset of `n` images.
    ///
    /// # Errors
    /// A batch larger than the dataset.
    pub fn of(config: &RunConfig, n: usize) -> Result<Self> {
        let per_epoch = steps_per_epoch(n, config.data.batch, config.data.drop_last) as u64;
        if per_epoch == 0 {
            return Err(Error::input(format!("`data.batch` is {}, but the dataset has only {n} images", config.data.batch))
                .hint(format!("set data.batch to at most {n}")));
        }
        let steps = config.schedule.total_steps(per_epoch);
        Ok(Self { per_epoch, steps })
    }

    /// Epochs of the whole run, a partial one counted.
    pub fn epochs(&self) -> u64 {
        self.steps.div_ceil(self.per_epoch)
    }
}

/// A step's place and its mixture; travels with the batch.
#[derive(Debug, Clone)]
pub struct StepPlan {
    /// Completed epochs.
    pub epoch: u64,
    /// Completed steps.
    pub step: u64,
    /// Own images N; the batch also holds the partners.
    pub own: usize,
    /// What is mixed.
    pub planned: Planned,
}

/// The jobs of steps `first..length.steps`, in order.
pub fn jobs(config: &RunConfig, n: usize, length: Length, first: u64) -> impl Iterator<Item = Job<StepPlan>> + Send + use<> {
    let (seed, batch, views) = (config.seed, config.data.batch, config.method.views());
    let (height, width) = config.view_size();
    let policy = policy(&config.mixture);
    let mut order: (Option<u64>, Vec<u32>) = (None, Vec::new());
    (first..length.steps).map(move |step| {
        let epoch = step / length.per_epoch;
        if order.0 != Some(epoch) {
            order = (Some(epoch), epoch_order(seed, epoch, n));
        }
        let from = (step % length.per_epoch) as usize * batch;
        let own = &order.1[from..(from + batch).min(n)];
        let planned = policy.plan(&Context { seed, epoch, step, height, width, dataset: n, views }, own);
        let stream = |index: u32, view: usize| Stream::new(seed, Purpose::View, &[epoch, u64::from(index), view as u64]);
        let owned = own.iter().map(|&index| Item { index, streams: (0..views).map(|v| stream(index, v)).collect() });
        let extras = planned
            .extras
            .iter()
            .map(|extra| Item { index: extra.index, streams: (0..views).map(|v| extra.stream(seed, v as u64)).collect() });
        let items = owned.chain(extras).collect();
        Job { items, payload: StepPlan { epoch, step, own: own.len(), planned } }
    })
}
