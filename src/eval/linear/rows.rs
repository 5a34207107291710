//! A probe of rows that were computed already, tested after its last epoch alone: what a monitor of a training run needs.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde::{Deserialize, Serialize};

use super::config::Plan;
use super::feed::{in_order, order, shuffled};
use super::probe::{Hits, Probe};
use super::tensor_of;
use crate::data::epoch_order;
use crate::error::{Error, Result};
use crate::eval::features::LOSS_NOT_FINITE;
use crate::eval::splits::Splits;

/// The result of a linear probe with its protocol; accuracies in percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// The protocol, such as `linear-htdt`.
    pub protocol: String,
    /// The layer, from 1.
    pub layer: usize,
    /// Training images.
    pub images: usize,
    /// Test images whose class is the first guess, after the last epoch.
    pub top1: f64,
    /// Test images whose class is among the first five.
    pub top5: f64,
}

/// Trains the probe that `plan` describes on the training rows of one layer, the `at`-th of `splits`, and tests it once. Of more rows than
/// `images`, as many are drawn by the seed. Equal arguments give equal bits, which are those of [`Task::run`](super::Task::run) with kept features.
///
/// # Errors
/// An end that was asked for by `stop`; a loss that is not finite.
pub fn probe_rows(
    splits: &Splits,
    at: usize,
    plan: &Plan,
    images: Option<usize>,
    seed: u64,
    stop: Option<&AtomicBool>,
) -> Result<Probed> {
    let (train, test, layer) = (&splits.train.layers[at..=at], &splits.test.layers[at..=at], splits.layers[at]);
    let (device, n) = (train[0].device(), splits.known.len());
    let drawn: Vec<u32> = match images.filter(|&images| images < n) {
        Some(images) => epoch_order(seed, 0, n).into_iter().take(images).collect(),
        None => (0..n as u32).collect(),
    };
    let mut probe = Probe::init(train[0].dims()[1], splits.classes.len(), layer, plan, seed, &device);
    for epoch in 0..plan.epochs {
        if stop.is_some_and(|stop| stop.load(SeqCst)) {
            return Err(Error::interrupted());
        }
        let share = plan.share(epoch);
        let order: Vec<u32> = order(seed, epoch, drawn.len()).into_iter().map(|row| drawn[row as usize]).collect();
        shuffled(train, &splits.known, &order, plan.batch, &mut |rows, seen| {
            let truth = tensor_of(seen.iter().copied(), &device);
            rows.into_iter().for_each(|rows| probe.step(rows, &truth, share, plan));
        });
        // Read in every epoch, so that a device is never more than an epoch behind an end that is asked for.
        if probe.take_loss().iter().any(|loss| !loss.is_finite()) {
            return Err(Error::run(LOSS_NOT_FINITE));
        }
    }
    let mut hits = Hits { top1: vec![0], top5: vec![0] };
    in_order(test, &splits.truth, &mut |rows, seen| {
        let truth = tensor_of(seen.iter().copied(), &device);
        rows.into_iter().for_each(|rows| hits = hits.and(&probe.hits(rows, &truth)));
    });
    let percent = |hits: u64| 100.0 * hits as f64 / splits.truth.len().max(1) as f64;
    Ok(Probed { protocol: plan.tag.clone(), layer, images: drawn.len(), top1: percent(hits.top1[0]), top5: percent(hits.top5[0]) })
}
