//! What each step loads and mixes: a pure function of the config and the step, so that a resume only skips.

use crate::config::RunConfig;
use crate::data::{Item, Job, epoch_order, steps_per_epoch};
use crate::device::Opened;
use crate::error::{Error, Result};
use crate::method::{self, Setup};
use crate::mixture::config::Form;
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
        let rest = if config.data.drop_last { 0 } else { n % config.data.batch };
        if rest == 1 && config.method.needs_two(&config.model.head) {
            return Err(Error::input(format!(
                "the last batch of an epoch would have one image (`data.drop_last` is false, {n} images in batches of {}), and \
                 `method.name` = {} compares images of a batch, or normalises over them",
                config.data.batch,
                config.method.name()
            ))
            .hint("set data.drop_last=true, or another data.batch"));
        }
        if rest % 2 == 1 && config.mixture.form() == Form::Mixco {
            return Err(Error::input(format!(
                "the last batch of an epoch would have {rest} images (`data.drop_last` is false), and `mixture.name` = mixco mixes one half with the other"
            ))
            .hint("set data.drop_last=true, or a data.batch that leaves an even number"));
        }
        let steps = config.schedule.total_steps(per_epoch);
        Ok(Self { per_epoch, steps })
    }

    /// What the method of a run is made for.
    pub fn setup<'a>(self, config: &'a RunConfig, device: &'a Opened, images: usize) -> Setup<'a> {
        Setup {
            length: method::Length { per_epoch: self.per_epoch, steps: self.steps },
            mixing: (&config.mixture).into(),
            crops: config.crops(),
            ..Setup::new(device, &config.model, images, config.seed)
        }
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
    let (seed, batch, sizes) = (config.seed, config.data.batch, config.view_sizes());
    let (views, (height, width)) = (sizes.len(), sizes[0]);
    let mixed_views = config.mixed_views();
    let policy = policy(&config.mixture);
    let mut order: (Option<u64>, Vec<u32>) = (None, Vec::new());
    (first..length.steps).map(move |step| {
        let epoch = step / length.per_epoch;
        if order.0 != Some(epoch) {
            order = (Some(epoch), epoch_order(seed, epoch, n));
        }
        let from = (step % length.per_epoch) as usize * batch;
        let own = &order.1[from..(from + batch).min(n)];
        let context = Context { seed, epoch, step, height, width, dataset: n, views, mixed_views };
        let planned = policy.plan_views(&context, own, &sizes);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(crops: Option<serde_json::Value>) -> RunConfig {
        let value = json!({
            "data": {"source": {"name": "synthetic", "count": 20}, "batch": 5}, "views": {"recipe": "cifar_moco", "crop": {"size": 16}},
            "mixture": {"name": "unmix", "prob": 0}, "model": {"bn_splits": 1}, "schedule": {"epochs": 1},
        });
        let mut config = RunConfig::from_value(value).unwrap();
        // No method takes crops yet: the config is not checked.
        config.views.crops = crops.map(|crops| serde_json::from_value(crops).unwrap());
        config
    }

    /// More crops change nothing of what the first two views draw, nor of the first mixture; each has a stream and, every other one, a mixture of
    /// its size.
    #[test]
    fn further_crops_leave_the_first_views_as_they_are() {
        let (two, many) = (config(None), config(Some(json!([{"count": 2}, {"count": 4, "size": 8}]))));
        assert_eq!(many.view_sizes(), [(16, 16), (16, 16), (8, 8), (8, 8), (8, 8), (8, 8)]);
        let length = Length::of(&two, 20).unwrap();
        let mut steps = 0;
        for (few, all) in jobs(&two, 20, length, 0).zip(jobs(&many, 20, length, 0)) {
            for (few, all) in few.items.iter().zip(&all.items) {
                assert_eq!((few.index, few.streams.len(), all.streams.len()), (all.index, 2, 6));
                let drawn = |item: &Item| item.streams.iter().map(|stream| stream.clone().next_u64()).collect::<Vec<u64>>();
                let (few, all) = (drawn(few), drawn(all));
                assert_eq!(few, all[..2]);
                assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 6, "streams of their own");
            }
            let (few, all) = (few.payload.planned.mixtures, all.payload.planned.mixtures);
            assert_eq!((few.len(), all.len()), (1, 3));
            assert_eq!(few[0], all[0]);
            all.iter().for_each(|mixture| {
                let (height, width) = many.view_sizes()[mixture.views[0]];
                mixture.plan.validate(5, height, width).unwrap();
            });
            assert_eq!(all.iter().map(|mixture| mixture.views).collect::<Vec<_>>(), [[0, 0], [2, 2], [4, 4]]);
            steps += 1;
        }
        assert_eq!(steps, 4);
    }
}
