//! Linear evaluation: multinomial logistic regression on frozen features, for several layers and learning rates in one pass.

pub mod config;
pub mod feed;
pub mod probe;
pub mod rows;
pub mod saved;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

pub use config::{LinearConfig, Plan, Protocol};
pub use rows::{Probed, probe_rows};

use self::feed::Feed;
use self::probe::{Hits, Probe};
use self::saved::Saved;
use super::features::{Extraction, widths};
use super::labels::Labels;
use crate::augment::Recipe;
use crate::colour::Normalization;
use crate::data::Source;
use crate::error::{Error, Result};
use crate::model::Frozen;

/// The least time between two saved states; a shorter one would cost more than it saves.
const SAVE_EVERY: Duration = Duration::from_secs(20);

/// Everything a linear evaluation needs.
pub struct Task<'a> {
    /// The frozen encoder.
    pub encoder: &'a Frozen,
    /// Images to train on.
    pub train: Arc<dyn Source>,
    /// Images to test on.
    pub test: Arc<dyn Source>,
    /// The protocol.
    pub plan: Plan,
    /// How test images reach the encoder.
    pub how: Extraction,
    /// Seed of shuffles, augmentation and initial weights.
    pub seed: u64,
    /// Folder of the state to resume from. It stays until the results are safe: the caller removes it.
    pub state: std::path::PathBuf,
    /// What makes this evaluation the one whose state may be resumed.
    pub identity: serde_json::Value,
}

/// One epoch of one layer and rate; accuracies in percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Completed epochs.
    pub epoch: u64,
    /// Mean training loss over the epoch; `null` where it is not a number.
    #[serde(deserialize_with = "crate::json::number")]
    pub loss: f64,
    /// On the test split.
    pub top1: f64,
    /// On the test split.
    pub top5: f64,
}

/// The course of one layer and rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// The layer, from 1.
    pub layer: usize,
    /// The base rate.
    pub lr: f64,
    /// One per epoch.
    pub curve: Vec<Point>,
}

impl Course {
    /// The last epoch: the result.
    pub fn last(&self) -> Point {
        *self.curve.last().expect("a finished probe has an epoch")
    }

    /// Whether the loss of the last epoch is a number.
    pub fn is_finite(&self) -> bool {
        self.last().loss.is_finite()
    }

    /// The first epoch with the highest test accuracy; stands beside the result, never for it, since it was chosen on the test split.
    pub fn best(&self) -> Point {
        let better = |a: Point, b: &Point| if b.top1 > a.top1 { *b } else { a };
        self.curve.iter().fold(self.curve[0], better)
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// One per layer and rate, layer by layer.
    pub courses: Vec<Course>,
    /// The epoch after which it was asked to stop; the state is saved.
    pub interrupted: Option<u64>,
    /// Whether the training features were computed once.
    pub cached: bool,
    /// Images per second through the encoder while features were computed.
    pub images_per_s: f64,
    /// Share of that time spent waiting for the loader.
    pub data_wait: f64,
    /// Names of the images of either split that could not be read.
    pub unreadable: Vec<String>,
    /// Seconds of all calls.
    pub wall_s: f64,
    /// Seconds of the epochs of this call: updates and tests, and where features are not kept the encoder.
    pub epochs_s: f64,
}

/// The state of all probes.
struct Running {
    probes: Vec<Probe>,
    courses: Vec<Course>,
    epoch: u64,
    /// Seconds of earlier calls.
    before_s: f64,
}

impl Task<'_> {
    /// Trains the probes, from the saved state of an interrupted call if there is one; `tell` hears of every epoch.
    ///
    /// # Errors
    /// Unlabelled or mismatching data, a layer out of range, those of loader and disk, a loss of every rate that is not finite.
    pub fn run(&self, stop: &AtomicBool, tell: &mut dyn FnMut(&[Course])) -> Result<Outcome> {
        let started = Instant::now();
        let labels = Labels::of(self.train.as_ref(), self.test.as_ref(), "a linear probe")?;
        self.encoder.layers().require(&self.plan.layers, "eval.linear.layer")?;
        let widths = widths(self.encoder, &self.how, &self.plan.layers);
        let mut running = self.start(&widths, labels.classes.len())?;
        let how = Extraction { norm: self.norm(), ..self.how.clone() };
        let mut test = Feed::fixed(self, &self.test, &widths, &how, false)?;
        let mut train = self.train_feed(&widths, running.epoch)?;
        let (mut saved_at, training) = (Instant::now(), Instant::now());
        while running.epoch < self.plan.epochs {
            self.epoch(&mut running, &mut train, &mut test, &labels)?;
            tell(&running.courses);
            let stopping = stop.load(Ordering::SeqCst) && running.epoch < self.plan.epochs;
            if stopping || saved_at.elapsed() > SAVE_EVERY && running.epoch < self.plan.epochs {
                self.save(&running, running.before_s + started.elapsed().as_secs_f64())?;
                saved_at = Instant::now();
            }
            if stopping {
                break;
            }
        }
        let interrupted = (running.epoch < self.plan.epochs).then_some(running.epoch);
        let (speed, tested) = (train.speed(), test.speed());
        Ok(Outcome {
            courses: running.courses,
            interrupted,
            cached: train.is_kept(),
            images_per_s: speed.images_per_s,
            data_wait: speed.data_wait,
            unreadable: [speed.unreadable, tested.unreadable].concat(),
            wall_s: running.before_s + started.elapsed().as_secs_f64(),
            epochs_s: training.elapsed().as_secs_f64(),
        })
    }

    /// Normalisation of the images.
    fn norm(&self) -> Normalization {
        let narrow = |values: [f64; 3]| values.map(|v| v as f32);
        match self.plan.norm {
            Some(norm) => Normalization { space: self.how.norm.space, mean: narrow(norm.mean), std: narrow(norm.std) },
            None => self.how.norm,
        }
    }

    fn train_feed(&self, widths: &[usize], first: u64) -> Result<Feed> {
        let size = self.how.transform.size(0);
        let recipe = Recipe::new(self.plan.recipe, size, self.plan.crop_min_area, 1.0);
        let how = Extraction { transform: Arc::new(recipe), norm: self.norm(), ..self.how.clone() };
        if self.plan.is_fixed() && Feed::fits(self, &self.train, widths) {
            return Feed::fixed(self, &self.train, widths, &how, true);
        }
        Ok(Feed::shuffled(self, how, first))
    }

    fn start(&self, widths: &[usize], classes: usize) -> Result<Running> {
        let layers = || self.plan.layers.iter().zip(widths);
        let init = |(&layer, &width)| Probe::init(width, classes, layer, &self.plan, self.seed, &self.how.device);
        let course = |layer: usize| self.plan.lr.iter().map(move |&lr| Course { layer, lr, curve: Vec::new() });
        let fresh = Running {
            probes: layers().map(init).collect(),
            courses: self.plan.layers.iter().flat_map(|&layer| course(layer)).collect(),
            epoch: 0,
            before_s: 0.0,
        };
        let Some(saved) = Saved::read(&self.state, &self.identity)? else { return Ok(fresh) };
        let mut running = Running { courses: saved.courses, epoch: saved.epoch, before_s: saved.wall_s, ..fresh };
        for (at, probe) in running.probes.iter_mut().enumerate() {
            if !probe.restore(&saved.tensors, &format!("{at}."), saved.updates) {
                return Err(Error::input(format!("the state in `{}` is damaged", self.state.display()))
                    .hint("remove that folder to start the evaluation anew"));
            }
        }
        Ok(running)
    }

    fn save(&self, running: &Running, wall_s: f64) -> Result<()> {
        let tensors = running.probes.iter().enumerate().flat_map(|(at, probe)| probe.state(&format!("{at}."))).collect();
        let updates = running.probes.first().map_or(0, Probe::updates);
        Saved { epoch: running.epoch, updates, wall_s, courses: running.courses.clone(), tensors }
            .write(&self.state, &self.identity)
    }

    fn epoch(&self, running: &mut Running, train: &mut Feed, test: &mut Feed, labels: &Labels) -> Result<()> {
        let share = self.plan.share(running.epoch);
        train.epoch(self, running.epoch, &mut |rows, seen| {
            let truth = self.labels(seen.iter().copied());
            running.probes.iter_mut().zip(rows).for_each(|(probe, rows)| probe.step(rows, &truth, share, &self.plan));
        })?;
        let (mut hits, mut tested): (Vec<Option<Hits>>, usize) = (vec![None; running.probes.len()], 0);
        test.epoch(self, 0, &mut |rows, seen| {
            tested += seen.len();
            let truth = self.labels(seen.iter().map(|&label| labels.of_test_label(label)));
            for ((probe, rows), sum) in running.probes.iter().zip(rows).zip(&mut hits) {
                let new = probe.hits(rows, &truth);
                *sum = Some(sum.take().map_or(new.clone(), |old| old.and(&new)));
            }
        })?;
        running.epoch += 1;
        let percent = |hits: u64| 100.0 * hits as f64 / tested.max(1) as f64;
        let mut courses = running.courses.iter_mut();
        for (probe, hits) in running.probes.iter_mut().zip(hits.into_iter().flatten()) {
            for ((loss, top1), top5) in probe.take_loss().into_iter().zip(hits.top1).zip(hits.top5) {
                let course = courses.next().expect("a course per layer and rate");
                course.curve.push(Point { epoch: running.epoch, loss, top1: percent(top1), top5: percent(top5) });
            }
        }
        self.refuse_non_finite(running)
    }

    /// A rate that is too high may fail beside others that do not; if all fail, there is nothing to go on for.
    fn refuse_non_finite(&self, running: &Running) -> Result<()> {
        if running.courses.iter().any(Course::is_finite) {
            return Ok(());
        }
        Err(Error::run(format!("the loss of every probe is not finite in epoch {}", running.epoch))
            .hint("use a lower eval.linear.lr; features of large values need one"))
    }

    fn labels(&self, labels: impl Iterator<Item = u32>) -> Tensor<1, Int> {
        tensor_of(labels, &self.how.device)
    }
}

/// Labels on a device, `[n]`.
fn tensor_of(labels: impl Iterator<Item = u32>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = labels.map(|label| label as i32).collect();
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}

#[cfg(test)]
mod tests;
